"""This project's detector in PyTorch: a small executor of the few operators that its ONNX file has.

`compare.py` uses it for its way `torch`. Weights, casts and arithmetic are those of the file, so
it is the same network; convolutions are in channels_last, and the whole of it is one CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

#: ONNX's numbers of element types.
_DTYPES = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float16"}
#: Inputs, by operator, that say a shape or an axis: they are read once, on the host.
_ON_HOST = {
    "Reshape": (1,),
    "TopK": (1,),
    "Tile": (1,),
    "Unsqueeze": (1,),
    "Split": (1,),
}

Operator = Callable[[Sequence[Any], dict[str, Any]], Any]


class Network:
    """An ONNX graph as calls of PyTorch.

    Args:
        path: The file.
        device: Where its weights lie, such as `cuda`.

    Raises:
        ValueError: It has an operator that is not known here; the message names it.
    """

    def __init__(self, path: Path, device: str) -> None:
        import onnx
        import torch

        graph = onnx.load(str(path)).graph
        self._operators = _operators(torch)
        host = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
        self._weights = {name: _on_device(torch, value, device) for name, value in host.items()}
        self._input, self._output = graph.input[0].name, graph.output[0].name
        self._steps = []
        for node in graph.node:
            if node.op_type not in self._operators:
                raise ValueError(f"{path}: operator {node.op_type} is not known here")
            said = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
            for place in _ON_HOST.get(node.op_type, ()):
                said[f"input{place}"] = host[node.input[place]].reshape(-1).tolist()
            self._steps.append((node.op_type, list(node.input), list(node.output), said))

    def __call__(self, pixels: Any) -> Any:
        """The table of faces.

        Args:
            pixels: Tensor on the network's device, as the file's input says.
        """
        known = {**self._weights, self._input: pixels}
        for name, inputs, outputs, said in self._steps:
            found = self._operators[name]([known[each] for each in inputs], said)
            known.update(zip(outputs, found if len(outputs) > 1 else [found], strict=True))
        return known[self._output]


def _on_device(torch: Any, value: np.ndarray[Any, Any], device: str) -> Any:
    tensor = torch.from_numpy(np.array(value)).to(device)
    if tensor.dim() == 4:  # kernels; the pixels come in that order by themselves
        return tensor.to(memory_format=torch.channels_last)
    return tensor


def _operators(torch: Any) -> dict[str, Operator]:
    """How each operator is done, by its ONNX name; inputs and attributes come in."""
    f = torch.nn.functional

    def window(said: dict[str, Any]) -> dict[str, Any]:
        top, left, bottom, right = said.get("pads", [0, 0, 0, 0])
        if (top, left) != (bottom, right):
            raise ValueError(f"padding {said['pads']} differs between the sides")
        return {"stride": said.get("strides", [1, 1]), "padding": [top, left]}

    def folded(said: dict[str, Any]) -> dict[str, Any]:
        dilation = said.get("dilations", [1, 1])
        return {**window(said), "dilation": dilation, "groups": said.get("group", 1)}

    def pooled(x: Sequence[Any], said: dict[str, Any]) -> Any:
        return f.max_pool2d(x[0], said["kernel_shape"], **window(said))

    def unsqueezed(x: Sequence[Any], said: dict[str, Any]) -> Any:
        (axis,) = said["input1"]
        return x[0].unsqueeze(axis)

    def reshaped(x: Sequence[Any], said: dict[str, Any]) -> Any:
        wanted = [size or x[0].shape[axis] for axis, size in enumerate(said["input1"])]
        return x[0].reshape(wanted)

    return {
        "Add": lambda x, _: x[0] + x[1],
        "Sub": lambda x, _: x[0] - x[1],
        "Mul": lambda x, _: x[0] * x[1],
        "Max": lambda x, _: torch.maximum(x[0], x[1]),
        "Min": lambda x, _: torch.minimum(x[0], x[1]),
        "Equal": lambda x, _: x[0] == x[1],
        "Greater": lambda x, _: x[0] > x[1],
        "Relu": lambda x, _: f.relu(x[0]),
        "Sigmoid": lambda x, _: torch.sigmoid(x[0]),
        "Exp": lambda x, _: torch.exp(x[0]),
        "Floor": lambda x, _: torch.floor(x[0]),
        "Cast": lambda x, said: x[0].to(getattr(torch, _DTYPES[said["to"]])),
        "Transpose": lambda x, said: x[0].permute(said["perm"]),
        "Conv": lambda x, said: f.conv2d(*x, **folded(said)),
        "ConvTranspose": lambda x, said: f.conv_transpose2d(*x, **folded(said)),
        "MaxPool": pooled,
        "Reshape": reshaped,
        "Unsqueeze": unsqueezed,
        "Concat": lambda x, said: torch.cat(list(x), said["axis"]),
        "Tile": lambda x, said: x[0].repeat(said["input1"]),
        "Split": lambda x, said: torch.split(x[0], said["input1"], said["axis"]),
        "TopK": lambda x, said: torch.topk(x[0], said["input1"][0], said.get("axis", -1)),
        "Gather": lambda x, said: torch.index_select(x[0], said.get("axis", 0), x[1]),
        "GatherElements": lambda x, said: torch.gather(x[0], said.get("axis", 0), x[1]),
        "ReduceMax": lambda x, said: torch.amax(x[0], said["axes"], bool(said.get("keepdims", 1))),
    }


class TorchDetector:
    """The detector as one CUDA graph of a fixed batch, on a stream of its own.

    Attributes:
        how: Whether it is one, and why not.
    """

    def __init__(self, path: Path, batch: int) -> None:
        """Loads the file, warms it up and captures it.

        Args:
            path: The ONNX file.
            batch: Pictures of each run; fewer are padded with what is left of the run before.
        """
        import torch

        torch.backends.cudnn.benchmark = True  # the sizes never change
        self._torch, self._network = torch, Network(path, "cuda")
        self._pixels = torch.zeros((batch, 640, 640, 3), dtype=torch.uint8, device="cuda")
        self._stream, self._graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for _ in range(4):
                self._table = self._network(self._pixels).contiguous()
        self._stream.synchronize()
        self.how = self._captured()
        self._landings = [
            (torch.empty(self._table.shape).pin_memory(), torch.cuda.Event(blocking=True))
            for _ in range(2)
        ]
        self._turn = 0

    def _captured(self) -> str:
        """Captures the graph; says so, or why not, and then every run is queued call by call."""
        torch = self._torch
        try:
            with torch.inference_mode(), torch.cuda.graph(self._graph, stream=self._stream):
                self._table = self._network(self._pixels).contiguous()
        except RuntimeError as error:
            self._graph = None
            return f"no CUDA graph: {str(error).splitlines()[0]}"
        return "CUDA graph"

    def queue(self, slot: Any, count: int) -> Callable[[], np.ndarray[Any, Any]]:
        """Queues a run.

        Args:
            slot: Pictures in GPU memory, a CuPy array or a tensor of the whole batch; written.
            count: How many of them count.

        Returns:
            A function that waits for the rows; call it before the run after the next is queued.
        """
        torch = self._torch
        self._turn = (self._turn + 1) % len(self._landings)
        rows, ended = self._landings[self._turn]
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._pixels.copy_(torch.as_tensor(slot, device="cuda"), non_blocking=True)
            if self._graph:
                self._graph.replay()
            else:
                self._table = self._network(self._pixels).contiguous()
            rows.copy_(self._table, non_blocking=True)
            ended.record(self._stream)

        def wait() -> np.ndarray[Any, Any]:
            ended.synchronize()
            found: np.ndarray[Any, Any] = rows[:count].numpy().copy()
            return found

        return wait


def letterboxed(pictures: Sequence[Any], size: int) -> Any:
    """RGB pictures of shape (3, height, width) in the middle of black squares, as NHWC uint8."""
    import torch

    f = torch.nn.functional
    height, width = pictures[0].shape[-2:]
    scale = size / max(height, width)
    h, w = 2 * round(height * scale / 2), 2 * round(width * scale / 2)
    top, left = (size - h) // 4 * 2, (size - w) // 4 * 2
    batch = torch.stack(list(pictures)).float()
    small = f.interpolate(batch, (h, w), mode="bilinear", antialias=True)
    square = f.pad(small, (left, size - w - left, top, size - h - top))
    return square.round().clamp(0, 255).byte().permute(0, 2, 3, 1)


def composed(picture: Any, crops_xywh: Sequence[Sequence[float]], tile_wh: tuple[int, int]) -> Any:
    """Crops of an RGB picture of shape (3, height, width) beside each other, uint8."""
    import torch

    width, height = tile_wh
    tiles = []
    for x, y, w, h in crops_xywh:
        part = picture[None, :, round(y) : round(y + h), round(x) : round(x + w)].float()
        tiles.append(torch.nn.functional.interpolate(part, (height, width), mode="bilinear"))
    return torch.cat(tiles, 3)[0].round().byte()


def torchcodec_frames(path: Path) -> Iterator[Any]:
    """RGB pictures of shape (3, height, width), uint8, that torchcodec decodes on the GPU."""
    from torchcodec.decoders import VideoDecoder

    yield from VideoDecoder(str(path), device="cuda", seek_mode="approximate")


def why_no_torchcodec(path: Path) -> str:
    """Why torchcodec does not decode a file on the GPU; empty if it does."""
    try:
        found = next(torchcodec_frames(path)).device.type
    except Exception as error:  # a missing library of FFmpeg is a RuntimeError, others vary
        lines = str(error).splitlines()
        return f"no torchcodec: {type(error).__name__}: {lines[0] if lines else ''}"
    return "" if found == "cuda" else f"no torchcodec: its frames are on the {found}"

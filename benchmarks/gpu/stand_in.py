"""A detector of no cost: the contract's output at once, whatever the picture.

It answers with two faces that sit still, so that everything behind it (tracking, framing and
composing) has its usual work; what a run with it reaches is the client's own ceiling.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dualface_client.triton.description import FACE_DETECT

#: Left edge, top edge and side of the two faces, letterboxed pixels of 640x640.
FACES_XYS_PX = ((150.0, 250.0, 70.0), (420.0, 250.0, 70.0))


def table() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """One picture's rows, shape `(1, 64, 15)` float32, as `FACE_DETECT.output`."""
    rows = np.zeros((1, *FACE_DETECT.output.dims), np.float32)
    for row, (x, y, side) in zip(rows[0], FACES_XYS_PX, strict=False):
        row[:5] = x, y, x + side, y + side, 0.9
        points = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
        row[5:] = (np.array((x, y)) + side * np.array(points)).ravel()
    return rows


def write(path: Path) -> None:
    """Writes the ONNX file; the batch is read from the input's shape, the pixels are not."""
    batch = "batch"
    pixels = helper.make_tensor_value_info(
        FACE_DETECT.input.name, TensorProto.UINT8, [batch, *FACE_DETECT.input.dims]
    )
    rows = helper.make_tensor_value_info(
        FACE_DETECT.output.name, TensorProto.FLOAT, [batch, *FACE_DETECT.output.dims]
    )
    nodes = [
        helper.make_node("Shape", [pixels.name], ["count"], start=0, end=1),
        helper.make_node("Concat", ["count", "ones"], ["shape"], axis=0),
        helper.make_node("Expand", ["table", "shape"], [rows.name]),
    ]
    constants = [
        numpy_helper.from_array(table(), "table"),
        numpy_helper.from_array(np.ones(len(FACE_DETECT.output.dims), np.int64), "ones"),
    ]
    graph = helper.make_graph(nodes, "stand_in", [pixels], [rows], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)

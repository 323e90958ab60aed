"""A detector that costs next to nothing, and whose boxes still depend on the picture.

Two faces, moved to the right by the mean of a patch in the middle of the picture: an answer that
belongs to another picture has other boxes. For soaks of memory on a CPU, where the real detector
would take nine tenths of the time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dualface_client.triton.description import FACE_DETECT

sys.path.append(str(Path(__file__).parents[1] / "gpu"))
from stand_in import table  # type: ignore[import-not-found] # beside the GPU benchmarks

#: Pixels to the right per grey level of the patch's mean, and the patch's first and last pixel.
_PX_PER_LEVEL = 0.2
_PATCH = (300, 340)


def write(path: Path) -> Path:
    """Writes the ONNX file."""
    batch = "batch"
    pixels = helper.make_tensor_value_info(
        FACE_DETECT.input.name, TensorProto.UINT8, [batch, *FACE_DETECT.input.dims]
    )
    rows = helper.make_tensor_value_info(
        FACE_DETECT.output.name, TensorProto.FLOAT, [batch, *FACE_DETECT.output.dims]
    )
    to_the_right = np.zeros((1, *FACE_DETECT.output.dims), np.float32)
    to_the_right[:, :2, (0, 2, 5, 7, 9, 11, 13)] = _PX_PER_LEVEL
    constants = [
        numpy_helper.from_array(np.array([_PATCH[0]] * 2), "starts"),
        numpy_helper.from_array(np.array([_PATCH[1]] * 2), "ends"),
        numpy_helper.from_array(np.array([1, 2]), "axes"),
        numpy_helper.from_array(np.array([1, 2, 3]), "all_axes"),
        numpy_helper.from_array(np.array([-1, 1, 1]), "column"),
        numpy_helper.from_array(to_the_right, "to_the_right"),
        numpy_helper.from_array(table(), "table"),
    ]
    nodes = [
        helper.make_node("Slice", [pixels.name, "starts", "ends", "axes"], ["patch"]),
        helper.make_node("Cast", ["patch"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "all_axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["means"]),
        helper.make_node("Mul", ["means", "to_the_right"], ["shift"]),
        helper.make_node("Add", ["shift", "table"], [rows.name]),
    ]
    graph = helper.make_graph(nodes, "cheap", [pixels], [rows], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path

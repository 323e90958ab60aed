"""Models that cost nothing and files that are broken, for the fault suite."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dualface_client.triton.description import FACE_DETECT, ModelSpec
from tests import media


def write_tiny(folder: Path, spec: ModelSpec) -> Path:
    """A model of a contract whose values are all the picture's mean, or 1/1024 of it as scores."""
    size = int(np.prod(spec.output.dims))
    factor = 1 / 1024 if spec is FACE_DETECT else 1.0
    constants = [
        numpy_helper.from_array(np.full((1, size), factor, np.float32), "scale"),
        numpy_helper.from_array(np.array([1, 2, 3]), "axes"),
        numpy_helper.from_array(np.array([-1, 1]), "column"),
        numpy_helper.from_array(np.array([-1, *spec.output.dims]), "shape"),
    ]
    nodes = [
        helper.make_node("Cast", [spec.input.name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["mean"]),
        helper.make_node("Reshape", ["mean", "column"], ["means"]),
        helper.make_node("Mul", ["means", "scale"], ["flat"]),
        helper.make_node("Reshape", ["flat", "shape"], [spec.output.name]),
    ]
    tensor = helper.make_tensor_value_info
    given = tensor(spec.input.name, TensorProto.UINT8, ["n", *spec.input.dims])
    made = tensor(spec.output.name, TensorProto.FLOAT, ["n", *spec.output.dims])
    graph = helper.make_graph(nodes, spec.name, [given], [made], constants)
    path = folder / f"{spec.name}.onnx"
    opset = helper.make_opsetid("", 18)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def make_bad(folder: Path) -> list[Path]:
    """One file of each bad kind."""
    clip = media.Clip(frames=40, options={"g": "10"})
    whole, mkv = (media.make(folder.parent / f"whole{s}", clip) for s in (".mp4", ".mkv"))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video\n" * 100)
    (folder / "noise.mp4").write_bytes(os.urandom(20_000))
    media.cut(folder / "no_index.mp4", whole, 0.6)
    media.cut(folder / "cut_mkv.mkv", mkv, 0.6)
    media.damage(folder / "damaged.mkv", mkv, range(15, 18))
    (folder / "picture.png").write_bytes(bytes.fromhex("89504e470d0a1a0a") + os.urandom(500))
    (folder / "list.m3u8").write_text("#EXTM3U\n/etc/passwd\n")
    found = [folder / "missing.mp4", *sorted(folder.iterdir())]
    return [path for path in found if path.stem != "whole"]

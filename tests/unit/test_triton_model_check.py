"""Models of other people are told in what they break the contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from dualface_client.cli.commands import cli
from dualface_client.errors import AssetError
from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS, ModelSpec
from dualface_client.triton.model_check import check_model


def model(path: Path, spec: ModelSpec, *nodes: Any, **constants: Any) -> Path:
    """A graph from the input's mean, [n, 1], to the output."""
    first = [
        helper.make_node("Cast", [spec.input.name], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["means"], keepdims=0),
        helper.make_node("Reshape", ["means", "column"], ["mean"]),
    ]
    fixed = {"axes": np.array([1, 2, 3]), "column": np.array([-1, 1]), **constants}
    graph = helper.make_graph(
        [*first, *nodes],
        spec.name,
        [
            helper.make_tensor_value_info(
                spec.input.name, TensorProto.UINT8, ["n", *spec.input.dims]
            )
        ],
        [
            helper.make_tensor_value_info(
                spec.output.name, TensorProto.FLOAT, ["n", *spec.output.dims]
            )
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in fixed.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path
    )
    return path


def reid(path: Path, *, normal: bool = True, mixed: bool = False) -> Path:
    nodes = [helper.make_node("MatMul", ["mean", "ones"], ["raw"])]
    if mixed:
        nodes.append(helper.make_node("ReduceMean", ["raw", "batch"], ["all"], keepdims=1))
        nodes.append(helper.make_node("Sub", ["raw", "all"], ["raw2"]))
    else:
        nodes.append(helper.make_node("Identity", ["raw"], ["raw2"]))
    last = "LpNormalization" if normal else "Identity"
    options: dict[str, Any] = {"axis": 1, "p": 2} if normal else {}
    nodes.append(helper.make_node(last, ["raw2"], [FACE_REID.output.name], **options))
    return model(
        path, FACE_REID, *nodes, ones=np.ones((1, 128), np.float32), batch=np.array([0], np.int64)
    )


def detector(path: Path, *scores: float) -> Path:
    """Every row has the same numbers but for the scores of the first rows."""
    table = np.zeros((1, 64, 15), np.float32)
    table[0, : len(scores), 4] = scores
    return model(
        path,
        FACE_DETECT,
        helper.make_node("Mul", ["mean", "zero"], ["none"]),
        helper.make_node("Reshape", ["none", "cube"], ["nothing"]),
        helper.make_node("Add", ["nothing", "table"], [FACE_DETECT.output.name]),
        zero=np.float32(0),
        cube=np.array([-1, 1, 1]),
        table=table,
    )


@pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)
def test_the_exported_models_keep_their_contract(spec: ModelSpec) -> None:
    assert check_model(paths.models_dir() / f"{spec.name}.onnx", spec) == spec


def test_what_keeps_the_contract_is_accepted(tmp_path: Path) -> None:
    assert check_model(reid(tmp_path / "r.onnx"), FACE_REID) == FACE_REID
    assert check_model(detector(tmp_path / "d.onnx", 0.9, 0.5), FACE_DETECT) == FACE_DETECT


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: reid(path, normal=False), "expected 1: normalise them"),
        (lambda path: reid(path, mixed=True), "depends on the others of its batch"),
        (lambda path: detector(path, 1.5), "go from 0 to 1.5, expected 0 to 1"),
        (lambda path: detector(path, 0.2, 0.9), "not sorted by score, best first"),
        (lambda path: detector(path, float("nan")), "not finite"),
    ],
    ids=["long", "mixed", "scores", "unsorted", "nan"],
)
def test_what_breaks_it_is_told_in_what(tmp_path: Path, make: Any, words: str) -> None:
    path = make(tmp_path / "m.onnx")
    spec = FACE_DETECT if "table" in path.read_bytes().decode("latin1") else FACE_REID
    with pytest.raises(AssetError, match=words):
        check_model(path, spec)


def test_the_command_says_what_the_model_is_or_what_is_wrong(tmp_path: Path) -> None:
    good = CliRunner().invoke(
        cli, ["models", "check", str(reid(tmp_path / "r.onnx")), "--as", "face_reid"]
    )
    assert (
        good.output == f"{tmp_path / 'r.onnx'}: keeps the contract of face_reid (input 112x112)\n"
    )
    wrong = CliRunner().invoke(
        cli, ["models", "check", str(tmp_path / "r.onnx"), "--as", "face_detect"]
    )
    assert "face_detect: input tensors are 'chip', expected only 'image'" in str(wrong.exception)

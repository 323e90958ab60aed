"""TensorRT's own parser and builder take both models, and name the node where one is broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from dualface_client.assets.installation import Installation
from dualface_client.errors import AssetError, UsageError
from dualface_client.settings.paths import home_dir, models_dir
from dualface_client.triton.description import FACE_DETECT, with_detector_size
from scripts.check_engines import find_models, main
from scripts.engines.rtx import check_model, load_tensorrt_rtx

ADA = (8, 9)
Change = Callable[[onnx.ModelProto], None]


@pytest.fixture(scope="module")
def trt() -> Any:
    return load_tensorrt_rtx(Installation(home_dir(), print))


@pytest.fixture
def broken(tmp_path: Path) -> Callable[[Change], Path]:
    """A copy of the FP16 detector with something changed."""

    def make(change: Change) -> Path:
        model = onnx.load(models_dir() / "face_detect_fp16.onnx")
        change(model)
        path = tmp_path / "face_detect_fp16.onnx"
        onnx.save(model, path)
        return path

    return make


def first(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    found: onnx.NodeProto = next(node for node in model.graph.node if node.op_type == op)
    return found


def test_each_model_builds(capsys: pytest.CaptureFixture[str]) -> None:
    """For one generation: `make check-engines` builds for all."""
    assert main(["--compute-capability", "8.9"]) == 0
    lines = capsys.readouterr().out.splitlines()[-len(find_models(models_dir())) :]
    assert [line.split()[0] for line in lines][::2] == [
        "face_detect_fp16.onnx",
        "face_reid_fp16.onnx",
    ]
    assert all(" 8.9 " in line for line in lines)


def test_body_and_input_of_different_types_are_refused_by_node(
    trt: Any, broken: Callable[[Change], Path]
) -> None:
    def retype_cast(model: onnx.ModelProto) -> None:
        cast = first(model, "Cast")
        cast.attribute[0].CopyFrom(helper.make_attribute("to", TensorProto.FLOAT))

    with pytest.raises(AssetError, match=r"node 'body/363' \(Conv\): .*must be of same type"):
        check_model(trt, broken(retype_cast), FACE_DETECT, [ADA])


def test_unknown_operator_is_refused_by_name(trt: Any, broken: Callable[[Change], Path]) -> None:
    def rename(model: onnx.ModelProto) -> None:
        first(model, "MaxPool").op_type = "MaxPoolOfTomorrow"

    with pytest.raises(AssetError, match="MaxPoolOfTomorrow"):
        check_model(trt, broken(rename), FACE_DETECT, [ADA])


def test_wrong_tensor_is_refused_with_both_descriptions(trt: Any) -> None:
    path, other_size = (
        models_dir() / "face_detect_fp16.onnx",
        with_detector_size(FACE_DETECT, 320, 320),
    )
    wanted = r"input tensor is image UINT8 -1x640x640x3, expected image UINT8 -1x320x320x3"
    with pytest.raises(AssetError, match=wanted):
        check_model(trt, path, other_size, [ADA])


def test_gpu_without_rtx_support_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--compute-capability", "9.0"]) == UsageError.exit_code
    assert "does not build for compute capability 9.0, only for" in capsys.readouterr().err

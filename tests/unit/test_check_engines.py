"""What is built for TensorRT: which files, batch sizes and GPU generations."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualface_client.errors import AssetError, UsageError
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from scripts.check_engines import CAPABILITIES, find_models, main
from scripts.engines.profiles import BatchProfile, batch_profile, parse_capability


def test_every_generation_that_rtx_is_made_for_is_checked() -> None:
    assert CAPABILITIES == ("8.6", "8.9", "12.0")


def test_missing_models_name_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(tmp_path)]) == AssetError.exit_code
    assert f"no face_detect.onnx in {tmp_path}; run: make models" in capsys.readouterr().err


def test_exported_size_counts(tmp_path: Path) -> None:
    for name in ("face_detect.onnx", "face_reid.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "models.json").write_text(
        '{"models": {"face_detect.onnx": {"input_dims": [352, 640, 3]}}}'
    )
    sizes = [spec.input.dims for _, spec in find_models(tmp_path)]
    assert sizes == [(352, 640, 3), FACE_REID.input.dims]


def test_profiles_span_what_the_batcher_may_send() -> None:
    assert batch_profile(FACE_DETECT) == BatchProfile(1, 8, 16)
    assert batch_profile(FACE_REID) == BatchProfile(1, 8, 32)


@pytest.mark.parametrize("text", ["", "8", "sm_89", "8.9.1", "-8.9"])
def test_odd_capability_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected MAJOR\.MINOR such as 8\.9"):
        parse_capability(text)


def test_capability_is_two_numbers() -> None:
    assert parse_capability(" 12.0 ") == (12, 0)

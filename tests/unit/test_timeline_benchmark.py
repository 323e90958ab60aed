"""What `benchmarks/gpu/timeline.py` makes of traces."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path("benchmarks/gpu/timeline.py")
RECORD = np.dtype(
    [
        ("start", "u8"),
        ("end", "u8"),
        ("kind", "u4"),
        ("stream", "u4"),
        ("grid", "u4"),
        ("bytes", "u4"),
        ("name", "S40"),
    ]
)
CONVERT = "ConvertNV12BLtoNV12"
US, ROUND_US = 1000, 1000


def write(path: Path, launches: list[tuple[int, int, str]], *, clock_ns: int, dropped: int) -> None:
    """A process's trace; times in us since the shared clock's 1 s, written in its own clock."""
    records = np.zeros(len(launches), RECORD)
    for record, (start_us, end_us, name) in zip(records, launches, strict=True):
        record["start"], record["end"] = clock_ns + start_us * US, clock_ns + end_us * US
        record["kind"], record["name"] = (1 if name else 108), name
    head = np.array([clock_ns, 10**9, 0, 0, dropped, len(records)], "u8")
    path.write_bytes(head.tobytes() + records.tobytes())


def rounds(number: int, *launches: tuple[int, int, str]) -> list[tuple[int, int, str]]:
    return [
        (n * ROUND_US + a, n * ROUND_US + b, name) for n in range(number) for a, b, name in launches
    ]


def traces(folder: Path, *, dropped: int = 0) -> Path:
    """Each round: a client with two frames, Triton's copy, and a detector that is interrupted."""
    client = rounds(50, (0, 10, CONVERT), (10, 20, CONVERT), (20, 50, "compose"))
    write(folder / "11.bin", client, clock_ns=5, dropped=0)
    write(folder / "12.bin", rounds(50, (150, 160, "")), clock_ns=10**12, dropped=dropped)
    detector = rounds(50, (260, 300, "dgrad"), (300, 995, "interrupted"))
    write(folder / "13.bin", detector, clock_ns=77, dropped=0)
    write(folder / "14.bin", rounds(5, (500, 501, "other")), clock_ns=0, dropped=0)
    write(folder / "15.bin", [], clock_ns=0, dropped=0)
    return folder


def evaluate(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "--traces", str(folder), "--seconds", "0.01"]
    command += ["--out", str(folder / "out.json")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_turns_are_counted_by_role_on_one_clock(tmp_path: Path) -> None:
    done = evaluate(traces(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert found == json.loads(done.stdout)
    # The other model's process ended before the part that is looked at.
    assert {key for key in found if isinstance(found[key], dict)} == {
        "client",
        "detector",
        "tritonserver",
    }
    assert found["frames_per_s"] == 2000.0
    assert found["turns_per_s"] == 3000.0
    assert found["client"] == {
        "processes": 1,
        "turns_per_s": 1000.0,
        "us_per_turn": 50.0,
        "frames_per_turn": 2.0,
    }
    assert found["detector"]["us_per_turn"] == 735.0
    assert found["change_us_p10_median_p90"][1] == 100.0


def test_traces_with_lost_records_are_refused(tmp_path: Path) -> None:
    done = evaluate(traces(tmp_path, dropped=3))
    assert done.returncode == 1
    assert "12.bin: 3 records were dropped" in done.stderr


@pytest.mark.parametrize("options", [[], ["clip.mp4"]])
def test_a_run_needs_a_clip_and_cupti(options: list[str]) -> None:
    command = [sys.executable, str(SCRIPT), "--out", "x.json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "CLIP and --cupti, or --traces" in done.stderr

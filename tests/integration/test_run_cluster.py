"""`run --cluster` on Ray machines of its own, with real servers and workers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="the extra `cluster`, which `make check` installs")

from tests.processes import CLI, dead_memory, wait_until
from tests.ray_cluster import Cluster, FirstSeen, short_talks

SHORT, FRAMES = 6, 30
#: The last ones, so that both machines are seen at work however fast they are.
LONG, LONG_FRAMES = 4, 200
#: Small pictures that are encoded fast: the test is about who makes them.
QUICK = ("--size", "320x180", "--preset", "ultrafast", "--model-threads", "1")


@contextmanager
def run(directory: Path, *options: str | Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*CLI, "run", "in/", *QUICK, *map(str, options)],
        cwd=directory,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ENABLE_AUTO_CONNECT": "0"},
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # one that has ended hears nothing of it


def under_way(state: Path) -> int:
    """Videos that are being processed."""
    if not state.exists():
        return 0
    streams = json.loads(state.read_text())["streams"]
    return sum(stream["state"] == "running" for stream in streams)


def test_a_machine_that_is_lost_costs_no_video(tmp_path: Path) -> None:
    before = dead_memory()
    short_talks(tmp_path / "in", SHORT, FRAMES)
    short_talks(tmp_path / "in", LONG, LONG_FRAMES, "talk_long")
    with run(tmp_path, "-o", "alone/", "--tracks", "alone_tracks/", "--workers", "2") as alone:
        _, said = alone.communicate(timeout=170)
        assert alone.returncode == 0, said

    with Cluster() as cluster:
        cluster.add(1)
        lost = cluster.add(1)
        out = FirstSeen(tmp_path / "out")
        options = ["-o", "out/", "--tracks", "tracks/", "--cluster", cluster.address]
        with run(tmp_path, *options, "--state", "state.json") as process:
            wait_until(lambda: out.look() >= SHORT, 120.0, "the short outputs")
            # Two at once are one on each machine.
            wait_until(
                lambda: out.look() and under_way(tmp_path / "state.json") >= 2,
                60.0,
                "both machines at work",
            )
            lost.kill()
            _, said = process.communicate(timeout=170)
        assert process.returncode == 0, said
        assert "lost" in said

    outputs = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert outputs == sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert out.changed() == []
    for path in (tmp_path / "alone_tracks").iterdir():
        assert (tmp_path / "tracks" / path.name).read_bytes() == path.read_bytes(), path.name
    streams = json.loads((tmp_path / "state.json").read_text())["streams"]
    assert [stream["state"] for stream in streams] == ["done"] * (SHORT + LONG)
    assert max(stream["attempts"] for stream in streams) == 2
    # What a killed machine had in hand is taken back by whatever runs there next.
    subprocess.run([*CLI, "reap"], check=True)
    assert dead_memory() <= before


def test_a_cluster_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    short_talks(tmp_path / "in", 1, 2)
    with run(tmp_path, "-o", "out/", "--cluster", "127.0.0.1:1") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert "--cluster 127.0.0.1:1: no Ray cluster can be reached there" in said
    assert "Traceback" not in said

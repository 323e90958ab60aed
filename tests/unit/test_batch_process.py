"""What is wrong with the arguments of `process` and `serve` is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import dualface_client
from dualface_client import ConfigError, DualfaceError, Listener, UsageError
from tests.media import Clip, make


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": None}, UsageError, "inputs: NoneType None: expected a path or several"),
        ({"inputs": []}, UsageError, "inputs: is empty"),
        ({"inputs": [5]}, UsageError, "inputs: int 5: expected a path as str or pathlib.Path"),
        ({"inputs": b"talk.mp4"}, UsageError, "inputs: bytes b'talk.mp4': expected a path"),
        ({"output": 5}, UsageError, "output: int 5: expected a path"),
        ({"tracks": True}, UsageError, "tracks: bool True: expected a path"),
        ({"overlay": 1.5}, UsageError, "overlay: float 1.5: expected a path"),
        ({"resume": "no"}, UsageError, "resume: str 'no': expected True or False"),
        ({"stop": True}, UsageError, "stop: bool True: expected a threading.Event"),
        ({"listener": Listener}, UsageError, "listener: type .*: expected an object of a class"),
        ({"settings": "x"}, ConfigError, "settings: str 'x': expected StreamSettings"),
        ({"settings": {"output.crff": 1}}, ConfigError, "did you mean output.crf"),
        ({"streams": True}, ConfigError, "argument streams: run.streams: true: expected auto, or"),
        ({"streams": "many"}, ConfigError, "argument streams: run.streams: many: "),
        ({"workers": 0}, ConfigError, "argument workers: run.workers: 0: "),
        ({"device": "gpu"}, ConfigError, "argument device: run.device: gpu: .*did you mean cuda"),
        ({"server": 8001}, ConfigError, "argument server: server.address: 8001: expected"),
    ],
)
def test_a_wrong_argument_is_refused(
    arguments: dict[str, Any], error: type[DualfaceError], message: str, tmp_path: Path
) -> None:
    clip = make(tmp_path / "talk.mp4", Clip(frames=2))
    given = {"inputs": clip, "output": tmp_path / "tiles.mp4", **arguments}
    with pytest.raises(error, match=message):
        dualface_client.process(given.pop("inputs"), given.pop("output"), **given)
    assert [path.name for path in tmp_path.iterdir()] == ["talk.mp4"]


def test_any_iterable_of_paths_is_taken(tmp_path: Path) -> None:
    """And a video that cannot be had is a failed report, not an error; no server is started."""
    paths = (tmp_path / name for name in ("a.mp4", "b.mp4"))
    reports = dualface_client.process(paths, None)
    assert [report.state for report in reports] == ["failed", "failed"]
    assert "no such file" in reports[0].error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"settings": {"server.address": "127.0.0.1:8001"}}, "that server runs already"),
        ({"settings": 5}, "settings: int 5"),
        ({"device": "tpu"}, "argument device: run.device: tpu"),
        ({"stop": 5}, "stop: int 5: expected a threading.Event"),
    ],
)
def test_a_server_is_not_started_for_wrong_arguments(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        dualface_client.serve(**arguments)

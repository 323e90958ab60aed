"""A camera over RTSP on machines without GStreamer: our own small server, FFmpeg's client."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_source import LiveSource
from dualface_client.video.source import PyavSource
from tests import media
from tests.live_servers import free_port, small_rtsp_server


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_every_picture_of_a_camera_comes_as_it_was_sent(tmp_path: Path, codec: str) -> None:
    params = {"x265-params": "keyint=10:bframes=0:log-level=none"}
    options = {"g": "10", "bf": "0"} if codec == "libx264" else params
    clip = media.Clip(frames=30, size_wh_px=(320, 240), codec=codec, options=options)
    path = media.make(tmp_path / "a.mp4", clip)
    port = free_port()
    address = f"rtsp://127.0.0.1:{port}/camera"
    with (
        small_rtsp_server(port, path),
        closing(
            LiveSource(LiveInput(address, address), threading.Event(), lambda news: None)
        ) as live,
    ):
        pictures = [frame.image for frame in itertools.islice(live, clip.frames)]
    assert not any(live.dropped.values())
    for one, other in zip(PyavSource(path), pictures, strict=True):
        assert np.array_equal(one.image.y, other.y)
        assert np.array_equal(one.image.uv, other.uv)

"""Live inputs as FFmpeg opens them, from a web server on loopback."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import pytest

from dualface_client.errors import SourceError
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_reader import LiveNews
from dualface_client.video.live_source import LiveSource
from tests.media import Audio, Clip, make


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a web server for the test's directory."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def playlist(tmp_path: Path, clip: Clip) -> Path:
    """An HLS playlist with its end, in segments of a second."""
    source = make(tmp_path / "source.mp4", clip)
    with (
        av.open(str(source)) as given,
        av.open(str(tmp_path / "live.m3u8"), "w", format="hls", options={"hls_time": "1"}) as made,
    ):
        streams = {s.index: made.add_stream_from_template(s, opaque=True) for s in given.streams}
        for packet in given.demux():
            if packet.size:
                packet.stream = streams[packet.stream.index]
                made.mux(packet)
    return tmp_path / "live.m3u8"


def source_of(url: str, told: list[LiveNews]) -> LiveSource:
    place = LiveInput(url, url, reconnect_s=0.0)
    return LiveSource(place, threading.Event(), told.append)


def test_hls_is_read_no_faster_than_it_plays_and_ends(tmp_path: Path, address: str) -> None:
    clip = Clip(frames=40, options={"g": "25"}, audio=(Audio(seconds=1.6),))
    playlist(tmp_path, clip)
    begin_s = time.monotonic()
    told: list[LiveNews] = []
    source = source_of(f"{address}/live.m3u8", told)
    assert source.has_sound
    assert len(list(source)) == 40
    assert time.monotonic() - begin_s > 1.4
    assert [news.event for news in told] == ["connected"]


def test_a_playlist_cannot_name_a_file(tmp_path: Path, address: str) -> None:
    path = playlist(tmp_path, Clip(frames=40))
    local = make(tmp_path / "secret.ts", Clip(frames=10))
    text = path.read_text().replace("live0.ts", f"file://{local}")
    assert "file://" in text
    path.write_text(text)
    with pytest.raises(SourceError, match="cannot be opened"):
        source_of(f"{address}/live.m3u8", [])


def test_a_server_that_is_not_there_is_told_with_its_address(address: str) -> None:
    with pytest.raises(SourceError, match=rf"{address}/none.m3u8: cannot be opened .*404 Not"):
        source_of(f"{address}/none.m3u8", [])


@pytest.mark.parametrize(
    ("url", "waits", "is_lossy"),
    [
        ("rtsp://camera/a", False, False),
        ("rtmp://camera/a", False, False),
        ("https://camera/a.m3u8", True, False),
        ("v4l2:/dev/video0", False, False),
    ],
)
def test_only_what_servers_send_ahead_is_held_back(url: str, waits: bool, is_lossy: bool) -> None:
    place = LiveInput(url, url)
    assert (place.waits, place.is_lossy) == (waits, is_lossy)
    assert replace(place, is_paced=True).waits
    assert replace(place, transport="udp").is_lossy == url.startswith("rtsp")

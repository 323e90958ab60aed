"""What every room of video takes from FFmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from dualface_client.video.ffmpeg import packet_of
from tests.media import Clip, make

#: MPEG-4 decoders take this, where it follows a picture in memory, for a part of it.
BEHIND = bytes.fromhex("00ed71516b95f092") + bytes(56)


def test_what_lies_behind_a_packet_in_memory_is_no_part_of_it(tmp_path: Path) -> None:
    clip = Clip(25, (160, 48), codec="mpeg4", options={"g": "5"})
    with av.open(str(make(tmp_path / "a.mp4", clip))) as container:
        stream = container.streams.video[0]
        frames = []
        for packet in container.demux(stream):
            data = bytes(packet)
            followed: Any = memoryview(data + BEHIND)[: len(data)]
            copy = packet_of(followed)
            copy.pts, copy.time_base = packet.pts, packet.time_base
            frames += stream.codec_context.decode(copy if data else None)
    assert len(frames) == 25
    assert not any(frame.is_corrupt for frame in frames)


def test_a_packet_without_data_is_empty() -> None:
    assert packet_of(b"").size == 0

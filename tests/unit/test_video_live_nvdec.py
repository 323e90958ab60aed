"""What a GPU's decoder is tried with; decoding on a GPU itself is in `tests/gpu`."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import pytest

from dualface_client.video.annexb import begins_anew, sequence_sets
from dualface_client.video.deinterlace import Picture
from dualface_client.video.ffmpeg import packet_of
from dualface_client.video.live_nvdec import NvdecEngine, black_key_frame


def test_a_black_key_frame_is_a_stream_of_its_own() -> None:
    data = black_key_frame((192, 108))
    assert begins_anew(data, "h264")
    assert sequence_sets(data, "h264")
    decoder: Any = av.CodecContext.create("h264", "r")
    frames: list[Any] = [*decoder.decode(packet_of(data)), *decoder.decode(None)]
    assert len(frames) == 1
    frame = frames[0]
    assert (frame.width, frame.height) == (192, 108)
    assert set(frame.to_ndarray()[:108].ravel().tolist()) == {16}


def test_only_idr_pictures_begin_anew() -> None:
    assert begins_anew(b"\0\0\1\x67\x42\0\0\1\x65\x88", "h264")
    assert not begins_anew(b"\0\0\1\x06\x05\0\0\1\x41\x9a\0\0\1\x65", "h264")  # the first counts
    assert begins_anew(b"\0\0\1\x42\x01\0\0\1\x26\x01", "hevc")  # IDR_W_RADL
    assert not begins_anew(b"\0\0\1\x2a\x01", "hevc")  # CRA: leading pictures refer to earlier ones
    assert not begins_anew(b"\0\0\1\x65\x88", "av1")
    assert not begins_anew(b"", "h264")


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_stays_with_the_cpu_which_tone_maps_it(transfer: int, name: str) -> None:
    no_gpu: Any = None
    frame = av.VideoFrame(64, 48, "yuv420p10le")
    frame.color_trc = transfer
    why = NvdecEngine(no_gpu, 8).why_not("hevc", Picture(frame, 0, 0, Fraction(1)))
    assert why == f"HDR ({name}), which the CPU tone-maps"

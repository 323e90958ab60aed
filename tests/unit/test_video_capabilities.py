"""What PyNvVideoCodec is asked, with a codec library that counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from dualface_client.video.capabilities import decoder_caps


class Codec:
    """PyNvVideoCodec's part of the question."""

    cudaVideoCodec = SimpleNamespace(H264=4, HEVC=8)  # noqa: N815 - the library's name

    def __init__(self) -> None:
        self.asked: list[tuple[int, int, int]] = []

    def GetDecoderCaps(self, gpuid: int, codec: int, bitdepth: int) -> dict[str, Any]:  # noqa: N802 - the library's name
        self.asked.append((gpuid, codec, bitdepth))
        return {"supported": int(bitdepth == 8), "width_max": 8192}


def test_a_format_is_asked_for_once() -> None:
    codec = Codec()
    first, again = (decoder_caps(codec, 0, "H264", 8) for _ in range(2))
    assert first == again == {"supported": 1, "width_max": 8192}
    assert codec.asked == [(0, 4, 8)]


def test_other_formats_gpus_and_depths_have_answers_of_their_own() -> None:
    codec = Codec()
    found = [
        decoder_caps(codec, gpu, name, depth)["supported"]
        for gpu, name, depth in ((0, "H264", 8), (1, "H264", 8), (0, "HEVC", 8), (0, "HEVC", 10))
    ]
    assert found == [1, 1, 1, 0]
    assert codec.asked == [(0, 4, 8), (1, 4, 8), (0, 8, 8), (0, 8, 10)]

"""HDR pictures against the formulas of the ITU, computed here one colour at a time."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.types import ColorMatrix, ColorSpec
from dualface_client.video.device_tones import levels_of
from dualface_client.video.sink import PyavSink
from dualface_client.video.source import PyavSource
from dualface_client.video.tonemap import ToneMapper, peak_nits
from tests import media
from tests.media import Clip

Triple = tuple[float, float, float]
PQ, HLG = 16, 18
WHITE_NITS = 203.0


def pq_nits(signal: float) -> float:
    """BT.2100-2, table 4: reference EOTF."""
    power = signal ** (1 / 78.84375)
    light = max(power - 0.8359375, 0.0) / (18.8515625 - 18.6875 * power)
    return float(10_000.0 * light ** (1 / 0.1593017578125))


def pq_signal(nits: float) -> float:
    power = (nits / 10_000.0) ** 0.1593017578125
    return float(((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375)


def hlg_nits(signal: Triple) -> Triple:
    """BT.2100-2, table 5: inverse OETF, then the OOTF of a display of 1000 cd/m2."""
    scene = [
        s * s / 3 if s <= 0.5 else (math.exp((s - 0.55991073) / 0.17883277) + 0.28466892) / 12
        for s in signal
    ]
    luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    red, green, blue = (1000.0 * luminance**0.2 * s for s in scene)
    return red, green, blue


def eetf(nits: float, peak: float) -> float:
    """BT.2390-11, 5.4.1, for a black of 0: Hermite spline above the knee, in PQ."""
    top = pq_signal(peak)
    e1, white = min(pq_signal(nits) / top, 1.0), pq_signal(WHITE_NITS) / top
    knee = 1.5 * white - 0.5
    if e1 < knee:
        return nits
    t = (e1 - knee) / (1 - knee)
    e2 = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee)
    return pq_nits((e2 + (-2 * t**3 + 3 * t**2) * white) * top)


def sdr_of(signal: Triple, transfer: int, peak: float) -> Triple:
    """R', G', B' of BT.709 that a BT.2020 HDR colour becomes."""
    light = hlg_nits(signal) if transfer == HLG else tuple(pq_nits(s) for s in signal)
    matrix = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
    inside = [max(0.0, sum(m * c for m, c in zip(row, light, strict=True))) for row in matrix]
    largest = max(inside)
    scale = eetf(largest, peak) / largest if largest else 0.0
    red, green, blue = (min(1.0, c * scale / WHITE_NITS) ** (1 / 2.4) for c in inside)
    return red, green, blue


def to_yuv(rgb: Triple, kr: float, kb: float, bits: int) -> tuple[int, int, int]:
    """Limited range codes of a colour (BT.709 and BT.2020, non-constant luminance)."""
    red, green, blue = rgb
    y = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - y) / (2 - 2 * kb), (red - y) / (2 - 2 * kr)
    unit = 1 << (bits - 8)
    return (
        round((16 + 219 * y) * unit),
        round((128 + 224 * cb) * unit),
        round((128 + 224 * cr) * unit),
    )


COLORS: dict[str, Triple] = {
    **{f"gray {level}": (level / 20, level / 20, level / 20) for level in range(0, 21, 2)},
    "skin": (0.52, 0.43, 0.38),
    "bright skin": (0.66, 0.6, 0.56),
    "sky": (0.4, 0.5, 0.6),
    "grass": (0.35, 0.42, 0.25),
    "lamp": (0.8, 0.74, 0.6),
    "red": (0.55, 0.3, 0.25),
}


def picture_of(rgb: Triple, transfer: int, size: int = 16) -> av.VideoFrame:
    """A flat 10-bit BT.2020 picture."""
    frame = av.VideoFrame(size, size, "yuv420p10le")
    for plane, code in zip(frame.planes, to_yuv(rgb, 0.2627, 0.0593, 10), strict=True):
        plane.update(np.full(plane.buffer_size // 2, code, "<u2").tobytes())
    frame.colorspace, frame.color_range = 9, 1
    frame.color_primaries, frame.color_trc = 9, transfer
    return frame


def codes_of(frame: av.VideoFrame) -> tuple[int, int, int]:
    pixels = frame.to_ndarray()
    height = frame.height
    return int(pixels[4, 4]), int(pixels[height + 2, 4]), int(pixels[height + 2, 5])


@pytest.mark.parametrize("peak", [600.0, 1000.0, 4000.0])
@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_colors_are_those_of_the_formulas(transfer: int, peak: float) -> None:
    mapper = ToneMapper(transfer, peak)
    wrong = {}
    for name, color in COLORS.items():
        found = codes_of(mapper.convert(picture_of(color, transfer), (16, 16)))
        expected = to_yuv(sdr_of(color, transfer, peak), 0.2126, 0.0722, 8)
        if max(abs(a - b) for a, b in zip(found, expected, strict=True)) > 2:
            wrong[name] = found, expected
    assert wrong == {}


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_what_a_viewer_expects_of_grays(transfer: int) -> None:
    """Black stays black, the peak is white, and reference white is bright but not clipped."""
    mapper = ToneMapper(transfer, 1000.0)
    levels = np.linspace(0, 1, 41)
    found = [codes_of(mapper.convert(picture_of((v, v, v), transfer), (16, 16))) for v in levels]
    luma = [code[0] for code in found]
    assert luma == sorted(luma)
    assert luma[0] == 16
    assert luma[-1] == pytest.approx(235, abs=1)
    assert all(abs(cb - 128) <= 1 and abs(cr - 128) <= 1 for _, cb, cr in found)
    white = 0.75 if transfer == HLG else pq_signal(WHITE_NITS)
    assert 185 < codes_of(mapper.convert(picture_of((white,) * 3, transfer), (16, 16)))[0] < 225


def test_an_unspecified_matrix_is_that_of_hdr() -> None:
    mapper = ToneMapper(PQ, 1000.0)
    untagged = picture_of(COLORS["red"], PQ)
    untagged.colorspace = 2
    tagged = codes_of(mapper.convert(picture_of(COLORS["red"], PQ), (16, 16)))
    assert codes_of(mapper.convert(untagged, (16, 16))) == tagged


def test_a_picture_of_another_size_follows() -> None:
    mapper = ToneMapper(PQ, 1000.0)
    first = mapper.convert(picture_of(COLORS["skin"], PQ, 16), (16, 16))
    second = mapper.convert(picture_of(COLORS["skin"], PQ, 32), (24, 20))
    assert (second.width, second.height) == (24, 20)
    assert codes_of(first) == codes_of(second)


@pytest.mark.parametrize(("transfer", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_an_hdr_file_becomes_sdr_with_sdr_tags(tmp_path: Path, transfer: int, name: str) -> None:
    clip = Clip(codec="libx265", pix_fmt="yuv420p10le", color=(9, 1, 9, transfer), frames=5)
    source = PyavSource(media.make(tmp_path / "in.mp4", clip), threads=1)
    assert source.info.color == ColorSpec(ColorMatrix.BT709, full_range=False)
    assert any(f"HDR ({name}): tone-mapped to BT.709" in note for note in source.info.notes)
    sink = PyavSink(tmp_path / "out.mp4", source.info, (64, 48), threads=1)
    for frame in source:
        sink.write(frame)
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        context: Any = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_range, context.color_primaries)
        assert (*tags, context.color_trc) == (1, 1, 1, 1)
        assert context.pix_fmt == "yuv420p"


def test_metadata_say_how_bright_the_source_is() -> None:
    class Picture:
        """A frame with the side data of HDR10."""

        def __init__(self, **side_data: bytes) -> None:
            self.side_data = side_data

    mastered = struct.pack("=16i2i2i2i", *([0] * 16), 1, 10_000, 40_000_000, 10_000, 1, 1)
    frames: list[tuple[Any, float]] = [
        (Picture(), 1000.0),
        (Picture(CONTENT_LIGHT_LEVEL=struct.pack("=2I", 1500, 400)), 1500.0),
        (Picture(CONTENT_LIGHT_LEVEL=struct.pack("=2I", 0, 0)), 1000.0),
        (Picture(MASTERING_DISPLAY_METADATA=mastered), 4000.0),
        (Picture(CONTENT_LIGHT_LEVEL=struct.pack("=2I", 60_000, 400)), 10_000.0),
    ]
    assert [peak_nits(frame, PQ) for frame, _ in frames] == [peak for _, peak in frames]
    assert peak_nits(frames[1][0], HLG) == 1000.0


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("sample_bytes", [1, 2])
def test_codes_on_the_gpu_are_signals_from_black_to_white(
    sample_bytes: int, *, full_range: bool
) -> None:
    black, luma, zero, chroma = levels_of(sample_bytes, full_range=full_range)
    eight_bit = (0, 255, 128, 255) if full_range else (16, 235, 128, 240)
    ten_bit = (0, 1023, 512, 1023) if full_range else (64, 940, 512, 960)
    codes = eight_bit if sample_bytes == 1 else tuple(code << 6 for code in ten_bit)
    assert (codes[0] - black) * luma == 0
    assert (codes[1] - black) * luma == pytest.approx(1)
    assert (codes[2] - zero) * chroma == 0
    assert (codes[3] - zero) * chroma == pytest.approx(0.5, abs=2.5e-3)

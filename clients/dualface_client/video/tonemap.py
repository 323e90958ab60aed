"""High dynamic range to BT.709 in 8 bit: one table of colours, which both devices look up.

The steps are those of the ITU: to light by the transfer function of BT.2100, to the primaries of
BT.709 (BT.2087), highlights compressed by the curve of BT.2390, and back to a signal by BT.1886.
The largest of a colour's three components is compressed and the others keep their ratio to it, so
that hues stay. Reference white is 203 cd/m2 (BT.2408) and becomes the white of the output.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from dualface_client.types import FloatArray
from dualface_client.video.color import RANGE_FULL, TRANSFERS_HDR
from dualface_client.video.ffmpeg import av

#: Colours of the table along each axis.
NODES = 64
_PQ = 16
_WHITE_NITS = 203.0
_HLG_PEAK_NITS = 1000.0
_PQ_LIMIT_NITS = 10_000.0
# Mastering displays of films and phones without metadata.
_USUAL_PEAK_NITS = 1000.0
_LUMA_2020 = np.array((0.2627, 0.6780, 0.0593))
# BT.2087 and its inverse: linear BT.2020 to linear BT.709.
_TO_709 = np.array(
    (
        (1.6605, -0.5876, -0.0728),
        (-0.1246, 1.1329, -0.0083),
        (-0.0182, -0.1006, 1.1187),
    )
)
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * np.log(4 * _A)
# Where AVMasteringDisplayMetadata has its largest luminance, a rational: behind those of three
# primaries, of the white point and of the smallest luminance.
_MASTERING_PEAK_AT = 9 * 8
# The one format that FFmpeg interpolates with vector instructions: four times as fast.
_FORMAT = "gbrp16le"
_WHITE = (1 << 16) - 1
_LEVEL = 8  # a Hald table of this level has 8 * 8 nodes and is a square of 8 * 8 * 8 pixels

_Floats = npt.NDArray[np.float64]


def color_table(transfer: int, peak_nits: float) -> FloatArray:
    """What each colour of a high dynamic range becomes.

    Args:
        transfer: A key of `color.TRANSFERS_HDR`.
        peak_nits: The brightest light of the source, cd/m2.

    Returns:
        Shape `(64, 64, 64, 3)`, 0 to 1: R', G', B' of BT.709 by the source's B', G' and R', which
        count from 0 to 1 in equal steps.
    """
    steps = np.linspace(0.0, 1.0, NODES)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    signal = np.stack((red, green, blue), axis=-1)
    light = _pq_light(signal) if transfer == _PQ else _hlg_light(signal)
    light = np.maximum(light @ _TO_709.T, 0.0)
    largest = light.max(axis=-1, keepdims=True)
    scale = _compressed(largest, peak_nits) / np.maximum(largest, 1e-6)
    found = np.clip(light * scale / _WHITE_NITS, 0.0, 1.0) ** (1 / 2.4)
    return np.asarray(found, np.float32)


def peak_nits(frame: av.VideoFrame, transfer: int) -> float:
    """The brightest light that a source's metadata announce, cd/m2."""
    if transfer != _PQ:
        return _HLG_PEAK_NITS
    found = 0.0
    light = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    if light is not None:
        found = float(struct.unpack_from("=I", memoryview(cast(bytes, light)))[0])
    display = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if display is not None and not found:
        numerator, denominator = struct.unpack_from(
            "=2i", memoryview(cast(bytes, display)), _MASTERING_PEAK_AT
        )
        found = numerator / denominator if denominator else 0.0
    return min(max(found or _USUAL_PEAK_NITS, _WHITE_NITS), _PQ_LIMIT_NITS)


class ToneMapper:
    """Converts the pictures of one stream on the CPU: FFmpeg's filters look the table up.

    Attributes:
        table: As `color_table` gives it.
    """

    def __init__(self, transfer: int, peak_nits: float) -> None:
        """Computes the table; arguments are those of `color_table`."""
        self.table = color_table(transfer, peak_nits)
        self._of: object = None
        self._graph: av.filter.Graph | None = None  # its filters do not keep it alive
        self._push: Callable[[av.VideoFrame], None]
        self._pull: Callable[[], Any]
        self._count = itertools.count()

    @classmethod
    def of(cls, frame: av.VideoFrame) -> ToneMapper | None:
        """What converts a source with such pictures; None if it has no high dynamic range."""
        transfer = frame.color_trc
        return cls(transfer, peak_nits(frame, transfer)) if transfer in TRANSFERS_HDR else None

    def convert(self, frame: av.VideoFrame, size_wh_px: tuple[int, int]) -> av.VideoFrame:
        """A picture as NV12 in BT.709, limited range.

        Args:
            frame: Of the source.
            size_wh_px: Width and height of the result.
        """
        kind = frame.format.name, frame.width, frame.height, size_wh_px, frame.color_range
        if kind != self._of:  # the first one, or the stream changes
            self._build(frame, size_wh_px)
            self._of = kind
        shown = frame.pts
        frame.pts = next(self._count)  # the filter pairs pictures by their time
        try:
            self._push(frame)
            return cast(av.VideoFrame, self._pull())
        finally:
            frame.pts = shown

    def _build(self, frame: av.VideoFrame, size_wh_px: tuple[int, int]) -> None:
        graph = self._graph = av.filter.Graph()
        side = _LEVEL**3
        full = frame.color_range == RANGE_FULL or frame.format.is_rgb
        pictures = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/1"
            f":colorspace={'gbr' if frame.format.is_rgb else 'bt2020nc'}"
            f":range={'pc' if full else 'tv'}",
        )
        table = graph.add("buffer", f"video_size={side}x{side}:pix_fmt={_FORMAT}:time_base=1/1")
        width, height = size_wh_px
        to_rgb = graph.add("scale", f"{width}:{height}:flags=bicubic")
        rgb = graph.add("format", _FORMAT)
        lookup = graph.add("haldclut", "interp=tetrahedral:clut=first")
        to_yuv = graph.add("scale", "out_color_matrix=bt709:out_range=tv:flags=bicubic")
        nv12 = graph.add("format", "nv12")
        sink = graph.add("buffersink")
        for first, second in itertools.pairwise((pictures, to_rgb, rgb, lookup)):
            first.link_to(second)
        table.link_to(lookup, 0, 1)
        for first, second in itertools.pairwise((lookup, to_yuv, nv12, sink)):
            first.link_to(second)
        graph.configure()
        table.push(self._table_picture())
        table.push(None)
        self._push, self._pull = pictures.push, sink.pull

    def _table_picture(self) -> av.VideoFrame:
        """The table as FFmpeg's `haldclut` reads it: all nodes row by row, red fastest."""
        side = _LEVEL**3
        values = np.round(self.table.reshape(side, side, 3) * _WHITE).astype(np.uint16)
        picture = av.VideoFrame.from_ndarray(values[..., _table_order()], _FORMAT)
        picture.pts = 0
        return picture


def _table_order() -> tuple[int, int, int]:
    """Which components of a table to give to `haldclut` as red, green and blue.

    FFmpeg 8.1 takes the planes of a table, which lie as G, B, R, for R, G, B, though not those of
    pictures. So red is looked up in a table of four nodes that changes nothing.
    """
    steps = np.linspace(0, _WHITE, 4).astype(np.uint16)
    blue, green, red = np.meshgrid(steps, steps, steps, indexing="ij")
    table = np.stack((red, green, blue), axis=-1).reshape(8, 8, 3)
    pure_red = np.zeros((16, 16, 3), np.uint16)
    pure_red[..., 0] = _WHITE
    graph = av.filter.Graph()
    pictures, tables = (
        graph.add("buffer", f"video_size={n}x{n}:pix_fmt={_FORMAT}:time_base=1/1") for n in (16, 8)
    )
    lookup, sink = graph.add("haldclut", "clut=first"), graph.add("buffersink")
    pictures.link_to(lookup)
    tables.link_to(lookup, 0, 1)
    lookup.link_to(sink)
    graph.configure()
    for source, values in ((tables, table), (pictures, pure_red)):
        frame = av.VideoFrame.from_ndarray(values, _FORMAT)
        frame.pts = 0
        source.push(frame)
        source.push(None)
    found = cast(av.VideoFrame, sink.pull()).to_ndarray()
    return (0, 1, 2) if found[0, 0, 0] > _WHITE // 2 else (2, 0, 1)


def _pq_light(signal: _Floats) -> _Floats:
    """cd/m2 of a PQ signal from 0 to 1 (BT.2100 table 4)."""
    power = signal ** (1 / _M2)
    light = np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power)
    return _PQ_LIMIT_NITS * light ** (1 / _M1)


def _pq_signal(light: _Floats) -> _Floats:
    power = (light / _PQ_LIMIT_NITS) ** _M1
    found: _Floats = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return found


def _hlg_light(signal: _Floats) -> _Floats:
    """cd/m2 of an HLG signal from 0 to 1 on a display of 1000 cd/m2 (BT.2100 table 5)."""
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - _C) / _A) + _B) / 12)
    luminance: _Floats = (scene @ _LUMA_2020)[..., None]
    found: _Floats = _HLG_PEAK_NITS * luminance**0.2 * scene
    return found


def _compressed(light: _Floats, peak: float) -> _Floats:
    """Light of at most `peak` compressed to reference white (BT.2390, section 5.4.1)."""
    top = _pq_signal(np.array(peak))
    white = _pq_signal(np.array(_WHITE_NITS)) / top
    knee = 1.5 * white - 0.5
    signal = np.minimum(_pq_signal(light) / top, 1.0)
    at = np.maximum(signal - knee, 0.0) / max(1 - float(knee), 1e-6)
    spline = (
        (2 * at**3 - 3 * at**2 + 1) * knee
        + (at**3 - 2 * at**2 + at) * (1 - knee)
        + (-2 * at**3 + 3 * at**2) * white
    )
    return _pq_light(np.where(signal < knee, signal, spline) * top)

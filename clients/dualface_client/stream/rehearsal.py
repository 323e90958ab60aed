"""Everything that a live stream needs, tried before it is connected.

The first request, picture and decision take seconds where kernels are compiled, models choose their
algorithms and processes start. A camera does not wait: its first frames would be lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from threading import Event

import numpy as np

from dualface_client.decisions.decider import Brief, Deciding
from dualface_client.errors import DualfaceError
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.observe.stage_clock import StageClock
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.loop import StreamLoop, StreamParts
from dualface_client.stream.seams import FaceDetector, FaceEmbedder, Imaging
from dualface_client.types import FACE_CHIP_TEMPLATE_PX, Frame, Nv12Image, VideoInfo
from dualface_client.video.null_sink import NullSink

#: What most cameras send; previews and canvases are made in memory for this size.
_SIZE_WH = (1920, 1080)
_FRAMES = 3
_STEP = Fraction(1, 25)


class _Black:
    """A few black pictures."""

    decode_errors = 0
    is_short_to_read = False
    incomplete = ""
    warnings: tuple[str, ...] = ()

    def __init__(self, image: Nv12Image) -> None:
        self.info = VideoInfo(*_SIZE_WH, 1 / _STEP, _STEP)
        self._image = image

    def __iter__(self) -> Iterator[Frame]:
        for index in range(_FRAMES):
            yield Frame(index, index, _STEP, self._image)

    def close(self) -> None:
        """Nothing is open."""


def rehearse(
    imaging: Imaging,
    detector: FaceDetector,
    embedder: FaceEmbedder,
    deciders: Callable[[Brief, StageClock, Callable[[], None]], Deciding],
    settings: StreamSettings,
    stop: Event,
) -> None:
    """Runs a few black pictures through what a stream works with; nothing of them is kept.

    What fails here is said by the stream itself.

    Args:
        imaging: See `StreamParts`.
        detector: The same.
        embedder: The same.
        deciders: The same.
        settings: Of the stream.
        stop: Ends it early.
    """
    image = _black(imaging)
    parts = StreamParts(_Black(image), NullSink(), imaging, detector, embedder, deciders=deciders)
    status = StreamStatus(StreamReport("rehearsal", "", ""))
    landmarks_px = np.array([FACE_CHIP_TEMPLATE_PX], np.float32) + 100.0
    with contextlib.suppress(DualfaceError):
        StreamLoop(parts, _at_once(settings), status, stop, StageClock()).run()
        embedder.embed(image, landmarks_px, imaging)


def _at_once(settings: StreamSettings) -> StreamSettings:
    """Every picture is detected and decided by itself."""
    return replace(
        settings,
        detection=replace(settings.detection, every=1),
        framing=replace(settings.framing, lookahead_s=0.0),
    )


def _black(imaging: Imaging) -> Nv12Image:
    width, height = _SIZE_WH
    luma = np.full((height, width), 16, np.uint8)
    return imaging.upload_tile(
        Nv12Image(luma, np.full((height // 2, width // 2, 2), 128, np.uint8))
    )

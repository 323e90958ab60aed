"""What a live stream's parts are tried with before its camera is connected.

The first request, picture and decision take seconds where kernels are compiled, models choose their
algorithms and processes start. A camera does not wait: its first frames would be lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from dualface_client.settings.stream import StreamSettings
from dualface_client.types import FACE_CHIP_TEMPLATE_PX, FloatArray, Frame, Nv12Image, VideoInfo

#: What most cameras send; previews and canvases are made in memory for this size.
USUAL_SIZE_WH = (1920, 1080)
_FRAMES = 3
_STEP = Fraction(1, 25)


class BlackSource:
    """A few black pictures on the host, like those of a live input; a `FrameSource`.

    Args:
        image: The picture.
    """

    decode_errors = 0
    is_short_to_read = False
    incomplete = ""
    warnings: tuple[str, ...] = ()

    def __init__(self, image: Nv12Image) -> None:
        self.info = VideoInfo(*USUAL_SIZE_WH, 1 / _STEP, _STEP)
        self._image = image

    def __iter__(self) -> Iterator[Frame]:
        """The same picture several times."""
        for index in range(_FRAMES):
            yield Frame(index, index, _STEP, self._image)

    def close(self) -> None:
        """Nothing is open."""


def black_picture() -> Nv12Image:
    """On the host."""
    width, height = USUAL_SIZE_WH
    luma = np.full((height, width), 16, np.uint8)
    return Nv12Image(luma, np.full((height // 2, width // 2, 2), 128, np.uint8))


def one_face_px() -> FloatArray:
    """Landmarks of a face in that picture, shape `(1, 5, 2)`."""
    return np.array([FACE_CHIP_TEMPLATE_PX], np.float32) + np.float32(100.0)


def picture_by_picture(settings: StreamSettings) -> StreamSettings:
    """Settings with which every picture is detected and decided by itself."""
    return replace(
        settings,
        detection=replace(settings.detection, every=1),
        framing=replace(settings.framing, lookahead_s=0.0),
    )

"""Draws every frame's canvas, also where faces are missing or composing fails."""

from __future__ import annotations

from collections.abc import Callable

from dualface_client.framing.camera import Shot
from dualface_client.imaging.tiles import placeholder
from dualface_client.pipeline.parts import Imaging
from dualface_client.types import Nv12Image, Side, TileLayout

#: So many canvases in a row that cannot be drawn are no hiccup: the stream then fails.
MAX_FAILURES_IN_A_ROW = 50


class CanvasMaker:
    """Composes; shows a tile's last good picture or a placeholder where its face is missing.

    Args:
        imaging: Pixel work of the frames' device.
        layout: Sizes of the canvas.
        missing: `FramingSettings.missing`.
        warn: Gets the first failure's message.
    """

    def __init__(
        self, imaging: Imaging, layout: TileLayout, missing: str, warn: Callable[[str], None]
    ) -> None:
        self._imaging = imaging
        self._layout = layout
        self._missing = missing
        self._warn = warn
        self._last: Nv12Image | None = None
        self._kept: dict[Side, Nv12Image] = {}
        self._failures_in_a_row = 0
        self.failures = 0

    def draw(self, image: Nv12Image, shots: tuple[Shot, Shot]) -> Nv12Image:
        """The canvas of one frame; the one before again where it cannot be drawn.

        Args:
            image: The source's picture.
            shots: What the left and the right tile have to show.

        Raises:
            Exception: What composing raised, at the first frame of a stream or after too many
                failures in a row.
        """
        crops = (shots[0].crop, shots[1].crop)
        try:
            canvas = self._imaging.compose(image, crops, self._layout)
        except Exception as error:
            self._failures_in_a_row += 1
            if self._last is None or self._failures_in_a_row > MAX_FAILURES_IN_A_ROW:
                raise
            if not self.failures:
                self._warn(f"a frame could not be composed, the last good one was shown: {error}")
            self.failures += 1
            return self._last
        self._failures_in_a_row = 0
        for side, shot in zip((Side.LEFT, Side.RIGHT), shots, strict=True):
            self._finish(canvas, side, shot)
        self._last = canvas
        return canvas

    def _finish(self, canvas: Nv12Image, side: Side, shot: Shot) -> None:
        if self._missing == "placeholder" and shot.away:
            if side not in self._kept:
                self._kept[side] = self._imaging.upload_tile(placeholder(self._layout))
            self._imaging.put_tile(canvas, side, self._layout, self._kept[side])
        elif self._missing == "freeze" and shot.away:
            if side in self._kept:
                self._imaging.put_tile(canvas, side, self._layout, self._kept[side])
        elif self._missing == "freeze" and shot.seen:
            self._kept[side] = self._imaging.copy_tile(canvas, side, self._layout)

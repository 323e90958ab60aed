"""Draws every frame's canvas, even if faces are missing or composing fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dualface_client.framing.studio import Plan, TileShot
from dualface_client.imaging.tiles import placeholder
from dualface_client.stream.seams import Imaging
from dualface_client.types import Nv12Image, Side, TileLayout

#: After this many canvases in a row that cannot be drawn the stream fails.
MAX_FAILURES_IN_A_ROW = 50


class CanvasMaker:
    """Composes; shows a tile's last good picture or a placeholder if its face is missing.

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

    def draw(self, images: Sequence[Nv12Image], plans: Sequence[Plan]) -> list[Nv12Image]:
        """The canvases of consecutive frames; if one cannot be drawn, the previous one again.

        Args:
            images: The source's pictures.
            plans: What the canvas shows of each.

        Raises:
            Exception: What composing raised, at the first frame of a stream or after too many
                failures in a row.
        """
        try:
            drawn = self._compose(images, plans)
        except Exception as error:
            if len(images) == 1:
                return [self._last_good(error)]
            # One by one, so that those that can be drawn are drawn.
            pairs = zip(images, plans, strict=True)
            return [canvas for image, plan in pairs for canvas in self.draw([image], [plan])]
        self._failures_in_a_row = 0
        for canvas, plan in zip(drawn, plans, strict=True):
            for shot in plan.shots:
                self._finish(canvas, shot.side, shot)
        self._last = drawn[-1]
        return drawn

    def _compose(self, images: Sequence[Nv12Image], plans: Sequence[Plan]) -> list[Nv12Image]:
        views = [plan.views for plan in plans]
        return self._imaging.compose(images, views, self._layout)

    def _last_good(self, error: Exception) -> Nv12Image:
        self._failures_in_a_row += 1
        if self._last is None or self._failures_in_a_row > MAX_FAILURES_IN_A_ROW:
            raise error
        if not self.failures:
            self._warn(f"a frame could not be composed, the last good one was shown: {error}")
        self.failures += 1
        return self._last

    def _finish(self, canvas: Nv12Image, side: Side, shot: TileShot) -> None:
        if self._missing == "placeholder" and shot.away:
            if side not in self._kept:
                self._kept[side] = self._imaging.upload_tile(placeholder(self._layout))
            self._imaging.put_tile(canvas, side, self._layout, self._kept[side])
        elif self._missing == "freeze" and shot.away:
            if side in self._kept:
                self._imaging.put_tile(canvas, side, self._layout, self._kept[side])
        elif self._missing == "freeze" and shot.seen:
            self._kept[side] = self._imaging.copy_tile(canvas, side, self._layout)

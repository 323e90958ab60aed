"""Draws every frame's canvas, even if faces are missing or composing fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dualface_client.framing.studio import Plan, TileShot
from dualface_client.imaging.tiles import placeholder
from dualface_client.stream.seams import Imaging
from dualface_client.types import Nv12Image, Rect, TileLayout

#: After this many canvases in a row that cannot be drawn the stream fails.
MAX_FAILURES_IN_A_ROW = 50


class CanvasMaker:
    """Composes; shows a view's last good picture or a placeholder if its face is missing.

    What is kept belongs to a place on the canvas, not to a person.

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
        self._kept: dict[Rect, Nv12Image] = {}
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
            drawn = self._imaging.compose(images, [plan.views for plan in plans], self._layout)
        except Exception as error:
            if len(images) == 1:
                return [self._last_good(error)]
            # One by one, so that those that can be drawn are drawn.
            pairs = zip(images, plans, strict=True)
            return [canvas for image, plan in pairs for canvas in self.draw([image], [plan])]
        self._failures_in_a_row = 0
        for canvas, plan in zip(drawn, plans, strict=True):
            for shot in plan.shots:
                self._finish(canvas, shot)
        self._last = drawn[-1]
        return drawn

    def _last_good(self, error: Exception) -> Nv12Image:
        self._failures_in_a_row += 1
        if self._last is None or self._failures_in_a_row > MAX_FAILURES_IN_A_ROW:
            raise error
        if not self.failures:
            self._warn(f"a frame could not be composed, the last good one was shown: {error}")
        self.failures += 1
        return self._last

    def _finish(self, canvas: Nv12Image, shot: TileShot) -> None:
        area = shot.area
        if self._missing == "placeholder" and shot.away:
            if area not in self._kept:
                dark = placeholder(area.width_px, area.height_px)
                self._kept[area] = self._imaging.upload_tile(dark)
            self._imaging.put_tile(canvas, area, self._kept[area])
        elif self._missing == "freeze" and shot.away:
            if area in self._kept:
                self._imaging.put_tile(canvas, area, self._kept[area])
        elif self._missing == "freeze" and shot.seen:
            self._kept[area] = self._imaging.copy_tile(canvas, area)

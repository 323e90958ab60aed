"""What the program thinks, drawn on the source: boxes, people, sides, risk and cameras.

Drawn directly into both NV12 planes, so the rest of the picture stays the source's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dualface_client.types import (
    Crop,
    Nv12Image,
    SeatAssignment,
    Side,
    TrackView,
)

#: Y, Cb, Cr (BT.709, limited range).
_Ycc = tuple[int, int, int]
_ORANGE: _Ycc = (150, 60, 185)
_BLUE: _Ycc = (140, 185, 70)
_GREY: _Ycc = (150, 128, 128)
_GREEN: _Ycc = (150, 70, 80)
_RED: _Ycc = (90, 100, 215)
_BLACK, _WHITE = 16, 235
_FONT = cv2.FONT_HERSHEY_SIMPLEX
#: From this value the risk is drawn in red: the default of `tracking.risk.threshold`.
_RISKY = 0.5


def draw_overlay(
    image: Nv12Image,
    assignment: SeatAssignment,
    crops: Sequence[tuple[Side | None, Crop]],
    *,
    frame_index: int,
    time_s: float,
) -> None:
    """Draws on a picture.

    Args:
        image: Host picture, changed.
        assignment: What was decided about this frame.
        crops: What is shown of it, in its pixels, and in which tile; None is the whole canvas.
        frame_index: 0-based.
        time_s: Presentation time, seconds.
    """
    pen = _Pen(image)
    for tile, crop in crops:
        pen.crop(crop, tile)
    sides = {assignment.of(side).identity: side for side in Side}
    for track in assignment.tracks:
        side = sides.get(track.identity) if track.identity else None
        pen.box(track, side)
    top = pen.line(f"{time_s:9.3f} s  frame {frame_index}{_events(assignment)}", 0, _GREY)
    risk = "  ".join(f"{name} {value:.2f}" for name, value in assignment.risk_parts)
    colour = _RED if assignment.risk >= _RISKY else _GREEN
    pen.line(f"risk {assignment.risk:.2f}  {risk}".rstrip(), top, colour)


def _events(assignment: SeatAssignment) -> str:
    return "  SCENE CUT" * assignment.scene_cut + "  ReID" * assignment.reid_ran


def _colour_of(side: Side | None) -> _Ycc:
    if side is None:
        return _GREY
    return _ORANGE if side is Side.LEFT else _BLUE


def _track_text(track: TrackView, side: Side | None) -> str:
    person = f"person {track.identity}" if track.identity else "nobody"
    seen = f"{track.score:.2f}" if track.score > 0 else "predicted"
    return f"{person} {side.value if side else '-'}  track {track.id} {seen}"


class _Pen:
    """Draws in both planes of one picture; sizes depend on its height."""

    def __init__(self, image: Nv12Image) -> None:
        self._y, self._uv = image.y, image.uv
        self._width, self._height = image.size_wh_px
        self._scale = max(0.4, self._height / 1080 * 1.1)
        self._thin = max(2, round(self._height / 540) * 2)

    def crop(self, crop: Crop, tile: Side | None) -> None:
        """What a tile or the canvas shows: a thick frame, its name in the lower corner."""
        colour, text = (_colour_of(tile), f"{tile.value} tile") if tile else (_GREEN, "canvas")
        left, top = crop.x_px, crop.y_px
        right, bottom = left + crop.width_px, top + crop.height_px
        inset = self._thin
        self._frame((left + inset, top + inset, right - inset, bottom - inset), colour, 2)
        width, height = self._size(text)
        x = right - width - 4 * inset if tile is Side.RIGHT else left + 2 * inset
        self._text(text, x, bottom - 2 * inset - height, colour)

    def box(self, track: TrackView, side: Side | None) -> None:
        """A face and who it is; of a predicted one only the corners.

        The right person's name is below, so that faces that meet do not hide it.
        """
        colour, text = _colour_of(side), _track_text(track, side)
        left, top, right, bottom = (float(value) for value in track.box_xyxy_px)
        if track.score > 0:
            self._frame((left, top, right, bottom), colour, 1)
        else:
            self._corners((left, top, right, bottom), colour)
        height = self._size(text)[1]
        below = side is Side.RIGHT or top < height
        self._text(text, left, bottom if below else top - height, colour)

    def line(self, text: str, top_px: float, colour: _Ycc) -> float:
        """A line of text at the left edge; returns where the next one goes."""
        self._text(text, 0.0, top_px, colour)
        return top_px + self._size(text)[1]

    def _corners(self, box: tuple[float, float, float, float], colour: _Ycc) -> None:
        left, top, right, bottom = box
        reach_x, reach_y = (right - left) / 4, (bottom - top) / 4
        for x, dx in ((left, reach_x), (right, -reach_x)):
            for y, dy in ((top, reach_y), (bottom, -reach_y)):
                self._frame((x, y, x + dx, y), colour, 1)
                self._frame((x, y, x, y + dy), colour, 1)

    def _frame(self, box: tuple[float, float, float, float], colour: _Ycc, factor: int) -> None:
        """A rectangle; the chroma plane has half the size, so the line is even in luma."""
        x1, y1, x2, y2 = (2 * round(value / 2) for value in box)
        thick = self._thin * factor
        cv2.rectangle(self._y, (x1, y1), (x2, y2), colour[:1], thick)
        half = ((x1 // 2, y1 // 2), (x2 // 2, y2 // 2))
        cv2.rectangle(self._uv, *half, colour[1:], max(1, thick // 2))

    def _size(self, text: str) -> tuple[int, int]:
        """Width and height of a text with its background, even."""
        (width, height), below = cv2.getTextSize(text, _FONT, self._scale, self._thin // 2)
        return width + 2 * self._thin & ~1, height + below + 2 * self._thin & ~1

    def _text(self, text: str, left_px: float, top_px: float, colour: _Ycc) -> None:
        """White on black with a bar of the colour at its left, moved into the picture."""
        width, height = self._size(text)
        bar = 2 * self._thin
        x = 2 * round(min(max(left_px, 0.0), max(0.0, self._width - width - bar)) / 2)
        y = 2 * round(min(max(top_px, 0.0), max(0.0, self._height - height)) / 2)
        self._fill((x, y, x + bar, y + height), colour)
        self._fill((x + bar, y, x + bar + width, y + height), (_BLACK, 128, 128))
        below = cv2.getTextSize(text, _FONT, self._scale, self._thin // 2)[1]
        foot = (x + bar + self._thin, y + height - below - self._thin // 2)
        cv2.putText(
            self._y, text, foot, _FONT, self._scale, (_WHITE,), self._thin // 2, cv2.LINE_AA
        )

    def _fill(self, box: tuple[int, int, int, int], colour: _Ycc) -> None:
        x1, y1, x2, y2 = box
        self._y[y1:y2, x1:x2] = colour[0]
        self._uv[y1 // 2 : y2 // 2, x1 // 2 : x2 // 2] = np.array(colour[1:], np.uint8)

"""What is wrong with one canvas: findings that an editor would never let pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dualface_client.types import FACE_CHIP_PX, FACE_CHIP_TEMPLATE_PX, ByteArray, FloatArray
from scripts.judge.detector import FaceFinder, SeenFace

#: A face whose box reaches within this share of the width to the left or right edge is cut.
CUT_SHARE = 0.01
#: A second face from this share of the main one's height on crowds the tile.
CROWDED_RATIO = 0.4
#: A plain dark border from this share of the tile's height on is a bar.
BAR_SHARE = 0.02
#: Chips of one face correlate above this.
SAME_FACE_CORRELATION = 0.9
#: Faces below this share of the picture's height are not looked at.
SMALLEST_SHARE = 0.04
#: Faces are sought in the picture at this scale.
_SCALE = 0.5
_CHIP_PX = 64
#: Where the five points are in a chip of this size.
_TEMPLATE = np.array(FACE_CHIP_TEMPLATE_PX, np.float32) * (_CHIP_PX / FACE_CHIP_PX)


@dataclass(frozen=True, slots=True)
class TileLook:
    """What one tile, or a canvas that is one picture, shows.

    Attributes:
        faces: How many.
        cut: One is cut by the left or the right edge.
        crowded: A second one is at least 0.4 times as high as the main one.
        bars: A plain dark border along an edge.
        face_share: Height of the main face, share of the tile's; None without a face.
        eye_share: Its eye line from the top, share of the tile's height.
        chip: The main face, aligned and normalised; None where it cannot be aligned.
    """

    faces: int
    cut: bool = False
    crowded: bool = False
    bars: bool = False
    face_share: float | None = None
    eye_share: float | None = None
    chip: FloatArray | None = None


@dataclass(frozen=True, slots=True)
class CanvasLook:
    """What one canvas shows.

    Attributes:
        tiles: The left (or upper) and the right (or lower) one; none if it is one picture.
        picture: The whole canvas if it is one picture.
        twice: Both tiles show the same face.
    """

    tiles: tuple[TileLook, ...]
    picture: TileLook | None = None
    twice: bool = False

    @property
    def findings(self) -> tuple[str, ...]:
        """What is wrong: of `cut`, `crowded`, `bars` and `twice`; of a single picture nothing."""
        kinds = ("cut", "crowded", "bars")
        names = [kind for kind in kinds if any(getattr(tile, kind) for tile in self.tiles)]
        return (*names, "twice") if self.twice else tuple(names)

    @property
    def pair_ratio(self) -> float | None:
        """The larger main face's height by the smaller one's, at least 1."""
        shares = [tile.face_share for tile in self.tiles if tile.face_share]
        return max(shares) / min(shares) if len(shares) == 2 else None


def split(canvas: ByteArray, gap_px: int = 0) -> tuple[ByteArray, ByteArray] | None:
    """The two tiles of a canvas, or None if it is one picture.

    Tiles lie side by side on a canvas at least as wide as high, else above each other.

    Args:
        canvas: BGR `(height, width, 3)` uint8.
        gap_px: Width of the plain gap between the tiles, 0 for none.
    """
    if canvas.shape[0] > canvas.shape[1]:
        turned = split(np.ascontiguousarray(canvas.transpose(1, 0, 2)), gap_px)
        return turned and (turned[0].transpose(1, 0, 2), turned[1].transpose(1, 0, 2))
    middle, before = canvas.shape[1] // 2, gap_px // 2
    if not (_is_plain(canvas, middle, before) if before else _has_seam(canvas, middle)):
        return None
    return canvas[:, : middle - before], canvas[:, middle + before :]


def _has_seam(canvas: ByteArray, middle: int) -> bool:
    """Whether brightness jumps between the middle columns more than beside them."""
    columns = canvas[:, middle - 3 : middle + 3].astype(np.float32).mean(axis=2)
    steps = np.abs(np.diff(columns, axis=1)).mean(axis=0)
    return bool(steps[2] > 3 * (steps[1] + steps[3]) / 2 + 1.5)


def _is_plain(canvas: ByteArray, middle: int, reach: int) -> bool:
    """Whether the stripe around the middle has one colour from top to bottom."""
    inset = 1 if reach > 1 else 0  # the codec smears the edges
    stripe = canvas[:, middle - reach + inset : middle + reach - inset].astype(np.float32)
    return bool(stripe.std(axis=(0, 1)).max() < 4)


def look(canvas: ByteArray, finder: FaceFinder, gap_px: int = 0) -> CanvasLook:
    """Judges one canvas, BGR `(height, width, 3)` uint8."""
    tiles = split(canvas, gap_px)
    if tiles is None:
        return CanvasLook((), look_at_picture(canvas, finder))
    looks = tuple(look_at_picture(tile, finder) for tile in tiles)
    chips = [tile.chip for tile in looks if tile.chip is not None]
    same = len(chips) == 2 and float((chips[0] * chips[1]).mean()) > SAME_FACE_CORRELATION
    return CanvasLook(looks, None, same)


def look_at_picture(picture: ByteArray, finder: FaceFinder) -> TileLook:
    """Judges one tile, BGR `(height, width, 3)` uint8."""
    height, width = picture.shape[:2]
    found = find_faces(picture, finder)
    if not found:
        return TileLook(0, bars=has_bars(picture))
    main = max(found, key=lambda face: face.height_px * (1 - _off_centre(face, width)))
    edge = CUT_SHARE * width
    return TileLook(
        faces=len(found),
        cut=any(f.box_xyxy_px[0] < edge or f.box_xyxy_px[2] > width - edge for f in found),
        crowded=sum(face.height_px >= CROWDED_RATIO * main.height_px for face in found) > 1,
        bars=has_bars(picture),
        face_share=main.height_px / height,
        eye_share=float(main.points_px[:2, 1].mean()) / height,
        chip=_chip(picture, main),
    )


def find_faces(picture: ByteArray, finder: FaceFinder) -> list[SeenFace]:
    """Faces of at least `SMALLEST_SHARE` of the picture's height, sought at half its size."""
    small = cv2.resize(picture, None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_AREA)
    faces = finder.find(np.asarray(small, np.uint8))
    whole = [_enlarged(face, 1 / _SCALE) for face in faces]
    return [face for face in whole if face.height_px >= SMALLEST_SHARE * picture.shape[0]]


def _enlarged(face: SeenFace, factor: float) -> SeenFace:
    left, top, right, bottom = (factor * value for value in face.box_xyxy_px)
    return SeenFace((left, top, right, bottom), face.points_px * np.float32(factor), face.score)


def _off_centre(face: SeenFace, width: int) -> float:
    """Distance of a face's centre to the middle, 0 to 0.5 of the width."""
    return abs((face.box_xyxy_px[0] + face.box_xyxy_px[2]) / 2 / width - 0.5)


def has_bars(picture: ByteArray) -> bool:
    """Whether a plain dark border lies along an edge."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY).astype(np.float32)
    n = max(2, int(BAR_SHARE * picture.shape[0]))
    edges: Sequence[FloatArray] = (grey[:n], grey[-n:], grey[:, :n], grey[:, -n:])
    return any(bool(edge.std() < 2.5 and edge.mean() < 32) for edge in edges)


def _chip(picture: ByteArray, face: SeenFace) -> FloatArray | None:
    """The face's inner part in grey, aligned, with mean 0 and deviation 1."""
    matrix, _ = cv2.estimateAffinePartial2D(face.points_px, _TEMPLATE, method=cv2.LMEDS)
    if matrix is None:
        return None
    aligned = cv2.warpAffine(picture, matrix, (_CHIP_PX, _CHIP_PX))
    grey = cv2.cvtColor(aligned, cv2.COLOR_BGR2GRAY).astype(np.float32)[8:60, 8:56]
    smooth = cv2.GaussianBlur(grey, (0, 0), 1)
    return np.asarray((smooth - smooth.mean()) / (smooth.std() + 1e-6), np.float32)

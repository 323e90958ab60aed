"""Puts the two people into one picture and knows what hides what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from dualface_client.types import ByteArray, FloatArray
from scripts.clips.scenarios import Pose, Scene
from scripts.clips.sources import SOURCES, Detector, FaceBoxes, cut_out, read_frames
from scripts.clips.truth import PersonTruth

#: Everybody sits behind a desk whose edge is at this share of the picture height: it hides where
#: the source clips end.
DESK_EDGE = 0.86
#: The lower end of a source's picture lies this far below the desk's edge, share of the height.
BELOW_DESK = 0.02


@dataclass(frozen=True, slots=True)
class Layer:
    """Something opaque or half opaque at a place of the picture.

    Attributes:
        x_px: Left edge.
        y_px: Top edge.
        bgr: Shape `(h, w, 3)`, uint8.
        alpha: Shape `(h, w)`, float32, 0 to 1.
    """

    x_px: int
    y_px: int
    bgr: ByteArray
    alpha: FloatArray

    def blend_onto(self, canvas: ByteArray) -> None:
        """Draws the layer; it lies inside the canvas."""
        height, width = self.alpha.shape
        if not height or not width:
            return
        under = canvas[self.y_px : self.y_px + height, self.x_px : self.x_px + width]
        under[:] = cv2.blendLinear(self.bgr, under, self.alpha, 1 - self.alpha)

    def opacity_in(self, x1: int, y1: int, x2: int, y2: int) -> FloatArray:
        """The layer's alpha over a rectangle of the picture, 0 where it does not reach."""
        out = np.zeros((y2 - y1, x2 - x1), np.float32)
        height, width = self.alpha.shape
        left, top = max(x1, self.x_px), max(y1, self.y_px)
        right, bottom = min(x2, self.x_px + width), min(y2, self.y_px + height)
        if left < right and top < bottom:
            out[top - y1 : bottom - y1, left - x1 : right - x1] = self.alpha[
                top - self.y_px : bottom - self.y_px, left - self.x_px : right - self.x_px
            ]
        return out


class Actor:
    """One person's source clip, played at the speed of the composed clip.

    Args:
        identity: Key of `SOURCES`.
        clips_dir: Where the source clips lie.
        detector: Finds the source's faces where the cache lacks them.
        start: Frames after the source's first usable one at which this clip starts.
        duration_s: How long it plays; a source that is too short starts over.
    """

    def __init__(
        self, identity: int, clips_dir: Path, detector: Detector, start: int, duration_s: float
    ) -> None:
        self.identity = identity
        self._spec = SOURCES[identity]
        self._path = clips_dir / self._spec.file_name
        needed = int(duration_s * self._spec.frame_rate) + 2
        room = self._spec.end_frame - self._spec.first_frame
        self._count = min(needed, room)
        self._first = self._spec.first_frame + start % max(room - self._count + 1, 1)
        self._boxes = FaceBoxes(self._path, detector).at(self._first, self._count)
        self._reader: Iterator[ByteArray] = iter(())
        self._position = -1
        self._frame: ByteArray = np.zeros((2, 2, 3), np.uint8)
        self._middle_x = float(np.median(self._boxes[:, ::2].mean(axis=1)))
        # The scenario alone decides the size: slow leaning towards the camera is taken out.
        self._face_heights = _moving_mean(
            self._boxes[:, 3] - self._boxes[:, 1], self._spec.frame_rate
        )

    def _frame_at(self, position: int) -> ByteArray:
        if position < self._position or self._position < 0:
            self._reader = read_frames(self._path, self._first, self._count)
            self._position = -1
        while self._position < position:
            self._frame = next(self._reader)
            self._position += 1
        return self._frame

    def layer(
        self, time_s: float, pose: Pose, size_wh: tuple[int, int]
    ) -> tuple[Layer, FloatArray]:
        """This person at one moment.

        Args:
            time_s: Time in the composed clip; must not run backwards.
            pose: Where to stand.
            size_wh: Size of the composed picture.

        Returns:
            The layer, clipped to the picture, and the face box `(4,)` xyxy in the picture.
        """
        position = int(time_s * self._spec.frame_rate + 1e-6) % self._count
        box = self._boxes[position]
        person, alpha = cut_out(self._frame_at(position), box, self._spec)
        width, height = size_wh
        scale = pose.height * height / float(self._face_heights[position])
        foot = np.array([self._middle_x, person.shape[0]])
        shift = np.array([pose.x * width, (DESK_EDGE + BELOW_DESK) * height]) - scale * foot
        layer = _placed(person, alpha, scale, shift, size_wh)
        return layer, (box * scale + np.tile(shift, 2)).astype(np.float32)


def _moving_mean(values: FloatArray, reach: int) -> FloatArray:
    """Mean over `reach` neighbours on either side, shape as given."""
    padded = np.pad(values, reach, mode="edge")
    kernel = np.full(2 * reach + 1, 1 / (2 * reach + 1))
    return np.convolve(padded, kernel, mode="valid").astype(np.float32)


def _placed(
    bgr: ByteArray,
    alpha: FloatArray,
    scale: float,
    shift: npt.NDArray[np.float64],
    size_wh: tuple[int, int],
) -> Layer:
    """Scales and moves a cut-out, with the part outside the picture left away."""
    source_h, source_w = alpha.shape
    low = np.maximum(np.floor(shift), 0).astype(int)
    high = np.minimum(np.ceil(shift + scale * np.array([source_w, source_h])), size_wh).astype(int)
    width, height = (int(value) for value in np.maximum(high - low, 0))
    if not width or not height:
        return Layer(0, 0, np.zeros((0, 0, 3), np.uint8), np.zeros((0, 0), np.float32))
    # Pixel centres lie at +0.5: an edge at x maps to scale * x + shift.
    offset = shift - low + 0.5 * scale - 0.5
    matrix = np.array([[scale, 0, offset[0]], [0, scale, offset[1]]], np.float64)
    warped = cv2.warpAffine(
        bgr, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    opacity = cv2.warpAffine(alpha, matrix, (width, height), flags=cv2.INTER_LINEAR)
    return Layer(
        int(low[0]),
        int(low[1]),
        np.asarray(warped, np.uint8),
        np.asarray(opacity, np.float32),
    )


class Studio:
    """Backgrounds, desk and occluder, drawn once per shot.

    Args:
        size_wh: Size of the composed picture.
        seed: Varies colours and the things on the wall.
    """

    def __init__(self, size_wh: tuple[int, int], seed: int) -> None:
        self._size_wh = size_wh
        self._seed = seed
        self._walls: dict[int, ByteArray] = {}
        self._desk = self._make_desk()

    def wall(self, shot: int) -> ByteArray:
        """A fresh copy of a shot's background."""
        if shot not in self._walls:
            self._walls[shot] = self._make_wall(shot)
        return self._walls[shot].copy()

    def _make_wall(self, shot: int) -> ByteArray:
        width, height = self._size_wh
        rng = np.random.default_rng([self._seed, shot])
        # The tones of the second source's own wall, so that its soft edge does not show.
        tones = np.array([[138, 165, 178], [120, 148, 150], [150, 160, 165]], np.float32)
        left = tones[shot % 3] + rng.uniform(-5, 5)
        across = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
        down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
        wall = left * (1.06 - 0.14 * across) * (1.03 - 0.12 * down)
        for _ in range(3):
            x, y = rng.uniform(0, 0.9), rng.uniform(0.02, 0.25)
            w, h = rng.uniform(0.06, 0.16), rng.uniform(0.12, 0.3)
            color = rng.uniform(90, 190) + rng.uniform(-25, 25, 3)
            corner = (int(x * width), int(y * height))
            opposite = (int((x + w) * width), int((y + h) * height))
            cv2.rectangle(wall, corner, opposite, color.tolist(), -1)
        wall = cv2.GaussianBlur(wall, (0, 0), width / 160)
        grain = rng.normal(0, 1.5, (height, width, 1)).astype(np.float32)
        return np.asarray(np.clip(wall + grain, 0, 255), np.uint8)

    def _make_desk(self) -> Layer:
        width, height = self._size_wh
        top = int(DESK_EDGE * height)
        rows = height - top
        shade = np.linspace(1.0, 0.6, rows, dtype=np.float32)[:, None, None]
        bgr = np.broadcast_to(shade * np.array([48, 72, 104], np.float32), (rows, width, 3))
        alpha = np.ones((rows, width), np.float32)
        return Layer(0, top, bgr.astype(np.uint8), alpha)

    @property
    def desk(self) -> Layer:
        """The front of the scene."""
        return self._desk

    def occluder(self, center_x: float) -> Layer:
        """A tall dark panel, wide enough to hide one head."""
        width, height = self._size_wh
        half = 0.085 * width
        low = int(np.clip(center_x * width - half, 0, width))
        high = int(np.clip(center_x * width + half, 0, width))
        x = np.arange(low, high, dtype=np.float32) - center_x * width
        edge = np.clip((half - np.abs(x)) / (0.004 * width), 0, 1).astype(np.float32)
        shade = (70 - 30 * np.abs(x) / half)[None, :, None]
        bgr = np.broadcast_to(shade * np.array([1.0, 0.9, 0.6], np.float32), (height, len(x), 3))
        alpha = np.broadcast_to(edge, (height, len(x))).copy()
        return Layer(low, 0, bgr.astype(np.uint8), alpha)


def compose(
    scene: Scene, time_s: float, actors: tuple[Actor, Actor], studio: Studio
) -> tuple[ByteArray, tuple[PersonTruth, ...]]:
    """One picture and what is true of it.

    Args:
        scene: Who is where.
        time_s: Time in the composed clip.
        actors: Person 1 and person 2.
        studio: What surrounds them.

    Returns:
        BGR `(height, width, 3)` uint8, and both people in the order of their ids.
    """
    canvas = studio.wall(scene.shot)
    size_wh = (canvas.shape[1], canvas.shape[0])
    drawn = [
        actor.layer(time_s, pose, size_wh) for actor, pose in zip(actors, scene.poses, strict=True)
    ]
    order = sorted((0, 1), key=lambda row: -scene.poses[row].depth)
    front = [studio.desk]
    if scene.occluder_x is not None:
        front.append(studio.occluder(scene.occluder_x))
    layers = [drawn[row][0] for row in order] + front
    for layer in layers:
        layer.blend_onto(canvas)
    people = []
    for row, actor in enumerate(actors):
        hiding = layers[order.index(row) + 1 :]
        box = drawn[row][1]
        on_screen, visible = _shares(box, hiding, size_wh)
        edges = tuple(round(float(value), 2) for value in box)
        depth = round(scene.poses[row].depth, 3)
        people.append(
            PersonTruth(
                actor.identity, (edges[0], edges[1], edges[2], edges[3]), on_screen, visible, depth
            )
        )
    return canvas, tuple(people)


def _shares(
    box_xyxy_px: FloatArray, hiding: list[Layer], size_wh: tuple[int, int]
) -> tuple[float, float]:
    """Shares of a box that are inside the picture, and inside and not hidden."""
    x1, y1, x2, y2 = (round(float(value)) for value in box_xyxy_px)
    area = max((x2 - x1) * (y2 - y1), 1)
    left, top = max(x1, 0), max(y1, 0)
    right, bottom = min(x2, size_wh[0]), min(y2, size_wh[1])
    if left >= right or top >= bottom:
        return 0.0, 0.0
    clear = np.ones((bottom - top, right - left), np.float32)
    for layer in hiding:
        clear *= 1 - layer.opacity_in(left, top, right, bottom)
    on_screen = (right - left) * (bottom - top) / area
    return round(on_screen, 3), round(float(clear.sum()) / area, 3)

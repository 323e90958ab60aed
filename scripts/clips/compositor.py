"""Puts the people into one picture and knows what hides what."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dualface_client.types import ByteArray, FloatArray
from scripts.clips.people import DESK_EDGE, Actor, Layer, Passer
from scripts.clips.scenarios import Pose, Scene
from scripts.clips.truth import PersonTruth


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


#: The passer-by's id in the truth; `SOURCES` has the others.
PASSER_BY_ID = 3


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One person of a picture."""

    identity: int
    pose: Pose
    layer: Layer
    box_xyxy_px: FloatArray


@dataclass(frozen=True, slots=True)
class Cast:
    """Everybody who may be in the picture.

    Attributes:
        actors: Person 1 and person 2.
        passer: Person 3, None where the scenario has nobody walk past.
    """

    actors: tuple[Actor, Actor]
    passer: Passer | None = None

    def draw(self, scene: Scene, time_s: float, size_wh: tuple[int, int]) -> list[_Drawn]:
        """Who is in the scene, in the order of their ids."""
        drawn = [
            _Drawn(actor.identity, pose, *actor.layer(time_s, pose, size_wh))
            for actor, pose in zip(self.actors, scene.poses, strict=True)
        ]
        if self.passer is not None and scene.passer_by is not None:
            pose = scene.passer_by
            drawn.append(_Drawn(PASSER_BY_ID, pose, *self.passer.layer(pose, size_wh)))
        return drawn


def compose(
    scene: Scene, time_s: float, cast: Cast, studio: Studio
) -> tuple[ByteArray, tuple[PersonTruth, ...]]:
    """One picture and what is true of it.

    Args:
        scene: Who is where.
        time_s: Time in the composed clip.
        cast: The people.
        studio: What surrounds them.

    Returns:
        BGR `(height, width, 3)` uint8, and the people in the order of their ids.
    """
    canvas = studio.wall(scene.shot)
    size_wh = (canvas.shape[1], canvas.shape[0])
    drawn = cast.draw(scene, time_s, size_wh)
    far_first = sorted(drawn, key=lambda person: -person.pose.depth)
    front = [studio.desk]
    if scene.occluder_x is not None:
        front.append(studio.occluder(scene.occluder_x))
    layers = [person.layer for person in far_first] + front
    for layer in layers:
        layer.blend_onto(canvas)
    hiding = {p.identity: layers[place + 1 :] for place, p in enumerate(far_first)}
    return canvas, tuple(_truth(person, hiding[person.identity], size_wh) for person in drawn)


def _truth(person: _Drawn, hiding: list[Layer], size_wh: tuple[int, int]) -> PersonTruth:
    on_screen, visible = _shares(person.box_xyxy_px, hiding, size_wh)
    x1, y1, x2, y2 = (round(float(value), 2) for value in person.box_xyxy_px)
    depth = round(person.pose.depth, 3)
    passes = person.identity == PASSER_BY_ID
    return PersonTruth(person.identity, (x1, y1, x2, y2), on_screen, visible, depth, passes)


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

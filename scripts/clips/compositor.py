"""Puts the people into one picture and knows what hides what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np

from dualface_client.types import ByteArray, FloatArray
from scripts.clips.films import Lens, Panel, Place, Shown
from scripts.clips.people import Actor, Layer, Photo, Room
from scripts.clips.scenarios import AWAY, Extra, Pose, Scene
from scripts.clips.sources import PASSER_BY_PHOTO, SOURCES
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
        self._desks: dict[float, Layer] = {}

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

    def _make_desk(self, edge: float) -> Layer:
        width, height = self._size_wh
        top = int(edge * height)
        rows = height - top
        shade = np.linspace(1.0, 0.6, rows, dtype=np.float32)[:, None, None]
        bgr = np.broadcast_to(shade * np.array([48, 72, 104], np.float32), (rows, width, 3))
        alpha = np.ones((rows, width), np.float32)
        return Layer(0, top, bgr.astype(np.uint8), alpha)

    def desk(self, edge: float) -> Layer:
        """The front of the scene, from a share of the height down."""
        if edge not in self._desks:
            self._desks[edge] = self._make_desk(edge)
        return self._desks[edge]

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


#: The passer-by's id in the truth, and the first one's of the extras; `SOURCES` has the others.
PASSER_BY_ID = 3


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One person of a scene."""

    identity: int
    pose: Pose
    layer: Layer
    box_xyxy_px: FloatArray
    still: bool = False


class Cast:
    """Everybody who may be in the picture.

    Args:
        actors: Person 1 and person 2.
        photo: Makes somebody else from the file name of a photo; asked once for each.
    """

    def __init__(self, actors: tuple[Actor, Actor], photo: Callable[[str], Photo]) -> None:
        self._actors = actors
        self._photo = cache(photo)

    def draw(
        self, scene: Scene, time_s: float, size_wh: tuple[int, int], *, pixels: bool = True
    ) -> list[_Drawn]:
        """Who is in the scene, in the order of their ids.

        Args:
            scene: Who is where.
            time_s: Time in the composed clip.
            size_wh: Size of the scene.
            pixels: Whether layers show people; without, they only hide what is behind them.
        """
        room = Room(size_wh, scene.desk_edge)
        drawn = [
            _Drawn(
                actor.identity,
                pose,
                *(actor.layer if pixels else actor.silhouette)(time_s, pose, room),
            )
            for actor, pose in zip(self._actors, scene.poses, strict=True)
            if pose != AWAY
        ]
        if scene.passer_by is not None:
            drawn.append(self._extra(PASSER_BY_ID, Extra(PASSER_BY_PHOTO, scene.passer_by), room))
        for identity, extra in enumerate(scene.extras, PASSER_BY_ID):
            drawn.append(self._extra(identity, extra, room))
        return drawn

    def _extra(self, identity: int, extra: Extra, room: Room) -> _Drawn:
        photo, pose = self._photo(extra.photo), extra.pose
        if extra.poster_y is None:
            return _Drawn(identity, pose, *photo.layer(pose, room))
        layer, box = photo.poster(pose, extra.poster_y, room)
        return _Drawn(identity, pose, layer, box, still=True)


class Compositor:
    """Draws a film's pictures and says what is true of them.

    Args:
        cast: The people.
        size_wh: Size of the picture.
        seed: Varies the backgrounds.
        detail: Scenes are drawn at this multiple of their panel's size.
        pixels: Whether to draw at all; without, pictures are black and hidden shares are rough.
    """

    def __init__(
        self,
        cast: Cast,
        size_wh: tuple[int, int],
        seed: int,
        *,
        detail: float = 1.0,
        pixels: bool = True,
    ) -> None:
        self._cast = cast
        self._size_wh = size_wh
        self._detail = detail
        self._pixels = pixels
        self._studio = cache(lambda place, size: Studio(size, seed + place))
        self._slide = cache(lambda: make_slide(size_wh, seed))

    def picture(self, shown: Shown, time_s: float) -> tuple[ByteArray, tuple[PersonTruth, ...]]:
        """One picture and what is true of it.

        Args:
            shown: What the film shows.
            time_s: Time in the composed clip; must not run backwards.

        Returns:
            BGR `(height, width, 3)` uint8, and the people in the order of their ids.
        """
        width, height = self._size_wh
        canvas = self._slide().copy() if shown.slide else np.zeros((height, width, 3), np.uint8)
        people: list[PersonTruth] = []
        for place, panel in enumerate(shown.panels):
            x1, y1, x2, y2 = panel_px(panel.place, self._size_wh)
            scene, found = self._panel(panel, place, (x2 - x1, y2 - y1), time_s)
            if self._pixels:
                canvas[y1:y2, x1:x2] = scene
            number = place if shown.has_windows else -1
            people += [_placed_truth(person, (x1, y1), number) for person in found]
        there = {person.id for person in people}
        people += [_absent(identity) for identity in SOURCES if identity not in there]
        return canvas, tuple(sorted(people, key=lambda person: person.id))

    def _panel(
        self, panel: Panel, place: int, panel_wh: tuple[int, int], time_s: float
    ) -> tuple[ByteArray, list[PersonTruth]]:
        """What a panel shows, and who is in it, in pixels of the panel."""
        size_wh = even(panel_wh[0] * self._detail), even(panel_wh[1] * self._detail)
        studio, scene = self._studio(place, size_wh), panel.scene
        drawn = self._cast.draw(scene, time_s, size_wh, pixels=self._pixels)
        far_first = sorted(drawn, key=lambda person: -person.pose.depth)
        front = [studio.desk(scene.desk_edge)]
        if scene.occluder_x is not None:
            front.append(studio.occluder(scene.occluder_x))
        layers = [person.layer for person in far_first] + front
        view = Window.of(panel.lens, size_wh, panel_wh)
        hiding = {p.identity: layers[n + 1 :] for n, p in enumerate(far_first)}
        truths = [_truth(person, hiding[person.identity], view) for person in drawn]
        if not self._pixels:
            return np.zeros((0, 0, 3), np.uint8), truths
        picture = studio.wall(scene.shot)
        for layer in layers:
            layer.blend_onto(picture)
        return view.seen(picture), truths


@dataclass(frozen=True, slots=True)
class Window:
    """The part of a scene that a panel shows.

    Attributes:
        low: Left and top edge in the scene, pixels.
        high: Right and bottom edge.
        panel_wh: Size of the panel.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    panel_wh: tuple[int, int]

    @classmethod
    def of(cls, lens: Lens, scene_wh: tuple[int, int], panel_wh: tuple[int, int]) -> Window:
        """What a lens sees of a scene."""
        x, y, w, h = lens.window
        width, height = scene_wh
        return cls((x * width, y * height), ((x + w) * width, (y + h) * height), panel_wh)

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the panel per pixel of the scene."""
        wide, high = (b - a for a, b in zip(self.low, self.high, strict=True))
        return self.panel_wh[0] / wide, self.panel_wh[1] / high

    def to_panel(self, box_xyxy_px: FloatArray) -> FloatArray:
        """A box of the scene in pixels of the panel."""
        return np.asarray((box_xyxy_px - np.tile(self.low, 2)) * np.tile(self.scale, 2), np.float32)

    def seen(self, picture: ByteArray) -> ByteArray:
        """The scene's picture as the panel shows it."""
        (x, y), (scale_x, scale_y) = self.low, self.scale
        if (x, y) == (0, 0) and (scale_x, scale_y) == (1, 1):
            return picture
        # Pixel centres lie at +0.5: an edge at x maps to scale * (x - low).
        matrix = np.array(
            [
                [scale_x, 0, scale_x * (0.5 - x) - 0.5],
                [0, scale_y, scale_y * (0.5 - y) - 0.5],
            ]
        )
        # Antialiased where it shrinks: the scene is drawn larger than the panel.
        blur = max(0.5 / min(scale_x, scale_y) - 0.5, 0.0)
        smooth = cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.05 else picture
        warped = cv2.warpAffine(
            smooth, matrix, self.panel_wh, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped, np.uint8)


def even(value: float) -> int:
    """The nearest even number."""
    return 2 * round(value / 2)


def panel_px(place: Place, size_wh: tuple[int, int]) -> tuple[int, int, int, int]:
    """Edges of a panel in whole pixels of the picture, xyxy, all even."""
    x, y, w, h = place
    width, height = size_wh
    return even(x * width), even(y * height), even((x + w) * width), even((y + h) * height)


def make_slide(size_wh: tuple[int, int], seed: int) -> ByteArray:
    """A bright slide: a title, lines of text and a dark strip at the right for windows."""
    width, height = size_wh
    slide = np.full((height, width, 3), 245, np.uint8)
    slide[:, int(0.72 * width) :] = 28
    rng = np.random.default_rng([seed, 7])
    size = height / 450
    cv2.putText(slide, "Quarterly figures", (int(0.05 * width), int(0.15 * height)), 0, size, 60, 2)
    for line in range(7):
        words = " ".join("x" * int(rng.integers(2, 9)) for _ in range(int(rng.integers(4, 8))))
        place = (int(0.06 * width), int((0.28 + 0.09 * line) * height))
        cv2.putText(slide, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * size, (90, 70, 60), 1)
    slide[:, int(0.72 * width) :] = 28
    return slide


def _absent(identity: int) -> PersonTruth:
    return PersonTruth(identity, (0.0, 0.0, 0.0, 0.0), 0.0, 0.0, 1.0)


def _placed_truth(person: PersonTruth, corner: tuple[int, int], panel: int) -> PersonTruth:
    """A person of a panel in pixels of the picture."""
    x1, y1, x2, y2 = person.box
    x, y = corner
    box = (round(x1 + x, 2), round(y1 + y, 2), round(x2 + x, 2), round(y2 + y, 2))
    return replace(person, box=box, panel=panel)


def _truth(person: _Drawn, hiding: list[Layer], window: Window) -> PersonTruth:
    on_screen, visible = _shares(person.box_xyxy_px, hiding, window)
    x1, y1, x2, y2 = (float(value) for value in window.to_panel(person.box_xyxy_px))
    return PersonTruth(
        person.identity,
        (x1, y1, x2, y2),
        on_screen,
        visible,
        round(person.pose.depth, 3),
        passer_by=person.identity >= PASSER_BY_ID,
        still=person.still,
        unclear=person.pose.is_unclear,
    )


def _shares(box_xyxy_px: FloatArray, hiding: list[Layer], window: Window) -> tuple[float, float]:
    """Shares of a box that are inside the window, and inside and not hidden."""
    x1, y1, x2, y2 = (round(float(value)) for value in box_xyxy_px)
    area = max((x2 - x1) * (y2 - y1), 1)
    low, high = (tuple(round(value) for value in edge) for edge in (window.low, window.high))
    left, top = max(x1, low[0]), max(y1, low[1])
    right, bottom = min(x2, high[0]), min(y2, high[1])
    if left >= right or top >= bottom:
        return 0.0, 0.0
    clear = np.ones((bottom - top, right - left), np.float32)
    for layer in hiding:
        clear *= 1 - layer.opacity_in(left, top, right, bottom)
    on_screen = (right - left) * (bottom - top) / area
    return round(on_screen, 3), round(float(clear.sum()) / area, 3)

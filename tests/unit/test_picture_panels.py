"""Windows, bars and what is neither, on previews drawn here with known places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np
import pytest

from dualface_client.picture.analysis import PictureAnalysis
from dualface_client.types import Box, ByteArray, Faces, FloatArray, PictureFacts

#: Everything is drawn at the source's size and averaged, as `Imaging.preview` does.
SOURCE_WH = (1280, 720)
PREVIEW_WH = (320, 180)
SAMPLE_PX = 4.0
FPS = 25


@dataclass(frozen=True)
class Person:
    """Somebody before a wall, who moves: what one camera shows.

    Attributes:
        box_px: Where the window with the person is, left, top, right, bottom.
        seed: Makes the wall and the motion.
        radius_px: Of the window's corners.
        line_px: Width of a light line around the window.
        still: A photo.
        shelf: A shelf runs behind the neck, level and straight.
        close: The face, with hair and glasses, fills the window.
        lintel: Above the head the wall is another one, from a straight level line on.
    """

    box_px: tuple[int, int, int, int]
    seed: int
    radius_px: int = 0
    line_px: int = 0
    still: bool = False
    shelf: bool = False
    close: bool = False
    lintel: bool = False

    def draw(self, canvas: ByteArray, frame: int) -> FloatArray:
        """Draws the window and returns the face's box."""
        x1, y1, x2, y2 = self.box_px
        width, height = x2 - x1, y2 - y1
        view = wall(self.seed, width, height)
        step = 0 if self.still else frame
        shift = 0.03 * height * np.sin((0.3 + 0.07 * (self.seed % 5)) * step + self.seed)
        middle = (int(width / 2 + shift), int(0.45 * height + 0.3 * shift))
        if self.shelf:
            view[int(0.68 * height) :] //= 2
        if self.lintel:
            view[: int(0.14 * height)] = wall(self.seed + 40, width, int(0.14 * height))
        tall = int(min(0.2 * height, 0.22 * width) * (2.5 if self.close else 1))
        cv2.ellipse(
            view,
            (middle[0], height),
            (tall * 2, tall * 2),
            0,
            0,
            360,
            60 + 45 * (self.seed % 4),
            -1,
        )
        cv2.ellipse(view, middle, (int(0.75 * tall), tall), 0, 0, 360, 190, -1)
        for side in (-1, 1):
            eye = (middle[0] + side * tall // 3, middle[1] - tall // 4)
            cv2.circle(view, eye, max(tall // 8, 1), 40, -1)
            if self.close:
                cv2.rectangle(view, (eye[0] - tall // 4, eye[1] - tall // 5), eye, 20, 2)
        if self.close:
            hair = (int(0.8 * tall), int(0.9 * tall))
            cv2.ellipse(view, (middle[0], middle[1] - tall // 8), hair, 0, 185, 355, 25, tall // 4)
        mouth = (middle[0], middle[1] + tall // 2)
        opening = max(1, int(tall / 6 * (1 + np.sin(step))))
        cv2.ellipse(view, mouth, (tall // 3, opening), 0, 0, 360, 70, -1)
        if self.line_px:
            pad = self.line_px
            cv2.rectangle(canvas, (x1 - pad, y1 - pad), (x2 + pad - 1, y2 + pad - 1), 235, -1)
        opacity = rounded(width, height, self.radius_px)
        below = canvas[y1:y2, x1:x2]
        below[:] = (view * opacity + below * (1 - opacity)).astype(np.uint8)
        half_w, half_h = 0.75 * tall, tall
        x, y = x1 + middle[0], y1 + middle[1]
        return np.array([x - half_w, y - half_h, x + half_w, y + half_h], np.float32)


@lru_cache(maxsize=64)
def _wall(seed: int, width: int, height: int) -> ByteArray:
    """A wall with light falling on it and a few soft things: no straight edge runs through it.

    Walls of seeds that follow one another differ in brightness.
    """
    rng = np.random.default_rng(seed)
    coarse = (75 + 55 * (seed % 3) + rng.uniform(-45, 45, (4, 6))).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 4, (height // 4 + 1, width // 4 + 1)).astype(np.float32)
    fine = cv2.resize(grain, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(smooth + fine, 0, 255), np.uint8)


def wall(seed: int, width: int, height: int) -> ByteArray:
    """A fresh copy."""
    return _wall(seed, width, height).copy()


@lru_cache(maxsize=8)
def _noise(seed: int) -> FloatArray:
    noise = np.random.default_rng(seed).normal(0, 1.5, (SOURCE_WH[1], SOURCE_WH[0]))
    return noise.astype(np.float32)


def preview_of(canvas: ByteArray, frame: int) -> ByteArray:
    """What a noisy camera makes of it, averaged."""
    noisy = np.clip(canvas + _noise(frame % 8), 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(noisy, PREVIEW_WH, interpolation=cv2.INTER_AREA), np.uint8)


def faces_at(boxes: Sequence[FloatArray]) -> Faces:
    return Faces(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), 0.9, np.float32),
        np.zeros((len(boxes), 5, 2), np.float32),
    )


def rounded(width: int, height: int, radius: int) -> FloatArray:
    opacity = np.zeros((height, width), np.uint8)
    cv2.rectangle(opacity, (radius, 0), (width - radius - 1, height - 1), 255, -1)
    cv2.rectangle(opacity, (0, radius), (width - 1, height - radius - 1), 255, -1)
    for x in (radius, width - radius - 1):
        for y in (radius, height - radius - 1):
            cv2.circle(opacity, (x, y), radius, 255, -1)
    return np.asarray(opacity, np.float32) / np.float32(255)


def surface(level: int) -> Callable[[int], ByteArray]:
    return lambda frame: np.full((SOURCE_WH[1], SOURCE_WH[0]), level, np.uint8)


def slide(frame: int) -> ByteArray:
    """A dark surface with a light page on it, whose text changes now and then."""
    canvas = surface(30)(frame)
    canvas[60:620, 10:990] = 245
    for line in range(6):
        text = f"Result {line}: {frame // 20 * line} %"
        cv2.putText(canvas, text, (40, 140 + 75 * line), 0, 1.4, 40, 2)
    return canvas


class Film:
    """Runs the analysis over drawn frames.

    Args:
        under: What lies under the windows, of a frame's number.
        people: In the order they are drawn, of a frame's number.
    """

    def __init__(
        self,
        under: Callable[[int], ByteArray],
        people: Callable[[int], Sequence[Person]],
        cuts: Sequence[int] = (),
    ) -> None:
        self._under, self._people, self._cuts = under, people, {0, *cuts}
        self._analysis = PictureAnalysis(SOURCE_WH)

    def run(self, count: int) -> list[PictureFacts]:
        return [self._step(frame) for frame in range(count)]

    def _step(self, frame: int) -> PictureFacts:
        canvas = self._under(frame)
        boxes = [person.draw(canvas, frame) for person in self._people(frame)]
        return self._seen(canvas, boxes, frame)

    def _seen(self, canvas: ByteArray, boxes: Sequence[FloatArray], frame: int) -> PictureFacts:
        preview = preview_of(canvas, frame)
        return self._analysis.update(preview, faces_at(boxes), frame / FPS, frame in self._cuts)


def assert_inside(found: Box, true: tuple[int, int, int, int], by_px: float = 12.0) -> None:
    """A panel shows nothing of its border, and loses little of what is in it."""
    for low, true_low in zip(found[:2], true[:2], strict=True):
        assert true_low <= low <= true_low + by_px
    for high, true_high in zip(found[2:], true[2:], strict=True):
        assert true_high - by_px <= high <= true_high


LAYOUTS: dict[str, tuple[Callable[[int], ByteArray], list[Person]]] = {
    "two side by side": (surface(0), [Person((0, 0, 640, 720), 1), Person((640, 0, 1280, 720), 2)]),
    "two with a line between": (
        surface(255),
        [Person((0, 0, 636, 720), 1), Person((644, 0, 1280, 720), 2)],
    ),
    "unequal halves": (surface(0), [Person((0, 0, 762, 720), 3), Person((762, 0, 1280, 720), 4)]),
    "two above each other": (
        surface(0),
        [Person((0, 0, 1280, 360), 5), Person((0, 360, 1280, 720), 6)],
    ),
    "three columns": (
        surface(0),
        [Person((426 * n, 0, 428 + 426 * n, 720), 7 + n) for n in range(3)],
    ),
    "four": (
        surface(0),
        [
            Person((640 * x, 360 * y, 640 + 640 * x, 360 + 360 * y), 12 + x + 2 * y)
            for y in range(2)
            for x in range(2)
        ],
    ),
    "a call of two": (
        surface(32),
        [Person((20, 186, 630, 530), 1, 10), Person((650, 186, 1260, 530), 2, 10)],
    ),
    "a call of four": (
        surface(30),
        [
            Person((28 + 620 * x, 20 + 344 * y, 632 + 620 * x, 356 + 344 * y), 20 + x + 2 * y, 14)
            for y in range(2)
            for x in range(2)
        ],
    ),
    "a slide and thumbnails": (
        slide,
        [Person((1020, 200, 1260, 335), 30), Person((1020, 345, 1260, 480), 31, 8)],
    ),
    "halves in a box": (
        surface(32),
        [Person((160, 90, 640, 630), 1), Person((640, 90, 1120, 630), 2)],
    ),
    "unequal halves in a box": (
        surface(70),
        [Person((160, 92, 448, 628), 4), Person((448, 92, 1120, 628), 3)],
    ),
    "four in a light box": (
        surface(245),
        [
            Person((160 + 480 * x, 90 + 270 * y, 640 + 480 * x, 360 + 270 * y), 12 + x + 2 * y)
            for y in range(2)
            for x in range(2)
        ],
    ),
    "a line across each window": (
        surface(30),
        [
            Person((20, 186, 630, 530), 1, lintel=True),
            Person((650, 186, 1260, 530), 2, lintel=True),
        ],
    ),
    "two who move alike with little between": (
        surface(30),
        [Person((440, 100, 840, 352), 5), Person((440, 364, 840, 616), 5)],
    ),
    "a slide and small thumbnails that their faces fill": (
        slide,
        [
            Person((1030, 260, 1210, 362), 36, close=True),
            Person((1030, 372, 1210, 474), 31, close=True),
        ],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_window_is_found_within_half_a_second_and_stays(name: str) -> None:
    under, people = LAYOUTS[name]
    facts = Film(under, lambda frame: people).run(2 * FPS)
    settled = facts[FPS // 2].panels_xyxy_px
    assert len(settled) == len(people)
    for person in people:
        assert_inside(panel_of(person, settled), person.box_px, 12 + person.radius_px)
    assert {each.panels_xyxy_px for each in facts[FPS // 2 :]} == {settled}
    assert {each.motion_xy_px for each in facts[FPS // 2 :]} == {(0.0, 0.0)}


def panel_of(person: Person, panels: Sequence[Box]) -> Box:
    """The one around the middle of a person's window."""
    x, y = (person.box_px[0] + person.box_px[2]) / 2, (person.box_px[1] + person.box_px[3]) / 2
    (found,) = (box for box in panels if box[0] < x < box[2] and box[1] < y < box[3])
    return found


@pytest.mark.parametrize(
    "inset",
    [
        Person((980, 520, 1260, 700), 41),
        Person((960, 500, 1260, 700), 45, radius_px=16),
        Person((40, 480, 400, 700), 43, line_px=3),
        Person((940, 480, 1280, 720), 44),
    ],
    ids=["plain", "rounded", "framed", "in the corner"],
)
def test_a_picture_in_the_picture_is_a_panel_and_the_rest_is_none(inset: Person) -> None:
    large = Person((0, 0, 1280, 720), 40)
    facts = Film(surface(0), lambda frame: [large, inset]).run(2 * FPS)
    for each in facts[FPS:]:
        assert len(each.panels_xyxy_px) == 1
        assert_inside(each.panels_xyxy_px[0], inset.box_px)


def blurred(person: Person) -> Callable[[int], ByteArray]:
    """What a phone's video is laid over: itself, enlarged and blurred."""

    def draw(frame: int) -> ByteArray:
        canvas = surface(0)(frame)
        replace(person, box_px=(0, 0, *SOURCE_WH)).draw(canvas, frame)
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 25), np.uint8)

    return draw


def test_a_phone_s_video_over_itself_blurred_is_a_panel() -> None:
    phone = Person((438, 0, 842, 720), 46)
    facts = Film(blurred(phone), lambda frame: [phone]).run(2 * FPS)
    for each in facts[FPS:]:
        (panel,) = each.panels_xyxy_px
        assert_inside(panel, phone.box_px)


@pytest.mark.parametrize(
    "name", ["a call of four", "a slide and small thumbnails that their faces fill"]
)
def test_windows_on_a_plain_surface_are_believed_at_the_first_look(name: str) -> None:
    under, people = LAYOUTS[name]
    facts = Film(under, lambda frame: people).run(FPS // 3)
    assert len(facts[-1].panels_xyxy_px) == len(people)


@pytest.mark.parametrize("name", ["two side by side", "halves in a box"])
def test_half_of_the_picture_is_a_panel_though_nobody_is_seen_in_the_other(name: str) -> None:
    under, (left, right) = LAYOUTS[name]

    def window_without_a_face(frame: int) -> ByteArray:
        canvas = under(frame)
        x1, y1, x2, y2 = right.box_px
        canvas[y1:y2, x1:x2] = wall(right.seed, x2 - x1, y2 - y1)
        return canvas

    facts = Film(window_without_a_face, lambda frame: [left]).run(FPS)
    (panel,) = facts[-1].panels_xyxy_px
    assert_inside(panel, left.box_px)


def test_a_shelf_in_a_window_does_not_cut_it() -> None:
    """It is straight and level, but who sits before it moves above it and below it."""
    people = [Person((20, 186, 630, 530), 1, shelf=True), Person((650, 186, 1260, 530), 2)]
    facts = Film(surface(32), lambda frame: people).run(2 * FPS)
    for each in facts[FPS // 2 :]:
        for person in people:
            assert_inside(panel_of(person, each.panels_xyxy_px), person.box_px)


def test_a_window_as_dark_as_its_surface_at_one_side_ends_there() -> None:
    """It has no border there, and what lies further out belongs to something else."""
    person = Person((560, 186, 1190, 530), 1)

    def draw(frame: int) -> ByteArray:
        canvas = surface(32)(frame)
        canvas[:, :480] = 245  # a page
        return canvas

    class DarkAtTheLeft(Film):
        def _seen(self, canvas: ByteArray, boxes: Sequence[FloatArray], frame: int) -> PictureFacts:
            canvas[186:300, 560:640] = 32
            return super()._seen(canvas, boxes, frame)

    (panel,) = DarkAtTheLeft(draw, lambda frame: [person]).run(FPS)[-1].panels_xyxy_px
    assert_inside(panel, person.box_px)


def test_windows_that_move_with_the_camera_are_things_in_a_room() -> None:
    """It shakes, rests for a second and shakes again."""

    def moved(frame: int) -> ByteArray:
        canvas = wall(90, *SOURCE_WH)
        for person in (Person((200, 150, 560, 560), 91), Person((700, 150, 1060, 560), 92)):
            person.draw(canvas, frame)
        for n in range(40):  # something to hold on to
            cv2.circle(canvas, (20 + 32 * n, 40 + 640 * (n % 2)), 9, 250 * (n % 3 > 0), -1)
        shift = 8 * np.sin(1.1 * frame) if frame < FPS or frame > 2 * FPS else 0.0
        matrix = np.array([[1, 0, shift], [0, 1, shift / 2]], np.float64)
        return np.asarray(cv2.warpAffine(canvas, matrix, SOURCE_WH, borderMode=1), np.uint8)

    boxes = [np.array([320, 240, 440, 400], np.float32), np.array([820, 240, 940, 400], np.float32)]
    analysis = PictureAnalysis(SOURCE_WH)
    facts = [
        analysis.update(preview_of(moved(n), n), faces_at(boxes), n / FPS, n == 0)
        for n in range(2 * FPS)
    ]
    assert any(any(each.motion_xy_px) for each in facts[:FPS])
    assert {each.panels_xyxy_px for each in facts} == {()}


def test_what_moves_in_all_windows_is_no_motion_of_the_picture() -> None:
    people = LAYOUTS["two side by side"][1]
    analysis = PictureAnalysis(SOURCE_WH)
    for frame in range(2 * FPS):
        canvas = surface(0)(frame)
        boxes = [person.draw(canvas, frame) for person in people]
        shift = round(10 * np.sin(frame)) if frame > FPS else 0
        for x in (0, 640):  # each window shakes within its borders
            for n in range(24):
                place = (x + 30 + 24 * n + shift, 40 + 410 * (n % 2))
                cv2.circle(canvas, place, 7, 250 * (n % 3 > 0), -1)
        preview = preview_of(canvas, frame)
        facts = analysis.update(preview, faces_at(boxes), frame / FPS, frame == 0)
        assert facts.motion_xy_px == (0.0, 0.0)
    assert len(facts.panels_xyxy_px) == 2


def test_a_call_that_changes_its_grid_is_followed_within_a_second() -> None:
    before = LAYOUTS["a call of two"][1]
    after = [Person((20 + 420 * n, 20, 420 + 420 * n, 246), 50 + n) for n in range(3)]
    film = Film(surface(32), lambda frame: before if frame < 2 * FPS else after)
    facts = film.run(4 * FPS)
    assert len(facts[2 * FPS - 1].panels_xyxy_px) == 2
    for person in after:
        assert_inside(panel_of(person, facts[3 * FPS].panels_xyxy_px), person.box_px)


@pytest.mark.parametrize("begins", [140, 143, 150, 158])
@pytest.mark.parametrize(
    ("stays", "within_s"), [(True, 1.0), (False, 2.0)], ids=["somebody joins", "changes places"]
)
def test_a_window_late_in_a_shot_is_found_although_looks_have_become_rare(
    stays: bool, within_s: float, begins: int
) -> None:
    """As early as ever with one face more, and otherwise with the next looks."""
    large, inset = Person((0, 0, 1280, 720), 40), Person((960, 480, 1280, 720), 44)

    def people(frame: int) -> list[Person]:
        return [large] if frame < begins else [large, inset] if stays else [inset]

    def room(frame: int) -> ByteArray:
        return wall(40, 1280, 720)

    facts = Film(room, people).run(begins + round(within_s * FPS) + 1)
    assert facts[begins - 1].panels_xyxy_px == ()
    (found,) = facts[-1].panels_xyxy_px
    assert_inside(found, inset.box_px)


def test_windows_are_forgotten_at_a_cut() -> None:
    under, people = LAYOUTS["two side by side"]
    whole = [Person((0, 0, 1280, 720), 60)]
    facts = Film(under, lambda frame: people if frame < FPS else whole, cuts=[FPS]).run(2 * FPS)
    assert len(facts[FPS - 1].panels_xyxy_px) == 2
    assert {each.panels_xyxy_px for each in facts[FPS:]} == {()}


def door(frame: int) -> ByteArray:
    """A room with a dark door frame from top to bottom that leans by a fifth of a degree."""
    canvas = wall(70, *SOURCE_WH)
    leaning = np.array([[640, 0], [650, 0], [653, 719], [643, 719]], np.int32)
    cv2.fillPoly(canvas, [leaning], 40)
    return canvas


def shelf(frame: int) -> ByteArray:
    """A room with a straight shelf, which the people in front hide in part."""
    canvas = wall(71, *SOURCE_WH)
    canvas[300:330] = 60
    return canvas


def poster(frame: int) -> ByteArray:
    """A room with a photo of somebody on the wall."""
    canvas = np.full((SOURCE_WH[1], SOURCE_WH[0]), 140, np.uint8)
    Person((500, 40, 780, 330), 72, still=True).draw(canvas, 0)
    return canvas


def board(frame: int) -> ByteArray:
    """A plain wall with a straight board on it, right behind somebody's head."""
    canvas = np.full((SOURCE_WH[1], SOURCE_WH[0]), 140, np.uint8)
    canvas[150:560, 100:540] = 225
    canvas[190:530:60, 140:480] = 60  # what is written on it
    return canvas


def curtain(frame: int) -> ByteArray:
    """A room in which a straight curtain between the two ends above the floor."""
    canvas = wall(74, *SOURCE_WH)
    canvas[:545, 700:] //= 2
    return canvas


def people_before(under: Callable[[int], ByteArray]) -> Callable[[int], ByteArray]:
    """Two cut-outs, of a head and shoulders each, who move in front of a room."""

    def draw(frame: int) -> ByteArray:
        canvas = under(frame)
        for n, x in enumerate((320, 960)):
            shift = int(20 * np.sin(0.3 * frame + n))
            cv2.ellipse(canvas, (x + shift, 720), (200, 300), 0, 0, 360, 50 + 30 * n, -1)
            cv2.ellipse(canvas, (x + shift, 330), (80, 105), 0, 0, 360, 190, -1)
            cv2.circle(canvas, (x + shift, 380), 10 + int(8 * np.sin(frame)), 60, -1)
        return canvas

    return draw


class Roomful(Film):
    """The same two people in one room: their faces are where they are drawn."""

    def __init__(self, under: Callable[[int], ByteArray]) -> None:
        super().__init__(people_before(under), lambda frame: [])

    def _step(self, frame: int) -> PictureFacts:
        canvas = self._under(frame)
        shifts = [20 * np.sin(0.3 * frame + n) for n in range(2)]
        places = [x + shift for x, shift in zip((320, 960), shifts, strict=True)]
        boxes = [np.array([x - 80, 225, x + 80, 435], np.float32) for x in places]
        boxes.append(np.array([580, 95, 700, 255], np.float32))  # what is on the poster
        return self._seen(canvas, boxes, frame)


@pytest.mark.parametrize("room", [door, shelf, poster, board, curtain])
def test_straight_things_in_a_room_are_no_windows(room: Callable[[int], ByteArray]) -> None:
    facts = Roomful(room).run(2 * FPS)
    assert {each.panels_xyxy_px for each in facts} == {()}
    assert {each.content_xyxy_px for each in facts} == {(0.0, 0.0, 1280.0, 720.0)}


@pytest.mark.parametrize(
    ("level", "picture"),
    [
        (16, (0, 92, 1280, 628)),
        (16, (160, 0, 1120, 720)),
        (235, (160, 0, 1120, 720)),
        (40, (438, 0, 842, 720)),
        (16, (120, 68, 1160, 652)),
    ],
    ids=["letterbox", "pillarbox", "white", "phone", "all around"],
)
def test_bars_are_outside_the_content(level: int, picture: tuple[int, int, int, int]) -> None:
    shown = [Person(picture, 80)]
    facts = Film(surface(level), lambda frame: shown, cuts=[FPS]).run(2 * FPS)
    for each in facts[FPS // 2 :]:
        assert_inside(each.content_xyxy_px, picture, 8)
        assert each.panels_xyxy_px == ()


def test_a_plain_sofa_or_desk_is_part_of_the_picture() -> None:
    shown = [Person((0, 0, 1280, 600), 80)]
    facts = Film(surface(90), lambda frame: shown).run(2 * FPS)
    assert {each.content_xyxy_px[3] for each in facts} == {720.0}


def test_bars_go_when_the_picture_fills_them() -> None:
    boxed, whole = [Person((160, 0, 1120, 720), 81)], [Person((0, 0, 1280, 720), 82)]
    film = Film(surface(16), lambda frame: boxed if frame < FPS else whole, cuts=[FPS])
    facts = film.run(2 * FPS)
    assert facts[FPS - 1].content_xyxy_px[0] > 0
    assert {each.content_xyxy_px for each in facts[FPS:]} == {(0.0, 0.0, 1280.0, 720.0)}


def test_bars_stay_where_the_edge_of_a_film_weaves() -> None:
    """By a sample, for longer than the widest of the last frames says."""

    def weaving(frame: int) -> list[Person]:
        return [Person((160 if frame // 10 % 2 else 164, 0, 1120, 720), 80)]

    facts = Film(surface(16), weaving).run(3 * FPS)
    for each in facts[FPS // 2 :]:
        assert_inside(each.content_xyxy_px, (160, 0, 1120, 720), 12)


def test_a_dark_stage_has_no_bars() -> None:
    """Black around a person in the light: no straight line ends it."""

    def stage(frame: int) -> ByteArray:
        canvas = np.full((SOURCE_WH[1], SOURCE_WH[0]), 16, np.uint8)
        cv2.ellipse(canvas, (640, 500), (300, 380), 0, 0, 360, 120, -1)
        return np.asarray(cv2.GaussianBlur(canvas, (0, 0), 25), np.uint8)

    facts = Film(stage, lambda frame: []).run(FPS)
    assert {each.content_xyxy_px for each in facts} == {(0.0, 0.0, 1280.0, 720.0)}

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest

from dualface_client.settings.tracking import SceneSettings
from dualface_client.stream.gaps import Gaps, frames_per_look, longest_s, strides
from dualface_client.stream.load import frames_that_may_wait
from dualface_client.types import ByteArray, Faces, Frame, Nv12Image

PICTURE = Nv12Image(np.zeros((2, 2), np.uint8), np.zeros((1, 1, 2), np.uint8))


@pytest.mark.parametrize(
    ("rate", "every"), [(3, 1), (10, 2), (15, 3), (24, 6), (25, 6), (30, 7), (60, 8), (240, 8)]
)
def test_slow_videos_are_looked_at_more_densely(rate: int, every: int) -> None:
    assert frames_per_look(Fraction(rate), 43) == every


def test_a_video_of_unknown_rate_is_looked_at_in_every_frame() -> None:
    assert frames_per_look(None, 43) == 1


def test_fewer_large_frames_wait_for_a_look() -> None:
    sizes = [(1920, 1080), (3840, 2160), (7680, 4320)]
    assert [frames_per_look(Fraction(30), frames_that_may_wait(*size)) for size in sizes] == [
        7,
        5,
        2,
    ]


def test_the_first_and_the_last_frame_are_looked_at() -> None:
    frames = [Frame(n, n, Fraction(1, 25), PICTURE) for n in range(9)]
    numbers = [[frame.index for frame in stride] for stride in strides(frames, 3)]
    assert numbers == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


def shot(seed: int) -> ByteArray:
    return np.random.default_rng(seed).integers(0, 256, (36, 64, 3), np.uint8)


def at(*left_px: float) -> Faces:
    """Faces of 60 x 80 px by their left edges."""
    boxes = np.array([(x, 10, x + 60, 90) for x in left_px], np.float32)
    marks = np.zeros((len(left_px), 5, 2), np.float32)
    return Faces(boxes, np.full(len(left_px), 0.9, np.float32), marks)


@dataclass
class Film:
    """What a stride's frames show, seen only where somebody looks."""

    gaps: Gaps = field(default_factory=lambda: Gaps(SceneSettings(), 0.375))
    time_s: float = 0.0
    seen: list[int] = field(default_factory=list)

    def play(
        self, faces: Sequence[Faces], pictures: Sequence[ByteArray] = (), step_s: float = 0.04
    ) -> list[list[float]]:
        """Left edges that are found for all frames but the last, which is looked at by itself."""

        def look(rows: Sequence[int]) -> list[Faces]:
            self.seen += rows
            return [faces[row] for row in rows]

        self.seen = []
        times_s = [self.time_s + (row + 1) * step_s for row in range(len(faces))]
        self.time_s = times_s[-1]
        shown = pictures or [shot(1)] * len(faces)
        found = self.gaps.fill(times_s, shown, faces[-1], look)
        return [each.boxes_xyxy_px[:, 0].round(3).tolist() for each in found]


def test_faces_that_move_a_little_are_filled_in() -> None:
    film = Film()
    assert film.play([at(10)]) == []
    assert film.play([at(12 + 2 * row) for row in range(6)]) == [[12], [14], [16], [18], [20]]
    assert film.seen == []


def test_every_frame_at_a_cut_is_looked_at_and_only_there() -> None:
    film, first, second = Film(), shot(1), shot(2)
    film.play([at(10)])
    shots = [at(10)] * 3 + [at(200)] * 5
    assert film.play(shots, [first] * 3 + [second] * 5) == [[10]] * 3 + [[200]] * 4
    assert {2, 3} <= set(film.seen) < set(range(7))
    assert film.play([at(200)] * 6, [second] * 6) == [[200]] * 5
    assert film.seen == []
    # A second cut, sooner than the tracker would count one.
    film.play([at(10)] * 3, [second, first, first])
    assert sorted(film.seen) == [0, 1]


def test_where_somebody_turns_round_the_middle_is_looked_at_and_then_the_halves() -> None:
    film = Film()
    film.play([at(10)])
    way = [14, 18, 22, 60, 98, 102, 106, 110]  # far and fast in between
    assert film.play([at(x) for x in way]) == [[x] for x in way[:-1]]
    assert film.seen[0] == 3
    assert {2, 4} <= set(film.seen) < set(range(7))


def test_while_two_touch_every_frame_is_looked_at() -> None:
    film = Film()
    film.play([at(10, 60)])
    film.play([at(10, 60)] * 6)
    assert sorted(film.seen) == [0, 1, 2, 3, 4]


def test_near_each_other_there_are_more_looks_than_apart() -> None:
    film = Film()
    film.play([at(10, 120)])  # 0.6 heights between them
    film.play([at(10, 120)] * 6)
    assert film.seen == [2]  # every 0.12 s
    for _ in range(4):  # the one who jumped is searched for at first
        film.play([at(10, 200)] * 6)
    assert film.seen == []


def test_after_a_face_was_lost_every_frame_is_looked_at_for_half_a_second() -> None:
    """It may be found in few of them, and far from where it was."""
    film = Film()
    film.play([at(10, 200)])
    film.play([at(10, 200)] * 4)
    assert film.seen == []
    film.play([at(10)] * 4)
    assert film.seen  # where it was lost
    film.play([at(10)] * 6)  # up to 0.4 s later
    assert sorted(film.seen) == [0, 1, 2, 3, 4]
    for _ in range(2):  # up to 0.88 s
        film.play([at(10)] * 6)
    assert film.seen == []


def test_a_cut_loses_nobody() -> None:
    film, first, second = Film(), shot(1), shot(2)
    film.play([at(10, 200)], [first])
    film.play([at(10, 200)] * 2 + [at(100)] * 4, [first] * 2 + [second] * 4)
    film.play([at(100)] * 6, [second] * 6)
    assert film.seen == []


def test_frames_of_one_time_are_looked_at() -> None:
    film = Film()
    film.play([at(10)])
    film.play([at(10)] * 2, step_s=0.0)
    assert film.seen == [0]


def test_black_frames_and_long_gaps_are_looked_at() -> None:
    film, picture, black = Film(), shot(1), np.zeros((36, 64, 3), np.uint8)
    film.play([at(10)])
    film.play([at(10)] * 3, [picture, black, picture])
    assert sorted(film.seen) == [0, 1]
    film.play([at(10)] * 2, step_s=1.0)
    assert film.seen == [0]
    film.play([at(10)] * 6)
    assert film.seen == []


def test_the_longest_gap_follows_what_was_asked_for() -> None:
    assert longest_s(6, Fraction(25)) == 0.375
    assert longest_s(16, Fraction(25)) == pytest.approx(0.96)
    assert longest_s(2, None) == 0.375

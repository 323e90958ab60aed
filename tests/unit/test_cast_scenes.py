"""Composed videos with known truth, from the look through them to the last frame's seats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
import pytest

from benchmarks.tracking.cache import Models, Sight
from dualface_client.cast.people import Found, Why
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.imaging.photo import image_of
from dualface_client.settings import paths
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.look import Look, Seating, seating
from dualface_client.tracking.director import Director
from dualface_client.types import Embeddings, Faces, FloatArray, Frame, Nv12Image, Side, VideoInfo
from scripts.clips.truth import FrameTruth, Truth
from scripts.make_clips import ClipPlan, Composer
from scripts.reference_models import ReferenceModels, box_iou

FPS = Fraction(4)
SETTINGS = StreamSettings()
TRACKING = SETTINGS.tracking


@dataclass
class Video:
    """A composed clip with everything the models see in it; also the models, and a look at it."""

    truth: Truth
    images: list[Nv12Image]
    sights: list[Sight]
    models: Models

    @property
    def info(self) -> VideoInfo:
        # As many frames as a video of the usual rate has in that time.
        frames = round(len(self.images) * 25 / FPS)
        return VideoInfo(*self.truth.size, FPS, 1 / FPS, frames, len(self.images) / float(FPS))

    @property
    def key_times_s(self) -> tuple[float, ...]:
        shots = [frame.shot for frame in self.truth.frames]
        starts = [at for at, shot in enumerate(shots) if at == 0 or shots[at - 1] != shot]
        return tuple(at / float(FPS) for at in starts)

    def at(self, time_s: float) -> Frame | None:
        index = int(np.ceil(time_s * float(FPS) - 0.1))
        if index >= len(self.images):
            return None
        return Frame(index, index, 1 / FPS, self.images[index])

    def close(self) -> None:
        pass

    def submit(self, images: Sequence[Nv12Image], imaging: object) -> Video.Pending:
        return Video.Pending([self.models.faces(image) for image in images])

    def embed(self, image: Nv12Image, landmarks_px: FloatArray, imaging: object) -> Embeddings:
        count = len(landmarks_px)
        none = np.zeros((count, 4), np.float32)
        faces = Faces(none, np.ones(count, np.float32), landmarks_px)
        return Embeddings(self.models.embeddings(image, faces), self.model_version)

    model_version = "test/1"

    @dataclass
    class Pending:
        faces: list[Faces]
        resends: int = 0

        def result(self) -> list[Faces]:
            return self.faces


@pytest.fixture(scope="module")
def video() -> Callable[[str], Video]:
    reference, models = ReferenceModels(paths.models_dir()), Models(2)

    @cache
    def run(scenario: str) -> Video:
        size_wh = (540, 960) if scenario == "portrait_stack" else (960, 540)
        composer = Composer(ClipPlan(scenario, 6, 1, FPS, size_wh), paths.clips_dir(), reference)
        images = [image_of(picture) for picture in composer.pictures()]
        frames = [Frame(index, index, 1 / FPS, image) for index, image in enumerate(images)]
        return Video(
            composer.truth("clip.mp4"), images, [models.sight(frame) for frame in frames], models
        )

    return run


def look(video: Video) -> Found:
    return Look(CpuImaging(), video, video, SETTINGS, lambda: False).through(video)


def wrong_frames(video: Video, seats: Seating, from_s: float = 0.0) -> dict[int, str]:
    """Frames in which a tile lacks its person, or shows another one."""
    director = Director(TRACKING, video.truth.size, (), seats.members, seats.join_s)
    wrong = {}
    for index, sight in enumerate(video.sights):
        rows = director.observe(sight.faces, sight.thumbnail, sight.time_s).face_rows
        embeddings = sight.embeddings[rows] if len(rows) else None
        assignment = director.decide(embeddings, "test/1", sight.sharpness[rows])
        for side, owner in (
            (Side.LEFT, video.truth.expected_left),
            (Side.RIGHT, video.truth.expected_right),
        ):
            box = assignment.of(side).box_xyxy_px
            mistake = _mistake(video.truth.frames[index], owner, box)
            if mistake and sight.time_s >= from_s:
                wrong[index] = f"{side.value}: {mistake}"
    return wrong


def _mistake(frame: FrameTruth, owner: int, box: FloatArray | None) -> str:
    seen = [person for person in frame.people if person.on_screen > 0]
    if box is None:
        own = [person for person in seen if person.id == owner and person.visible > 0.8]
        return "is empty" if own and not own[0].unclear else ""
    ious = box_iou(box, np.array([person.box for person in seen], np.float32).reshape(-1, 4))
    shown = seen[int(np.argmax(ious))].id if len(ious) and ious.max() > 0.2 else 0
    return "" if shown == owner else f"shows {shown}"


SCENES = (
    "close_up_first",
    "single_cameras",
    "solo_two_solo",
    "poster",
    "audience",
    "small_passer_by",
    "portrait_stack",
    "unclear_alone",
    "side_by_side",
)


@pytest.mark.parametrize("scenario", SCENES)
def test_after_a_look_every_frame_is_right_from_the_first_on(
    scenario: str, video: Callable[[str], Video]
) -> None:
    clip = video(scenario)
    found = look(clip)
    seats = seating(found, TRACKING, ())
    assert len(seats.members) == 2
    assert wrong_frames(clip, seats) == {}


def test_without_a_look_a_close_up_first_takes_the_wrong_side(
    video: Callable[[str], Video],
) -> None:
    """Or the look would mean nothing."""
    assert len(wrong_frames(video("close_up_first"), Seating())) > 5


def test_the_poster_is_known_to_be_a_picture(video: Callable[[str], Video]) -> None:
    found = look(video("poster"))
    assert [person.why_not for person in found.people] == [Why.NONE, Why.NONE, Why.STILL]
    assert found.people[2].height > found.people[0].height


def test_live_the_poster_loses_its_side_after_two_seconds(video: Callable[[str], Video]) -> None:
    assert wrong_frames(video("poster"), Seating(), from_s=2.9) == {}


def test_live_an_unclear_face_gets_nobodys_side(video: Callable[[str], Video]) -> None:
    assert wrong_frames(video("unclear_alone"), Seating()) == {}


def test_the_cast_is_the_same_where_the_two_are_mirrored(video: Callable[[str], Video]) -> None:
    found = look(video("solo_two_solo"))
    seats = seating(found, TRACKING, ())
    assert {member.side for member in seats.members} == set(Side)
    assert all(person.is_sure for person in found.people)

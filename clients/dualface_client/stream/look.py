"""Looks through a file before its first frame: who is it about?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np

from dualface_client.cast.people import Found, find_people
from dualface_client.cast.plan import moments_to_look_at
from dualface_client.cast.seats import members, pins_of_numbers, seat
from dualface_client.cast.sightings import Sighting, Sightings, mouth_of
from dualface_client.errors import StoppedError
from dualface_client.settings.kinds import cast_number
from dualface_client.settings.stream import StreamSettings
from dualface_client.settings.tracking import SideSettings, TrackingSettings
from dualface_client.stream.seams import FaceDetector, FaceEmbedder, Glimpses, Imaging
from dualface_client.tracking.gallery import Member, normalised
from dualface_client.tracking.pins import Pin
from dualface_client.tracking.quality import face_quality
from dualface_client.tracking.stillness import shape_of
from dualface_client.types import Faces, FloatArray, Frame, Nv12Image, Side

#: Faces of one picture that are embedded, the largest ones.
_MOST_FACES = 4
#: Detections below this score do not count as faces here.
_MIN_SCORE = 0.5
#: Faces at least this good are embedded, as a share of what enrolment requires.
_LOOKED_AT = 0.5
#: Where a request carries several frames, each takes this fraction of a request with one.
_BATCHED_SHARE = 0.25
#: A file of which only some frames are detected takes this share of the time.
_SPARSE_SHARE = 0.6
#: Pictures that are looked at however long it takes, and the length of files in which there are no
#: more: each of them counts there, and who sits where must not depend on how busy the machine is.
_UNTIMED, _UNTIMED_S = 12, 12.0


@dataclass(frozen=True, slots=True)
class Seating:
    """Who sits where from the first frame on.

    Attributes:
        members: Those whom the video is about; empty if that is not known.
        join_s: How long others must be visible to take a side that is left; 0 for the usual time.
        pins: Faces that belong to a side, those of people named by their number included.
        notes: What to tell the user.
        sides: Side of each seated person of the look, by number.
    """

    members: tuple[Member, ...] = ()
    join_s: float = 0.0
    pins: tuple[Pin, ...] = ()
    notes: tuple[str, ...] = ()
    sides: Mapping[int, Side] = field(default_factory=dict)


def seating(found: Found, tracking: TrackingSettings, pins: Sequence[Pin]) -> Seating:
    """Who sits where after a look.

    Args:
        found: The people of the video.
        tracking: Rules of the sides, and who is pinned by number.
        pins: Faces from photos that belong to a side.
    """
    by_number, notes = pins_of_numbers(found, numbers_of(tracking.sides))
    pins = (*pins, *by_number)
    seats = seat(found, tracking, pins)
    people = tuple(members(seats, found, tracking.identity))
    sides = {person.number: side for side, person in seats.items()}
    return Seating(people, found.patience_s if people else 0.0, pins, notes, sides)


def numbers_of(sides: SideSettings) -> dict[Side, int]:
    """Sides that are pinned to a person of the cast by number."""
    pins = {Side.LEFT: sides.pin_left, Side.RIGHT: sides.pin_right}
    return {side: number for side, pin in pins.items() if pin and (number := cast_number(pin))}


@dataclass(frozen=True, slots=True)
class _Glance:
    """One picture: its time, the heights of its faces in pixels, and the embedded ones."""

    time_s: float
    heights_px: tuple[float, ...]
    found: tuple[Sighting, ...] = ()
    model_version: str = ""


@dataclass(slots=True)
class _Budget:
    """The time a look may take: a share of what the run will take, as far as that can be told."""

    settings: StreamSettings
    frame_count: int
    now: Callable[[], float]
    began_s: float
    waits_s: list[float] = field(default_factory=list)

    @property
    def is_spent(self) -> bool:
        """Whether enough was seen and the time is over."""
        if len(self.waits_s) < max(self.settings.cast.least_moments, _UNTIMED):
            return False
        detection = self.settings.detection
        frame_s = median(self.waits_s) * (_BATCHED_SHARE if detection.batch > 1 else 1.0)
        if detection.every != 1:
            frame_s *= _SPARSE_SHARE
        allowed_s = self.settings.cast.run_share * self.frame_count * frame_s
        return self.now() - self.began_s > allowed_s


class Look:
    """A look through one file.

    Args:
        imaging: Pixel work of the stream.
        detector: Shared by the worker's streams.
        embedder: Shared by the worker's streams.
        settings: Of the stream.
        stopped: Whether the user wants to stop.
        now: A clock, seconds.
    """

    def __init__(
        self,
        imaging: Imaging,
        detector: FaceDetector,
        embedder: FaceEmbedder,
        settings: StreamSettings,
        stopped: Callable[[], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._imaging = imaging
        self._detector = detector
        self._embedder = embedder
        self._settings = settings
        self._stopped = stopped
        self._now = now

    def through(self, glimpses: Glimpses) -> Found:
        """Looks at single pictures of the file, until all that were planned or the time is over.

        Args:
            glimpses: The opened file; it is left open.

        Raises:
            DualfaceError: A picture could not be read, or the server gave no answer.
            StoppedError: The user wants to stop.
        """
        info, cast = glimpses.info, self._settings.cast
        if 0 < info.duration_s <= _UNTIMED_S:
            cast = replace(cast, most_moments=min(cast.most_moments, _UNTIMED))
        moments = moments_to_look_at(info.duration_s, info.frame_count, glimpses.key_times_s, cast)
        budget = _Budget(self._settings, info.frame_count, self._now, self._now())
        glances: dict[float, _Glance] = {}
        for time_s in moments:
            if self._stopped():
                raise StoppedError("stopped while looking for the people of the video")
            if budget.is_spent:
                break
            frame = glimpses.at(time_s)
            if frame is not None and frame.time_s not in glances:
                glances[frame.time_s] = self._glance(frame, budget)
        seen = _gathered(glances, info.duration_s, (info.width_px, info.height_px))
        return find_people(seen, cast, self._settings.tracking)

    def _glance(self, frame: Frame, budget: _Budget) -> _Glance:
        image = self._imaging.upload_tile(frame.image)
        asked_s = self._now()
        faces = self._detector.submit([image], self._imaging).result()[0]
        budget.waits_s.append(self._now() - asked_s)
        boxes = faces.boxes_xyxy_px[faces.scores >= _MIN_SCORE]
        heights_px = tuple((boxes[:, 3] - boxes[:, 1]).tolist())
        usable = self._usable(image, faces)
        if not usable:
            return _Glance(frame.time_s, heights_px)
        rows = list(usable)
        embedded = self._embedder.embed(image, faces.landmarks_px[rows], self._imaging)
        found = tuple(
            _sighting(faces, row, vector, usable[row])
            for row, vector in zip(rows, normalised(embedded.vectors), strict=True)
        )
        return _Glance(frame.time_s, heights_px, found, embedded.model_version)

    def _usable(self, image: Nv12Image, faces: Faces) -> dict[int, float]:
        """Quality of the faces that are worth an embedding, by row, the largest ones."""
        least = _LOOKED_AT * self._settings.tracking.identity.min_quality
        wh_px = image.size_wh_px
        heights = faces.boxes_xyxy_px[:, 3] - faces.boxes_xyxy_px[:, 1]
        rows = [
            row
            for row in np.argsort(-heights, kind="stable").tolist()
            if faces.scores[row] >= _MIN_SCORE and face_quality(faces, row, wh_px) >= least
        ][:_MOST_FACES]
        sharpness = self._imaging.sharpness(image, faces.boxes_xyxy_px[rows]).tolist()
        return {
            row: face_quality(faces, row, wh_px, sharp)
            for row, sharp in zip(rows, sharpness, strict=True)
        }


def _sighting(faces: Faces, row: int, vector: FloatArray, quality: float) -> Sighting:
    x1, y1, x2, y2 = faces.boxes_xyxy_px[row].tolist()
    landmarks = faces.landmarks_px[row]
    return Sighting(
        0,
        (x1, y1, x2, y2),
        shape_of(landmarks),
        mouth_of(landmarks),
        vector,
        quality,
        float(faces.scores[row]),
    )


def _gathered(
    glances: dict[float, _Glance], duration_s: float, size_wh_px: tuple[int, int]
) -> Sightings:
    """Everything in the order of time, with the embeddings of the last version of the model."""
    version = next((each.model_version for each in reversed(glances.values()) if each.found), "")
    ordered = [glances[time_s] for time_s in sorted(glances)]
    return Sightings(
        tuple(each.time_s for each in ordered),
        tuple(each.heights_px for each in ordered),
        tuple(
            replace(sighting, moment=moment)
            for moment, each in enumerate(ordered)
            if each.model_version == version
            for sighting in each.found
        ),
        duration_s,
        size_wh_px,
        version,
    )

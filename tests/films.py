"""Plays a film's truth through tracking and framing: no pixels, no network, no server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from dualface_client.decisions.window import Decided, windows
from dualface_client.framing.studio import Studio
from dualface_client.settings.framing import FramingSettings
from dualface_client.tracking.director import Director
from dualface_client.tracking.gallery import Member
from dualface_client.types import (
    ByteArray,
    Faces,
    FloatArray,
    Nv12Image,
    PictureFacts,
    Side,
    TileLayout,
    View,
)
from scripts.clips.editor import SEEN, EditorTally
from scripts.clips.truth import FrameTruth, PersonTruth, Truth
from scripts.clips.writing import TIME_BASE

#: Stands for the pixels of a frame, which nothing here looks at.
_NO_PIXELS = Nv12Image(np.zeros((2, 2), np.uint8), np.zeros((1, 1, 2), np.uint8))
#: How far the detector is off, as a share of the face's height.
_JITTER = 0.006
_SHARP, _BLURRED = 1.0, 0.02


@dataclass(slots=True)
class _Sight:
    """What the networks say of one frame."""

    faces: Faces
    embeddings: FloatArray
    sharpness: FloatArray


def play(
    truth: Truth, framing: FramingSettings | None = None, seed: int = 0, *, known: bool = True
) -> EditorTally:
    """The program on a film, judged by the editor's eye.

    Args:
        truth: Of the film.
        framing: Settings to try.
        seed: Of the noise.
        known: Whether a look before the first frame has found the two, as it does for a file.

    Detections jitter as real ones do; an unclear face's embedding resembles nobody, nor does that
    of a face that the picture's edge cuts.
    """
    rng, tally = np.random.default_rng(seed), EditorTally(truth)
    cast = _cast(truth, rng) if known else ()
    director = Director(None, truth.size, cast=cast)
    decided = [_decided(director, frame, truth.size, rng) for frame in truth.frames]
    for frame, views in zip(truth.frames, _views(decided, truth, framing), strict=True):
        tally.add(frame, views)
    return tally


def _views(
    decided: list[Decided], truth: Truth, framing: FramingSettings | None
) -> Iterator[tuple[View, ...]]:
    framing = framing or FramingSettings()
    studio = Studio(TileLayout(), truth.size, framing)
    for window in windows(decided, framing.lookahead_s):
        yield studio.update([entry.moment for entry in window]).views


def _cast(truth: Truth, rng: np.random.Generator) -> list[Member]:
    """What a look finds: its own tests hold that it does."""
    seen = [person for frame in truth.frames for person in frame.people if not person.unclear]
    people = {person.id: person for person in seen}
    seats = ((Side.LEFT, truth.expected_left), (Side.RIGHT, truth.expected_right))
    looks = {key: np.stack([_embedding(people[key], rng) for _ in range(3)]) for _, key in seats}
    return [Member(side, looks[key], (0.9,) * 3, "1") for side, key in seats]


def _decided(
    director: Director, truth: FrameTruth, size_wh: tuple[int, int], rng: np.random.Generator
) -> Decided:
    sight = _sight(truth, size_wh, rng)
    time_s = float(truth.pts * TIME_BASE)
    rows = director.observe(sight.faces, _thumbnail(truth), time_s).face_rows
    found = sight.embeddings[rows] if len(rows) else None
    assignment = director.decide(found, "1", sight.sharpness[rows])
    return Decided(time_s, assignment, _facts(truth, size_wh), director.relinks)


def _facts(truth: FrameTruth, size_wh: tuple[int, int]) -> PictureFacts:
    """What the look at the picture would find: its own tests hold that it does."""
    content = truth.content or (0.0, 0.0, float(size_wh[0]), float(size_wh[1]))
    panels = tuple(panel for panel in truth.panels if panel != content)
    return PictureFacts(content, panels, truth.motion)


def _sight(truth: FrameTruth, size_wh: tuple[int, int], rng: np.random.Generator) -> _Sight:
    people = [person for person in truth.people if person.visible >= SEEN]
    if not people:
        return _Sight(Faces.empty(), np.zeros((0, 128), np.float32), np.zeros(0, np.float32))
    jitter = [rng.normal(0, 0 if p.still else _JITTER * p.height_px, 4) for p in people]
    boxes = np.array([p.box for p in people], np.float32) + np.array(jitter, np.float32)
    whole = np.stack([_landmarks(p, box) for p, box in zip(people, boxes, strict=True)])
    # The detector puts landmarks that are outside of the picture on its edge.
    landmarks = np.clip(whole, 0, np.array(size_wh, np.float32)).astype(np.float32)
    faces = Faces(boxes, np.full(len(people), 0.9, np.float32), landmarks)
    cut_off = (landmarks != whole).any(axis=(1, 2))
    embeddings = np.stack(
        [
            _embedding(replace(p, unclear=p.unclear | cut), rng)
            for p, cut in zip(people, cut_off, strict=True)
        ]
    )
    sharpness = [_BLURRED if person.unclear else _SHARP for person in people]
    return _Sight(faces, embeddings, np.array(sharpness, np.float32))


def _landmarks(person: PersonTruth, box: FloatArray) -> FloatArray:
    """Five points; those of an unclear face are turned away."""
    places = ((0.3, 0.42), (0.7, 0.42), (0.5, 0.62), (0.34, 0.8), (0.66, 0.8))
    if person.unclear:
        places = ((0.2, 0.42), (0.35, 0.42), (0.05, 0.62), (0.15, 0.8), (0.3, 0.8))
    return np.array(box[:2] + np.array(places) * (box[2:] - box[:2]), np.float32)


def _embedding(person: PersonTruth, rng: np.random.Generator) -> FloatArray:
    """About 0.9 to oneself and 0.1 to others; of an unclear face 0.5 to anybody."""
    own = np.random.default_rng(1000 + person.id).normal(size=128)
    common = np.random.default_rng(7).normal(size=128)
    share = 0.6 if person.unclear else 0.1
    mine = rng.normal(size=128) if person.unclear else own
    raw = share * common + (1 - share) * mine + 0.2 * rng.normal(size=128)
    return np.asarray(raw / np.linalg.norm(raw), np.float32)


def _thumbnail(truth: FrameTruth) -> ByteArray:
    """Another picture for each shot."""
    rng = np.random.default_rng(truth.shot)
    return rng.integers(0, 256, (36, 64, 3)).astype(np.uint8)

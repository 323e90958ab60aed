"""Who is in which tile? Seen with the models alone, without the program's own track log."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualface_client.errors import AssetError
from dualface_client.tracking.assignment import best_pairs
from dualface_client.types import ByteArray, Faces, FloatArray, Side, TileLayout
from scripts.clips.sources import SOURCES, read_frames
from scripts.clips.timing import Check
from scripts.clips.truth import Truth
from scripts.judge.canvas import split

#: Source frames per person that make its reference.
REFERENCE_COUNT = 6
#: Source frames between two of them: about two seconds.
REFERENCE_STEP = 50
#: A face's centre within this share of the tile around the middle counts as centred.
CENTRAL_SHARE = 0.4
TILES = ("left", "right")


class Eyes(Protocol):
    """What sees: `ReferenceModels` does."""

    def detect(self, bgr: ByteArray, min_score: float = 0.5) -> Faces:
        """Faces of a picture, best first."""

    def embed(self, bgr: ByteArray, landmarks_px: FloatArray) -> FloatArray:
        """Unit embedding `(128,)` of a face with landmarks `(5, 2)`."""


@dataclass(frozen=True, slots=True)
class References:
    """What the people look like.

    Attributes:
        ids: Person ids, in the order of the rows.
        centroids: Shape `(n, 128)`, float32, unit length.
    """

    ids: tuple[int, ...]
    centroids: FloatArray

    def who(self, embeddings: FloatArray) -> list[tuple[int, float]]:
        """Whose faces of one picture these are.

        Two faces of a picture belong to two people, so the most similar one-to-one assignment
        counts: a face that is hidden in part is told by the clear one beside it. Faces beyond the
        number of people are nobody's.

        Args:
            embeddings: Shape `(n, 128)`, unit length.

        Returns:
            For each the person's id, 0 for nobody, and by how much the person beats the other
            ones for this face, as cosine (negative where the assignment decided).
        """
        similarity = embeddings @ self.centroids.T
        found = [(0, 0.0)] * len(embeddings)
        for row, column in best_pairs(similarity.tolist()):
            others = np.delete(similarity[row], column)
            found[row] = self.ids[column], float(similarity[row, column] - others.max())
        return found


def references_from_sources(clips_dir: Path, eyes: Eyes) -> References:
    """References from the source clips, which nothing of ours has touched.

    Raises:
        AssetError: A source clip is missing or shows no face.
    """
    centroids = []
    for spec in SOURCES.values():
        path = clips_dir / spec.file_name
        if not path.is_file():
            raise AssetError(f"clip {path} is missing: run `make setup`")
        embeddings = []
        reach = REFERENCE_COUNT * REFERENCE_STEP
        for frame in read_frames(path, spec.first_frame, reach, REFERENCE_STEP):
            faces = eyes.detect(frame)
            if not len(faces):
                raise AssetError(f"no face in a reference frame of {path}")
            embeddings.append(eyes.embed(frame, faces.landmarks_px[0]))
        mean = np.mean(embeddings, axis=0)
        centroids.append(mean / np.linalg.norm(mean))
    return References(tuple(SOURCES), np.asarray(centroids, np.float32))


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one tile shows in one frame.

    Attributes:
        identity: Person id, 0 where no face is seen.
        centred: The face's centre is in the middle of the tile.
        margin: Cosine by which the identity beats the other one.
        present: Everybody whose face is in the tile, the main face's owner too.
    """

    identity: int
    centred: bool = False
    margin: float = 0.0
    present: frozenset[int] = frozenset()


def look_at_tile(tile: ByteArray, eyes: Eyes, references: References) -> Sighting:
    """Finds the tile's main face and says whose it is.

    The main face is the most central of those at least a quarter as large as the largest: people
    sit at different distances, and what is smaller than that is no face of theirs.

    Args:
        tile: BGR `(height, width, 3)` uint8.
        eyes: The models.
        references: Who may be there.
    """
    faces = eyes.detect(tile, 0.4)
    if not len(faces):
        return Sighting(0)
    height, width = tile.shape[:2]
    corners = faces.boxes_xyxy_px.reshape(-1, 2, 2)
    areas = np.prod(corners[:, 1] - corners[:, 0], axis=1)
    off = np.abs(corners.mean(axis=1) / np.array([width, height], np.float32) - 0.5)
    distance = np.where(areas >= 0.25 * areas.max(), off[:, 0], np.inf)
    row = int(distance.argmin())
    large = np.flatnonzero(np.isfinite(distance))
    embeddings = np.stack([eyes.embed(tile, faces.landmarks_px[index]) for index in large])
    named = references.who(embeddings)
    identity, margin = named[int(np.flatnonzero(large == row)[0])]
    central = bool((off[row] <= CENTRAL_SHARE / 2).all())
    return Sighting(identity, central, margin, frozenset(who for who, _ in named if who))


@dataclass(slots=True)
class TileTally:
    """Counts sightings against the truth and gives the verdict.

    Attributes:
        expected: Person ids of the left and the right tile.
        layout: Where the tiles are.
        times_s: Time of each frame with two tiles that was looked at.
        sightings: Left and right sighting of each.
        pictures: Of each frame whose canvas is one picture, whether both people are in it.
    """

    expected: tuple[int, int]
    layout: TileLayout
    times_s: list[float] = field(default_factory=list)
    sightings: list[tuple[Sighting, Sighting]] = field(default_factory=list)
    pictures: list[bool] = field(default_factory=list)

    def look(self, bgr: ByteArray, time_s: float, eyes: Eyes, references: References) -> None:
        """Adds one output frame, `(height, width, 3)` uint8."""
        if split(bgr, self.layout.gap_px) is None:
            picture = look_at_tile(bgr, eyes, references)
            self.pictures.append(set(self.expected) <= picture.present)
            return
        left, right = (
            look_at_tile(_tile(bgr, self.layout, side), eyes, references) for side in Side
        )
        self.times_s.append(time_s)
        self.sightings.append((left, right))

    def _right(self) -> list[bool]:
        return [
            all(seen.identity == wanted for seen, wanted in zip(pair, self.expected, strict=True))
            for pair in self.sightings
        ]

    def _both_present(self) -> float:
        """Share of frames in which each tile shows its own person, central or not."""
        hits = [
            all(who in seen.present for seen, who in zip(pair, self.expected, strict=True))
            for pair in self.sightings
        ]
        return sum(hits) / max(len(hits), 1)

    def wrong_intervals(self) -> list[dict[str, Any]]:
        """Runs of wrong frames: first and last time in seconds, and who was seen."""
        runs: list[dict[str, Any]] = []
        previous_wrong = False
        for time_s, pair, right in zip(self.times_s, self.sightings, self._right(), strict=True):
            seen = [sighting.identity for sighting in pair]
            if not right and previous_wrong and runs[-1]["seen"] == seen:
                runs[-1]["to_s"] = time_s
                runs[-1]["frames"] += 1
            elif not right:
                runs.append({"from_s": time_s, "to_s": time_s, "frames": 1, "seen": seen})
            previous_wrong = not right
        return runs

    def _share(self, tile: int, name: str) -> float:
        hits = [
            pair[tile].identity == 0 if name == "no_face" else pair[tile].centred
            for pair in self.sightings
        ]
        return sum(hits) / max(len(hits), 1)

    def checks(self, min_right: float, min_centred: float) -> list[Check]:
        """The verdict.

        Args:
            min_right: Share of frames in which both tiles must hold their own person.
            min_centred: Share of tiles in which the face must be central.
        """
        count = len(self.sightings) + len(self.pictures)
        right = (sum(self._right()) + sum(self.pictures)) / max(count, 1)
        no_face = {name: self._share(tile, "no_face") for tile, name in enumerate(TILES)}
        centred = {name: self._share(tile, "centred") for tile, name in enumerate(TILES)}
        margins = [seen.margin for pair in self.sightings for seen in pair if seen.identity]
        values = {
            "frames": count,
            "one_picture": len(self.pictures),
            "right_share": right,
            "present_share": self._both_present(),
            "no_face_share": no_face,
            "min_margin": min(margins, default=0.0),
            "wrong": self.wrong_intervals(),
        }
        detail = (
            f"{right:.2%} of {count} frames right, {len(self.pictures)} of them one picture "
            f"({sum(self.pictures)} with both in it; own face somewhere in the tile: "
            f"{values['present_share']:.2%}); no face: left {no_face['left']:.2%}, "
            f"right {no_face['right']:.2%}"
        )
        return [
            Check("tiles", count > 0 and right >= min_right, detail, values),
            Check(
                "centred",
                min(centred.values()) >= min_centred,
                f"left {centred['left']:.2%}, right {centred['right']:.2%} of the tiles",
                {"centred_share": centred},
            ),
        ]


def _tile(bgr: ByteArray, layout: TileLayout, side: Side) -> ByteArray:
    """A side's tile, also of an output that has not the canvas's size."""
    area = layout.area(side)
    across, down = (
        bgr.shape[1] / layout.canvas_wh_px[0],
        bgr.shape[0] / layout.canvas_wh_px[1],
    )
    left, top = round(area.x_px * across), round(area.y_px * down)
    right = round((area.x_px + area.width_px) * across)
    bottom = round((area.y_px + area.height_px) * down)
    return np.ascontiguousarray(bgr[top:bottom, left:right])


def frames_to_check(truth: Truth, every: int, min_visible: float) -> set[Fraction]:
    """Times of every k-th frame among those in which both faces are visible."""
    time_base = Fraction(truth.time_base)
    visible = [frame.pts * time_base for frame in truth.frames if frame.all_visible(min_visible)]
    return set(visible[::every])

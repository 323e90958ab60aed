"""Who sits where: from a frame's detections to the people of the two tiles.

Two steps per frame, so that the caller runs ReID only when asked to:

    request = director.observe(faces, thumbnail, time_s)
    embeddings = embed(request.face_rows) if len(request.face_rows) else None
    assignment = director.decide(embeddings, model_version)

Tracks carry links to identities, identities carry sides. ByteTrack moves the tracks; only ReID,
or its absence for too long, moves a link.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from dualface_client.settings.tracking import TrackingSettings
from dualface_client.tracking.boxes import cover
from dualface_client.tracking.bytetrack import ByteTracker
from dualface_client.tracking.checks import CheckList, Reason
from dualface_client.tracking.enquiry import Enquiry
from dualface_client.tracking.gallery import Identity, Member, normalised
from dualface_client.tracking.identity import IdentityBook
from dualface_client.tracking.kalman import REFERENCE_FPS
from dualface_client.tracking.links import LinkBook, Relink
from dualface_client.tracking.naming import Naming
from dualface_client.tracking.pins import Pin, PinBook
from dualface_client.tracking.quality import face_quality, wholeness
from dualface_client.tracking.risk import RiskMeter
from dualface_client.tracking.scene import CutDetector
from dualface_client.tracking.sides import SideBook
from dualface_client.tracking.stillness import FaceMotion
from dualface_client.tracking.track import PairRisk, Track
from dualface_client.types import (
    ByteArray,
    Faces,
    FloatArray,
    IntArray,
    Person,
    SeatAssignment,
    Side,
    TrackView,
)

_WEIGHT_MEMORY_S = 30.0
_MAX_STEP_S = 0.2  # a gap in the stream counts as visible time for at most this long


@dataclass(frozen=True, slots=True)
class EmbeddingRequest:
    """What the director wants to know about a frame.

    Attributes:
        face_rows: Shape `(k,)`, int64, rows of the frame's `Faces`; empty on quiet frames.
        reasons: Why, per row.
        risks: Pairs that could be mixed up, with named parts.
    """

    face_rows: IntArray
    reasons: tuple[Reason, ...]
    risks: tuple[PairRisk, ...]


@dataclass(frozen=True, slots=True)
class DirectorCounts:
    """Totals of a stream.

    Attributes:
        frames: Frames observed.
        reid_frames: Frames for which embeddings were taken in.
        reid_faces: Embeddings taken in.
        corrections: Links that embeddings changed from one person to another.
        cuts: Scene cuts.
    """

    frames: int = 0
    reid_frames: int = 0
    reid_faces: int = 0
    corrections: int = 0
    cuts: int = 0


class Director:
    """Tracks, identities and sides of one stream.

    Args:
        settings: Thresholds and times.
        source_wh_px: Width and height of the frames.
        pins: Faces that belong to a side.
        cast: Who the video is about, if that is known before its first frame; the sides of the
            stream are theirs.
        join_s: How long somebody else must be visible to take a free side, at least; 0 for the
            settings' own time.
    """

    def __init__(
        self,
        settings: TrackingSettings | None = None,
        source_wh_px: tuple[int, int] = (1920, 1080),
        pins: Sequence[Pin] = (),
        cast: Sequence[Member] = (),
        join_s: float = 0.0,
    ) -> None:
        self._settings = settings or TrackingSettings()
        self._source_wh_px = source_wh_px
        self._tracker = ByteTracker(self._settings.association)
        self._meter = RiskMeter(self._settings.risk)
        self._cuts = CutDetector(self._settings.scene)
        self._checks = CheckList(self._settings.risk)
        self._book = IdentityBook(self._settings.identity)
        self._sides = SideBook(source_wh_px[0], self._settings.sides)
        self._links = LinkBook(self._book, self._sides, self._settings.identity)
        self._enquiry = Enquiry(self._settings, self._checks, self._book, self._links, source_wh_px)
        self._naming = Naming(
            self._settings.identity, self._tracker, self._checks, self._book, self._links
        )
        self._motions: dict[int, FaceMotion] = {}
        self._pins = PinBook(pins, self._settings.identity)
        self._enquiry.everybody = self._pins.is_open
        self._reseated = self._steered = False
        self._counts = DirectorCounts()
        self._faces = Faces.empty()
        self._asked: list[Track] = []
        self._cut = False
        self._worst: PairRisk | None = None
        self._time_s: float | None = None
        self._elapsed_s = 0.0
        if cast:
            self._seat_cast(cast, join_s)

    def _seat_cast(self, cast: Sequence[Member], join_s: float) -> None:
        seats: dict[Side, int] = {}
        for member in cast:
            self._book.use_version(member.model_version)
            seats[member.side] = self._book.know(member).id
        self._sides.reserve(seats, join_s)
        self._apply_pins(cast[0].model_version, -inf)
        self._reseated = False

    @property
    def counts(self) -> DirectorCounts:
        """Totals so far."""
        return replace(self._counts, corrections=self._naming.corrections)

    @property
    def visible(self) -> dict[int, Track]:
        """The track of each identity that is seen in this frame."""
        return self._links.visible(self._tracker.confirmed)

    @property
    def relinks(self) -> tuple[Relink, ...]:
        """What this frame found out about its tracks, for `tracking.hindsight`."""
        return self._links.fresh

    @property
    def seats(self) -> dict[Side, int]:
        """Holders of the sides if a pin or a person's wish has just changed them, else empty."""
        return {side: self._sides.holder(side) for side in Side} if self._reseated else {}

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user at the end."""
        return self._pins.notes

    def swap(self) -> None:
        """The two people change sides from the next frame on, and so do pins and places."""
        self._pins.swap()
        self._sides.swap()
        self._steered = True

    def hold(self, side: Side, identity: int) -> None:
        """Gives a side to a person from the next frame on, whatever places and photos say.

        Args:
            side: Which.
            identity: Number of somebody who has been seen.

        Raises:
            ValueError: Nobody who is known has this number.
        """
        if identity not in self._book.people:
            known = ", ".join(str(number) for number in sorted(self._book.people)) or "nobody"
            raise ValueError(f"person {identity}: is not known; known are {known}")
        self._sides.hold(side, identity, self._time_s or 0.0)
        self._steered = True

    def observe(self, faces: Faces, thumbnail: ByteArray | None, time_s: float) -> EmbeddingRequest:
        """First half of a frame: motion, risk, and which faces need a closer look.

        Args:
            faces: Detections of the frame.
            thumbnail: Shape `(36, 64, 3)`, uint8 Y, Cb, Cr; None goes without scene cuts.
            time_s: Presentation time in seconds, increasing.
        """
        self._elapsed_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        self._faces = faces
        self._cut = thumbnail is not None and self._cuts.update(thumbnail, time_s)
        if self._cut:
            self._tracker.cut()
            self._links.cut(time_s)
            self._checks.clear()
            self._motions.clear()
            if self._book.knows_faces:
                self._sides.vacate(self._book.people)
        self._tracker.update(faces, time_s)
        tracks = self._tracker.confirmed
        self._links.begin(tracks)
        risks = self._meter.update(tracks, self._cut)
        self._worst = max(risks, key=lambda pair: pair.value, default=None)
        self._checks.follow(risks if not self._cut else (), tracks, time_s)
        self._naming.meet(tracks, time_s, shot_starts=self._cut or self._counts.frames == 0)
        seen = [track for track in tracks if track.face_row >= 0]
        self._asked = self._enquiry.choose(seen, faces, time_s)
        rows = np.array([track.face_row for track in self._asked], np.int64)
        reasons = tuple(self._enquiry.reason(track) for track in self._asked)
        return EmbeddingRequest(rows, reasons, tuple(risks))

    def decide(
        self,
        embeddings: FloatArray | None,
        model_version: str,
        sharpness: FloatArray | None = None,
    ) -> SeatAssignment:
        """Second half: takes the embeddings in and says who sits where.

        Args:
            embeddings: Shape `(k, d)`, float32, one row per requested face; None if none were
                requested or available: motion then decides.
            model_version: Version of the ReID model that made them.
            sharpness: Shape `(k,)`, float32, of the same faces, see `imaging.sharpness`; None if
                it is not known.

        Raises:
            ValueError: Their number is not the requested one.
        """
        time_s = self._time_s or 0.0
        ran = embeddings is not None and len(self._asked) > 0
        if embeddings is not None and len(embeddings) != len(self._asked):
            raise ValueError(
                f"{len(embeddings)} embeddings for {len(self._asked)} requested faces: "
                "one row per entry of face_rows is expected"
            )
        self._reseated, self._steered = self._steered, False
        if embeddings is not None and ran:
            self._book.use_version(model_version)
            by_hand = self._sides.held_by_hand
            self._learn(normalised(embeddings), self._qualities(sharpness), time_s)
            self._reseated |= self._sides.held_by_hand != by_hand
            self._apply_pins(model_version, time_s)
        else:
            self._naming.do_without(self._asked, time_s)
        self._naming.go_by_motion(time_s, at_once=self._cut and not ran)
        self._asked = []
        self._age_people(time_s)
        self._count(ran, 0 if embeddings is None else len(embeddings))
        return self._assignment(ran, time_s)

    # -- embeddings -------------------------------------------------------------------------------

    def _qualities(self, sharpness: FloatArray | None) -> list[float]:
        """Of the requested faces."""
        sharp = [None] * len(self._asked) if sharpness is None else sharpness.tolist()
        return [
            face_quality(self._faces, track.face_row, self._source_wh_px, value)
            for track, value in zip(self._asked, sharp, strict=True)
        ]

    def _learn(self, embeddings: FloatArray, qualities: list[float], time_s: float) -> None:
        """Names the requested faces and enrols whom that confirms."""
        verdicts = self._naming.learn(self._asked, embeddings, qualities, time_s)
        for track, verdict, embedding, quality in zip(
            self._asked, verdicts, embeddings, qualities, strict=True
        ):
            if not self._enquiry.enrolment_is_due(track, self._faces, time_s):
                continue
            person = self._book.people[self._links.of(track.id)]
            good = quality >= self._settings.identity.min_quality
            if verdict.decided and not verdict.changes and good:
                self._book.enrol(person, embedding, quality, time_s)
            else:  # not asked about for a while
                self._book.skip(person, time_s)

    def _apply_pins(self, model_version: str, time_s: float) -> None:
        pinned = self._pins.match(self._book.people, model_version)
        if pinned:
            self._reseated |= self._sides.pin(pinned, time_s)
        self._enquiry.everybody = self._pins.is_open

    # -- people -----------------------------------------------------------------------------------

    def _age_people(self, time_s: float) -> None:
        """Place, visible time and weight of everyone, then their sides."""
        visible = self.visible
        step_s = min(self._elapsed_s, _MAX_STEP_S)
        for identity, track in visible.items():
            person = self._book.people[identity]
            person.seen_s, person.box = time_s, track.box
            person.visible_s += step_s
            share = (track.box[3] - track.box[1]) / max(self._source_wh_px[1], 1)
            person.weight += max(step_s, 1e-3) * share
            self._follow_place(person, step_s)
            self._watch(person, track, time_s)
        for person in self._book.people.values():
            person.weight *= 1.0 - min(self._elapsed_s / _WEIGHT_MEMORY_S, 1.0)
        tracks = self._tracker.confirmed
        alive = {track.id for track in tracks}
        self._motions = {key: self._motions[key] for key in self._motions.keys() & alive}
        heights_px = [track.box[3] - track.box[1] for track in tracks if track.face_row >= 0]
        self._sides.update(self._book.people, visible, time_s, heights_px)
        self._book.forget(keep=self._sides.holders | self._sides.pinned | self._links.people)

    def _follow_place(self, person: Identity, step_s: float) -> None:
        """Moves the smoothed place towards the box; jumps to it at the first sight."""
        alpha = self._settings.sides.ema_alpha
        is_new = person.visible_s <= step_s
        blend = 1.0 if is_new else 1.0 - (1.0 - alpha) ** (step_s * REFERENCE_FPS)
        x1, y1, x2, y2 = person.box
        person.x_px += blend * ((x1 + x2) / 2 - person.x_px)
        person.y_px += blend * ((y1 + y2) / 2 - person.y_px)

    def _watch(self, person: Identity, track: Track, time_s: float) -> None:
        """Looks for the first movement within the face, while it is whole and by itself."""
        if person.moves:
            return
        boxes = self._faces.boxes_xyxy_px.tolist()
        others = (box for row, box in enumerate(boxes) if row != track.face_row)
        is_whole = wholeness(self._faces, track.face_row, self._source_wh_px) == 1.0
        if not is_whole or track.score < self._settings.association.high_score:
            return
        if any(cover(track.box, tuple(box)) > 0 for box in others):
            return
        landmarks = self._faces.landmarks_px[track.face_row]
        motion = self._motions.get(track.id)
        if motion is None:
            self._motions[track.id] = FaceMotion.begin(landmarks, time_s)
            return
        motion.see(landmarks, time_s)
        person.watched_s = motion.watched_s
        person.moves = motion.moved_heights >= self._settings.sides.still_share

    def _assignment(self, ran: bool, time_s: float) -> SeatAssignment:
        tracks = self._tracker.confirmed
        worst = self._worst
        return SeatAssignment(
            self._person(Side.LEFT, tracks, time_s),
            self._person(Side.RIGHT, tracks, time_s),
            scene_cut=self._cut,
            reid_ran=ran,
            risk=worst.value if worst else float(self._cut),
            risk_parts=worst.parts.named if worst else (),
            tracks=tuple(self._view(track) for track in tracks),
        )

    def _view(self, track: Track) -> TrackView:
        box = np.array(track.box, np.float32)
        return TrackView(track.id, self._links.of(track.id), box, track.score)

    def _person(self, side: Side, tracks: list[Track], time_s: float) -> Person:
        identity = self._sides.holder(side)
        for track in tracks:
            if identity and self._links.of(track.id) == identity:
                if time_s - track.seen_s <= self._settings.sides.predict_s:
                    return Person(identity, np.array(track.box, np.float32), track.score)
                break
        return Person(identity)

    def _count(self, ran: bool, faces: int) -> None:
        counts = self._counts
        self._counts = replace(
            counts,
            frames=counts.frames + 1,
            reid_frames=counts.reid_frames + int(ran),
            reid_faces=counts.reid_faces + faces,
            cuts=counts.cuts + int(self._cut),
        )

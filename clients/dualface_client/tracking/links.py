"""Which track is which person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from dualface_client.settings.tracking import IdentitySettings
from dualface_client.tracking.gallery import Identity
from dualface_client.tracking.identity import IdentityBook
from dualface_client.tracking.sides import SideBook
from dualface_client.tracking.track import Track
from dualface_client.types import Box, Side

#: A face is asked about again after pauses up to 3**5 times as long as the first one.
_MOST_TRIPLINGS = 5
#: Of the pause, for a face that was like nobody's: by then most dissolves are over.
_STRANGER_SHARE = 0.2
_LIKE_SIZE = 1.5  # a face that comes back after a moment is at most this many times as high


@dataclass(frozen=True, slots=True)
class Relink:
    """A link that was set in this frame.

    Attributes:
        track_id: Whose.
        identity: The person from now on.
        since_s: Since when the track is thought to have shown this person.
    """

    track_id: int
    identity: int
    since_s: float


class LinkBook:
    """Links from tracks to people; state of one stream.

    A person has at most one track. Only seen tracks are given a link, and a link ends with its
    track.

    Args:
        people: Everyone known.
        sides: Who holds the tiles.
        settings: What motion can know.
    """

    def __init__(
        self, people: IdentityBook, sides: SideBook, settings: IdentitySettings | None = None
    ) -> None:
        self._people = people
        self._sides = sides
        self._settings = settings or IdentitySettings()
        self._tracks: Sequence[Track] = ()
        self._shot_s = -inf
        self._links: dict[int, int] = {}
        self._fresh: list[Relink] = []

    def of(self, track_id: int) -> int:
        """The person of a track, 0 for nobody."""
        return self._links.get(track_id, 0)

    @property
    def people(self) -> set[int]:
        """Identities that have a track, seen or lost."""
        return set(self._links.values())

    def cut(self, time_s: float) -> None:
        """A new shot: all tracks have ended, and places say nothing any more."""
        self._links.clear()
        self._shot_s = time_s

    def begin(self, tracks: Sequence[Track]) -> None:
        """A new frame: forgets ended tracks and the changes of the frame before."""
        alive = {track.id for track in tracks}
        self._links = {key: value for key, value in self._links.items() if key in alive}
        self._fresh = []
        self._tracks = tracks

    @property
    def fresh(self) -> tuple[Relink, ...]:
        """What was linked in this frame."""
        return tuple(self._fresh)

    def link(self, track: Track, identity: int, since_s: float) -> None:
        """Links a track; whoever had the identity before loses it."""
        self._links = {key: value for key, value in self._links.items() if value != identity}
        self._links[track.id] = identity
        self._fresh.append(Relink(track.id, identity, since_s))

    def note_handover(self, giver: Track, taker: Track, since_s: float) -> None:
        """A track had shown another track's person since a time; links stay as they are."""
        self._fresh.append(Relink(giver.id, self.of(taker.id), since_s))
        self._fresh.append(Relink(taker.id, self.of(giver.id), since_s))

    def create(self, track: Track, time_s: float, *, is_proven: bool = True) -> None:
        """Links a track to a new person, who may turn out to be a known one if not proven."""
        person = self._people.create(track.box, time_s)
        person.is_proven = is_proven
        self.link(track, person.id, track.started_s)

    def drop(self, identity: int, known: int, time_s: float) -> None:
        """Forgets somebody who turned out to be another person, and has no track any more."""
        self._people.drop(identity)
        self._sides.leave(identity, known, time_s)

    def is_unproven(self, track: Track) -> bool:
        """Whether a track's person may be somebody known, seen badly."""
        identity = self.of(track.id)
        return identity > 0 and not self._people.people[identity].is_proven

    def was_asked_long_ago(self, track: Track, time_s: float) -> bool:
        """Whether it is time to ask again about a track that has a person.

        One embedding can be wrong about a face that a hand or a shadow covers in part, or that a
        dissolve mixes with the shot before. Every one of thousands would be a chance to be wrong
        the other way, so the pauses triple.
        """
        person = self._people.people.get(self.of(track.id))
        if person is None:
            return False
        times = min(max(person.asked_times - 1, 0), _MOST_TRIPLINGS)
        share = 1.0 if len(person.gallery) else _STRANGER_SHARE
        pause_s = share * self._settings.ask_again_s * 3.0**times
        return time_s - person.asked_s >= pause_s

    def holds(self, track: Track) -> bool:
        """Whether a track's person holds a side."""
        return self.of(track.id) in self._sides.holders

    def visible(self, tracks: Sequence[Track]) -> dict[int, Track]:
        """The track of each identity that is seen in this frame."""
        return {
            self._links[track.id]: track
            for track in tracks
            if track.face_row >= 0 and track.id in self._links
        }

    def unnamed(self, tracks: Sequence[Track]) -> list[Track]:
        """Seen tracks without a person."""
        return [track for track in tracks if track.face_row >= 0 and track.id not in self._links]

    def missed(self, tracks: Sequence[Track]) -> list[Identity]:
        """Holders who are not seen; while a side has no holder, everyone who is not seen."""
        visible, holders = self.visible(tracks), self._sides.holders
        absent = [person for key, person in self._people.people.items() if key not in visible]
        return [p for p in absent if p.id in holders or len(holders) < len(Side)]

    def missed_holders(self, tracks: Sequence[Track]) -> list[Identity]:
        """Holders who are not seen."""
        visible = self.visible(tracks)
        people = self._people.people
        return [
            people[key] for key in sorted(self._sides.holders) if key in people.keys() - visible
        ]

    def adopt(self, track: Track, since_s: float, time_s: float, *, is_proven: bool) -> None:
        """Names a face that matches nobody enrolled.

        An absent holder without a gallery if motion says so, else somebody new.

        Args:
            track: The face's.
            since_s: Since when it is thought to have shown this person.
            time_s: Presentation time in seconds.
            is_proven: Whether it was seen well enough to be certainly none of the enrolled ones.
        """
        person = self.continued(track, [p for p in self._absent_holders() if not len(p.gallery)])
        if person is None:
            person = self._people.create(track.box, time_s)
            person.is_proven = is_proven or not self._absent_holders()
        self.link(track, person.id, since_s)

    def guess(self, track: Track, time_s: float) -> None:
        """Names a face without an embedding: by motion, or as somebody new.

        Where nobody has a gallery, so that no embedding will ever say who it is, the nearest absent
        holder who was ever seen is taken wherever the face is.
        """
        absent = [person for person in self._absent_holders() if person.visible_s > 0]
        if absent and not self._people.knows_faces:
            nearest = min(absent, key=lambda person: _distance2(person.box, track.box))
            self.link(track, nearest.id, track.started_s)
        elif (person := self.continued(track, absent)) is not None:
            self.link(track, person.id, track.started_s)
        else:
            self.create(track, time_s, is_proven=not self._absent_holders())

    def continued(self, track: Track, people: Sequence[Identity]) -> Identity | None:
        """The one person whose face a new track can only be, None if that is not certain.

        Motion knows a face in the same shot, after a short gap, near the place, of about the same
        size, if nobody else could be meant.
        """
        fits = [person for person in people if self._fits(person, track)]
        if len(fits) != 1:
            return None
        rivals = [
            each
            for each in self._tracks
            if each.id != track.id and self._is_unknown(each) and self._fits(fits[0], each)
        ]
        return None if rivals else fits[0]

    def _fits(self, person: Identity, track: Track) -> bool:
        settings = self._settings
        if person.seen_s < self._shot_s or track.face_row < 0:
            return False
        if track.started_s - person.seen_s > settings.motion_gap_s:
            return False
        heights = person.box[3] - person.box[1], track.box[3] - track.box[1]
        if max(heights) > _LIKE_SIZE * min(heights):
            return False
        reach_px = settings.motion_heights * (heights[0] + heights[1]) / 2
        return _distance2(person.box, track.box) <= reach_px * reach_px

    def _is_unknown(self, track: Track) -> bool:
        return not self.of(track.id) or self.is_unproven(track)

    def _absent_holders(self) -> list[Identity]:
        return self.missed_holders(self._tracks)


def _distance2(one: Box, other: Box) -> float:
    """Squared distance of two boxes' centres, square pixels."""
    dx = one[0] + one[2] - other[0] - other[2]
    dy = one[1] + one[3] - other[1] - other[3]
    return (dx * dx + dy * dy) / 4

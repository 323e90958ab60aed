"""Which track is which person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dualface_client.tracking.gallery import Identity
from dualface_client.tracking.identity import IdentityBook
from dualface_client.tracking.sides import SideBook
from dualface_client.tracking.track import Track
from dualface_client.types import Side


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
    """

    def __init__(self, people: IdentityBook, sides: SideBook) -> None:
        self._people = people
        self._sides = sides
        self._links: dict[int, int] = {}
        self._fresh: list[Relink] = []

    def of(self, track_id: int) -> int:
        """The person of a track, 0 for nobody."""
        return self._links.get(track_id, 0)

    @property
    def people(self) -> set[int]:
        """Identities that have a track, seen or lost."""
        return set(self._links.values())

    def clear(self) -> None:
        """All tracks have ended."""
        self._links.clear()

    def begin(self, tracks: Sequence[Track]) -> None:
        """A new frame: forgets ended tracks and the changes of the frame before."""
        alive = {track.id for track in tracks}
        self._links = {key: value for key, value in self._links.items() if key in alive}
        self._fresh = []

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

    def create(self, track: Track, time_s: float) -> None:
        """Links a track to a new person."""
        self.link(track, self._people.create(track.box, time_s).id, track.started_s)

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

    def adopt(self, track: Track, tracks: Sequence[Track], since_s: float, time_s: float) -> None:
        """Names a face that matches nobody enrolled: an absent unenrolled holder, or new."""
        nameless = [person for person in self.missed_holders(tracks) if not len(person.gallery)]
        if nameless:
            self.link(track, nameless[0].id, since_s)
        else:
            person = self._people.create(track.box, time_s)
            self.link(track, person.id, since_s)

    def guess(self, track: Track, tracks: Sequence[Track], time_s: float) -> None:
        """Names a face by its place: the nearest absent holder who was ever seen, or new."""
        absent = [person for person in self.missed_holders(tracks) if person.visible_s > 0]
        if absent:
            nearest = min(absent, key=lambda person: _distance(person, track))
            self.link(track, nearest.id, track.started_s)
        else:
            self.create(track, time_s)


def _distance(person: Identity, track: Track) -> float:
    """Squared distance of a face from where a person was last seen."""
    dx = person.box[0] + person.box[2] - track.box[0] - track.box[2]
    dy = person.box[1] + person.box[3] - track.box[1] - track.box[3]
    return dx * dx + dy * dy

"""Who gets which tile.

At the start the positions decide, smoothed and with hysteresis, tentatively for `settle_s`. After
that the person decides (policy `identity`): a holder keeps the side through crossings, exits, cuts
and absences. Under the policy `position` the positions keep deciding. A side is given away only if
it never had a holder or its holder is gone for good, and then to the most established visible
person without a side. A side that is pinned by a photo belongs to its person from the moment of
recognition, and one that is reserved for the cast from the start.

Order by place: the left one of two people is left; of two who are above each other, the upper one.
A face that never moves, such as a poster's, takes no side while others move, unless it is pinned or
of the cast, and somebody who may turn out to be a holder who is missing takes none either.

"Established" is visible time weighted with the face's height relative to the picture, fading with
a time constant of 30 s (`Identity.weight`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from dualface_client.settings.tracking import SideSettings
from dualface_client.tracking.gallery import Identity
from dualface_client.tracking.places import lead_px
from dualface_client.types import Side

Value = TypeVar("Value", int, float)

#: A second person who comes while the first has held a side for less than this is placed by
#: position together with the first; later the first one's side is no longer touched.
_PAIR_S = 2.0


class SideBook:
    """Holders of the two sides; state of one stream.

    Args:
        width_px: Width of the picture.
        settings: Times and hysteresis.
    """

    def __init__(self, width_px: int, settings: SideSettings | None = None) -> None:
        self._settings = settings or SideSettings()
        self._width_px = width_px
        self._holders: dict[Side, int] = {Side.LEFT: 0, Side.RIGHT: 0}
        self._held_since_s: dict[Side, float] = {Side.LEFT: 0.0, Side.RIGHT: 0.0}
        self._start_s: float | None = None
        self._pins: dict[Side, int] = {}
        self._held_by_hand: dict[Side, int] = {}
        self._turned = self._settings.swap
        self._reserved: frozenset[int] = frozenset()
        self._join_s = self._settings.join_s
        self._heights_px: list[float] = []

    def holder(self, side: Side) -> int:
        """Identity that holds a side, 0 for nobody."""
        return self._holders[side]

    @property
    def holders(self) -> set[int]:
        """Identities that hold a side."""
        return {identity for identity in self._holders.values() if identity}

    @property
    def pinned(self) -> set[int]:
        """Identities that a side is pinned to, whether or not they hold it now."""
        return set(self._pins.values())

    @property
    def held_by_hand(self) -> dict[Side, int]:
        """Who was given a side by hand."""
        return dict(self._held_by_hand)

    def pin(self, pins: Mapping[Side, int], time_s: float) -> bool:
        """Gives sides to people for good, whatever their positions.

        Args:
            pins: Identity for each pinned side.
            time_s: Presentation time in seconds.

        Returns:
            Whether a holder changed.
        """
        before = self._holders
        self._pins = dict(pins)
        self._seat(before, time_s)
        return self._holders != before

    def swap(self) -> None:
        """Turns everything around: holders, pins, and which place belongs to which tile."""
        self._turned = not self._turned
        self._holders = _turned(self._holders)
        self._held_since_s = _turned(self._held_since_s)
        self._pins = _turned(self._pins)
        self._held_by_hand = _turned(self._held_by_hand)

    def hold(self, side: Side, identity: int, time_s: float) -> None:
        """Gives a side to a person by hand; until the next call it wins over places and photos.

        Args:
            side: Which.
            identity: Somebody who is known.
            time_s: Presentation time in seconds.
        """
        kept = {other: held for other, held in self._held_by_hand.items() if held != identity}
        self._held_by_hand = {**kept, side: identity}
        self._seat(self._holders, time_s)

    def reserve(self, seats: Mapping[Side, int], join_s: float) -> None:
        """Gives sides to the people whom the stream is about, before the first frame.

        Args:
            seats: Identity for one side or both; nobody else ever gets these sides.
            join_s: How long somebody else must be visible to take a side that is left, at least.
        """
        self._reserved = frozenset(seats.values())
        self._holders = {side: seats.get(side, 0) for side in Side}
        self._join_s = max(join_s, self._settings.join_s)

    def leave(self, identity: int, known: int, time_s: float) -> None:
        """Takes side and pin from somebody who turned out to be another person.

        A side that was given by hand goes on to that other person: the same face was meant.

        Args:
            identity: Who nobody is any more.
            known: Who that is.
            time_s: Presentation time in seconds.
        """
        self._pins = {side: pinned for side, pinned in self._pins.items() if pinned != identity}
        self._holders = {
            side: 0 if holder == identity else holder for side, holder in self._holders.items()
        }
        side = next((each for each, held in self._held_by_hand.items() if held == identity), None)
        if side is not None:
            del self._held_by_hand[side]
            # Who was given the other side by hand as well keeps that one.
            if known not in self._held_by_hand.values():
                self.hold(side, known, time_s)

    def vacate(self, people: Mapping[int, Identity]) -> None:
        """At a cut: takes sides from holders whom nothing could recognise again."""
        for side, identity in self._holders.items():
            if identity and not len(people[identity].gallery):
                self._holders[side] = 0
                self._held_by_hand.pop(side, None)

    def update(
        self,
        people: Mapping[int, Identity],
        visible: Collection[int],
        time_s: float,
        heights_px: Sequence[float] = (),
    ) -> None:
        """Gives sides to people.

        Args:
            people: Everyone known.
            visible: Identities seen in this frame.
            time_s: Presentation time in seconds.
            heights_px: Of all faces of this frame, those of nobody known included.
        """
        self._heights_px = sorted(heights_px, reverse=True)
        if self._start_s is None:
            if not visible:
                return
            self._start_s = time_s
        if not self._reserved and time_s - self._start_s <= self._settings.settle_s:
            self._arrange(people, visible, time_s)
        else:
            self._evict_pictures(people, time_s)
            self._fill(people, visible, time_s)
            if self._settings.policy == "position":
                self._follow_places(people, visible, time_s)

    def _follow_places(
        self, people: Mapping[int, Identity], visible: Collection[int], time_s: float
    ) -> None:
        """Swaps the sides if both holders are seen and have clearly changed places."""
        left, right = self._holders[Side.LEFT], self._holders[Side.RIGHT]
        if left in visible and right in visible:
            self._seat(self._ordered(people[left], people[right]), time_s)

    def _evict_pictures(self, people: Mapping[int, Identity], time_s: float) -> None:
        """Takes sides from still faces; the other one's place is then found anew as well."""
        # Whoever was asked for is shown, also as a picture.
        kept = self._reserved | self.pinned | set(self._held_by_hand.values())
        for side, identity in self._holders.items():
            holder = people.get(identity)
            if holder and identity not in kept and self._is_picture(holder, people):
                self._holders[side] = 0
                self._held_since_s[side.other] = time_s

    def _is_picture(self, person: Identity, people: Mapping[int, Identity]) -> bool:
        """Whether a face never moved although somebody else's did, as that of a poster."""
        is_still = not person.moves and person.watched_s >= self._settings.still_s
        return is_still and _somebody_moves(people)

    def _prominent(self, people: Mapping[int, Identity], visible: Collection[int]) -> set[int]:
        """Whom of the visible people a side may be given to; in a crowd few or none."""
        if len(self._heights_px) < self._settings.crowd:
            return set(visible)
        least_px = self._settings.crowd_ratio * self._heights_px[2]
        return {key for key in visible if people[key].box[3] - people[key].box[1] >= least_px}

    def _arrange(
        self, people: Mapping[int, Identity], visible: Collection[int], time_s: float
    ) -> None:
        """Tentative: the two most established people by place."""
        known = [people[key] for key in people.keys() - visible]
        known += [people[key] for key in self._prominent(people, visible)]
        ranked = sorted(known, key=lambda person: (-person.weight, person.id))[:2]
        if len(ranked) == 1:
            side = self._half(ranked[0])
            self._seat({side: ranked[0].id, side.other: 0}, time_s)
        elif ranked:
            self._seat(self._ordered(ranked[0], ranked[1]), time_s)

    def _half(self, person: Identity) -> Side:
        """The side of the half a person sits in; the present one within the hysteresis."""
        offset = person.x_px - self._width_px / 2
        slack = self._settings.hysteresis * self._width_px
        first, second = self._first_and_second
        if self._holders[first] == person.id and offset < slack:
            return first
        if self._holders[second] == person.id and offset > -slack:
            return second
        return first if offset < 0 else second

    @property
    def _first_and_second(self) -> tuple[Side, Side]:
        """The tiles of whoever comes first by place and of the other one."""
        return (Side.RIGHT, Side.LEFT) if self._turned else (Side.LEFT, Side.RIGHT)

    def _ordered(self, one: Identity, other: Identity) -> dict[Side, int]:
        """Both people in the order of their places; the present order within the hysteresis."""
        first, second = self._first_and_second
        dx_px, dy_px = other.x_px - one.x_px, other.y_px - one.y_px
        lead = lead_px(dx_px, dy_px, self._settings.above_ratio)
        before, after = (one, other) if lead >= 0 else (other, one)
        turned = self._holders == {first: after.id, second: before.id}
        if turned and abs(lead) < self._settings.hysteresis * self._width_px:
            before, after = after, before
        return {first: before.id, second: after.id}

    def _fill(
        self, people: Mapping[int, Identity], visible: Collection[int], time_s: float
    ) -> None:
        free = [side for side in Side if self._is_free(side, people, visible, time_s)]
        if not free:
            return
        waiting = [
            people[identity]
            for identity in self._prominent(people, visible)
            if identity not in self.holders and self._may_join(people[identity], people, visible)
        ]
        for person in sorted(waiting, key=lambda person: (-person.weight, person.id))[: len(free)]:
            side = self._half(person)
            side = side if side in free else free[0]
            free.remove(side)
            self._join(person, side, people, visible, time_s)

    def _may_join(
        self, person: Identity, people: Mapping[int, Identity], visible: Collection[int]
    ) -> bool:
        if person.visible_s < self._join_s:
            return False
        if not person.moves and _somebody_moves(people):  # a poster, for all that is known
            return False
        missing = (people[key] for key in self.holders - set(visible))
        return person.is_proven or not any(len(holder.gallery) for holder in missing)

    def _join(
        self,
        person: Identity,
        side: Side,
        people: Mapping[int, Identity],
        visible: Collection[int],
        time_s: float,
    ) -> None:
        partner = self._holders[side.other]
        new_partner = time_s - self._held_since_s[side.other] < _PAIR_S
        if partner in visible and new_partner and self._holders[side] == 0:
            self._seat(self._ordered(people[partner], person), time_s)
        else:
            self._seat({side: person.id, side.other: partner}, time_s)

    def _is_free(
        self, side: Side, people: Mapping[int, Identity], visible: Collection[int], time_s: float
    ) -> bool:
        if side in self._pins or side in self._held_by_hand:
            return False
        holder = people.get(self._holders[side])
        if holder is None:
            return True
        if holder.id in self._reserved and len(holder.gallery):
            return False
        settings = self._settings
        earned_s = max(settings.forget_ratio * holder.visible_s, settings.forget_least_s)
        away_s = time_s - holder.seen_s
        return holder.id not in visible and away_s > min(earned_s, settings.forget_s)

    def _pinned(self, holders: Mapping[Side, int]) -> dict[Side, int]:
        """The same with pinned people on their sides; those they displace take theirs, if free."""
        seated = dict(holders)
        by_photo = {
            side: identity
            for side, identity in self._pins.items()
            if identity not in self._held_by_hand.values()
        }
        for side, identity in {**by_photo, **self._held_by_hand}.items():
            displaced = seated[side]
            if displaced != identity:
                if seated[side.other] in (identity, 0):
                    seated[side.other] = displaced
                seated[side] = identity
        return seated

    def _seat(self, wanted: Mapping[Side, int], time_s: float) -> None:
        holders = self._pinned(wanted)
        for side, identity in holders.items():
            if self._holders[side] != identity:
                self._held_since_s[side] = time_s
        self._holders = holders


def _somebody_moves(people: Mapping[int, Identity]) -> bool:
    return any(person.moves for person in people.values())


def _turned(by_side: Mapping[Side, Value]) -> dict[Side, Value]:
    return {side.other: value for side, value in by_side.items()}

"""Who gets which tile.

At the start the positions decide, smoothed and with hysteresis, tentatively for `settle_s`. After
that the person decides (policy `identity`): a holder keeps the side through crossings, exits, cuts
and absences. Under the policy `position` the positions keep deciding. A side is given away only if
it never had a holder or its holder is gone for good, and then to the most established visible
person without a side. A side that is pinned by a photo belongs to its person from the moment of
recognition.

"Established" is visible time weighted with the face's height relative to the picture, fading with
a time constant of 30 s (`Identity.weight`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dualface_client.settings.tracking import SideSettings
from dualface_client.tracking.gallery import Identity
from dualface_client.types import Side

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

    def holder(self, side: Side) -> int:
        """Identity that holds a side, 0 for nobody."""
        return self._holders[side]

    @property
    def holders(self) -> set[int]:
        """Identities that hold a side."""
        return {identity for identity in self._holders.values() if identity}

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

    def update(
        self, people: Mapping[int, Identity], visible: Collection[int], time_s: float
    ) -> None:
        """Gives sides to people.

        Args:
            people: Everyone known.
            visible: Identities seen in this frame.
            time_s: Presentation time in seconds.
        """
        if self._start_s is None:
            if not visible:
                return
            self._start_s = time_s
        if time_s - self._start_s <= self._settings.settle_s:
            self._arrange(people, time_s)
        else:
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

    def _arrange(self, people: Mapping[int, Identity], time_s: float) -> None:
        """Tentative: the two most established people by place."""
        ranked = sorted(people.values(), key=lambda person: (-person.weight, person.id))[:2]
        if len(ranked) == 1:
            side = self._half(ranked[0])
            self._seat({side: ranked[0].id, side.other: 0}, time_s)
        elif ranked:
            self._seat(self._ordered(ranked[0], ranked[1]), time_s)

    def _half(self, person: Identity) -> Side:
        """The half a person sits in; the present one within the hysteresis."""
        offset = person.x_px - self._width_px / 2
        slack = self._settings.hysteresis * self._width_px
        if self._holders[Side.LEFT] == person.id and offset < slack:
            return Side.LEFT
        if self._holders[Side.RIGHT] == person.id and offset > -slack:
            return Side.RIGHT
        return Side.LEFT if offset < 0 else Side.RIGHT

    def _ordered(self, one: Identity, other: Identity) -> dict[Side, int]:
        """Both people from left to right; the present order within the hysteresis."""
        slack = self._settings.hysteresis * self._width_px
        left, right = (one, other) if one.x_px <= other.x_px else (other, one)
        turned = self._holders == {Side.LEFT: right.id, Side.RIGHT: left.id}
        if turned and right.x_px - left.x_px < slack:
            left, right = right, left
        return {Side.LEFT: left.id, Side.RIGHT: right.id}

    def _fill(
        self, people: Mapping[int, Identity], visible: Collection[int], time_s: float
    ) -> None:
        free = [side for side in Side if self._is_free(side, people, visible, time_s)]
        if not free:
            return
        waiting = [
            people[identity]
            for identity in visible
            if identity not in self.holders and people[identity].visible_s >= self._settings.join_s
        ]
        for person in sorted(waiting, key=lambda person: (-person.weight, person.id))[: len(free)]:
            side = self._half(person)
            side = side if side in free else free[0]
            free.remove(side)
            self._join(person, side, people, visible, time_s)

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
        if side in self._pins:
            return False
        holder = people.get(self._holders[side])
        if holder is None:
            return True
        settings = self._settings
        earned_s = max(settings.forget_ratio * holder.visible_s, settings.forget_least_s)
        away_s = time_s - holder.seen_s
        return holder.id not in visible and away_s > min(earned_s, settings.forget_s)

    def _pinned(self, holders: Mapping[Side, int]) -> dict[Side, int]:
        """The same with pinned people on their sides; those they displace take theirs, if free."""
        seated = dict(holders)
        for side, identity in self._pins.items():
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

"""People whose side is given by a reference picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dualface_client.settings.tracking import IdentitySettings
from dualface_client.tracking.assignment import best_pairs
from dualface_client.tracking.gallery import Identity
from dualface_client.types import FloatArray, Side


@dataclass(frozen=True, slots=True)
class Pin:
    """A face that belongs to a side.

    Attributes:
        side: Which.
        photo: The picture's name, for messages.
        vector: Shape `(d,)`, float32, of length 1.
        model_version: What made it; compared only with embeddings of the same version.
    """

    side: Side
    photo: str
    vector: FloatArray
    model_version: str


class PinBook:
    """Which person each pin means; state of one stream.

    A pin means the person whose gallery is most similar, one to one, if the cosine is at least
    `match_cosine`. Once it means somebody, another person must be closer by `margin` to take over.

    Args:
        pins: At most one for a side.
        settings: Thresholds.
    """

    def __init__(self, pins: Sequence[Pin], settings: IdentitySettings) -> None:
        self._pins = tuple(pins)
        self._settings = settings
        self._found: dict[Side, int] = {}
        self._closest: dict[Side, float] = {}
        self._likeness: dict[tuple[Side, int], float] = {}

    @property
    def is_open(self) -> bool:
        """Whether a pin means nobody so far."""
        return len(self._found) < len(self._pins)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to tell the user about each pin: whom it means and how surely, or nobody."""
        return tuple(self._note(pin) for pin in self._pins)

    def swap(self) -> None:
        """Every pin means the other side from now on."""
        self._pins = tuple(replace(pin, side=pin.side.other) for pin in self._pins)
        self._found = {side.other: identity for side, identity in self._found.items()}
        self._closest = {side.other: cosine for side, cosine in self._closest.items()}
        self._likeness = {
            (side.other, person): cosine for (side, person), cosine in self._likeness.items()
        }

    def _note(self, pin: Pin) -> str:
        if person := self._found.get(pin.side):
            return (
                f"--pin {pin.side.value}={pin.photo}: is person {person} (likeness "
                f"{self._likeness[pin.side, person]:.2f}; from {self._settings.match_cosine:g} on "
                "it counts)"
            )
        if taken := self._taken_note(pin):
            return taken
        closest = self._closest.get(pin.side)
        likeness = "no face could be compared" if closest is None else f"at most {closest:.3f}"
        return (
            f"--pin {pin.side.value}={pin.photo} was ignored: it matches nobody in the video "
            f"({likeness}; tracking.identity.match_cosine is {self._settings.match_cosine:g}), "
            "so positions decide the sides"
        )

    def _taken_note(self, pin: Pin) -> str:
        """About a pin that means whoever the other pin means even more, else empty."""
        person = self._found.get(pin.side.other, 0)
        likeness = self._likeness.get((pin.side, person), -1.0)
        if likeness < self._settings.match_cosine:
            return ""
        return (
            f"--pin {pin.side.value}={pin.photo} was ignored: its person, {person}, has the "
            f"{pin.side.other.value} side by the other pin (likeness {likeness:.2f}; from "
            f"{self._settings.match_cosine:g} on it counts), and nobody has both sides"
        )

    def match(self, people: Mapping[int, Identity], model_version: str) -> dict[Side, int]:
        """Compares the pins with the present galleries.

        Args:
            people: Everyone known.
            model_version: Of the galleries.

        Returns:
            Identity for each side whose pin means somebody.
        """
        self._found = {side: found for side, found in self._found.items() if found in people}
        pins = [pin for pin in self._pins if pin.model_version == model_version]
        known = [person for person in people.values() if len(person.gallery)]
        if not pins or not known:
            return dict(self._found)
        gains = [self._gains(pin, known, len(pins)) for pin in pins]
        for row, column in best_pairs(gains):
            if column < len(known):
                self._found[pins[row].side] = known[column].id
        return dict(self._found)

    def _gains(self, pin: Pin, known: Sequence[Identity], pins: int) -> list[float]:
        """Worth per person, then the worth of meaning nobody, 0."""
        likeness = [person.gallery.similarity(pin.vector) for person in known]
        self._closest[pin.side] = max(self._closest.get(pin.side, -1.0), *likeness)
        for person, value in zip(known, likeness, strict=True):
            key = pin.side, person.id
            self._likeness[key] = max(self._likeness.get(key, -1.0), value)
        held = self._found.get(pin.side, 0)
        extra = [self._settings.margin if person.id == held else 0.0 for person in known]
        threshold = self._settings.match_cosine
        gains = [value - threshold + more for value, more in zip(likeness, extra, strict=True)]
        return gains + [0.0] * pins

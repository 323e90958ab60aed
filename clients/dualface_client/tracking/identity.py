"""People of a stream: their galleries of embeddings, and which face is whose.

Faces are compared by the cosine of their L2-normalised embeddings; `IdentitySettings` says where
its thresholds come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from dualface_client.settings.tracking import IdentitySettings
from dualface_client.tracking.assignment import best_pairs
from dualface_client.tracking.gallery import Gallery, Identity, Member
from dualface_client.types import Box, FloatArray

_IMPOSSIBLE = -1e6
_NOWHERE: Box = (0.0, 0.0, 0.0, 0.0)
#: How many times as long the pause is after each enrolment, and after each that failed.
_ENROLLED_GROWTH, _SKIPPED_GROWTH = 3.0, 2.0
_SKIP_LIMIT = 4.0  # longest pause after an enrolment that failed, in `enrol_limit_s`


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the embeddings say about one face.

    Attributes:
        identity: Whose it is; 0 for a stranger.
        decided: False if the answer is within the margin: nothing should change.
        changes: True if it differs from the present link and should replace it.
    """

    identity: int
    decided: bool
    changes: bool


class IdentityBook:
    """All people of one stream.

    Args:
        settings: Thresholds and sizes.
    """

    def __init__(self, settings: IdentitySettings | None = None) -> None:
        self._settings = settings or IdentitySettings()
        self._next_id = 1
        self._model_version = ""
        self.people: dict[int, Identity] = {}

    def create(self, box: Box, time_s: float) -> Identity:
        """A new person at this place."""
        settings = self._settings
        gallery = Gallery(settings.gallery_size, settings.duplicate_cosine)
        x_px, y_px = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        person = Identity(self._next_id, gallery, time_s, box, x_px=x_px, y_px=y_px, enrol_s=time_s)
        person.enrol_pause_s, person.asked_s = settings.enrol_interval_s, time_s
        self._next_id += 1
        self.people[person.id] = person
        return person

    def know(self, member: Member) -> Identity:
        """A person who is known before being seen."""
        person = self.create(_NOWHERE, -inf)
        for embedding, quality in zip(member.embeddings, member.qualities, strict=True):
            person.gallery.add(embedding, quality)
        return person

    @property
    def knows_faces(self) -> bool:
        """Whether anybody has a gallery, so that an embedding can say who a face is."""
        return any(len(person.gallery) for person in self.people.values())

    def drop(self, identity: int) -> None:
        """Forgets somebody who turned out to be another one."""
        self.people.pop(identity, None)

    def forget(self, keep: set[int]) -> None:
        """Drops the least established people beyond the limit, none of `keep`."""
        surplus = len(self.people) - self._settings.identity_limit
        if surplus > 0:
            others = [person for key, person in self.people.items() if key not in keep]
            for person in sorted(others, key=lambda person: person.weight)[:surplus]:
                del self.people[person.id]

    def use_version(self, model_version: str) -> None:
        """Empties all galleries if the model has changed, as its embeddings are not comparable."""
        if model_version != self._model_version:
            for person in self.people.values():
                person.gallery.clear()
                person.enrol_s = min(person.enrol_s, person.seen_s)
                person.enrol_pause_s = self._settings.enrol_interval_s
            self._model_version = model_version

    def enrol(self, person: Identity, embedding: FloatArray, quality: float, time_s: float) -> None:
        """Adds an embedding and sets the time of the next."""
        person.gallery.add(embedding, quality)
        self._pause(person, time_s, _ENROLLED_GROWTH, self._settings.enrol_limit_s)

    def skip(self, person: Identity, time_s: float) -> None:
        """Postpones an enrolment that failed, for longer each time."""
        self._pause(person, time_s, _SKIPPED_GROWTH, _SKIP_LIMIT * self._settings.enrol_limit_s)

    def _pause(self, person: Identity, time_s: float, growth: float, longest_s: float) -> None:
        longest_s = max(longest_s, self._settings.enrol_interval_s)
        pause_s = min(person.enrol_pause_s, longest_s)
        person.enrol_s = time_s + pause_s
        person.enrol_pause_s = min(pause_s * growth, longest_s)

    def judge(self, embeddings: FloatArray, links: Sequence[int]) -> list[Verdict]:
        """Assigns faces to people one to one, and says where that should change a link.

        A face may also be a stranger. For an unlinked face this is worth a cosine of
        `match_cosine`, and for one linked to an enrolled person `reject_cosine`; a face linked to
        somebody without a gallery keeps its link for a worth of `match_cosine`. The present links
        stay unless another assignment beats them by the margin.

        Args:
            embeddings: Shape `(n, d)`, float32, L2-normalised, of the version last given to
                `use_version`.
            links: Present identity of each face, 0 for none.

        Returns:
            A verdict per face.
        """
        known = [person for person in self.people.values() if len(person.gallery)]
        columns = {person.id: column for column, person in enumerate(known)}
        gains = [
            self._gains(embedding, link, row, len(links), known, columns)
            for row, (embedding, link) in enumerate(zip(embeddings, links, strict=True))
        ]
        present = [
            columns.get(link, len(known) + row) if link else len(known) + row
            for row, link in enumerate(links)
        ]
        best = [column for _, column in best_pairs(gains)]
        gained = _total(gains, best) - _total(gains, present)
        accept = best != present and gained >= self._settings.margin
        verdicts: list[Verdict] = []
        for row, link in enumerate(links):
            column = best[row] if accept or not link else present[row]
            stranger = link if link not in columns else 0
            identity = known[column].id if column < len(known) else stranger
            clear = _lead(gains[row], column) >= self._settings.margin
            changes = accept and column != present[row]
            verdicts.append(Verdict(identity, clear or changes, changes))
        return verdicts

    def _gains(
        self,
        embedding: FloatArray,
        link: int,
        row: int,
        rows: int,
        known: list[Identity],
        columns: dict[int, int],
    ) -> list[float]:
        settings = self._settings
        gains = [person.gallery.similarity(embedding) - settings.match_cosine for person in known]
        alone = [_IMPOSSIBLE] * rows
        alone[row] = settings.reject_cosine - settings.match_cosine if link in columns else 0.0
        return gains + alone


def _total(gains: list[list[float]], chosen: list[int]) -> float:
    return sum(row[column] for row, column in zip(gains, chosen, strict=True))


def _lead(gains: list[float], column: int) -> float:
    """By how much a choice beats the other possible ones of its row."""
    return gains[column] - max(
        (gain for other, gain in enumerate(gains) if other != column), default=_IMPOSSIBLE
    )

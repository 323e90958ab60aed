"""What is known to be true of a composed clip; the JSON beside it.

Format (version 1), one JSON object:

- `format` 1, `clip` file name, `scenario`, `seed`, `size` [width, height] in pixels,
  `fps` and `time_base` as "numerator/denominator", `frame_count`;
- `people`: person id ("1", "2") to the source clip's file name;
- `expected_left`, `expected_right`: the person who is left and right, as the viewer sees it, in
  the first half second in which both are in the picture, or the upper and the lower one where they
  are above each other. People keep these sides for the whole clip, wherever they walk;
- `tones`: list of [onset in seconds, frequency in Hz]; each lasts `tone_length_s`;
- `frames`: one entry a frame, `index`, `pts`, `shot` (counts scene cuts), `content` (the picture
  without bars, xyxy in pixels; null for all of it), `panels` (windows of a call or a split screen,
  a later one lies over an earlier one; empty if the picture is one), `motion` (how far the picture
  as a whole moved since the frame before, x and y in pixels) and `people`, a list of
  - `id`,
  - `box`: face box xyxy in pixels of the composed clip, not clipped to the picture,
  - `on_screen`: share of the box inside the picture, 0 to 1,
  - `visible`: share of the box that is inside and not hidden, 0 to 1,
  - `depth`: smaller is nearer,
  - `passer_by`: true for anybody else, who has no tile: a passer-by, an audience, a poster,
  - `panel`: which of `panels` the face is in, -1 if there are none,
  - `still`: true for a face that never moves by itself,
  - `unclear`: true for a face from which nobody could say who it is.

People 1 and 2 are always listed; the one who is not in the picture has `on_screen` 0. Two people
who are never in the picture at the same time have no sides: the first to be seen is named as left.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dualface_client.errors import AssetError
from dualface_client.types import Box

FORMAT = 1


@dataclass(frozen=True, slots=True)
class PersonTruth:
    """One person in one frame; see the module's text."""

    id: int
    box: Box
    on_screen: float
    visible: float
    depth: float
    passer_by: bool = False
    panel: int = -1
    still: bool = False
    unclear: bool = False

    @property
    def height_px(self) -> float:
        """Height of the face box."""
        return self.box[3] - self.box[1]


@dataclass(frozen=True, slots=True)
class FrameTruth:
    """One frame; see the module's text."""

    index: int
    pts: int
    shot: int
    people: tuple[PersonTruth, ...]
    content: Box | None = None
    panels: tuple[Box, ...] = ()
    motion: tuple[float, float] = (0.0, 0.0)

    def person(self, identity: int) -> PersonTruth:
        """The entry of a person."""
        return next(person for person in self.people if person.id == identity)

    def all_visible(self, share: float) -> bool:
        """Both people's faces are visible to at least this share."""
        return all(person.visible >= share for person in self.people if not person.passer_by)


@dataclass(frozen=True, slots=True)
class Truth:
    """One clip; see the module's text."""

    clip: str
    scenario: str
    seed: int
    size: tuple[int, int]
    fps: str
    time_base: str
    frame_count: int
    people: dict[str, str]
    expected_left: int
    expected_right: int
    tone_length_s: float
    tones: tuple[tuple[float, float], ...]
    frames: tuple[FrameTruth, ...]
    format: int = FORMAT

    def text(self) -> str:
        """The JSON."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def save(self, path: Path) -> None:
        """Writes the JSON."""
        path.write_text(self.text() + "\n")

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Reads the JSON back.

        Raises:
            AssetError: The file is missing or is no ground truth of this format.
        """
        try:
            raw: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise AssetError(f"ground truth {path} cannot be read: {error}") from error
        if raw.get("format") != FORMAT:
            raise AssetError(f"{path}: format {raw.get('format')!r}, expected {FORMAT}")
        return cls.parse(raw)

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Truth:
        """Makes the lists of decoded JSON the tuples they were; changes `raw`."""
        raw["size"] = tuple(raw["size"])
        raw["tones"] = tuple((onset, hz) for onset, hz in raw["tones"])
        raw["frames"] = tuple(_frame(entry) for entry in raw["frames"])
        return cls(**raw)


def _frame(entry: dict[str, Any]) -> FrameTruth:
    people = tuple(
        PersonTruth(**{**person, "box": tuple(person["box"])}) for person in entry["people"]
    )
    content = entry.get("content")
    return FrameTruth(
        entry["index"],
        entry["pts"],
        entry["shot"],
        people,
        tuple(content) if content else None,
        tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in entry.get("panels", ())),
        tuple(entry.get("motion", (0.0, 0.0))),
    )

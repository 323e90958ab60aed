"""What somebody may want to be decided otherwise while a stream runs."""

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.types import LayoutKind, Side


@dataclass(frozen=True, slots=True)
class SwapSides:
    """The two people change tiles."""


@dataclass(frozen=True, slots=True)
class HoldSide:
    """A person gets a tile and keeps it."""

    side: Side
    identity: int


@dataclass(frozen=True, slots=True)
class ChangeLayout:
    """The same canvas is divided in another way.

    Attributes:
        kind: How.
        gap_px: Between the two tiles; None for what it was.
    """

    kind: LayoutKind
    gap_px: int | None = None


Command = SwapSides | HoldSide | ChangeLayout

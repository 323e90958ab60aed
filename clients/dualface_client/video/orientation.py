"""Which way up a picture is: the eight turns and mirrorings that a display matrix can ask for."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dualface_client.types import ByteArray

if TYPE_CHECKING:
    import av

_MATRIX = struct.Struct("=9i")  # ISO/IEC 14496-12: a b u, c d v, x y w

# Clockwise turn after a mirroring of the columns, if there is one.
_DEGREES = {
    (False, False, False): 0,
    (True, True, False): 90,
    (False, True, True): 180,
    (True, False, True): 270,
    (False, True, False): 0,
    (True, True, True): 90,
    (False, False, True): 180,
    (True, False, False): 270,
}


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a decoded picture becomes an upright one: first transposed, then mirrored.

    Attributes:
        transpose: Whether rows become columns.
        mirror_x: Whether columns are then reversed.
        mirror_y: Whether rows are then reversed.
    """

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Orientation:
        """What the picture's display matrix says, to the nearest quarter turn."""
        side_data = frame.side_data.get("DISPLAYMATRIX")
        if side_data is None:
            return cls()
        a, b, _, c, d, *_ = _MATRIX.unpack_from(memoryview(cast(bytes, side_data)))
        # A point (x, y) is shown at (a x + c y, b x + d y).
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    @property
    def code(self) -> int:
        """As `upright.cu` takes it: 1 transpose, 2 mirror x, 4 mirror y."""
        return self.transpose + 2 * self.mirror_x + 4 * self.mirror_y

    def size_wh(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the upright picture."""
        return (size_wh[1], size_wh[0]) if self.transpose else size_wh

    def apply(self, plane: ByteArray) -> ByteArray:
        """The upright plane; shares the samples.

        Args:
            plane: Shape `(height, width)` or `(height, width, channels)`.
        """
        if self.transpose:
            plane = plane.swapaxes(0, 1)
        return plane[:: -1 if self.mirror_y else 1, :: -1 if self.mirror_x else 1]

    def __str__(self) -> str:
        """In words; empty if nothing has to be done.

        >>> str(Orientation(True, True, False)), str(Orientation(True)), str(Orientation())
        ('rotated by 90 degrees clockwise', 'mirrored and rotated by 270 degrees clockwise', '')
        """
        mirrored = self.transpose ^ self.mirror_x ^ self.mirror_y
        degrees = _DEGREES[self.transpose, self.mirror_x, self.mirror_y]
        turned = f"rotated by {degrees} degrees clockwise" if degrees else ""
        return " and ".join(part for part in ("mirrored" * mirrored, turned) if part)

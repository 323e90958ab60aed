"""What a look through a video saw."""

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.tracking.stillness import Shape
from dualface_client.types import Box, FloatArray


@dataclass(frozen=True, slots=True)
class Sighting:
    """One face at one moment.

    Attributes:
        moment: Index of the moment.
        box: Its place, source pixels.
        shape: Its landmarks without place and size.
        mouth: Distance of nose and mouth, and width of the mouth, in eye distances.
        embedding: Shape `(d,)`, float32, of length 1.
        quality: How suitable it is for recognition, 0 to 1.
        score: How sure the detector is that it is a face, 0 to 1.
    """

    moment: int
    box: Box
    shape: Shape
    mouth: tuple[float, float]
    embedding: FloatArray
    quality: float
    score: float = 1.0

    @property
    def height_px(self) -> float:
        """Height of the face."""
        return self.box[3] - self.box[1]


@dataclass(frozen=True, slots=True)
class Sightings:
    """Everything a look saw.

    Attributes:
        times_s: When each moment was, ascending.
        heights_px: Of all faces of each moment, whether or not they could be embedded.
        found: Embedded faces.
        duration_s: Length of the video, 0 if unknown.
        size_wh_px: Size of the picture.
        model_version: What made the embeddings, empty without any.
    """

    times_s: tuple[float, ...]
    heights_px: tuple[tuple[float, ...], ...]
    found: tuple[Sighting, ...]
    duration_s: float
    size_wh_px: tuple[int, int]
    model_version: str = ""


def mouth_of(landmarks_px: FloatArray) -> tuple[float, float]:
    """Distance of nose and mouth, and width of the mouth, in eye distances.

    Args:
        landmarks_px: Shape `(5, 2)`, in the order of `Faces`.
    """
    points = [complex(x, y) for x, y in landmarks_px.tolist()]
    eyes = max(abs(points[1] - points[0]), 1e-6)
    down = abs((points[3] + points[4]) / 2 - points[2])
    return down / eyes, abs(points[4] - points[3]) / eyes

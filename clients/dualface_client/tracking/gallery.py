"""One person: a gallery of embeddings, and where they were last seen."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dualface_client.types import Box, FloatArray, Side


@dataclass(slots=True)
class Gallery:
    """A few embeddings of one person, all of one model version.

    Attributes:
        size: Embeddings kept.
        duplicate_cosine: Above it two embeddings count as the same picture.
    """

    size: int
    duplicate_cosine: float
    _embeddings: list[FloatArray] = field(default_factory=list)
    _qualities: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._embeddings)

    def similarity(self, embedding: FloatArray) -> float:
        """Cosine with the closest embedding of the gallery; -1 if it is empty."""
        return max((float(known @ embedding) for known in self._embeddings), default=-1.0)

    def add(self, embedding: FloatArray, quality: float) -> None:
        """Adds an embedding: a better one replaces its duplicate, the worst makes room."""
        cosines = [float(known @ embedding) for known in self._embeddings]
        if cosines and max(cosines) >= self.duplicate_cosine:
            self._replace(cosines.index(max(cosines)), embedding, quality)
        elif len(self) < self.size:
            self._embeddings.append(embedding.copy())
            self._qualities.append(quality)
        else:
            self._replace(self._qualities.index(min(self._qualities)), embedding, quality)

    def _replace(self, index: int, embedding: FloatArray, quality: float) -> None:
        if quality > self._qualities[index]:
            self._embeddings[index], self._qualities[index] = embedding.copy(), quality

    def clear(self) -> None:
        """Forgets everything."""
        self._embeddings.clear()
        self._qualities.clear()


@dataclass(slots=True)
class Identity:
    """One person.

    Attributes:
        id: 1-based, never reused in a stream.
        gallery: What the person looks like.
        seen_s: When last seen.
        box: Where last seen.
        visible_s: Seconds visible in all.
        weight: How established: visible seconds times face height over picture height, fading.
        x_px: Smoothed horizontal centre.
        y_px: Smoothed vertical centre.
        moves: Whether the face was ever seen to move within itself.
        watched_s: For how long the present track was watched for such a movement, up to the first.
        is_proven: Whether this is certainly none of the people who were known before.
        asked_s: When an embedding last told clearly who this is; at first, when the person came.
        asked_times: How often one did.
        enrol_s: When the next enrolment is due.
        enrol_pause_s: Pause after it.
    """

    id: int
    gallery: Gallery
    seen_s: float
    box: Box
    visible_s: float = 0.0
    weight: float = 0.0
    x_px: float = 0.0
    y_px: float = 0.0
    moves: bool = False
    watched_s: float = 0.0
    is_proven: bool = True
    asked_s: float = 0.0
    asked_times: int = 0
    enrol_s: float = 0.0
    enrol_pause_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody a video is about, known before its first frame.

    Attributes:
        side: Whose side it is.
        embeddings: Shape `(k, d)`, float32, rows of length 1: what the person looks like.
        qualities: Of the same faces, 0 to 1.
        model_version: What made them; compared only with embeddings of the same version.
    """

    side: Side
    embeddings: FloatArray
    qualities: tuple[float, ...]
    model_version: str


def normalised(embeddings: FloatArray) -> FloatArray:
    """Rows scaled to length 1, in case a server did not do that."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    scaled: FloatArray = (embeddings / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled

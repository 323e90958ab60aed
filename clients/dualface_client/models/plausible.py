"""Refuses answers that cannot be, before they reach tracking and framing.

A server is another program: with a broken GPU, another model or a stranger's hands in the region it
answers with anything, in time and of the right size.
"""

from __future__ import annotations

import numpy as np

from dualface_client.errors import InferenceFailedError
from dualface_client.types import FloatArray, IntArray

_ROUNDING = 1e-3
#: How far outside of the picture a face may be, in its larger side; a face that is cut off is
#: nearer.
_OUTSIDE = 2.0
#: Far above what a vector of length 1 has, so that a network without that last step passes too.
_LARGEST = 1e6
_ADVICE = "see that the server runs the models of this program, and its log"


def plausible_faces(
    tables: FloatArray, size_px: int, score_threshold: float
) -> tuple[FloatArray, IntArray]:
    """The rows of a detector's tables that are faces.

    Args:
        tables: Shape `(n, rows, 15)`, see `faces_from_tables`.
        size_px: Larger side of the model's input.
        score_threshold: Rows below are left out, and so are boxes without an area.

    Returns:
        The rows, shape `(k, 15)`, and how many of them each table has, shape `(n,)`.

    Raises:
        InferenceFailedError: A score is no share of 1, or a face is nowhere near the picture.
    """
    scores = tables[:, :, 4]
    if not bool(((scores >= -_ROUNDING) & (scores <= 1 + _ROUNDING)).all()):
        raise InferenceFailedError(f"face_detect: scores are not within 0 and 1; {_ADVICE}")
    wanted = scores >= score_threshold
    # Written so that NaN, which is not less than anything, is refused too. A score is in reach.
    if not bool((np.abs(tables[wanted]) <= _OUTSIDE * size_px).all()):
        raise InferenceFailedError(f"face_detect: faces are far outside of the picture; {_ADVICE}")
    wanted &= (tables[:, :, 2] > tables[:, :, 0]) & (tables[:, :, 3] > tables[:, :, 1])
    return tables[wanted], wanted.sum(axis=1)


def refuse_odd_vectors(vectors: FloatArray) -> None:
    """Checks embeddings.

    Raises:
        InferenceFailedError: One has a value that is no number, or enormous.
    """
    if not bool((np.abs(vectors) <= _LARGEST).all()):
        raise InferenceFailedError(f"face_reid: embeddings are not finite numbers; {_ADVICE}")

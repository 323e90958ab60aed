"""Whether a model of somebody else's keeps the contract, tensors and numbers (docs/models.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dualface_client.errors import AssetError
from dualface_client.triton.description import DETECTOR_COLUMNS, FACE_DETECT, ModelSpec
from dualface_client.triton.onnx_file import load_model, spec_of_model

_SCORE = 4
#: How far a row may differ when another one is in the batch: kernels differ by batch size.
_BATCH_TOLERANCE = 1e-3
_LENGTH_TOLERANCE = 1e-3


def check_model(path: Path, spec: ModelSpec) -> ModelSpec:
    """Loads an ONNX file, compares its tensors and runs it on noise.

    Args:
        path: The file.
        spec: What it should be.

    Returns:
        The description with the detector's input size as found.

    Raises:
        AssetError: It does not keep the contract; the message says in what.
        PlatformError: ONNX Runtime is not installed.
    """
    session = load_model(path)
    found = spec_of_model(path, session, spec)
    pixels = np.random.default_rng(7).integers(0, 256, (2, *found.input.dims), np.uint8)
    both = _answer(path, session, found, pixels)
    alone = np.concatenate([_answer(path, session, found, one[np.newaxis]) for one in pixels])
    if problem := _wrong_numbers(found, both) or _differs(both, alone):
        raise AssetError(f"{path}: as {spec.name}: {problem}")
    return found


def _answer(
    path: Path, session: Any, spec: ModelSpec, pixels: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    try:
        rows = np.asarray(session.run([spec.output.name], {spec.input.name: pixels})[0])
    except Exception as error:  # ONNX Runtime raises a class of its own for each status
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AssetError(
            f"{path}: as {spec.name}: fails with a batch of {len(pixels)}: {reason}"
        ) from error
    wanted = (len(pixels), *spec.output.dims)
    if rows.shape != wanted:
        raise AssetError(
            f"{path}: as {spec.name}: answers {rows.shape} to a batch of {len(pixels)}, expected "
            f"{wanted}"
        )
    return rows.astype(np.float32)


def _differs(both: npt.NDArray[np.float32], alone: npt.NDArray[np.float32]) -> str:
    off = float(np.abs(both - alone).max() / max(1.0, float(np.abs(alone).max())))
    if off <= _BATCH_TOLERANCE:
        return ""
    return (
        f"an item's answer depends on the others of its batch (by {off:.2g} of the largest "
        "number): take the batch out of every reduction"
    )


def _wrong_numbers(spec: ModelSpec, rows: npt.NDArray[np.float32]) -> str:
    if not np.isfinite(rows).all():
        return "its answer has numbers that are not finite"
    if spec.name != FACE_DETECT.name:
        return _wrong_lengths(np.linalg.norm(rows, axis=-1))
    scores = rows[..., _SCORE]
    if scores.min() < 0.0 or scores.max() > 1.0:
        return (
            f"scores (column {_SCORE} of {DETECTOR_COLUMNS}) go from {scores.min():.3g} to "
            f"{scores.max():.3g}, expected 0 to 1"
        )
    is_sorted = (np.diff(scores, axis=-1) <= 0).all()
    return "" if is_sorted else "its rows are not sorted by score, best first"


def _wrong_lengths(lengths: npt.NDArray[np.floating[Any]]) -> str:
    if np.abs(lengths - 1.0).max() <= _LENGTH_TOLERANCE:
        return ""
    return (
        f"embeddings have lengths from {lengths.min():.3g} to {lengths.max():.3g}, expected 1: "
        "normalise them (L2) in the graph"
    )

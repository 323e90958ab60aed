"""Face detection and face ReID as calls on pictures; pixels go through leased slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dualface_client.triton.client import PendingInference
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.triton.session import Session
from dualface_client.types import Faces, FloatArray, Letterbox, Nv12Image


def _nothing() -> None:
    """Pixel work on the host is done when its call returns."""


class ModelImaging(Protocol):
    """The pixel work that models need; `pipeline.parts.Imaging` has more."""

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: Any
    ) -> None:
        """Fills a detector input of several pictures."""

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: Any) -> None:
        """Fills a ReID input."""


class DetectionRequest:
    """Faces on their way. Made by `FaceDetector.submit`."""

    def __init__(
        self, pending: PendingInference, fits: Sequence[Letterbox], score_threshold: float
    ) -> None:
        self._pending = pending
        self._fits = fits
        self._score_threshold = score_threshold

    def result(self) -> list[Faces]:
        """Waits for the answer.

        Returns:
            Faces of each picture, in source pixels, best score first.

        Raises:
            ServerError: The request failed or got no answer in time.
        """
        tables = self._pending.result()
        return [
            faces_from_table(table, fit, self._score_threshold)
            for table, fit in zip(tables, self._fits, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """What a model's calls work with.

    Attributes:
        session: Open session with slots for the model.
        imaging: Pixel work of the pictures' device.
        timeout_s: How long to wait for a free slot, and again for an answer.
        synchronize: Waits until the calling thread's pixel work is done, so that the server finds
            the pixels in the slot.
    """

    session: Session
    imaging: ModelImaging
    timeout_s: float = 60.0
    synchronize: Callable[[], None] = _nothing


class FaceDetector:
    """Sends pictures to `face_detect`; thread-safe, shared by a worker's streams.

    Args:
        access: To the model.
        score_threshold: Faces below it are left out, 0 to 1.
    """

    def __init__(self, access: ModelAccess, score_threshold: float) -> None:
        self._access = access
        self._score_threshold = score_threshold
        height, width, _ = access.session.models[FACE_DETECT.name].spec.input.dims
        self._input_wh_px = width, height

    def submit(self, images: Sequence[Nv12Image]) -> DetectionRequest:
        """Letterboxes the pictures into one slot and sends one request.

        Args:
            images: At least one, at most the slot's batch.

        Raises:
            LeaseTimeoutError: No slot came free.
            ServerError: The request cannot be sent.
        """
        name = FACE_DETECT.name
        fits = [
            Letterbox.fit((image.width_px, image.height_px), self._input_wh_px) for image in images
        ]
        access, session = self._access, self._access.session
        with session.lease(name, access.timeout_s, "detect") as lease:
            pixels = session.input_array(name, lease, len(images))
            access.imaging.letterbox(images, fits, pixels)
            access.synchronize()
            pending = session.infer_async(name, lease, len(images), access.timeout_s)
        return DetectionRequest(pending, fits, self._score_threshold)


class FaceEmbedder:
    """Sends aligned faces to `face_reid`; thread-safe, shared by a worker's streams.

    Args:
        access: To the model.
        batch: Faces of one request at most; more are sent in several.
    """

    def __init__(self, access: ModelAccess, batch: int) -> None:
        self._access = access
        self._batch = batch

    @property
    def model_version(self) -> str:
        """Which model the server runs, as `NAME/VERSION`."""
        return f"{FACE_REID.name}/{self._access.session.models[FACE_REID.name].version}"

    def embed(self, image: Nv12Image, landmarks_px: FloatArray) -> FloatArray:
        """Embeds faces of one picture.

        Args:
            image: The picture.
            landmarks_px: Shape `(n, 5, 2)`, n at least 1, source pixels.

        Returns:
            Shape `(n, 128)` float32, each row of length 1.

        Raises:
            LeaseTimeoutError: No slot came free.
            ServerError: The request failed or got no answer in time.
        """
        requests = [
            self._send(image, landmarks_px[first : first + self._batch])
            for first in range(0, len(landmarks_px), self._batch)
        ]
        return np.concatenate([request.result() for request in requests])

    def _send(self, image: Nv12Image, landmarks_px: FloatArray) -> PendingInference:
        name, count = FACE_REID.name, len(landmarks_px)
        access, session = self._access, self._access.session
        with session.lease(name, access.timeout_s, "embed") as lease:
            chips = session.input_array(name, lease, count)
            for points, out_rgb in zip(landmarks_px, chips, strict=True):
                access.imaging.face_chip(image, points, out_rgb)
            access.synchronize()
            return session.infer_async(name, lease, count, access.timeout_s)


def faces_from_table(table: FloatArray, fit: Letterbox, score_threshold: float) -> Faces:
    """Reads the detector's table of one picture.

    Args:
        table: Shape `(64, 15)` float32: x1, y1, x2, y2, score, five landmarks as x, y; in
            letterboxed pixels, best score first.
        fit: How the picture was letterboxed.
        score_threshold: Rows below are left out.

    Returns:
        Faces in source pixels; landmarks may lie outside of the picture.
    """
    rows = table[table[:, 4] >= score_threshold]
    boxes = fit.to_source(rows[:, :4].reshape(-1, 2, 2)).reshape(-1, 4)
    landmarks = fit.to_source(rows[:, 5:].reshape(-1, 5, 2))
    return Faces(boxes, rows[:, 4].astype(np.float32), landmarks)

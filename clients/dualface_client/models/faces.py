"""Face detection and face ReID as calls on pictures; pixels go through leased slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from dualface_client.errors import InferenceFailedError, InferenceTimeoutError, ServerError
from dualface_client.models.plausible import plausible_faces, refuse_odd_vectors
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.triton.pending import Output, PendingInference
from dualface_client.triton.recovery import PASSING
from dualface_client.triton.session import Session
from dualface_client.types import Embeddings, Faces, FloatArray, Letterbox, Nv12Image

_MAX_RESENDS = 5
#: Columns of a detector's table that are places: two corners and five landmarks.
_POINTS = [column for column in range(15) if column != 4]
#: How often a wait checks whether the user wants to stop.
_LOOK_S = 0.5


class ModelImaging(Protocol):
    """The pixel work that models need; `stream.seams.Imaging` has more."""

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: Any
    ) -> None:
        """Fills a detector input of several pictures."""

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: Any) -> None:
        """Fills a ReID input."""

    def synchronize(self) -> None:
        """Waits until the work so far is done, so that the server finds the pixels."""


class _Request:
    """One request, sent again from its pictures if it fails for a passing reason."""

    def __init__(
        self,
        access: ModelAccess,
        model: str,
        count: int,
        fill: Callable[[Any], None],
        *,
        timeouts: int,
    ) -> None:
        """Sends it.

        Args:
            access: To the model.
            model: Its name.
            count: Items of the request.
            fill: Writes them into the slot's input, completely by the time it returns.
            timeouts: How often it is sent again if no answer comes in time.
        """
        self._access, self._model, self._count, self._fill = access, model, count, fill
        self._timeouts_left, self.resends = timeouts, 0
        self._pending = self._send()

    def _send(self) -> PendingInference:
        access, session = self._access, self._access.session
        with session.lease(self._model, access.timeout_s, self._model) as lease:
            self._fill(session.input_array(self._model, lease, self._count))
            return session.infer_async(
                self._model, lease, self._count, access.timeout_s, access.priority
            )

    def result(self) -> Output:
        """Waits for the output, shape `(count, *dims)`.

        Raises:
            ServerError: The request failed for good.
            StoppedError: The user wants to stop.
        """
        session = self._access.session
        while True:
            try:
                while not self._pending.wait(_LOOK_S):
                    session.check()
                    self._pending.refuse_overdue()
                return self._pending.result()
            except PASSING as error:
                if not self._may_be_sent_again(error):
                    raise
                session.recover(error, self._pending.epoch)
            self._pending = self._send()

    @property
    def model_version(self) -> str:
        """Version of the model that answered."""
        return self._pending.model_version

    def _may_be_sent_again(self, error: ServerError) -> bool:
        # A picture that kills the server must not be sent again endlessly.
        self.resends += 1
        self._timeouts_left -= isinstance(error, InferenceTimeoutError)
        return self.resends <= _MAX_RESENDS and self._timeouts_left >= 0


class DetectionRequest:
    """Faces on their way. Made by `FaceDetector.submit`."""

    def __init__(
        self, request: _Request, fits: Sequence[Letterbox], score_threshold: float
    ) -> None:
        self._request = request
        self._fits = fits
        self._score_threshold = score_threshold

    @property
    def resends(self) -> int:
        """How often the pictures had to be sent again so far."""
        return self._request.resends

    def result(self) -> list[Faces]:
        """Waits for the answer.

        The pictures are sent again if the server went away meanwhile, and once if no answer came in
        time: a client or server that was suspended continues where it was.

        Returns:
            Faces of each picture, in source pixels, best score first.

        Raises:
            ServerError: The request failed, or got no answer in time again.
        """
        return faces_from_tables(self._request.result(), self._fits, self._score_threshold)


@dataclass(frozen=True, slots=True)
class ModelAccess:
    """What a model's calls work with.

    Attributes:
        session: Open session with slots for the model.
        timeout_s: How long to wait for a free slot, and again for an answer.
        priority: Of its requests at the server: `PRIORITY_LIVE`, or 0 for the server's default.
    """

    session: Session
    timeout_s: float = 60.0
    priority: int = 0


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

    def submit(self, images: Sequence[Nv12Image], imaging: ModelImaging) -> DetectionRequest:
        """Letterboxes the pictures into one slot and sends one request.

        Args:
            images: At least one, at most the slot's batch.
            imaging: Pixel work of the stream whose pictures they are.

        Raises:
            LeaseTimeoutError: No slot came free.
            ServerError: The request cannot be sent.
        """
        name = FACE_DETECT.name
        fits = [Letterbox.fit(image.size_wh_px, self._input_wh_px) for image in images]

        def fill(pixels: Any) -> None:
            imaging.letterbox(images, fits, pixels)
            imaging.synchronize()

        request = _Request(self._access, name, len(images), fill, timeouts=1)
        return DetectionRequest(request, fits, self._score_threshold)


class FaceEmbedder:
    """Sends aligned faces to `face_reid`; thread-safe, shared by a worker's streams.

    Args:
        access: To the model.
        batch: Most faces in one request; more are sent in several.
    """

    def __init__(self, access: ModelAccess, batch: int) -> None:
        self._access = access
        self._batch = batch
        self._model_version = ""

    @property
    def model_version(self) -> str:
        """Version of the model that made the last embeddings, empty before the first."""
        return self._model_version

    def embed(
        self, image: Nv12Image, landmarks_px: FloatArray, imaging: ModelImaging
    ) -> Embeddings:
        """Embeds faces of one picture; all of them by one version of the model.

        If a new version goes into service between several requests, all of them are sent again.

        Args:
            image: The picture.
            landmarks_px: Shape `(n, 5, 2)`, n at least 1, source pixels.
            imaging: Pixel work of the stream whose picture it is.

        Raises:
            LeaseTimeoutError: No slot came free.
            ServerError: The request failed or got no answer in time.
        """
        for _ in range(_MAX_RESENDS):
            vectors, versions = self._embed(image, landmarks_px, imaging)
            if len(versions) == 1:
                self._model_version = f"{FACE_REID.name}/{versions.pop()}"
                return Embeddings(vectors, self._model_version)
        raise InferenceFailedError(
            f"{FACE_REID.name}: its version changed during {_MAX_RESENDS} attempts ({versions})"
        )

    def _embed(
        self, image: Nv12Image, landmarks_px: FloatArray, imaging: ModelImaging
    ) -> tuple[FloatArray, set[str]]:
        requests = [
            self._request(image, landmarks_px[first : first + self._batch], imaging)
            for first in range(0, len(landmarks_px), self._batch)
        ]
        vectors = np.concatenate([request.result() for request in requests])
        refuse_odd_vectors(vectors)
        return vectors, {request.model_version for request in requests}

    def _request(
        self, image: Nv12Image, landmarks_px: FloatArray, imaging: ModelImaging
    ) -> _Request:
        def fill(chips: Any) -> None:
            for points, out_rgb in zip(landmarks_px, chips, strict=True):
                imaging.face_chip(image, points, out_rgb)
            imaging.synchronize()

        return _Request(self._access, FACE_REID.name, len(landmarks_px), fill, timeouts=0)


def faces_from_tables(
    tables: FloatArray, fits: Sequence[Letterbox], score_threshold: float
) -> list[Faces]:
    """Reads the detector's tables of several pictures, all of them at once.

    Args:
        tables: Shape `(n, 64, 15)` float32: x1, y1, x2, y2, score, five landmarks as x, y; in
            letterboxed pixels, best score first.
        fits: How each picture was letterboxed.
        score_threshold: Rows below are left out.

    Returns:
        Faces of each picture in its own pixels; landmarks may lie outside of it.

    Raises:
        InferenceFailedError: A table holds what cannot be.
    """
    size_px = max(max(fit.width_px + 2 * fit.x_px, fit.height_px + 2 * fit.y_px) for fit in fits)
    rows, counts = plausible_faces(tables, size_px, score_threshold)
    of_picture = np.repeat(np.arange(len(fits)), counts)
    offsets, scales = _placement(fits)
    points = rows[:, _POINTS].reshape(-1, 7, 2) - offsets[of_picture]
    points /= scales[of_picture]
    boxes, landmarks, scores = points[:, :2].reshape(-1, 4), points[:, 2:], rows[:, 4].copy()
    ends = np.cumsum(counts).tolist()
    return [
        Faces(boxes[first:end], scores[first:end], landmarks[first:end])
        for first, end in zip((0, *ends[:-1]), ends, strict=True)
    ]


def _placement(fits: Sequence[Letterbox]) -> tuple[FloatArray, FloatArray]:
    """Offsets and scales as `Letterbox.to_source` needs them, each of shape `(n, 1, 2)`."""
    offsets = [[(fit.x_px, fit.y_px)] for fit in fits]
    scales = [[(fit.scale_x, fit.scale_y)] for fit in fits]
    return np.array(offsets, np.float32), np.array(scales, np.float32)

"""The exported models, run in this process, without Triton and without the client's own code path.

Tests, benchmarks and `verify_output.py` use it as the independent second opinion: it reads the
same ONNX files that the server serves, and does letterbox, alignment and decode by itself.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from dualface_client.errors import AssetError
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.types import (
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    Faces,
    FloatArray,
    Letterbox,
)

#: Two detections of one frame that overlap more than this (IoU) are the same face.
SAME_FACE_IOU = 0.4


def box_iou(box_xyxy: FloatArray, others_xyxy: FloatArray) -> FloatArray:
    """Intersection over union.

    Args:
        box_xyxy: Shape `(4,)`.
        others_xyxy: Shape `(n, 4)`.

    Returns:
        Shape `(n,)`, 0 to 1.
    """
    low = np.maximum(box_xyxy[:2], others_xyxy[:, :2])
    high = np.minimum(box_xyxy[2:], others_xyxy[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(box_xyxy[2:] - box_xyxy[:2])
    areas = np.prod(others_xyxy[:, 2:] - others_xyxy[:, :2], axis=1)
    return np.asarray(common / np.maximum(area + areas - common, 1e-6), np.float32)


def similarity_to_template(landmarks_px: FloatArray) -> FloatArray:
    """Least-squares rotation, uniform scale and shift that takes five landmarks to the chip.

    With `x' = a x - b y + c` and `y' = b x + a y + d` the four unknowns are linear.

    Args:
        landmarks_px: Shape `(5, 2)`, in the picture.

    Returns:
        Shape `(2, 3)`, float32: picture to chip.
    """
    x, y = np.asarray(landmarks_px, np.float64).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = np.concatenate(
        [np.stack([x, -y, one, zero], axis=1), np.stack([y, x, zero, one], axis=1)]
    )
    target = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float64).T.ravel()
    a, b, c, d = np.linalg.lstsq(rows, target, rcond=None)[0]
    return np.array([[a, -b, c], [b, a, d]], np.float32)


class ReferenceModels:
    """Detector and ReID on ONNX Runtime's CPU provider.

    Args:
        models_dir: Holds `face_detect.onnx` and `face_reid.onnx`.
        threads: Threads per session.

    Raises:
        AssetError: A model file is missing.
    """

    def __init__(self, models_dir: Path, threads: int = 2) -> None:
        self._models_dir = models_dir
        self._threads = threads
        self._detector = self._open(FACE_DETECT.name)
        self._reid = self._open(FACE_REID.name)

    @property
    def detector_path(self) -> Path:
        """The detector's file, for keys of caches."""
        return self._models_dir / f"{FACE_DETECT.name}.onnx"

    def _open(self, name: str) -> ort.InferenceSession:
        path = self._models_dir / f"{name}.onnx"
        if not path.is_file():
            raise AssetError(f"model {path} is missing: run `make setup`")
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait slow everything else on a small machine.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def detect(self, bgr: ByteArray, min_score: float = 0.5) -> Faces:
        """Faces of one picture, best score first, one detection a face.

        Args:
            bgr: Shape `(height, width, 3)`, uint8.
            min_score: Detections below are dropped, 0 to 1.
        """
        height, width = bgr.shape[:2]
        target_h, target_w = FACE_DETECT.input.dims[:2]
        fit = Letterbox.fit((width, height), (target_w, target_h))
        canvas = np.zeros((1, target_h, target_w, 3), np.uint8)
        content = canvas[0, fit.y_px : fit.y_px + fit.height_px, fit.x_px : fit.x_px + fit.width_px]
        shrinks = fit.scale_x < 1
        resized = cv2.resize(
            bgr,
            (fit.width_px, fit.height_px),
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        content[:] = cv2.cvtColor(resized, cv2.COLOR_BGR2RGB)
        table = self._detector.run([FACE_DETECT.output.name], {FACE_DETECT.input.name: canvas})[0][
            0
        ]
        return _faces_of_table(np.asarray(table, np.float32), fit, min_score)

    def chip(self, bgr: ByteArray, landmarks_px: FloatArray) -> ByteArray:
        """The aligned face, `(112, 112, 3)` uint8 RGB, of a picture and `(5, 2)` landmarks."""
        height, width = FACE_REID.input.dims[:2]
        matrix = similarity_to_template(landmarks_px)
        warped = cv2.warpAffine(
            bgr, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(cv2.cvtColor(warped, cv2.COLOR_BGR2RGB), np.uint8)

    def embed(self, bgr: ByteArray, landmarks_px: FloatArray) -> FloatArray:
        """The embedding of one face.

        Args:
            bgr: Shape `(height, width, 3)`, uint8.
            landmarks_px: Shape `(5, 2)`, in the order of `Faces.landmarks_px`.

        Returns:
            Shape `(128,)`, float32, of length 1.
        """
        chip = self.chip(bgr, landmarks_px)[None]
        outputs = self._reid.run([FACE_REID.output.name], {FACE_REID.input.name: chip})
        return np.asarray(outputs[0][0], np.float32)


def _faces_of_table(table: FloatArray, fit: Letterbox, min_score: float) -> Faces:
    rows = table[table[:, 4] >= min_score]
    kept = _distinct(rows[:, :4])
    rows = rows[kept]
    count = len(rows)
    return Faces(
        fit.to_source(rows[:, :4].reshape(count, 2, 2)).reshape(count, 4),
        rows[:, 4].copy(),
        fit.to_source(rows[:, 5:15].reshape(count, 5, 2)),
    )


def _distinct(boxes_xyxy: FloatArray) -> list[int]:
    """Greedy suppression: a row survives if no better one covers it (rows come best first)."""
    kept: list[int] = []
    for row in range(len(boxes_xyxy)):
        if not kept or box_iou(boxes_xyxy[row], boxes_xyxy[kept]).max() < SAME_FACE_IOU:
            kept.append(row)
    return kept

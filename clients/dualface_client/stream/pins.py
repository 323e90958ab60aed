"""From `--pin SIDE=PHOTO` to a face that the tracker can compare."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from dualface_client.errors import UsageError
from dualface_client.imaging.photo import read_photo
from dualface_client.settings.kinds import cast_number
from dualface_client.settings.stream import StreamSettings
from dualface_client.settings.tracking import SideSettings, TrackingSettings
from dualface_client.stream.job import Job
from dualface_client.stream.seams import FaceDetector, FaceEmbedder, Imaging
from dualface_client.tracking.pins import Pin
from dualface_client.tracking.quality import face_quality
from dualface_client.types import Faces, Nv12Image, Side

#: In a photo made for the purpose, detections below this score do not count as faces.
_MIN_SCORE = 0.5


def check_photos(settings: StreamSettings, jobs: Sequence[Job]) -> None:
    """Refuses photos that cannot be read, before a server is started for them.

    Raises:
        UsageError: One cannot.
    """
    for each in (settings, *(job.settings for job in jobs if job.settings)):
        for side, photo in _photos(each.tracking.sides):
            _named(side, photo)


class PinnedPhotos:
    """Embeddings of photos, made once for each photo and version of the model; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[Side, Path, float], Pin] = {}

    def pins(
        self,
        settings: TrackingSettings,
        imaging: Imaging,
        detector: FaceDetector,
        embedder: FaceEmbedder,
    ) -> tuple[Pin, ...]:
        """The pins of a stream, from the models that look at the video.

        Args:
            settings: Their `sides` name the photos.
            imaging: Pixel work of the stream.
            detector: Of the session.
            embedder: Of the session.

        Raises:
            UsageError: A photo does not show exactly one usable face.
            ServerError: The models gave no answer.
        """
        least = settings.identity.min_quality
        found = []
        with self._lock:
            for side, photo in _photos(settings.sides):
                pin = self._known.get((side, photo, least))
                if pin is None or pin.model_version != embedder.model_version:
                    pin = _embed(side, photo, least, imaging, detector, embedder)
                    self._known[side, photo, least] = pin
                found.append(pin)
        return tuple(found)


def _embed(
    side: Side,
    photo: Path,
    min_quality: float,
    imaging: Imaging,
    detector: FaceDetector,
    embedder: FaceEmbedder,
) -> Pin:
    image = imaging.upload_tile(_named(side, photo))
    faces = detector.submit([image], imaging).result()[0]
    row = _the_face(faces, f"--pin {side.value}={photo}")
    sharpness = float(imaging.sharpness(image, faces.boxes_xyxy_px[[row]])[0])
    quality = face_quality(faces, row, image.size_wh_px, sharpness)
    if quality < min_quality:
        height = faces.boxes_xyxy_px[row, 3] - faces.boxes_xyxy_px[row, 1]
        raise UsageError(
            f"--pin {side.value}={photo}: expected one usable face, found one of "
            f"{height:.0f} px that is too small, cut off, turned away or blurred (quality "
            f"{quality:.2f}, at least {min_quality:g}); use another photo"
        )
    found = embedder.embed(image, faces.landmarks_px[row : row + 1], imaging)
    return Pin(side, str(photo), found.vectors[0], found.model_version)


def _photos(sides: SideSettings) -> list[tuple[Side, Path]]:
    pins = ((Side.LEFT, sides.pin_left), (Side.RIGHT, sides.pin_right))
    return [(side, Path(pin)) for side, pin in pins if pin and cast_number(pin) is None]


def _named(side: Side, photo: Path) -> Nv12Image:
    try:
        return read_photo(photo)
    except UsageError as error:
        raise UsageError(f"--pin {side.value}={error}") from error


def _the_face(faces: Faces, pin: str) -> int:
    """Row of the one face.

    Other detections count if they are certain: a poster behind the person is a face too.
    """
    rows = [row for row, score in enumerate(faces.scores.tolist()) if score >= _MIN_SCORE]
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise UsageError(f"{pin}: expected exactly one usable face, found none; use another photo")
    places = ", ".join(
        f"{x2 - x1:.0f}x{y2 - y1:.0f} px at {x1:.0f},{y1:.0f}"
        for x1, y1, x2, y2 in faces.boxes_xyxy_px[rows].tolist()
    )
    raise UsageError(
        f"{pin}: expected exactly one usable face, found {len(rows)} ({places}); "
        "crop the photo to one person"
    )

"""What the stream loop needs from a device: the three seams as protocols.

`video`, `imaging` and `memory` implement them once for the CPU and once for CUDA.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from dualface_client.types import (
    ByteArray,
    Embeddings,
    Faces,
    FloatArray,
    Frame,
    Letterbox,
    Nv12Image,
    Rect,
    TileLayout,
    VideoInfo,
    View,
)


class FrameSource(Protocol):
    """Where frames come from. Opened eagerly by its constructor, which raises `SourceError`."""

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream."""

    @property
    def decode_errors(self) -> int:
        """Packets or pictures that could not be decoded so far."""

    @property
    def is_short_to_read(self) -> bool:
        """Whether a frame takes so little of a thread that other streams can wait for it."""

    @property
    def incomplete(self) -> str:
        """What is missing of what the input promises, empty for nothing; known after the end."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the input so far, such as a truncated end."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames in presentation order; once only."""

    def close(self) -> None:
        """Releases everything; safe to call twice and from another thread."""


class Glimpses(Protocol):
    """Single pictures from anywhere in a file. Opened by its constructor, like a source."""

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream."""

    @property
    def key_times_s(self) -> tuple[float, ...]:
        """When key frames begin, seconds from the start, ascending; empty if nothing says so."""

    def at(self, time_s: float) -> Frame | None:
        """The picture at a time or near it, on the host; None at the end of the file.

        Raises:
            SourceError: It cannot be read.
        """

    def close(self) -> None:
        """Releases everything."""


class FrameSink(Protocol):
    """Where composed frames go."""

    @property
    def is_short_to_write(self) -> bool:
        """Whether a canvas takes so little of a thread that its stream can wait for it."""

    @property
    def partial_path(self) -> Path | None:
        """Path of the unfinished file; None once it has its final name or was removed."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know about the output so far."""

    def write(self, frame: Frame) -> None:
        """Takes one canvas; `pts` and `time_base` are the source's.

        Raises:
            SinkError: The output can no longer be written.
        """

    def close(self, stopped: Callable[[], bool] = ...) -> bool:
        """Finishes the file and gives it its final name.

        Args:
            stopped: Asked while finishing takes long; True ends it early, like `abort`.

        Returns:
            Whether the output is complete.
        """

    def abort(self) -> None:
        """Stops early and leaves what was written as a playable partial file."""


class LiveReporting(Protocol):
    """What is known of a live stream and not of a file."""

    def report(self, decoded: int, dropped: Mapping[str, int]) -> dict[str, Any]:
        """Fields of the stream's report.

        Args:
            decoded: Frames that the source has yielded.
            dropped: Those of them that were not written, by cause.
        """


class Imaging(Protocol):
    """Pixel work on one device."""

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: Any
    ) -> None:
        """Scales, pads with 0 and converts to RGB, into `out_rgb` `(n, height, width, 3)` uint8."""

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: Any) -> None:
        """Warps one face, given its five landmarks, into `out_rgb` `(112, 112, 3)` uint8."""

    def thumbnails(self, images: Sequence[Nv12Image]) -> Sequence[ByteArray]:
        """The pictures averaged to `(36, 64, 3)` uint8 Y, Cb, Cr on the host, for scene cuts."""

    def preview(self, image: Nv12Image) -> ByteArray:
        """Luma averaged to at most 320 px a side on the host, see `imaging.geometry.preview_wh`.

        Valid until 256 more were made.
        """

    def compose(
        self, images: Sequence[Nv12Image], views: Sequence[Sequence[View]], canvas: TileLayout
    ) -> list[Nv12Image]:
        """The canvases, each with one to three views of its picture."""

    def sharpness(self, image: Nv12Image, boxes_xyxy_px: FloatArray) -> FloatArray:
        """How sharp the faces in boxes `(n, 4)` are, shape `(n,)`; see `imaging.sharpness`."""

    def copy_tile(self, canvas: Nv12Image, area: Rect) -> Nv12Image:
        """A copy of a part of a canvas, on the same device."""

    def put_tile(self, canvas: Nv12Image, area: Rect, tile: Nv12Image) -> None:
        """Replaces a part of a canvas with a picture of its size on the same device."""

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        """A host picture on this device."""

    def synchronize(self) -> None:
        """Waits until all pixel work so far is done."""


class PendingFaces(Protocol):
    """A detection on its way."""

    @property
    def resends(self) -> int:
        """How often it had to be sent again because the server went away."""

    def result(self) -> list[Faces]:
        """Faces of each submitted picture, in order.

        Raises:
            ServerError: The request failed or got no answer in time.
        """


class FaceDetector(Protocol):
    """Finds faces, asynchronously."""

    def submit(self, images: Sequence[Nv12Image], imaging: Imaging) -> PendingFaces:
        """Copies the pictures into shared memory and sends one request."""


class FaceEmbedder(Protocol):
    """Turns faces into vectors that distinguish people."""

    @property
    def model_version(self) -> str:
        """Version of the model that made the last embeddings, empty before the first."""

    def embed(self, image: Nv12Image, landmarks_px: FloatArray, imaging: Imaging) -> Embeddings:
        """Embeds faces of one picture.

        Args:
            image: The picture.
            landmarks_px: Shape `(n, 5, 2)`, source pixels.
            imaging: Pixel work of the picture's stream.

        Raises:
            ServerError: The request failed or got no answer in time.
        """

"""Between host and GPU, if PyAV decodes or encodes because NVIDIA's video engines cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualface_client.cuda.stream import CudaStream
from dualface_client.types import ByteArray, Frame, Nv12Image, VideoInfo
from dualface_client.video.device_frames import DeviceFrames
from dualface_client.video.null_sink import HostSink

_PINNED = 4
FRAMES_LIMIT = 64
_DEVICE_TO_HOST = 2  # cudaMemcpyKind


class _Pinned:
    """One page-locked host buffer with the event behind its last copy."""

    def __init__(self, stream: CudaStream, byte_size: int) -> None:
        self.pixels: ByteArray = np.frombuffer(
            stream.cupy.cuda.alloc_pinned_memory(byte_size), np.uint8, byte_size
        )
        self.done: Any = None

    @property
    def address(self) -> int:
        return int(self.pixels.ctypes.data)

    def wait(self) -> None:
        if self.done is not None:
            self.done.wait()


class HostSource(Protocol):
    """What an `UploadingSource` reads: a source of host pictures."""

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream."""

    @property
    def decode_errors(self) -> int:
        """Packets or pictures that could not be decoded so far."""

    @property
    def incomplete(self) -> str:
        """What is missing, empty for nothing; known after the end."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong so far without ending the stream."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames in presentation order; once only."""

    def close(self) -> None:
        """Ends the iteration."""


class UploadingSource:
    """Frames of another source in GPU memory, for what NVDEC cannot decode.

    Those that are there already pass.
    """

    def __init__(
        self,
        source: HostSource,
        stream: CudaStream,
        *,
        why: str = "",
        frames_limit: int = FRAMES_LIMIT,
    ) -> None:
        """Takes a source over.

        Args:
            source: Opened, not yet iterated; closed with this one.
            stream: Where every use of the frames must be queued.
            why: The reason, added to the notes; empty for none.
            frames_limit: Frames that may be held at once.
        """
        self._source = source
        self._stream = stream
        notes = (f"decoded on the CPU: {why}",) if why else ()
        self._info = replace(source.info, notes=(*source.info.notes, *notes))
        self._closing = threading.Event()
        self._ring = DeviceFrames(stream, (self._info.width_px, self._info.height_px), frames_limit)
        self._pinned = [_Pinned(stream, self._ring.byte_size) for _ in range(_PINNED)]

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream."""
        return self._info

    @property
    def decode_errors(self) -> int:
        """Packets or pictures that could not be decoded so far."""
        return self._source.decode_errors

    @property
    def is_short_to_read(self) -> bool:
        """False: the CPU decodes."""
        return False

    @property
    def incomplete(self) -> str:
        """What is missing of what the file promises, empty for nothing; known after the end."""
        return self._source.incomplete

    @property
    def warnings(self) -> tuple[str, ...]:
        """What went wrong so far without ending the stream."""
        return self._source.warnings

    def __iter__(self) -> Iterator[Frame]:
        """Frames in presentation order; once only."""
        for frame in self._source:
            if not isinstance(frame.image.y, np.ndarray):
                yield frame
                continue
            image = self._upload(frame)
            if image is None:
                return
            yield replace(frame, image=image)

    def close(self) -> None:
        """Releases the file; frames that are held stay valid."""
        self._closing.set()
        self._source.close()

    def _upload(self, frame: Frame) -> Nv12Image | None:
        pinned = self._pinned[frame.index % _PINNED]
        pinned.wait()
        luma = frame.image.y.size
        pinned.pixels[:luma] = frame.image.y.reshape(-1)
        pinned.pixels[luma:] = frame.image.uv.reshape(-1)
        image = self._ring.upload(pinned.address, frame.image.color, self._closing)
        pinned.done = self._stream.record()
        return image


class DownloadingSink:
    """Copies canvases to the host for an encoder there: x264 on a GPU without NVENC."""

    def __init__(self, sink: HostSink, stream: CudaStream) -> None:
        """Takes a sink over.

        Args:
            sink: Must not keep a frame's pixels after `write`.
            stream: Where the canvases are made.
        """
        self._sink = sink
        self._stream = stream
        self._pinned: _Pinned | None = None

    @property
    def frame_count(self) -> int:
        """Frames taken so far."""
        return self._sink.frame_count

    @property
    def is_short_to_write(self) -> bool:
        """False: the canvas is copied and encoded."""
        return False

    @property
    def partial_path(self) -> Path | None:
        """Path of the unfinished file, None once it has its final name or was removed."""
        return self._sink.partial_path

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was changed, for the user."""
        return self._sink.warnings

    def write(self, frame: Frame) -> None:
        """Copies one device canvas and encodes it.

        Raises:
            SinkError: The output can no longer be written.
        """
        image = frame.image
        width, height = image.size_wh_px
        luma, chroma = width * height, width * height // 2
        if self._pinned is None or len(self._pinned.pixels) != luma + chroma:
            self._pinned = _Pinned(self._stream, luma + chroma)
        pinned = self._pinned
        for plane, at, size in ((image.y, 0, luma), (image.uv, luma, chroma)):
            self._stream.cupy.cuda.runtime.memcpyAsync(
                pinned.address + at, plane.data.ptr, size, _DEVICE_TO_HOST, self._stream.handle
            )
        self._stream.finish()
        host = Nv12Image(
            pinned.pixels[:luma].reshape(height, width),
            pinned.pixels[luma:].reshape(height // 2, width // 2, 2),
            image.color,
        )
        self._sink.write(replace(frame, image=host))

    def close(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Finishes the file and gives it its final name; returns whether it is complete."""
        return self._sink.close(stopped)

    def abort(self) -> None:
        """Stops early and leaves what was written as a playable partial file."""
        self._sink.abort()

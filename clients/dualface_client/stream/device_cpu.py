"""The parts for a machine without a GPU: PyAV, OpenCV, x264."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import cv2

from dualface_client.errors import UsageError
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.settings.stream import OutputSettings
from dualface_client.stream.device import Device, StreamDevice
from dualface_client.stream.job import Job
from dualface_client.stream.seams import FrameSink, FrameSource
from dualface_client.stream.x264 import open_x264
from dualface_client.types import VideoInfo
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.null_sink import NullSink
from dualface_client.video.source import PyavSource


class CpuStream(StreamDevice):
    """One stream on the host.

    Args:
        decoder_threads: FFmpeg's decoding threads; 0 leaves it to FFmpeg.
    """

    def __init__(self, decoder_threads: int = 0) -> None:
        self._decoder_threads = decoder_threads
        self.imaging = CpuImaging()

    def open_source(self, path: Path, video_track: int | None = None) -> FrameSource:
        """Opens a video with PyAV.

        Raises:
            SourceError: It cannot be read.
        """
        threads = self._decoder_threads or "auto"
        return PyavSource(path, threads=threads, video_track=video_track)

    def open_sink(
        self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
    ) -> FrameSink:
        """Opens an x264 output, or one that only counts.

        Raises:
            SinkError: It cannot be written.
            UsageError: It exists and must not be replaced, or the encoder is unknown.
        """
        if output.encoder == "none" or job.output is None:
            return NullSink()
        if output.encoder not in ("auto", "x264"):
            raise UsageError(
                f"encoder {output.encoder!r}: a machine without an NVIDIA encoder has "
                "'x264' and 'none'"
            )
        return open_x264(job.output, job.input, info, output, disk_wait)


class CpuDevice(Device):
    """Lends shares of the host.

    Args:
        decoder_threads: FFmpeg's decoding threads of one stream; 0 leaves it to FFmpeg.
    """

    def __init__(self, decoder_threads: int = 0) -> None:
        self._decoder_threads = decoder_threads
        # Streams already run in parallel; OpenCV's own threads would compete with the models.
        cv2.setNumThreads(1)

    def lend_stream(self) -> AbstractContextManager[StreamDevice]:
        """A share for one stream; there is nothing to give back."""
        return nullcontext(CpuStream(self._decoder_threads))

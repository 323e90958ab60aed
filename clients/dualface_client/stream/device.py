"""What a device does for a worker and its streams; CPU and GPU are separate modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from dualface_client.memory.region import Region, SystemRegion
from dualface_client.settings.stream import OutputSettings
from dualface_client.stream.job import Job
from dualface_client.stream.seams import FrameSink, FrameSource, Glimpses, Imaging
from dualface_client.types import Nv12Image, VideoInfo
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.live_decoding import DeviceDecoder
from dualface_client.video.null_sink import HostSink


class StreamDevice(ABC):
    """One stream's share of a device: its pixel work, its source and its sink.

    Attributes:
        imaging: Pixel work on this stream's pictures.
    """

    imaging: Imaging

    def make_current(self) -> None:  # noqa: B027 - the host needs nothing
        """Prepares the calling thread for this share's pixel work."""

    def download(self, image: Nv12Image) -> Nv12Image:
        """A picture on the host, with pixels of its own."""
        return Nv12Image(image.y.copy(), image.uv.copy(), image.color)

    @abstractmethod
    def open_source(self, path: Path, video_track: int | None = None) -> FrameSource:
        """Opens a video; `video_track` counts from 1, None leaves the choice to the file.

        Raises:
            SourceError: It cannot be read.
        """

    def open_glimpses(self, path: Path, video_track: int | None = None) -> Glimpses:
        """Opens a video for a look at single pictures, which are on the host.

        Raises:
            SourceError: It cannot be read.
        """
        from dualface_client.video.glimpses import Glimpses as PyavGlimpses

        return PyavGlimpses(path, video_track)

    def live_decoder(self, tell: Callable[[str], None]) -> DeviceDecoder | None:
        """Decodes a live input on this device where it can; None if it never can.

        Args:
            tell: Hears why the CPU decodes, where that will not be over soon.
        """
        return None

    def rehearse_decoding(self) -> None:  # noqa: B027 - the host's decoders open at once
        """Has made what `live_decoder` makes the first time.

        Raises:
            Exception: It cannot be; the stream itself will say why.
        """

    def to_device(self, source: FrameSource) -> FrameSource:
        """Frames of a live input, where this device's pixel work can read them."""
        return source

    def to_host(self, sink: HostSink) -> FrameSink:
        """A sink that takes this device's canvases, in front of one that takes host pictures."""
        return sink

    @abstractmethod
    def open_sink(
        self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
    ) -> FrameSink:
        """Opens the job's output; `disk_wait` is its patience with a full disk.

        Raises:
            SinkError: It cannot be written.
            UsageError: It exists and must not be replaced.
        """


class Device(ABC):
    """Creates what depends on the device; one subclass each for CPU and CUDA."""

    @abstractmethod
    def lend_stream(self) -> AbstractContextManager[StreamDevice]:
        """A share for one stream, while the body runs.

        Raises:
            PlatformError: The device cannot be used.
        """

    def make_region(self, byte_size: int) -> Region:
        """Memory for the models' inputs, where this device's pixel work can write.

        Raises:
            MemoryRegionError: There is not that much memory.
        """
        return SystemRegion(byte_size)

    @property
    def outputs_in_region(self) -> bool:
        """Whether the host can read answers from the region; if not, they get one of their own."""
        return True

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether an error says that this device's memory is full."""
        return isinstance(error, MemoryError)

    def free_caches(self) -> None:  # noqa: B027 - the host keeps none
        """Returns memory that is kept for later to the device."""

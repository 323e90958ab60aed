"""The parts for a machine with an NVIDIA GPU: NVDEC, CUDA kernels and memory, NVENC or x264."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2

from dualface_client.cuda.stream import CudaStream, load_codec, load_cupy, why_no_context
from dualface_client.errors import PlatformError
from dualface_client.extras import INSTALL_GPU
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.device import Device, StreamDevice
from dualface_client.stream.device_source import DeviceSource
from dualface_client.stream.job import Job
from dualface_client.stream.load import frames_held
from dualface_client.stream.rehearsal import USUAL_SIZE_WH
from dualface_client.stream.seams import FrameSink, FrameSource
from dualface_client.stream.x264 import open_x264
from dualface_client.triton.description import FACE_DETECT
from dualface_client.types import (
    Nv12Image,
    VideoInfo,
)
from dualface_client.video import live_nvdec
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.live_device import LiveDevice
from dualface_client.video.null_sink import HostSink, NullSink
from dualface_client.video.nvdec import NvdecSource, NvdecUnsupportedError
from dualface_client.video.nvenc import NvencSink, nvenc
from dualface_client.video.source import PyavSource
from dualface_client.video.upload import FRAMES_LIMIT, DownloadingSink, UploadingSource

#: CuPy's class, the runtime's and the driver's error names, and what PyNvVideoCodec's text says.
_FULL = re.compile(
    r"OutOfMemory|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|out of memory", re.IGNORECASE
)
#: This many streams keep the server busy with one request of each under way: measured with 16,
#: assumed for eight.
MANY_STREAMS = 8
_FRAMES_UNDER_WAY = FACE_DETECT.max_batch_size
_DRIVER = "libcuda.so.1"
_PACKAGES = ("cupy", "PyNvVideoCodec")


def why_not_cuda(*, embedded_server: bool, look_at_gpu: bool = True) -> str | None:
    """Why `--device cuda` does not work here, None if it does.

    Args:
        embedded_server: Whether the models run here too, not in a server that is already running.
        look_at_gpu: Whether the GPU itself is tried.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: {INSTALL_GPU}"
    try:
        load_cupy()
        load_codec()
    except PlatformError as error:
        return str(error)
    if look_at_gpu and (reason := why_no_context()):
        return reason
    return _why_no_models() if embedded_server else None


def why_no_cuda_server() -> str | None:
    """Why the embedded server cannot use a GPU of this machine, None if it can."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:  # the answer
        return f"this machine has no NVIDIA driver ({_DRIVER} cannot be loaded)"
    return _why_no_models()


def _why_no_models() -> str | None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return None
    return f"this ONNX Runtime {onnxruntime.__version__} was built without CUDA: {INSTALL_GPU}"


def for_cuda(
    settings: StreamSettings,
    streams: int,
    detector_batch: int = FACE_DETECT.max_batch_size,
    *,
    mps: bool = False,
) -> StreamSettings:
    """Settings with several frames of a file in one request, unless the user said how many.

    Every frame is looked at, unless the user said otherwise: the detector is not what limits a GPU.

    The embedded server copies each request in a turn of its own on the GPU, so a few large ones are
    faster. A stream with only one request has to wait for it, which many streams at a time make up
    for. Under MPS nobody waits for a turn, and half as large ones take less memory and time.

    Args:
        settings: Of the run.
        streams: How many run at a time.
        detector_batch: Frames that the detector takes in one request.
        mps: Whether the processes use the GPU side by side.
    """
    detection = replace(settings.detection, every=settings.detection.every or 1)
    settings = replace(settings, detection=detection)
    if detection.frames_per_request is not None:
        return settings
    in_flight = detection.requests_in_flight
    frames = min(_FRAMES_UNDER_WAY // 2, detector_batch)
    if streams >= MANY_STREAMS and mps:
        in_flight = in_flight or 1
    elif streams >= MANY_STREAMS and detector_batch >= _FRAMES_UNDER_WAY:
        frames, in_flight = _FRAMES_UNDER_WAY, in_flight or 1
    return replace(
        settings,
        detection=replace(detection, frames_per_request=frames, requests_in_flight=in_flight),
    )


def open_device_source(
    path: str | Path,
    stream: CudaStream,
    *,
    frames_limit: int = FRAMES_LIMIT,
    video_track: int | None = None,
) -> DeviceSource | UploadingSource:
    """Decodes on the GPU if possible, else on the CPU with a note that says why.

    Where the size changes in the middle, the CPU decodes the rest.

    Args:
        path: A regular file.
        stream: Where frames are produced, and where every use of them must be queued.
        frames_limit: Frames that may be held at once.
        video_track: Number of the video track, from 1; None for the one that players show.

    Raises:
        SourceError: The file cannot be read.
        PlatformError: PyNvVideoCodec or CuPy is missing.
    """

    def on_cpu(why: str) -> UploadingSource:
        source = PyavSource(path, video_track=video_track)
        return UploadingSource(source, stream, why=why, frames_limit=frames_limit)

    try:
        source = NvdecSource(path, stream, frames_limit=frames_limit, video_track=video_track)
    except NvdecUnsupportedError as error:
        return on_cpu(str(error).removeprefix(f"{path}: "))
    return DeviceSource(source, on_cpu)


class CudaStreamDevice(StreamDevice):
    """One stream on a GPU: everything of it is queued on one CUDA stream.

    Args:
        frames_limit: Frames that the stream holds at once.
        device_id: Index of the GPU as CUDA counts them.

    Raises:
        PlatformError: CuPy or the GPU cannot be used.
    """

    def __init__(self, frames_limit: int, device_id: int) -> None:
        self._frames_limit = frames_limit
        self._stream = CudaStream(device_id)
        self.imaging: CudaImaging = CudaImaging(self._stream)
        self.imaging.warm_up()

    def make_current(self) -> None:
        """Makes the GPU the calling thread's, which need not be the one that made this."""
        self._stream.make_current()

    def download(self, image: Nv12Image) -> Nv12Image:
        """A picture on the host; waits for the CUDA stream."""
        with self._stream:
            asnumpy = self._stream.cupy.asnumpy
            return Nv12Image(asnumpy(image.y), asnumpy(image.uv), image.color)

    def open_source(self, path: Path, video_track: int | None = None) -> FrameSource:
        """Opens a video with NVDEC, or with PyAV if NVDEC cannot decode it.

        Raises:
            SourceError: It cannot be read.
        """
        limit = self._frames_limit
        return open_device_source(path, self._stream, frames_limit=limit, video_track=video_track)

    def live_decoder(self, tell: Callable[[str], None]) -> LiveDevice:
        """NVDEC, for a live input that it can decode.

        Args:
            tell: Hears why the CPU decodes.
        """
        return LiveDevice(live_nvdec.NvdecEngine(self._stream, self._frames_limit), tell)

    def rehearse_decoding(self) -> None:
        """Opens NVDEC and makes pictures of the size that most cameras send.

        Raises:
            Exception: It cannot be done.
        """
        live_nvdec.rehearse(self._stream, USUAL_SIZE_WH)

    def to_device(self, source: FrameSource) -> FrameSource:
        """Uploads the frames that `live_decoder` has not decoded."""
        return UploadingSource(source, self._stream, frames_limit=self._frames_limit)

    def to_host(self, sink: HostSink) -> FrameSink:
        """Downloads the canvases for x264, which encodes live streams."""
        return DownloadingSink(sink, self._stream)

    def open_sink(
        self, job: Job, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
    ) -> FrameSink:
        """Opens an NVENC output, an x264 one, or one that only counts.

        Raises:
            PlatformError: NVENC was asked for and the GPU has none.
            SinkError: It cannot be written.
            UsageError: It exists and must not be replaced.
        """
        if output.encoder == "none" or job.output is None:
            return NullSink()
        note = ""
        if output.encoder != "x264":
            try:
                wh_px = output.tile_layout.canvas_wh_px
                return NvencSink(
                    job.output,
                    info,
                    wh_px,
                    nvenc(wh_px, info.frame_rate, self._stream),
                    audio_from=job.input,
                    audio=output.audio,
                    overwrite=output.overwrite,
                    disk_wait=disk_wait,
                )
            except PlatformError as error:
                if output.encoder == "nvenc":
                    raise
                note = f"encoded by x264 on the CPU: {error}"
        sink = open_x264(job.output, job.input, info, output, disk_wait)
        return _NotedSink(sink, self._stream, note)


class CudaDevice(Device):
    """Lends shares of one GPU and reuses them, as creating one loads kernels and runs them once.

    Args:
        settings: Of the streams; they say how many frames one holds.
        device_id: Index of the GPU as CUDA counts them.
    """

    def __init__(self, settings: StreamSettings, device_id: int = 0) -> None:
        self._frames_limit = frames_held(settings)
        self._device_id = device_id
        self._idle: deque[CudaStreamDevice] = deque()
        # The look at the previews is small work for many streams: OpenCV's own threads would wait
        # for it in circles on every core.
        cv2.setNumThreads(1)

    @contextmanager
    def lend_stream(self) -> Iterator[StreamDevice]:
        """A share for one stream, with a CUDA stream of its own.

        Raises:
            PlatformError: CuPy or the GPU cannot be used.
        """
        try:
            lent = self._idle.pop()
        except IndexError:  # all are lent
            lent = CudaStreamDevice(self._frames_limit, self._device_id)
        lent.make_current()
        try:
            yield lent
        finally:
            self._idle.append(lent)

    def make_region(self, byte_size: int) -> CudaRegion:
        """GPU memory that Triton maps.

        Raises:
            MemoryRegionError: The GPU does not have that much free memory, or cannot export it.
        """
        return CudaRegion(byte_size, self._device_id)

    @property
    def outputs_in_region(self) -> bool:
        """False: boxes and embeddings are needed on the host, and go to a small region there."""
        return False

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether CuPy, CUDA's runtime or PyNvVideoCodec found the GPU's memory full."""
        found: BaseException | None = error
        while found is not None:
            text = f"{type(found).__name__}: {found}"
            if isinstance(found, MemoryError) or _FULL.search(text):
                return True
            found = found.__cause__ or found.__context__
        return False

    def free_caches(self) -> None:
        """Returns the blocks that CuPy and idle shares keep for later to the driver."""
        cupy = load_cupy()
        for idle in self._idle.copy():  # others are lent and given back meanwhile
            idle.imaging.free_canvases()
        gc.collect()  # frames in reference cycles are not free yet
        with cupy.cuda.Device(self._device_id):
            cupy.get_default_memory_pool().free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()


class _NotedSink(DownloadingSink):
    """x264 for canvases in GPU memory, with the reason."""

    def __init__(self, sink: HostSink, stream: CudaStream, note: str) -> None:
        super().__init__(sink, stream)
        self._note = (note,) if note else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was changed, and why x264 encodes."""
        return (*self._note, *super().warnings)

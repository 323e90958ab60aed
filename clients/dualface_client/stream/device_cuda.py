"""The parts of a machine with an NVIDIA GPU: NVDEC, CUDA kernels, CUDA memory, NVENC or x264."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualface_client.cuda.stream import CudaStream, load_codec, load_cupy
from dualface_client.errors import PlatformError
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.memory.cuda_region import CudaRegion
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.stream.device import Device
from dualface_client.stream.job import Job
from dualface_client.stream.load import frames_held
from dualface_client.stream.seams import FrameSink, FrameSource
from dualface_client.stream.x264 import open_x264
from dualface_client.triton.description import FACE_DETECT
from dualface_client.types import (
    ByteArray,
    CropPair,
    FloatArray,
    Letterbox,
    Nv12Image,
    Side,
    TileLayout,
    VideoInfo,
)
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.null_sink import NullSink
from dualface_client.video.nvdec import NvdecSource, NvdecUnsupportedError
from dualface_client.video.nvenc import NvencSink
from dualface_client.video.source import PyavSource
from dualface_client.video.upload import FRAMES_LIMIT, DownloadingSink, HostSink, UploadingSource

#: CuPy's class, the runtime's and the driver's error names, and what PyNvVideoCodec's text says.
_FULL = re.compile(
    r"OutOfMemory|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|out of memory", re.IGNORECASE
)
#: So many at a time keep the server busy with one request of each under way: measured with 16,
#: assumed for eight.
MANY_STREAMS = 8
_FRAMES_UNDER_WAY = FACE_DETECT.max_batch_size
_DRIVER = "libcuda.so.1"
_PACKAGES = ("cupy", "PyNvVideoCodec")
_INSTALL = "pip install 'dualface-client[run,gpu]' (and no plain onnxruntime beside it)"


def why_not_cuda(*, embedded_server: bool) -> str | None:
    """What keeps this machine from `--device cuda`, None for nothing.

    Args:
        embedded_server: Whether the models run here too, and not in a server that runs already.
    """
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: {_INSTALL}"
    try:
        CudaStream()
        load_codec()
    except PlatformError as error:
        return str(error)
    return _why_no_models() if embedded_server else None


def why_no_cuda_server() -> str | None:
    """What keeps the embedded server from a GPU of this machine, None for nothing."""
    try:
        ctypes.CDLL(_DRIVER)
    except OSError:
        return f"this machine has no NVIDIA driver ({_DRIVER} cannot be loaded)"
    return _why_no_models()


def _why_no_models() -> str | None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return None
    return f"this ONNX Runtime {onnxruntime.__version__} was built without CUDA: {_INSTALL}"


def for_cuda(
    settings: StreamSettings, streams: int, detector_batch: int = FACE_DETECT.max_batch_size
) -> StreamSettings:
    """Settings with several frames of a file in one request, where nobody has said how many.

    The embedded server copies each request in a turn of its own on the GPU, so few large ones are
    faster; but a stream waits for its only one, which many streams at a time make up for. By
    themselves both ways have 16 frames of a stream under way.

    Args:
        settings: Of the run.
        streams: That run at a time.
        detector_batch: Frames that the detector takes in one request.
    """
    detection = settings.detection
    if detection.frames_per_request is not None:
        return settings
    in_flight = detection.requests_in_flight
    frames = min(_FRAMES_UNDER_WAY // 2, detector_batch)
    if streams >= MANY_STREAMS and detector_batch >= _FRAMES_UNDER_WAY:
        frames, in_flight = _FRAMES_UNDER_WAY, in_flight or 1
    return replace(
        settings,
        detection=replace(detection, frames_per_request=frames, requests_in_flight=in_flight),
    )


def open_device_source(
    path: str | Path, stream: CudaStream, *, frames_limit: int = FRAMES_LIMIT
) -> NvdecSource | UploadingSource:
    """Decodes on the GPU where it can, else on the CPU with a note that says why.

    Args:
        path: A regular file.
        stream: Where frames are made, and where every use of them must be queued.
        frames_limit: Frames that may be held at once.

    Raises:
        SourceError: The file cannot be read.
        PlatformError: PyNvVideoCodec or CuPy is missing.
    """
    try:
        return NvdecSource(path, stream, frames_limit=frames_limit)
    except NvdecUnsupportedError as error:
        why = str(error).removeprefix(f"{path}: ")
        return UploadingSource(PyavSource(path), stream, why=why, frames_limit=frames_limit)


@dataclass(frozen=True, slots=True)
class _StreamParts:
    stream: CudaStream
    imaging: CudaImaging


class _ThreadsImaging:
    """Pixel work on the calling thread's CUDA stream.

    A video stream's loop has a thread of its own, and everything of it belongs on one CUDA stream;
    the models' calls, which streams share, reach it by the thread they are called on.
    """

    def __init__(self, parts: Callable[[], _StreamParts]) -> None:
        self._parts = parts

    def letterbox(
        self, images: Sequence[Nv12Image], fits: Sequence[Letterbox], out_rgb: object
    ) -> None:
        self._parts().imaging.letterbox(images, fits, out_rgb)

    def face_chip(self, image: Nv12Image, landmarks_px: FloatArray, out_rgb: object) -> None:
        self._parts().imaging.face_chip(image, landmarks_px, out_rgb)

    def thumbnail(self, image: Nv12Image) -> ByteArray:
        return self._parts().imaging.thumbnail(image)

    def compose(
        self, images: Sequence[Nv12Image], crops: Sequence[CropPair], layout: TileLayout
    ) -> list[Nv12Image]:
        return self._parts().imaging.compose(images, crops, layout)

    def sharpness(self, image: Nv12Image, box_xyxy_px: FloatArray) -> float:
        return self._parts().imaging.sharpness(image, box_xyxy_px)

    def copy_tile(self, canvas: Nv12Image, side: Side, layout: TileLayout) -> Nv12Image:
        return self._parts().imaging.copy_tile(canvas, side, layout)

    def put_tile(self, canvas: Nv12Image, side: Side, layout: TileLayout, tile: Nv12Image) -> None:
        self._parts().imaging.put_tile(canvas, side, layout, tile)

    def upload_tile(self, tile: Nv12Image) -> Nv12Image:
        return self._parts().imaging.upload_tile(tile)


class CudaDevice(Device):
    """Makes sources, sinks and pixel work on one GPU.

    A source, its sink and the loop between them belong to one thread, and through it to one CUDA
    stream.

    Args:
        settings: Of the run; they say how many frames a stream holds.
        device_id: Index of the GPU as CUDA counts them.
    """

    def __init__(self, settings: StreamSettings, device_id: int = 0) -> None:
        self._frames_limit = frames_held(settings)
        self._device_id = device_id
        self._threads = threading.local()
        self.imaging = _ThreadsImaging(self._parts)

    def _parts(self) -> _StreamParts:
        found: _StreamParts | None = getattr(self._threads, "parts", None)
        if found is None:
            stream = CudaStream(self._device_id)
            found = _StreamParts(stream, CudaImaging(stream))
            found.imaging.warm_up()
            self._threads.parts = found
        return found

    def make_region(self, byte_size: int) -> CudaRegion:
        """GPU memory that Triton maps.

        Raises:
            MemoryRegionError: The GPU has not that much memory free, or refuses to export it.
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
        """Gives the blocks that CuPy keeps for later back to the driver."""
        cupy = load_cupy()
        gc.collect()  # frames in reference cycles are not free yet
        with cupy.cuda.Device(self._device_id):
            cupy.get_default_memory_pool().free_all_blocks()
            cupy.get_default_pinned_memory_pool().free_all_blocks()

    def synchronize(self) -> None:
        """Waits for the calling thread's CUDA stream."""
        self._parts().stream.finish()

    def download(self, image: Nv12Image) -> Nv12Image:
        """A picture on the host; waits for the calling thread's CUDA stream."""
        stream = self._parts().stream
        with stream:
            y, uv = stream.cupy.asnumpy(image.y), stream.cupy.asnumpy(image.uv)
        return Nv12Image(y, uv, image.color)

    def open_source(self, path: Path) -> FrameSource:
        """Opens a video with NVDEC, or with PyAV where NVDEC cannot decode it.

        Raises:
            SourceError: It cannot be read.
        """
        return open_device_source(path, self._parts().stream, frames_limit=self._frames_limit)

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
                return NvencSink(
                    job.output,
                    info,
                    output.canvas_wh_px,
                    self._parts().stream,
                    audio_from=job.input,
                    overwrite=output.overwrite,
                    disk_wait=disk_wait,
                )
            except PlatformError as error:
                if output.encoder == "nvenc":
                    raise
                note = f"encoded by x264 on the CPU: {error}"
        sink = open_x264(job.output, job.input, info, output, disk_wait)
        return _NotedSink(sink, self._parts().stream, note)


class _NotedSink(DownloadingSink):
    """x264 for canvases in GPU memory, with the reason."""

    def __init__(self, sink: HostSink, stream: CudaStream, note: str) -> None:
        super().__init__(sink, stream)
        self._note = (note,) if note else ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was handled, and why x264 encodes."""
        return (*self._note, *super().warnings)

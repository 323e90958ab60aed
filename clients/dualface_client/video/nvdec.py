"""Frames from a video file through NVDEC; no pixel touches the host.

PyAV reads the container: it has the time stamps, the rotation and the error messages, and does not
hold Python's lock while it reads. PyNvVideoCodec's core decoder decodes on the stream's own CUDA
stream. A decoded picture is valid only until the next call, so it is copied, in stream order.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dualface_client.cuda.stream import CudaStream, load_codec
from dualface_client.errors import SourceError
from dualface_client.types import Frame, VideoInfo
from dualface_client.video import nvdec_engine
from dualface_client.video.annexb import AnnexbFilter, SizeWatch
from dualface_client.video.color import RANGE_FULL
from dualface_client.video.device_frames import DeviceFrames
from dualface_client.video.device_tones import DeviceTones
from dualface_client.video.ffmpeg import AV_ERRORS, source_error
from dualface_client.video.nvdec_engine import NO_PTS, first_line
from dualface_client.video.source import PyavSource

if TYPE_CHECKING:
    import av

_FATES_KEPT = 256  # of packets whose picture never came
_FRAMES_LIMIT = 64


class NvdecUnsupportedError(SourceError):
    """This GPU or this path cannot decode the file; PyAV can."""


class NvdecSizeChangedError(SourceError):
    """Pictures of another size follow, which PyAV can fit into the first one's."""


class NvdecSource(PyavSource):
    """A video file as upright NV12 frames in GPU memory; otherwise like `PyavSource`.

    The first picture is also decoded on the CPU, which shows what the frames will be.
    """

    def __init__(
        self,
        path: str | Path,
        stream: CudaStream,
        *,
        frames_limit: int = _FRAMES_LIMIT,
        video_track: int | None = None,
    ) -> None:
        """Opens the file and a decoder.

        Args:
            path: A regular file.
            stream: Where frames are decoded, and where every use of them must be queued.
            frames_limit: Frames that may be held at once; iteration waits for one to go.
            video_track: Number of the video track, from 1; None for the one that players show.

        Raises:
            NvdecUnsupportedError: NVDEC cannot decode it here; the message says why.
            SourceError: The file cannot be read.
            PlatformError: PyNvVideoCodec or CuPy is missing.
        """
        self._cuda = stream
        self._codec = load_codec()
        self._frames_limit = frames_limit
        self._refusal: str | None = None
        self._decoder: Any = None
        self._fates: dict[int, tuple[int, bool]] = {}  # by PTS: duration, and whether to drop
        super().__init__(path, threads=1, video_track=video_track)

    @property
    def is_short_to_read(self) -> bool:
        """True: the GPU decodes."""
        return True

    def close(self) -> None:
        """Like `PyavSource.close`; frames that are held stay valid."""
        super().close()
        if self._lock.acquire(blocking=False):
            try:
                # An abandoned iterator holds one of the decoder's surfaces.
                self._device_frames_left: Iterator[Any] = iter(())
                self._decoder = None
            finally:
                self._lock.release()

    def _prepare(self, threads: int, candidates: Sequence[int]) -> None:
        super()._prepare(threads, candidates)
        if self._refusal is not None:
            raise NvdecUnsupportedError(f"{self._path}: NVDEC cannot decode it: {self._refusal}")
        self._pictures = iter(())
        self._select(self._stream.index, threads)
        self._decode_errors = self._damaged = 0
        self._ring = DeviceFrames(self._cuda, self._first_wh, self._frames_limit, self._tones())
        self._decoder = self._create_decoder()
        self._device_frames_left = self._decoded_on_device()

    def _tones(self) -> DeviceTones | None:
        """What maps high dynamic range in GPU memory, None for other sources."""
        if self._tone_mapper is None:
            return None
        is_full = self._stream.codec_context.color_range == RANGE_FULL
        return DeviceTones(self._cuda, self._first_wh, self._tone_mapper.table, full_range=is_full)

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        self._refusal = self._why_not(first)
        return super()._describe(first)

    def _why_not(self, first: av.VideoFrame) -> str | None:
        """What keeps NVDEC from this file, None for nothing."""
        codec = self._stream.codec_context.name
        reason = nvdec_engine.why_not(self._cuda, codec, first, self._aspect)
        if reason is None and _has_cuts(self._stream):
            return "parts that an edit list cuts out"
        return reason

    def _create_decoder(self) -> Any:
        try:
            return nvdec_engine.open_decoder(self._cuda, self._stream.codec_context.name)
        except self._codec.PyNvVCException as error:
            raise NvdecUnsupportedError(
                f"{self._path}: NVDEC cannot be opened ({first_line(error)})"
            ) from error

    def _next_frame(self, index: int) -> Frame | None:
        try:
            for surface, pts, duration in self._device_frames_left:
                image = self._ring.place(
                    surface.GetPtrToPlane(0),
                    self._color,
                    self._closing,
                    sample_bytes=self._sample_bytes(surface),
                    orientation=self._orientation,
                )
                if image is None:
                    return None
                placed = self._timeline.place(pts, duration)
                return Frame(index, placed, self._time_base, image, duration)
        except self._codec.PyNvVCException as error:
            raise SourceError(
                f"{self._path}: NVDEC failed at frame {index} ({first_line(error)}); "
                "--device cpu decodes without it"
            ) from error
        except AV_ERRORS as error:
            raise source_error(self._path, error, "check that it is a complete file") from error
        return None

    def _sample_bytes(self, surface: Any) -> int:
        width, height = self._first_wh
        rows, columns = surface.shape[:2]
        if (columns, rows) != (width, height * 3 // 2):
            raise self._size_error((columns, rows * 2 // 3))
        return nvdec_engine.sample_bytes(surface)

    def _size_error(self, size_wh: tuple[int, int]) -> NvdecSizeChangedError:
        width, height = self._first_wh
        return NvdecSizeChangedError(
            f"the picture size changes from {width}x{height} to {size_wh[0]}x{size_wh[1]}"
        )

    def _decoded_on_device(self) -> Iterator[tuple[Any, int | None, int]]:
        """Surfaces in presentation order with PTS and duration; each valid until the next."""
        annexb = AnnexbFilter(self._stream)
        watch = SizeWatch(self._stream.codec_context.name, self._first_wh)
        for packet in self._packets():
            if packet is None:
                break
            self._times.send(packet)
            # Read before the filter, which takes the packet's content away.
            pts, fate = packet.pts, (packet.duration or 0, packet.is_discard)
            for part in self._filtered(annexb, packet):
                if size_wh := watch.changed(part):
                    yield from self._surfaces(None, None)  # those of the size so far
                    raise self._size_error(size_wh)
                if pts is not None:
                    self._fates[pts] = fate
                yield from self._surfaces(part, pts)
        yield from self._surfaces(None, None)

    def _filtered(self, annexb: AnnexbFilter, packet: Any) -> list[Any]:
        try:
            return annexb.push(packet)
        except AV_ERRORS:  # counted, and told at the end
            self._decode_errors += 1
            return []

    def _surfaces(self, part: Any, pts: int | None) -> Iterator[tuple[Any, int | None, int]]:
        data = nvdec_engine.packet_data(part, pts)
        # The library hands out the stamps in rising order, whatever packet a picture came from.
        for surface in self._decoder.Decode(data):
            stamp = surface.timestamp
            duration, discard = self._fates.pop(stamp, (0, False))
            if not discard:
                yield surface, None if stamp == NO_PTS else stamp, duration
        while len(self._fates) > _FATES_KEPT:
            del self._fates[next(iter(self._fates))]


def _has_cuts(stream: Any) -> bool:
    """Whether an edit list discards pictures behind others, whose stamps the library would mix."""
    entries = itertools.dropwhile(lambda entry: entry.is_discard, stream.index_entries)
    return any(entry.is_discard for entry in entries)

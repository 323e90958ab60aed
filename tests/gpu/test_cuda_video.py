"""NVDEC against PyAV on the same files, and the ways between host and GPU."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from dualface_client.cuda.pictures import allocated
from dualface_client.cuda.stream import CudaStream, load_codec
from dualface_client.errors import SourceError
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device import StreamDevice
from dualface_client.stream.device_cuda import CudaDevice, open_device_source
from dualface_client.stream.live import live_settings
from dualface_client.types import ByteArray, ColorSpec, Frame
from dualface_client.video.device_frames import DeviceFrames
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_sink import LiveSink
from dualface_client.video.live_source import LiveSource
from dualface_client.video.live_targets import TargetOptions, target_of
from dualface_client.video.nvcuvid import DecoderCaps, decoder_caps
from dualface_client.video.nvdec import NvdecSource, NvdecUnsupportedError
from dualface_client.video.orientation import Orientation
from dualface_client.video.sink import PyavSink
from dualface_client.video.source import PyavSource
from dualface_client.video.upload import DownloadingSink, UploadingSource
from tests import media
from tests.gpu.pictures import download, psnr_db, upload
from tests.live_servers import free_port, small_rtsp_server

pytestmark = pytest.mark.gpu

SIZE = (320, 240)
TEN_BIT = {"x265-params": "log-level=none:pools=1"}


def clip(**changes: object) -> media.Clip:
    options: dict[str, object] = {"frames": 40, "size_wh_px": SIZE, "rate": Fraction(30_000, 1001)}
    return media.Clip(**{**options, **changes})  # type: ignore[arg-type]  # one factory for all


CLIPS = {
    "h264.mp4": clip(),
    "h264.mkv": clip(options={"bf": "2"}),
    "h264.ts": clip(options={"bf": "2"}),
    "h264-b.mp4": clip(options={"preset": "medium", "bf": "3"}),
    "h264-full.mp4": clip(pix_fmt="yuvj420p", color=(5, 2, 2, 2)),
    "hevc.mp4": clip(codec="libx265"),
    "hevc10.mp4": clip(codec="libx265", pix_fmt="yuv420p10le"),
    "vfr.mp4": clip(pts=(0, 40, 50, 130, 131, 200, 390, 400), time_base=Fraction(1, 600)),
}


def is_turn(matrix: tuple[int, ...]) -> bool:
    a, b, c, d = matrix
    return abs(a * d - b * c) == 1 and a * b == 0 and c * d == 0


def both(path: Path, stream: CudaStream) -> tuple[list[Frame], list[Frame], NvdecSource]:
    on_gpu = NvdecSource(path, stream)
    cpu, gpu = PyavSource(path), list(on_gpu)
    assert on_gpu.info == cpu.info
    return list(cpu), gpu, on_gpu


def assert_same_times(cpu: Sequence[Frame], gpu: Sequence[Frame]) -> None:
    for name in ("index", "pts", "time_base", "duration"):
        assert [getattr(f, name) for f in gpu] == [getattr(f, name) for f in cpu]


@pytest.mark.parametrize("codec", ["H264", "HEVC", "AV1"])
@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_the_driver_says_of_its_decoders_what_the_library_says(codec: str, bit_depth: int) -> None:
    library = load_codec()
    theirs = library.GetDecoderCaps(
        gpuid=0, codec=getattr(library.cudaVideoCodec, codec), bitdepth=bit_depth
    )
    ours = decoder_caps(CudaStream(), codec, bit_depth)
    assert ours.is_supported == bool(theirs["supported"])
    if ours.is_supported:
        assert ours == DecoderCaps(
            True,
            theirs["num_decoder_engines"],
            theirs["width_min"],
            theirs["width_max"],
            theirs["height_min"],
            theirs["height_max"],
            theirs["mb_num_max"],
        )


@pytest.mark.parametrize("name", CLIPS)
def test_frames_times_and_pixels_are_those_of_the_cpu(
    tmp_path: Path, stream: CudaStream, name: str
) -> None:
    path = media.make(tmp_path / name, CLIPS[name])
    cpu, gpu, source = both(path, stream)
    assert_same_times(cpu, gpu)
    assert source.decode_errors == 0
    for expected, found in zip(cpu, gpu, strict=True):
        assert found.image.color == expected.image.color
        y, uv = download(found.image.y, stream), download(found.image.uv, stream)
        if "10" in name:
            # FFmpeg dithers where we round.
            assert psnr_db(y, expected.image.y) > 48
            assert psnr_db(uv, expected.image.uv) > 48
        else:
            assert np.array_equal(y, expected.image.y)
            assert np.array_equal(uv, expected.image.uv)


@pytest.mark.parametrize("transfer", [16, 18])
@pytest.mark.parametrize("samples", [1, 2])
def test_hdr_is_tone_mapped_as_on_the_cpu(
    tmp_path: Path, stream: CudaStream, transfer: int, samples: int
) -> None:
    color = (9, samples, 9, transfer)
    hdr = clip(codec="libx265", pix_fmt="yuv420p10le", color=color, frames=6)
    path = media.rotate(media.make(tmp_path / "hdr.mp4", hdr), 90)
    cpu, gpu, source = both(path, stream)
    assert any("tone-mapped" in note for note in source.info.notes)
    for expected, found in zip(cpu, gpu, strict=True):
        assert found.image.color == expected.image.color
        # The CPU filters chroma a little differently, see `tonemap.cu`.
        assert psnr_db(download(found.image.y, stream), expected.image.y) > 45
        assert psnr_db(download(found.image.uv, stream), expected.image.uv) > 45


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_files_stand_upright(tmp_path: Path, stream: CudaStream, degrees: int) -> None:
    path = media.rotate(media.make(tmp_path / "phone.mp4", clip(frames=4)), degrees)
    cpu, gpu, _ = both(path, stream)
    for expected, found in zip(cpu, gpu, strict=True):
        assert np.array_equal(download(found.image.y, stream), expected.image.y)
        assert np.array_equal(download(found.image.uv, stream), expected.image.uv)


@pytest.mark.parametrize("matrix", [m for m in product((-1, 0, 1), repeat=4) if is_turn(m)])
def test_mirrored_files_stand_upright(
    tmp_path: Path, stream: CudaStream, matrix: tuple[int, int, int, int]
) -> None:
    path = media.set_matrix(media.make(tmp_path / "phone.mp4", clip(frames=4)), *matrix)
    cpu, gpu, _ = both(path, stream)
    for expected, found in zip(cpu, gpu, strict=True):
        assert np.array_equal(download(found.image.y, stream), expected.image.y)
        assert np.array_equal(download(found.image.uv, stream), expected.image.uv)


@pytest.mark.parametrize("turned", range(8))
def test_sixteen_bit_samples_are_turned_too(stream: CudaStream, turned: int) -> None:
    orientation = Orientation(bool(turned & 1), bool(turned & 2), bool(turned & 4))
    values = np.arange(32 * 4 * 3 // 2, dtype=np.uint16).reshape(6, 32) % 200
    with stream:
        sixteen = stream.cupy.asarray(values << 8)
    ring = DeviceFrames(stream, (32, 4), 1)
    image = ring.place(
        sixteen.data.ptr, ColorSpec(), threading.Event(), sample_bytes=2, orientation=orientation
    )
    assert image is not None
    chroma = values[4:].reshape(2, 16, 2).astype(np.uint8)
    assert np.array_equal(download(image.y, stream), orientation.apply(values[:4].astype(np.uint8)))
    assert np.array_equal(download(image.uv, stream), orientation.apply(chroma))


def test_joined_parts_have_the_times_of_the_cpu(tmp_path: Path, stream: CudaStream) -> None:
    parts = [media.make(tmp_path / f"{n}.ts", clip(frames=20 + n)) for n in range(3)]
    cpu, gpu, source = both(media.join(tmp_path / "joined.ts", parts), stream)
    assert_same_times(cpu, gpu)
    assert any("2 joins" in text for text in source.warnings)


def test_b_frames_of_an_avi_have_the_times_of_the_cpu(tmp_path: Path, stream: CudaStream) -> None:
    path = media.make(tmp_path / "b.avi", clip(options={"preset": "medium", "bf": "3"}))
    assert_same_times(*both(path, stream)[:2])


def test_after_a_change_of_size_the_cpu_goes_on(tmp_path: Path, stream: CudaStream) -> None:
    parts = [
        media.make(tmp_path / "1.ts", clip(frames=20)),
        media.make(tmp_path / "2.ts", clip(frames=20, size_wh_px=(320, 160))),
    ]
    path = media.join(tmp_path / "both.ts", parts)
    cpu, gpu = list(PyavSource(path)), list(open_device_source(path, stream))
    assert_same_times(cpu, gpu)
    assert len(gpu) == 40
    assert np.array_equal(download(gpu[-1].image.y, stream), cpu[-1].image.y)


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("mpeg4.mp4", {"codec": "mpeg4"}, "codec mpeg4"),
        ("wide.mp4", {"sample_aspect": Fraction(4, 3)}, "not square"),
        ("444.mp4", {"pix_fmt": "yuv444p"}, "pixel format yuv444p"),
        ("interlaced.mp4", {"options": {"x264-params": "tff=1:interlaced=1"}}, "interlaced"),
        ("tiny.mp4", {"size_wh_px": (32, 32)}, "32x32"),
        ("hi10.mp4", {"pix_fmt": "yuv420p10le"}, "H264 decoder for 10 bit"),
    ],
)
def test_what_nvdec_cannot_do_is_decoded_on_the_cpu(
    tmp_path: Path, stream: CudaStream, name: str, changes: dict[str, object], reason: str
) -> None:
    path = media.make(tmp_path / name, clip(frames=6, **changes))
    with pytest.raises(NvdecUnsupportedError, match=reason):
        NvdecSource(path, stream)
    source = open_device_source(path, stream)
    assert isinstance(source, UploadingSource)
    assert reason in source.info.notes[-1]
    cpu, gpu = list(PyavSource(path)), list(source)
    assert_same_times(cpu, gpu)
    for expected, found in zip(cpu, gpu, strict=True):
        assert np.array_equal(download(found.image.y, stream), expected.image.y)
        assert np.array_equal(download(found.image.uv, stream), expected.image.uv)


def test_held_frames_keep_their_pixels_and_released_ones_are_used_again(
    tmp_path: Path, stream: CudaStream
) -> None:
    path = media.make(tmp_path / "a.mp4", clip(frames=30))
    source = NvdecSource(path, stream, frames_limit=7)
    frames = iter(source)
    held = [next(frames) for _ in range(5)]
    before = [download(frame.image.y, stream) for frame in held]
    addresses = {frame.image.y.data.ptr for frame in held}
    for frame in frames:
        addresses.add(frame.image.y.data.ptr)
        del frame
    assert len(addresses) <= 7
    for frame, pixels in zip(held, before, strict=True):
        assert np.array_equal(download(frame.image.y, stream), pixels)


def test_closing_ends_a_wait_for_a_buffer(tmp_path: Path, stream: CudaStream) -> None:
    source = NvdecSource(media.make(tmp_path / "a.mp4", clip()), stream, frames_limit=2)
    frames: list[Frame] = []
    reader = threading.Thread(target=lambda: frames.extend(source))
    reader.start()
    reader.join(0.5)
    assert reader.is_alive()
    source.close()
    reader.join(10)
    assert not reader.is_alive()
    assert len(frames) == 2
    assert download(frames[0].image.y, stream).any()


def test_frames_outlive_their_source(tmp_path: Path, stream: CudaStream) -> None:
    path = media.make(tmp_path / "a.mp4", clip(frames=8))
    frames = list(NvdecSource(path, stream))
    expected = [frame.image.y for frame in PyavSource(path)]
    for frame, wanted in zip(frames, expected, strict=True):
        assert np.array_equal(download(frame.image.y, stream), wanted)


def test_a_damaged_file_goes_on_or_says_so(tmp_path: Path, stream: CudaStream) -> None:
    whole = media.make(tmp_path / "whole.mkv", clip(frames=60))
    path = media.cut(tmp_path / "cut.mkv", whole, 0.6)
    source = NvdecSource(path, stream)
    count = sum(1 for _ in source)
    assert 20 < count < 60
    assert "ends" in source.warnings[-1]
    assert source.incomplete
    with pytest.raises(SourceError, match="read once"):
        iter(source)
    with pytest.raises(SourceError, match="no such file"):
        NvdecSource(tmp_path / "none.mp4", stream)


def test_two_streams_decode_side_by_side(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mp4", clip(frames=40))
    expected = [media.luma_of(frame.image.y) for frame in PyavSource(path)]
    found: dict[int, list[float]] = {}

    def run(number: int) -> None:
        own = CudaStream()
        frames = NvdecSource(path, own, frames_limit=8)
        found[number] = [media.luma_of(download(frame.image.y, own)) for frame in frames]

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == dict.fromkeys(range(4), expected)


def test_ten_bit_samples_are_rounded(stream: CudaStream) -> None:
    values = np.arange(32 * 4 * 3 // 2, dtype=np.uint16).reshape(6, 32) * 6 % 1024
    with stream:
        sixteen = stream.cupy.asarray(values << 6)
    ring = DeviceFrames(stream, (32, 4), 1)
    image = ring.place(sixteen.data.ptr, ColorSpec(), threading.Event(), sample_bytes=2)
    assert image is not None
    expected = np.minimum((values + 2) >> 2, 255).astype(np.uint8)
    assert np.array_equal(download(image.y, stream), expected[:4])
    assert np.array_equal(download(image.uv, stream).reshape(2, 32), expected[4:])


class Recorder:
    """A sink that keeps a copy of every picture."""

    def __init__(self) -> None:
        self.pictures: list[ByteArray] = []
        self.is_short_to_write = False
        self.partial_path = None
        self.warnings = ()
        self.frame_count = 0

    def write(self, frame: Frame) -> None:
        self.frame_count += 1
        rows = frame.image.uv.reshape(frame.image.height_px // 2, -1)
        self.pictures.append(np.vstack([frame.image.y, rows]))

    def close(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        self.frame_count = 0
        return not stopped()

    def abort(self) -> None:
        self.frame_count = 0


def test_canvases_reach_the_host_as_they_are(tmp_path: Path, stream: CudaStream) -> None:
    path = media.make(tmp_path / "a.mp4", clip(frames=12))
    recorder = Recorder()
    sink = DownloadingSink(recorder, stream)
    expected = []
    for frame in PyavSource(path):
        expected.append(np.vstack([frame.image.y, frame.image.uv.reshape(120, 320)]))
        sink.write(replace(frame, image=upload(frame.image, stream)))
    assert sink.frame_count == 12
    assert np.array_equal(recorder.pictures, expected)


def test_canvases_are_encoded_by_x264(tmp_path: Path, stream: CudaStream) -> None:
    path = media.make(tmp_path / "a.mp4", clip(frames=12))
    source = PyavSource(path)
    sink = DownloadingSink(PyavSink(tmp_path / "out.mp4", source.info, SIZE, threads=1), stream)
    frames = list(source)
    for frame in frames:
        sink.write(replace(frame, image=upload(frame.image, stream)))
    sink.close()
    written = list(PyavSource(tmp_path / "out.mp4"))
    assert [frame.pts for frame in written] == [frame.pts for frame in frames]
    for one, other in zip(written, frames, strict=True):
        assert psnr_db(one.image.y, other.image.y) > 35


@contextmanager
def live_on_gpu(place: str, said: list[str]) -> Iterator[tuple[StreamDevice, LiveSource]]:
    """A file or an address as a live stream; `said` gets why the CPU decodes it."""
    with CudaDevice(live_settings(StreamSettings())).lend_stream() as share:
        decoder = share.live_decoder(said.append)
        input_ = LiveInput(place, place)
        live = LiveSource(input_, threading.Event(), lambda news: None, device=decoder)
        with closing(live):
            yield share, live


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("bf", ["0", "2"])
def test_nvdec_takes_a_live_stream_over_and_its_canvases_come_back(
    tmp_path: Path, codec: str, bf: str
) -> None:
    params = {"x265-params": f"keyint=15:bframes={bf}:open-gop=0"}
    options = {"g": "15", "bf": bf} if codec == "libx264" else params
    path = media.make(tmp_path / "a.mp4", clip(frames=60, codec=codec, options=options))
    said: list[str] = []
    with live_on_gpu(str(path), said) as (share, live):
        source = share.to_device(live)
        target = target_of(str(tmp_path / "out.mp4"), "", "a", TargetOptions())
        sink = share.to_host(LiveSink([target], source.info, SIZE, None, lambda text: None))
        pictures = []
        for frame in source:
            pictures.append(share.download(frame.image))
            sink.write(frame)
        assert sink.close()
        assert (source.info.notes, source.warnings, said) == ((), (), [])
        assert not any(live.dropped.values())
        assert live.on_device > 30
    given = list(PyavSource(path))
    written = list(PyavSource(tmp_path / "out.mp4"))
    assert len(written) == len(given) == len(pictures) == 60
    for one, other, third in zip(given, pictures, written, strict=True):
        assert np.array_equal(one.image.y, other.y)
        assert np.array_equal(one.image.uv, other.uv)
        assert psnr_db(one.image.y, third.image.y) > 35


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_nvdec_decodes_a_camera_over_rtsp(tmp_path: Path, codec: str) -> None:
    params = {"x265-params": "keyint=15:bframes=0:log-level=none"}
    options = {"g": "15", "bf": "0"} if codec == "libx264" else params
    path = media.make(tmp_path / "a.mp4", clip(frames=60, codec=codec, options=options))
    said: list[str] = []
    port = free_port()
    with (
        small_rtsp_server(port, path),
        live_on_gpu(f"rtsp://127.0.0.1:{port}/camera", said) as (share, live),
    ):
        frames = itertools.islice(share.to_device(live), 60)
        pictures = [share.download(frame.image) for frame in frames]  # it lends few at once
        assert live.on_device > 20
    assert (said, any(live.dropped.values())) == ([], False)
    for one, other in zip(PyavSource(path), pictures, strict=True):
        assert np.array_equal(one.image.y, other.y)
        assert np.array_equal(one.image.uv, other.uv)


def test_a_live_stream_whose_pictures_change_their_size_goes_on_on_the_cpu(tmp_path: Path) -> None:
    clips = (clip(frames=30), clip(frames=30, size_wh_px=(160, 120)))
    parts = [media.make(tmp_path / f"{n}.ts", each) for n, each in enumerate(clips)]
    path = media.join(tmp_path / "both.ts", parts)
    said: list[str] = []
    with live_on_gpu(str(path), said) as (share, live):
        frames = list(share.to_device(live))
        assert len(frames) == 60
        assert {frame.image.y.shape for frame in frames} == {SIZE[::-1]}
        assert live.on_device > 10
        assert "another size, shape or colour" in said[-1]


def test_pictures_are_allocated_with_little_waste(stream: CudaStream) -> None:
    runtime = stream.cupy.cuda.runtime
    with stream:
        before = runtime.memGetInfo()[0]
        held = [allocated(stream, (1920, 1080)) for _ in range(16)]
        taken = before - runtime.memGetInfo()[0]
    count = sum(map(len, held))
    assert count == 32
    assert taken < 1.1 * count * 1920 * 1080 * 1.5


def test_a_share_that_another_thread_made_still_uses_nvdec(tmp_path: Path) -> None:
    """As with a pinned photo: the session's thread makes it, a stream's thread uses it."""
    path = media.make(tmp_path / "a.mp4", clip(frames=6))
    device = CudaDevice(StreamSettings())
    with device.lend_stream() as first:
        pass

    def count() -> tuple[StreamDevice, tuple[str, ...], int]:
        with device.lend_stream() as share, closing(share.open_source(path)) as source:
            return share, source.info.notes, sum(1 for _ in source)

    with ThreadPoolExecutor(1) as pool:
        share, notes, frames = pool.submit(count).result(60)
    assert (share, notes, frames) == (first, (), 6)

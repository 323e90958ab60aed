"""Every odd input of `PyavSource`: what comes out, or which error says what to do."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import FrameType

import av
import cv2
import numpy as np
import psutil
import pytest

from dualface_client.errors import SourceError, UsageError
from dualface_client.types import ColorMatrix, ColorSpec, Frame
from dualface_client.video.convert import Nv12Converter
from dualface_client.video.orientation import Orientation
from dualface_client.video.reference import is_disposable
from dualface_client.video.source import PyavSource
from dualface_client.video.tracks import open_input
from tests import media
from tests.media import Audio, Clip
from tests.users import give_away, unprivileged


def read(path: Path, **options: bool) -> tuple[PyavSource, list[Frame]]:
    """Opens a file with one thread and reads it to its end."""
    source = PyavSource(path, threads=1, **options)
    return source, list(source)


def lumas(frames: list[Frame]) -> list[float]:
    return [media.luma_of(frame.image.y) for frame in frames]


def test_frames_come_in_order_with_the_times_of_the_file(tmp_path: Path) -> None:
    path = media.make(tmp_path / "b.mp4", Clip(frames=20, options={"preset": "veryfast"}))
    source, frames = read(path)
    assert [f.index for f in frames] == list(range(20))
    assert [f.pts * f.time_base for f in frames] == [Fraction(i, 25) for i in range(20)]
    assert media.luma_order_is_kept(lumas(frames))
    assert source.info.frame_rate == 25
    assert source.info.frame_count == 20
    assert source.info.duration_s == pytest.approx(0.8)
    assert source.info.codec == "h264"
    assert (source.warnings, source.decode_errors, source.truncated) == ((), 0, False)


def test_frames_are_independent_contiguous_and_outlive_the_source(tmp_path: Path) -> None:
    source, frames = read(media.make(tmp_path / "a.mp4"))
    before = lumas(frames)
    source.close()
    del source
    assert lumas(frames) == before
    assert len(set(before)) == len(before)
    assert all(f.image.y.flags.c_contiguous and f.image.uv.flags.c_contiguous for f in frames)


def test_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    stamps = [0, 40, 41, 300, 1000]
    clip = Clip(pts=stamps, time_base=Fraction(1, 1000))
    _, frames = read(media.make(tmp_path / "vfr.mp4", clip))
    assert [f.pts * f.time_base for f in frames] == [Fraction(s, 1000) for s in stamps]


def test_ntsc_rate_is_a_fraction(tmp_path: Path) -> None:
    rate = Fraction(30_000, 1001)
    source, frames = read(media.make(tmp_path / "ntsc.mp4", Clip(rate=rate)))
    assert source.info.frame_rate == rate
    assert [f.pts * f.time_base for f in frames] == [i / rate for i in range(10)]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_comes_out_upright(tmp_path: Path, degrees: int) -> None:
    source, frames = read(media.rotate(media.make(tmp_path / "phone.mp4"), degrees))
    upright = np.rot90(media.gradient_rgb(0, (64, 48))[..., 1], -degrees // 90)
    assert (source.info.height_px, source.info.width_px) == upright.shape
    limited = 16 + upright * (219 / 255)
    assert np.abs(frames[0].image.y - limited).mean() < 3
    assert any(f"{degrees} degrees clockwise" in note for note in source.info.notes)


@pytest.mark.parametrize(
    ("pix_fmt", "codec"),
    [
        ("yuv420p10le", "libx264"),
        ("yuv422p", "libx264"),
        ("yuv422p10le", "libx264"),
        ("yuv444p", "libx264"),
        ("bgr0", "ffv1"),
        ("bgra", "ffv1"),
        ("gray", "ffv1"),
        ("gbrp", "rawvideo"),
    ],
)
def test_any_pixel_format_gives_the_same_nv12(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    source, frames = read(media.make(tmp_path / "p.nut", Clip(codec=codec, pix_fmt=pix_fmt)))
    limited = 16 + media.gradient_rgb(0, (64, 48))[..., 1] * (219 / 255)
    assert np.abs(frames[0].image.y - limited).max() < 12
    assert np.abs(frames[0].image.uv.astype(int) - 128).max() < 4
    assert any(pix_fmt in note for note in source.info.notes)


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((1, 1, 1, 1), ColorSpec(ColorMatrix.BT709)),
        ((5, 1, 5, 6), ColorSpec(ColorMatrix.BT601)),
        ((9, 1, 9, 14), ColorSpec(ColorMatrix.BT2020)),
        ((1, 2, 1, 1), ColorSpec(ColorMatrix.BT709, full_range=True)),
        ((2, 0, 2, 2), ColorSpec(ColorMatrix.BT601)),
    ],
)
def test_color_is_read_as_tagged(
    tmp_path: Path, color: tuple[int, int, int, int], expected: ColorSpec
) -> None:
    pix_fmt = "yuvj420p" if color[1] == 2 else "yuv420p"
    source, frames = read(media.make(tmp_path / "c.mp4", Clip(color=color, pix_fmt=pix_fmt)))
    assert source.info.color == frames[0].image.color == expected
    ramp = media.gradient_rgb(0, (64, 48))[..., 1]
    luma = ramp if expected.full_range else 16 + ramp * (219 / 255)
    assert np.abs(frames[0].image.y.astype(int) - luma).mean() < 3


def test_untagged_hd_is_bt709(tmp_path: Path) -> None:
    source, _ = read(media.make(tmp_path / "hd.mp4", Clip(frames=1, size_wh_px=(64, 720))))
    assert source.info.color.matrix is ColorMatrix.BT709


def test_hdr_is_processed_and_said(tmp_path: Path) -> None:
    clip = Clip(codec="libx265", pix_fmt="yuv420p10le", color=(9, 1, 9, 16), frames=3)
    source, frames = read(media.make(tmp_path / "hdr.mkv", clip))
    assert len(frames) == 3
    assert any("tone-mapped" in note for note in source.info.notes)


@pytest.mark.parametrize("size", [(63, 47), (64, 47), (63, 48), (1, 1), (1, 3), (3, 1)])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "bgr0", "yuv420p10le"])
def test_odd_sizes_repeat_their_edge(tmp_path: Path, size: tuple[int, int], pix_fmt: str) -> None:
    clip = Clip(frames=2, size_wh_px=size, codec="rawvideo", pix_fmt=pix_fmt)
    source, frames = read(media.make(tmp_path / "odd.nut", clip))
    width, height = size
    y = frames[0].image.y
    assert y.shape == (height + height % 2, width + width % 2)
    assert (source.info.height_px, source.info.width_px) == y.shape
    assert np.array_equal(y[:, -1], y[:, width - 1])
    assert np.array_equal(y[-1], y[height - 1])


def test_8k_fits(tmp_path: Path) -> None:
    clip = Clip(frames=1, size_wh_px=(7680, 4320), codec="mjpeg", pix_fmt="yuvj420p")
    _, frames = read(media.make(tmp_path / "8k.mkv", clip))
    assert frames[0].image.y.shape == (4320, 7680)


def test_sample_aspect_becomes_square(tmp_path: Path) -> None:
    clip = Clip(sample_aspect=Fraction(4, 3))
    source, frames = read(media.make(tmp_path / "sar.mp4", clip))
    assert frames[0].image.y.shape == (48, 86)  # 64 * 4/3 = 85.3, rounded up to even
    assert any("4/3" in note for note in source.info.notes)


def test_interlaced_video_is_deinterlaced_one_to_one(tmp_path: Path) -> None:
    path = media.make(tmp_path / "i.mp4", Clip(options={"x264-params": "tff=1"}))
    combed, plain = read(path)[1], read(path, deinterlace=False)[1]
    assert [f.pts for f in combed] == [f.pts for f in plain]
    assert media.luma_order_is_kept(lumas(combed))
    assert any(not np.array_equal(a.image.y, b.image.y) for a, b in zip(combed, plain, strict=True))


def test_the_file_is_opened_for_its_tracks_and_for_its_pictures_only(tmp_path: Path) -> None:
    path, opened = media.make(tmp_path / "a.mp4"), 0

    def count(frame: FrameType, event: str, _arg: object) -> None:
        nonlocal opened
        opened += event == "call" and frame.f_code is open_input.__code__

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        PyavSource(path, threads=1).close()
    finally:
        sys.setprofile(before)
    assert opened == 2


def test_size_change_in_the_middle_is_scaled_to_the_first(tmp_path: Path) -> None:
    parts = [
        media.make(tmp_path / "1.ts", Clip(frames=20)),
        media.make(tmp_path / "2.ts", Clip(frames=20, size_wh_px=(96, 64))),
    ]
    source, frames = read(media.join(tmp_path / "both.ts", parts))
    assert [f.image.y.shape for f in frames] == [(48, 64)] * 40
    steps = {b.pts - a.pts for a, b in itertools.pairwise(frames)}
    assert steps == {90_000 // 25}
    assert any("20 frames differ in size" in text for text in source.warnings)
    assert any("1 joins" in text for text in source.warnings)


def test_missing_time_stamps_are_filled(tmp_path: Path) -> None:
    source, frames = read(media.make(tmp_path / "raw.h264"))
    assert [f.pts * f.time_base for f in frames] == [Fraction(i, 25) for i in range(10)]
    assert any("missing time stamps" in text for text in source.warnings)


def test_cover_art_is_not_the_video(tmp_path: Path) -> None:
    video = media.make(tmp_path / "v.mp4", Clip(frames=20, audio=[Audio(), Audio()]))
    source, frames = read(media.with_cover(tmp_path / "cover.mp4", video))
    assert len(frames) == 20
    assert source.info.codec == "h264"
    assert source.info.audio_stream_count == 2


def test_truncated_matroska_gives_what_is_there(tmp_path: Path) -> None:
    whole = media.make(tmp_path / "whole.mkv", Clip(frames=100, options={"g": "10"}))
    source, frames = read(media.cut(tmp_path / "cut.mkv", whole, 0.6))
    assert 40 < len(frames) < 70
    assert source.truncated
    assert any("cut short" in text for text in source.warnings)


def test_truncated_transport_stream_gives_what_is_there(tmp_path: Path) -> None:
    whole = media.make(tmp_path / "whole.ts", Clip(frames=100, options={"g": "10"}))
    source, frames = read(media.cut(tmp_path / "cut.ts", whole, 0.601))
    assert 40 < len(frames) < 70
    assert source.truncated


def test_truncated_mp4_with_its_index_in_front(tmp_path: Path) -> None:
    clip = Clip(frames=100, options={"g": "10"}, container={"movflags": "faststart"})
    whole = media.make(tmp_path / "whole.mp4", clip)
    source, frames = read(media.cut(tmp_path / "cut.mp4", whole, 0.6))
    assert 20 < len(frames) < 80
    assert source.truncated


@pytest.mark.parametrize("threads", [1, 3])
def test_damaged_packets_are_skipped_and_counted(tmp_path: Path, threads: int) -> None:
    whole = media.make(tmp_path / "whole.mp4", Clip(frames=60, options={"g": "10"}))
    path = media.damage(tmp_path / "damaged.mp4", whole, [20, 21, 35])
    source = PyavSource(path, threads=threads)
    frames = list(source)
    assert 45 <= len(frames) < 60
    assert frames[-1].pts * frames[-1].time_base == Fraction(59, 25)
    assert source.decode_errors >= 1
    assert any("could not be decoded" in text for text in source.warnings)


def test_after_an_error_the_next_key_frame_goes_on(tmp_path: Path) -> None:
    """P frames only: the first lost one takes the rest of its group with it, and nothing else."""
    options = {"g": "10", "bf": "0", "sc_threshold": "0"}
    whole = media.make(tmp_path / "whole.mp4", Clip(frames=60, options=options))
    source = PyavSource(media.damage(tmp_path / "damaged.mp4", whole, [23], skip=0), threads=1)
    indices = [round(float(frame.time_s) * 25) for frame in source]
    assert indices == [*range(23), *range(30, 60)]
    assert source.decode_errors == 7
    assert "1 packets could not be decoded and were skipped" in source.warnings
    left_out = "6 packets after them, up to the next key frame, were left out"
    assert left_out in source.warnings


@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_lost_picture_that_no_other_needs_takes_none_with_it(tmp_path: Path, suffix: str) -> None:
    options = {"g": "60", "bf": "1", "b-pyramid": "none", "sc_threshold": "0", "b_strategy": "0"}
    whole = media.make(tmp_path / f"whole{suffix}", Clip(frames=40, options=options))
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    found = [is_disposable(packet, "h264") for packet in packets]
    assert found == [index > 1 and index % 2 == 0 for index in range(40)]
    assert not any(is_disposable(packet, "hevc") for packet in packets)
    if suffix == ".ts":  # its packets do not lie in one piece
        return
    source = PyavSource(media.damage(tmp_path / "bad.mp4", whole, [12], skip=8), threads=1)
    assert len(list(source)) == 39
    assert source.decode_errors == 1


def test_a_stream_without_later_key_frames_goes_on_after_a_while(tmp_path: Path) -> None:
    options = {"g": "2000", "bf": "0", "sc_threshold": "0"}
    whole = media.make(tmp_path / "whole.mp4", Clip(frames=700, options=options))
    source = PyavSource(media.damage(tmp_path / "bad.mp4", whole, [20], skip=0), threads=1)
    assert len(list(source)) == 700 - 600


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _noise(path: Path) -> Path:
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    return path


def _text(path: Path) -> Path:
    path = path.with_suffix(".txt")
    path.write_text("hello\n" * 100)
    return path


def _no_index(path: Path) -> Path:
    return media.cut(path, media.make(path.with_name("whole.mp4"), Clip(frames=50)), 0.6)


def _nothing_decodes(path: Path) -> Path:
    whole = media.make(path.with_name("whole.mp4"))
    return media.damage(path, whole, range(10), skip=0)


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _picture_file(path: Path, kind: str, name: str) -> Path:
    done, content = cv2.imencode(kind, np.full((48, 64, 3), 99, np.uint8))
    assert done
    path.with_name(name).write_bytes(content.tobytes())
    return path.with_name(name)


def _list_of(path: Path, head: str, name: str) -> Path:
    """A list of a video that FFmpeg could well open through it."""
    media.make(path.with_name("part.ts"))
    path.with_name(name).write_text(head)
    return path.with_name(name)


_HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:0.4,\npart.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("create", "says"),
    [
        (lambda path: path, "no such file"),
        (lambda path: _picture_file(path, ".jpg", "a.jpg"), "is a picture, not a video"),
        (lambda path: _picture_file(path, ".jpg", "jpeg-inside.mp4"), "is a picture"),
        (lambda path: _picture_file(path, ".png", "a.png"), "is a picture"),
        (lambda path: _picture_file(path, ".webp", "a.webp"), "is a picture"),
        (lambda path: _list_of(path, _HLS, "a.m3u8"), "an HLS playlist, not a video; name"),
        (lambda path: _list_of(path, "\ufeff" + _HLS, "bom.m3u8"), "an HLS playlist"),
        (lambda path: _list_of(path, "ffconcat version 1.0\nfile part.ts\n", "a.txt"), "concat"),
        (lambda path: path.parent, "is a directory"),
        (_pipe, "not a regular file"),
        (_empty, "0 bytes"),
        (_noise, "cannot be read as a video"),
        (_text, "is text"),
        (_no_index, "moov"),
        (_nothing_decodes, "no picture"),
        (media.make_audio_only, "only audio,"),
        (lambda path: media.make_audio_only(path, cover=True), "cover picture"),
    ],
    ids=[
        "missing",
        "jpeg",
        "jpeg-as-mp4",
        "png",
        "webp",
        "hls",
        "hls-bom",
        "concat",
        "directory",
        "pipe",
        "empty",
        "noise",
        "text",
        "no-index",
        "undecodable",
        "audio",
        "cover",
    ],
)
def test_bad_input_is_one_clear_error(
    tmp_path: Path, create: Callable[[Path], Path], says: str
) -> None:
    path = create(tmp_path / "in.mp4")
    with pytest.raises(SourceError, match=says) as caught:
        PyavSource(path, threads=1)
    assert str(path) in str(caught.value)


def test_unreadable_file_says_permission(open_directory: Path) -> None:
    path = media.make(open_directory / "locked.mp4")
    give_away(path, 0)
    with unprivileged(), pytest.raises(SourceError, match="Permission denied"):
        PyavSource(path)


def test_a_colon_in_a_name_is_no_protocol(tmp_path: Path) -> None:
    plain = media.make(tmp_path / "a.mp4")
    path = plain.rename(tmp_path / "http:a b%20.mp4")
    assert len(read(path)[1]) == 10


@pytest.mark.parametrize("threads", [0, -1, "many"])
def test_thread_counts_are_checked(tmp_path: Path, threads: int | str) -> None:
    with pytest.raises(UsageError, match="threads"):
        PyavSource(tmp_path / "any.mp4", threads=threads)


def test_it_is_read_once_and_closed_twice(tmp_path: Path) -> None:
    source, _ = read(media.make(tmp_path / "a.mp4"))
    with pytest.raises(SourceError, match="read once"):
        iter(source)
    source.close()
    source.close()


def test_close_from_another_thread_ends_the_iteration(tmp_path: Path) -> None:
    source = PyavSource(media.make(tmp_path / "a.mp4", Clip(frames=200)), threads=1)
    seen = 0
    for _ in source:
        seen += 1
        if seen == 3:
            closer = threading.Thread(target=source.close)
            closer.start()
            closer.join(timeout=5)
            assert not closer.is_alive()
    assert seen == 3


def test_close_before_iteration_gives_nothing(tmp_path: Path) -> None:
    source = PyavSource(media.make(tmp_path / "a.mp4"), threads=1)
    source.close()
    assert list(source) == []


@pytest.mark.parametrize(
    ("header", "says"),
    [
        ("W65535 H65535 F25:1", "its header says what FFmpeg does not take"),
        ("W320 H240 F1:1000000000", r"one frame in 1e\+09 s; expected one a day at least"),
    ],
)
def test_what_a_header_cannot_mean_is_said_in_plain_words(
    tmp_path: Path, header: str, says: str
) -> None:
    path = tmp_path / "in.y4m"
    frame = b"FRAME\n" + bytes(320 * 240 * 3 // 2)
    path.write_bytes(f"YUV4MPEG2 {header} Ip A1:1 C420jpeg\n".encode() + 3 * frame)
    with pytest.raises(SourceError, match=says):
        PyavSource(path)


@pytest.mark.parametrize(
    ("codec", "params"), [("libx265", "x265-params"), ("libx264", "x264-params")]
)
def test_a_file_that_begins_between_two_key_frames_says_what_is_missing(
    tmp_path: Path, codec: str, params: str
) -> None:
    clip = Clip(frames=50, codec=codec, options={params: "keyint=20:min-keyint=20:bframes=0"})
    whole = media.make(tmp_path / "whole.ts", clip)
    with av.open(str(whole)) as reader, av.open(str(tmp_path / "cut.ts"), "w") as writer:
        (video,) = reader.streams.video
        out = writer.add_stream_from_template(video)
        for number, packet in enumerate(reader.demux(video)):
            if packet.dts is not None and number >= 8:
                packet.stream = out
                writer.mux(packet)
    source, frames = read(tmp_path / "cut.ts")
    assert len(frames) == 30
    assert [note for note in source.info.notes if "the first 0.48 s have no picture" in note]
    source, frames = read(whole)
    assert (len(frames), source.info.notes) == (50, ())


def test_a_pause_of_many_minutes_is_kept_and_told(tmp_path: Path) -> None:
    pts = (0, 1, 2, 25_000, 25_001)
    path = media.make(tmp_path / "jump.ts", Clip(pts=pts, time_base=Fraction(1, 25)))
    source, frames = read(path)
    assert frames[3].time_s - frames[2].time_s == pytest.approx(999.92, abs=0.01)
    assert any("at the longest 1000 s" in note for note in source.warnings)


@pytest.mark.parametrize(("size_wh", "most"), [((640, 360), 0), ((320, 360), 1)])
def test_converting_a_picture_takes_no_thread_for_each_cpu(
    size_wh: tuple[int, int], most: int
) -> None:
    """libswscale would, for every stream."""
    picture = av.VideoFrame(*size_wh, "yuv420p")
    converter = Nv12Converter(size_wh, Fraction(640, size_wh[0]), Orientation())
    before = psutil.Process().num_threads()
    image = converter.convert(picture, ColorSpec(), Fraction(640, size_wh[0]))
    assert (image.width_px, image.height_px) == (640, 360)
    assert psutil.Process().num_threads() - before <= most

"""Round trips through `PyavSource` and `PyavSink`: nothing but the pixels changes."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.errors import DiskFullError, SinkError, SourceError, UsageError
from dualface_client.types import ColorMatrix, ColorSpec, Frame, Nv12Image, VideoInfo
from dualface_client.video.null_sink import NullSink
from dualface_client.video.outfile import OutputFile, is_being_written, partial_path_of
from dualface_client.video.sink import PyavSink
from dualface_client.video.source import PyavSource
from dualface_client.video.x264_params import x264_params
from tests import media
from tests.media import Audio, Clip
from tests.users import give_away, unprivileged

WH = (64, 48)
INFO = VideoInfo(*WH, frame_rate=Fraction(25), time_base=Fraction(1, 25))


def gray_frame(index: int, pts: int | None = None) -> Frame:
    """A flat picture in the time base of `INFO`."""
    level = 16 + index % 200
    image = Nv12Image(np.full((48, 64), level, np.uint8), np.full((24, 32, 2), 128, np.uint8))
    return Frame(index, index if pts is None else pts, Fraction(1, 25), image)


def open_sink(path: Path, info: VideoInfo = INFO, **options: Any) -> PyavSink:
    return PyavSink(path, info, WH, **{"threads": 1, "preset": "ultrafast", **options})


def copy_through(source_path: Path, path: Path, **options: Any) -> PyavSink:
    """Sends a whole video through source and sink."""
    source = PyavSource(source_path, threads=1)
    size = source.info.width_px, source.info.height_px
    options = {"threads": 1, "audio_from": source_path, **options}
    sink = PyavSink(path, source.info, size, **options)
    for frame in source:
        sink.write(frame)
    sink.close()
    return sink


def boxes_of(path: Path) -> list[str]:
    """Types of the top-level boxes of an MP4."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(data[at + 4 : at + 8].decode())
        at += int.from_bytes(data[at : at + 4], "big")
    return found


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
def test_times_and_frame_count_are_the_sources(tmp_path: Path, suffix: str) -> None:
    stamps = [0, 1001, 2002, 4004, 5005, 30030, 31031]
    clip = Clip(pts=stamps, time_base=Fraction(1, 30_000), rate=Fraction(30_000, 1001))
    source = media.make(tmp_path / "in.mp4", clip)
    out = tmp_path / f"out{suffix}"
    copy_through(source, out)
    assert media.times_of(out) == [Fraction(s, 30_000) for s in stamps] == media.times_of(source)


@pytest.mark.parametrize("count", [26, 51, 76, 101])
def test_no_frame_is_lost_at_the_end_whatever_their_number(tmp_path: Path, count: int) -> None:
    out = tmp_path / "out.mp4"
    sink = open_sink(out, preset="medium")  # pictures change places
    for index in range(count):
        sink.write(gray_frame(index))
    sink.close()
    assert len(media.times_of(out)) == count


def test_the_last_frame_lasts_as_long_as_in_the_source(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    for index in range(5):
        sink.write(replace(gray_frame(index), duration=50 if index == 4 else 1))
    sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        video = container.streams.video[0]
        assert (video.duration or 0) * (video.time_base or 0) == Fraction(4 + 50, 25)


@pytest.mark.parametrize("preset", ["ultrafast", "superfast", "veryfast", "medium"])
def test_it_is_an_ordinary_mp4_with_h264_high(tmp_path: Path, preset: str) -> None:
    out = tmp_path / "out.mp4"
    copy_through(media.make(tmp_path / "in.mp4", Clip(frames=60)), out, preset=preset)
    assert sorted(boxes_of(out)) == ["free", "ftyp", "mdat", "moov"]
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.profile, context.pix_fmt) == ("h264", "High", "yuv420p")
    assert len(media.times_of(out)) == 60
    assert list(tmp_path.iterdir()) in ([out, tmp_path / "in.mp4"], [tmp_path / "in.mp4", out])


def test_pictures_survive(tmp_path: Path) -> None:
    source = media.make(tmp_path / "in.mp4", Clip(frames=20, options={"preset": "veryfast"}))
    copy_through(source, tmp_path / "out.mp4", crf=10)
    before = [f.image.y.astype(int) for f in PyavSource(source, threads=1)]
    after = [f.image.y.astype(int) for f in PyavSource(tmp_path / "out.mp4", threads=1)]
    assert len(before) == len(after)
    assert max(np.abs(a - b).mean() for a, b in zip(before, after, strict=True)) < 1.5


def test_a_stop_ends_a_long_audio_tail_with_a_playable_partial_file(tmp_path: Path) -> None:
    audio = [Audio(seconds=20.0)]
    source = PyavSource(media.make(tmp_path / "in.mp4", Clip(frames=25, audio=audio)), threads=1)
    sink = open_sink(tmp_path / "out.mp4", source.info, audio_from=tmp_path / "in.mp4")
    for frame in source:
        sink.write(frame)
    asked = itertools.count()
    assert not sink.close(lambda: next(asked) == 3)
    assert not sink.close()
    assert not (tmp_path / "out.mp4").exists()
    assert sink.partial_path is not None
    assert len(media.times_of(sink.partial_path)) == 25
    assert 1.0 <= media.packets_of(sink.partial_path, "audio")[-1][0] < 1.5


def test_every_audio_stream_is_copied_bit_for_bit(tmp_path: Path) -> None:
    audio = [
        Audio(seconds=2.0, language="eng"),
        Audio(seconds=3.0, tone_hz=880, start_s=0.5, language="deu"),
        Audio("mp3", seconds=1.0, tone_hz=220),
    ]
    source = media.make(tmp_path / "in.mp4", Clip(frames=50, audio=audio))
    out = tmp_path / "out.mp4"
    copy_through(source, out)
    for index, spec in enumerate(audio):
        copied = media.packets_of(out, "audio", index)
        assert copied == media.packets_of(source, "audio", index)
        assert len(copied) > 30
        with av.open(str(out)) as container:
            assert container.streams.audio[index].language == (spec.language or "und")
    assert media.times_of(out) == media.times_of(source)


@pytest.mark.parametrize("codec", ["aac", "libmp3lame", "libopus", "flac", "ac3"])
def test_audio_codecs_go_into_mp4(tmp_path: Path, codec: str) -> None:
    source = media.make(tmp_path / "in.mkv", Clip(frames=25, audio=[Audio(codec)]))
    copy_through(source, tmp_path / "out.mp4")
    before = media.packets_of(source, "audio")
    after = media.packets_of(tmp_path / "out.mp4", "audio")
    assert [data for _, data in after] == [data for _, data in before]
    assert max(abs(a - b) for (a, _), (b, _) in zip(after, before, strict=True)) < 1e-3


def test_audio_of_a_transport_stream_keeps_its_place(tmp_path: Path) -> None:
    offset = {"output_ts_offset": "5.4"}
    clip = Clip(frames=50, audio=[Audio(seconds=2)], container=offset)
    source = media.make(tmp_path / "in.ts", clip)
    sink = copy_through(source, tmp_path / "out.mp4")
    shift = Fraction(int(media.times_of(source)[0]))
    assert shift == 5
    assert any("subtracted" in text for text in sink.warnings)
    assert media.times_of(tmp_path / "out.mp4") == [t - shift for t in media.times_of(source)]
    before = [t - shift for t, _ in media.packets_of(source, "audio")]
    after = [t for t, _ in media.packets_of(tmp_path / "out.mp4", "audio")]
    assert max(abs(a - b) for a, b in zip(after, before, strict=True)) < Fraction(1, 1000)


def test_matroska_keeps_times_and_audio(tmp_path: Path) -> None:
    clip = Clip(frames=50, audio=[Audio("libopus", seconds=3.0)], options={"preset": "veryfast"})
    source = media.make(tmp_path / "in.mkv", clip)
    copy_through(source, tmp_path / "out.mkv")
    assert media.times_of(tmp_path / "out.mkv") == media.times_of(source)
    copied = media.packets_of(tmp_path / "out.mkv", "audio")
    assert copied == media.packets_of(source, "audio")


@pytest.mark.parametrize("matrix", list(ColorMatrix))
@pytest.mark.parametrize("full_range", [False, True])
def test_color_tags_are_the_sources(tmp_path: Path, matrix: ColorMatrix, full_range: bool) -> None:
    spec = ColorSpec(matrix, full_range)
    sink = open_sink(tmp_path / "out.mp4", replace(INFO, color=spec))
    for index in range(5):
        sink.write(gray_frame(index))
    sink.close()
    source = PyavSource(tmp_path / "out.mp4", threads=1)
    frames = list(source)
    assert source.info.color == spec
    assert abs(media.luma_of(frames[0].image.y) - 16) < 2  # stored as it was, not rescaled


def test_primaries_and_transfer_follow_the_source(tmp_path: Path) -> None:
    source = media.make(tmp_path / "in.mp4", Clip(color=(9, 1, 9, 14)))
    copy_through(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        context: Any = container.streams.video[0].codec_context
        tags = (context.colorspace, context.color_range, context.color_primaries)
        assert (*tags, context.color_trc) == (9, 1, 9, 14)


def test_a_cover_picture_lends_no_color_tags(tmp_path: Path) -> None:
    video = media.make(tmp_path / "video.mp4", Clip(color=(9, 1, 9, 14)))
    source = media.with_cover(tmp_path / "in.mp4", video)
    copy_through(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        context: Any = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc) == (9, 9, 14)


def test_rotation_is_applied_once(tmp_path: Path) -> None:
    source = media.rotate(media.make(tmp_path / "in.mp4"), 90)
    copy_through(source, tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height, frame.rotation) == (48, 64, 0)


@pytest.mark.parametrize("first", [-30, -1, 5, 250])
def test_no_frame_is_lost_at_an_odd_start(tmp_path: Path, first: int) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    for index in range(10):
        sink.write(gray_frame(index, first + index))
    sink.close()
    times = media.times_of(tmp_path / "out.mp4")
    whole_s = first // 25
    assert times == [Fraction(first + i, 25) - whole_s for i in range(10)]


def test_abort_leaves_a_playable_partial_file(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    for index in range(30):
        sink.write(gray_frame(index))
    sink.abort()
    sink.abort()
    assert sink.partial_path == tmp_path / "out.partial.mp4"
    assert not (tmp_path / "out.mp4").exists()
    assert len(media.times_of(sink.partial_path)) == 30
    with pytest.raises(SinkError, match="closed"):
        sink.write(gray_frame(30))


def test_abort_stops_the_audio_with_the_video(tmp_path: Path) -> None:
    source = media.make(tmp_path / "in.mp4", Clip(frames=10, audio=[Audio(seconds=5)]))
    sink = open_sink(tmp_path / "out.mp4", audio_from=source)
    for index in range(25):
        sink.write(gray_frame(index))
    sink.abort()
    assert sink.partial_path is not None
    assert 0.8 < media.packets_of(sink.partial_path, "audio")[-1][0] < 1.2


def test_abort_without_a_frame_leaves_nothing(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    assert sink.partial_path is not None
    assert sink.partial_path.exists()
    sink.abort()
    assert sink.partial_path is None
    assert list(tmp_path.iterdir()) == []


def test_close_without_a_frame_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="no frame"):
        open_sink(tmp_path / "out.mp4").close()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        open_sink(out)
    assert out.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [out]


def test_an_output_that_appears_meanwhile_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    sink = open_sink(out)
    sink.write(gray_frame(0))
    out.write_text("mine")
    with pytest.raises(SinkError, match="appeared"):
        sink.close()
    assert out.read_text() == "mine"
    assert sink.partial_path is not None
    assert len(media.times_of(sink.partial_path)) == 1


def test_overwrite_replaces_only_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("old")
    sink = open_sink(out, overwrite=True)
    sink.write(gray_frame(0))
    assert out.read_text() == "old"
    sink.close()
    sink.close()
    assert len(media.times_of(out)) == 1
    assert sink.partial_path is None


def test_two_sinks_never_share_an_output(tmp_path: Path) -> None:
    first = open_sink(tmp_path / "out.mp4")
    with pytest.raises(UsageError, match="another process"):
        open_sink(tmp_path / "out.mp4")
    first.write(gray_frame(0))
    first.close()
    assert len(media.times_of(tmp_path / "out.mp4")) == 1


class Publishing:
    """`flock` of one process that finds another one publishing right before it locks."""

    def __init__(self, other: OutputFile) -> None:
        self._other: OutputFile | None = other

    def __call__(self, fd: int, operation: int) -> None:
        other, self._other = self._other, None
        if other is not None:
            other.publish()
        fcntl.flock(fd, operation)


def no_locks(fd: int, operation: int) -> None:
    """`flock` of a file system without it."""
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


def test_without_file_locks_only_a_new_partial_file_is_written(tmp_path: Path) -> None:
    final, partial = tmp_path / "out.mp4", tmp_path / "out.partial.mp4"
    first = OutputFile(final, overwrite=True, lock=no_locks)
    first.write(b"whole")
    with pytest.raises(
        SinkError, match=r"has no file locks \(Operation not supported\).*delete it"
    ):
        OutputFile(final, overwrite=True, lock=no_locks)
    assert partial.read_bytes() == b"whole"
    first.publish()
    assert (final.read_bytes(), partial.exists()) == (b"whole", False)


@pytest.mark.parametrize(
    ("code", "is_written"), [(0, False), (errno.EACCES, True), (errno.EOPNOTSUPP, False)]
)
def test_what_a_file_system_says_of_a_lock_shows_whether_an_output_is_written(
    tmp_path: Path, code: int, is_written: bool
) -> None:
    def lock(fd: int, operation: int) -> None:
        if code:
            raise OSError(code, os.strerror(code))

    assert not is_being_written(tmp_path / "out.mp4", lock)  # there is no file
    partial_path_of(tmp_path / "out.mp4").touch()
    assert is_being_written(tmp_path / "out.mp4", lock) == is_written


def test_a_finished_output_is_never_cut(tmp_path: Path) -> None:
    first = OutputFile(tmp_path / "out.mp4", overwrite=False)
    first.write(b"whole" * 100)
    with pytest.raises(UsageError, match="exists"):
        OutputFile(tmp_path / "out.mp4", overwrite=False, lock=Publishing(first))
    assert (tmp_path / "out.mp4").read_bytes() == b"whole" * 100
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path) -> None:
    final = tmp_path / "out.mp4"
    seen: list[tuple[int, bool]] = []

    def sync(fd: int) -> None:
        seen.append((os.fstat(fd).st_size, final.exists()))

    file = OutputFile(final, overwrite=False, sync=sync)
    file.write(b"whole")
    file.publish()
    assert (seen, final.read_bytes()) == ([(5, False)], b"whole")


def test_what_the_disk_does_not_take_gets_no_name(tmp_path: Path) -> None:
    def sync(fd: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")  # file systems of a network say so late

    file = OutputFile(tmp_path / "out.mp4", overwrite=False, sync=sync)
    with pytest.raises(DiskFullError, match="no space is left"):
        file.publish()
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial.mp4"]


def test_a_finished_output_with_its_partial_name_too_is_not_cut(tmp_path: Path) -> None:
    """As a kill between giving the one name and taking the other leaves it."""
    final, partial = tmp_path / "out.mp4", tmp_path / "out.partial.mp4"
    final.write_bytes(b"whole")
    partial.hardlink_to(final)
    file = OutputFile(final, overwrite=True)
    file.write(b"new")
    assert (final.read_bytes(), partial.read_bytes()) == (b"whole", b"new")
    file.publish()
    assert final.read_bytes() == b"new"
    assert not partial.exists()


def test_a_stale_partial_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.partial.mp4").write_bytes(b"x" * 100_000)
    sink = open_sink(tmp_path / "out.mp4")
    sink.write(gray_frame(0))
    sink.close()
    assert sorted(boxes_of(tmp_path / "out.mp4")) == ["free", "ftyp", "mdat", "moov"]


def test_the_input_is_never_the_output(tmp_path: Path) -> None:
    source = media.make(tmp_path / "in.mp4")
    before = source.read_bytes()
    (tmp_path / "link.mp4").symlink_to(source)
    for name in ("in.mp4", "link.mp4"):
        with pytest.raises(UsageError, match="input itself"):
            open_sink(tmp_path / name, audio_from=source, overwrite=True)
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "options", "error", "says"),
    [
        ("out.xyz", {}, UsageError, r"\.mp4, \.m4v, \.mov, \.mkv"),
        ("out", {}, UsageError, "suffix ''"),
        ("no/such/out.mp4", {}, SinkError, "is not a directory"),
        ("out.mp4", {"encoder": "nvenc"}, UsageError, "expected 'x264'"),
        ("out.mp4", {"crf": 99}, UsageError, "0 to 51"),
        ("out.mp4", {"threads": 0}, UsageError, "threads"),
        ("out.mp4", {"preset": "warp"}, SinkError, "out.mp4"),
        ("out.mp4", {"audio_from": "/no/such.mp4"}, SourceError, "such.mp4"),
    ],
)
def test_bad_requests_leave_nothing_behind(
    tmp_path: Path, name: str, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        open_sink(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_output(tmp_path: Path) -> None:
    (tmp_path / "out.mp4").mkdir()
    with pytest.raises(UsageError, match="directory"):
        open_sink(tmp_path / "out.mp4", overwrite=True)


def test_a_read_only_directory_says_so(open_directory: Path) -> None:
    give_away(open_directory, 0o500)
    with unprivileged(), pytest.raises(SinkError, match="not writable"):
        open_sink(open_directory / "out.mp4")


def test_a_frame_of_another_size_or_clock_is_refused(tmp_path: Path) -> None:
    sink = open_sink(tmp_path / "out.mp4")
    image = Nv12Image(np.zeros((50, 64), np.uint8), np.zeros((25, 32, 2), np.uint8))
    with pytest.raises(SinkError, match=r"\(64, 50\)"):
        sink.write(replace(gray_frame(0), image=image))
    with pytest.raises(SinkError, match="1/30"):
        sink.write(replace(gray_frame(0), time_base=Fraction(1, 30)))
    sink.abort()


def test_null_sink_counts(tmp_path: Path) -> None:
    sink = NullSink()
    for index in range(3):
        sink.write(gray_frame(index))
    sink.close()
    sink.abort()
    assert (sink.frame_count, sink.partial_path, sink.warnings) == (3, None, ())


def test_damaged_audio_is_left_out_and_the_video_is_whole(tmp_path: Path) -> None:
    """AAC in MPEG-TS: each packet repeats the decoder's settings, and some are noise."""
    source = media.make(tmp_path / "in.ts", Clip(frames=50, audio=[Audio(seconds=2)]))
    data = bytearray(source.read_bytes())
    marks = [at for at in range(len(data) // 3, len(data)) if data[at : at + 2] == b"\xff\xf1"]
    for at in marks[::5]:
        data[at : at + 7] = bytes(7)
    source.write_bytes(data)
    sink = open_sink(tmp_path / "out.mp4", audio_from=source)
    for index in range(50):
        sink.write(gray_frame(index))
    sink.close()
    assert len(media.times_of(tmp_path / "out.mp4")) == 50
    assert any("damaged audio or subtitle packets were left out" in text for text in sink.warnings)
    assert 40 < len(media.packets_of(tmp_path / "out.mp4", "audio")) < 94


def test_the_same_pictures_give_the_same_packets(tmp_path: Path) -> None:
    """Red on a processor with AVX-512 where x264 may use it: two of three differ."""
    down, right = np.mgrid[0:200, 0:320]
    scene = (128 + 60 * np.sin(right / 17) * np.cos(down / 13) + down / 4).astype(np.uint8)
    planes = [scene[index : index + 180] for index in range(20)]
    uv = np.stack([scene[:90, :160], scene[60:150, 100:260]], axis=-1)
    made = set()
    for number in range(12):
        path = tmp_path / f"{number}.mp4"
        sink = PyavSink(path, INFO, (320, 180), threads=1)
        for index, y in enumerate(planes):
            sink.write(Frame(index, index, Fraction(1, 25), Nv12Image(y, uv)))
        sink.close()
        with av.open(path) as container:
            made.add(b"".join(bytes(packet) for packet in container.demux(video=0)))
    assert len(made) == 1


def test_x264_is_kept_from_avx512_where_there_is_one() -> None:
    assert x264_params(frozenset({"avx2", "avx512f"})) == "8x8dct=1:asm=avx2"
    assert x264_params(frozenset({"avx2"})) == x264_params(frozenset()) == "8x8dct=1"


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_a_link_in_the_partial_files_place_is_not_followed(tmp_path: Path, target: str) -> None:
    """In a directory of many users it would lead to a file of somebody's choice."""
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "out.partial.mp4").symlink_to(tmp_path / target)
    with pytest.raises(SinkError, match=r"out\.partial\.mp4: is a symbolic link"):
        OutputFile(tmp_path / "out.mp4", overwrite=True)
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.partial.mp4", "victim"]


def test_another_name_of_a_left_behind_file_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "out.partial.mp4").hardlink_to(tmp_path / "victim")
    file = OutputFile(tmp_path / "out.mp4", overwrite=False)
    file.write(b"new")
    file.publish()
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / "out.mp4").read_bytes() == b"new"


def test_an_output_that_is_a_link_is_replaced_and_its_target_stays(tmp_path: Path) -> None:
    final = tmp_path / "out.mp4"
    (tmp_path / "victim").write_bytes(b"precious")
    final.symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="exists"):
        OutputFile(final, overwrite=False)
    file = OutputFile(final, overwrite=True)
    file.write(b"new")
    file.publish()
    assert (final.is_symlink(), final.read_bytes()) == (False, b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_a_pipe_in_the_partial_files_place_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "out.partial.mp4")
    with pytest.raises(SinkError, match="exists and is no file"):
        OutputFile(tmp_path / "out.mp4", overwrite=True)


@pytest.mark.parametrize("overwrite", [True, False])
def test_what_took_the_partial_files_place_meanwhile_is_not_published(
    tmp_path: Path, overwrite: bool
) -> None:
    file = OutputFile(tmp_path / "out.mp4", overwrite=overwrite)
    file.write(b"ours")
    (tmp_path / "out.partial.mp4").rename(tmp_path / "moved")
    (tmp_path / "out.partial.mp4").write_bytes(b"somebody's")
    with pytest.raises(SinkError, match=f"replaced while .* the result is {tmp_path}/moved"):
        file.publish()
    assert not (tmp_path / "out.mp4").exists()
    assert (tmp_path / "moved").read_bytes() == b"ours"


def test_a_directory_that_was_renamed_meanwhile_is_said(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    file = OutputFile(tmp_path / "before" / "out.mp4", overwrite=True)
    file.write(b"ours")
    (tmp_path / "before").rename(tmp_path / "after")
    with pytest.raises(SinkError, match=r"its directory was; .*/after/out\.partial\.mp4"):
        file.publish()


def test_an_output_that_is_replaced_keeps_its_permissions(tmp_path: Path) -> None:
    final = tmp_path / "out.mp4"
    final.touch(0o600)
    file = OutputFile(final, overwrite=True)
    assert partial_path_of(final).stat().st_mode & 0o777 == 0o600
    file.publish()
    assert final.stat().st_mode & 0o777 == 0o600

"""Kinds of files that cameras, recorders and calls write: read as a player plays them.

Each test makes its file, reads it, and compares with an independent reader (plain PyAV, which
plays as FFmpeg does) or with what was drawn.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from dualface_client.errors import SourceError
from dualface_client.types import Frame
from dualface_client.video.check import readable_frames
from dualface_client.video.header import read_header
from dualface_client.video.packets import PictureTimes
from dualface_client.video.sink import PyavSink
from dualface_client.video.source import PyavSource
from tests import media
from tests.media import Audio, Clip

MEDIUM = {"preset": "medium"}  # with B frames


def read(path: Path, video_track: int | None = None) -> tuple[PyavSource, list[Frame]]:
    source = PyavSource(path, threads=1, video_track=video_track)
    return source, list(source)


def times(frames: Sequence[Frame]) -> list[Fraction]:
    return [frame.pts * frame.time_base for frame in frames]


def lumas(frames: Sequence[Frame]) -> list[float]:
    return [media.luma_of(frame.image.y) for frame in frames]


def copied(source: PyavSource, path: Path, out: Path) -> Path:
    """The source's pictures and sound, unchanged, in a new file."""
    info = source.info
    sink = PyavSink(out, info, (info.width_px, info.height_px), audio_from=path, threads=1)
    for frame in source:
        sink.write(frame)
    assert sink.close()
    return out


# --- times


@pytest.mark.parametrize("rate", [10, 25])
@pytest.mark.parametrize("suffix", [".avi", ".asf"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_where_only_decode_times_are_known_pictures_get_them_in_their_order(
    tmp_path: Path, rate: int, suffix: str, codec: str
) -> None:
    options = MEDIUM if codec == "libx264" else {"bf": "2"}
    clip = Clip(frames=20, rate=Fraction(rate), codec=codec, options=options)
    path = media.make(tmp_path / f"b{suffix}", clip)
    source, frames = read(path)
    found = times(frames)
    assert {round(b - a, 3) for a, b in itertools.pairwise(found)} == {Fraction(1, rate)}
    assert found[0] in (0, Fraction(1, rate))  # FFmpeg plays it up to a frame later
    assert media.luma_order_is_kept(lumas(frames))
    assert (source.warnings, source.incomplete) == ((), "")


def test_without_b_frames_the_decode_times_are_the_times(tmp_path: Path) -> None:
    _, frames = read(media.make(tmp_path / "p.avi", Clip(options={"bf": "0"})))
    assert times(frames) == [Fraction(i, 25) for i in range(10)]


def test_a_lost_packet_moves_no_later_picture_of_an_avi(tmp_path: Path) -> None:
    whole = media.make(tmp_path / "whole.avi", Clip(frames=60, options={**MEDIUM, "g": "10"}))
    _, expected = read(whole)
    source, frames = read(media.damage(tmp_path / "bad.avi", whole, [12], skip=0))
    assert source.decode_errors
    assert times(frames)[-20:] == times(expected)[-20:]
    assert lumas(frames)[-20:] == lumas(expected)[-20:]


def test_packets_without_a_picture_do_not_move_the_times_for_long() -> None:
    """Some packets never become a picture, and no decoder says which."""
    times = PictureTimes(delay=1)
    placed: list[int | None] = []
    for number in range(80):
        packet: av.Packet[Any] = av.Packet(4)
        packet.dts = number
        times.send(packet)
        if number not in (20, 21):
            placed.append(times.shown(packet.pts))
    assert placed[:20] == list(range(1, 21))
    # For a while, the two might still be shown.
    assert placed[20:36] == list(range(21, 37))
    assert placed[36:] == list(range(39, 81))


GAPS: dict[str, Sequence[int]] = {
    "last.mkv": (*range(30), 330),
    "near-the-end.mp4": (*range(30), 330, 331, 332),
    "near-the-end.mkv": (*range(30), 330, 331, 332),
    "one-in-10-s.mp4": range(0, 2500, 250),
    "several.mp4": (0, 500, 501, 502, 900),
}


@pytest.mark.parametrize("name", sorted(GAPS))
def test_a_gap_between_reordered_pictures_stays(tmp_path: Path, name: str) -> None:
    """They are decoded before the gap and shown behind it."""
    clip = Clip(pts=GAPS[name], time_base=Fraction(1, 25), options=MEDIUM)
    source, frames = read(media.make(tmp_path / name, clip))
    start = times(frames)[0]
    assert [round((t - start) * 25) for t in times(frames)] == list(GAPS[name])
    assert (source.warnings, source.incomplete) == ((), "")


# --- edit lists

PARTS = {
    "middle": ((0.5, 0.0), (0.5, 1.0)),
    "several": ((0.4, 0.0), (0.4, 0.8), (0.4, 1.6)),
    "off_key": ((0.52, 0.32), (0.48, 1.32)),
}


def heard(path: Path) -> tuple[npt.NDArray[np.float32], float]:
    """Samples of a file's first sound track as a player plays them, and when the first is."""
    with av.open(str(path)) as container:
        blocks = [(f.time or 0.0, f.to_ndarray()[0]) for f in container.decode(audio=0)]
    return np.concatenate([samples for _, samples in blocks]), blocks[0][0]


@pytest.mark.parametrize("name", sorted(PARTS))
def test_what_an_edit_list_cuts_out_is_neither_seen_nor_heard(tmp_path: Path, name: str) -> None:
    clip = Clip(frames=50, options={"g": "25", "bf": "0"}, audio=[Audio(seconds=2)])
    path = media.edit(media.make(tmp_path / "cut.mp4", clip), PARTS[name])
    with av.open(str(path)) as container:
        shown = [frame.pts for frame in container.decode(video=0)]
    source = PyavSource(path, threads=1)
    out = copied(source, path, tmp_path / "out.mp4")
    ours = media.times_of(out)
    assert [round(t * 12_800) for t in ours] == shown
    length_s = sum(part for part, _ in PARTS[name])
    for kind in ("video", "audio"):
        packets = media.packets_of(out, kind)
        assert float(packets[-1][0]) == pytest.approx(length_s, abs=0.07)
    samples, start_s = heard(out)
    theirs, _ = heard(path)
    assert abs(start_s) < 0.001
    assert abs(len(samples) - len(theirs)) <= 2048
    assert source.warnings == ()
    assert readable_frames(path) == len(shown)


def test_priming_of_the_sound_is_kept(tmp_path: Path) -> None:
    path = media.make(tmp_path / "in.mp4", Clip(frames=25, audio=[Audio()]))
    out = copied(PyavSource(path, threads=1), path, tmp_path / "out.mp4")
    assert media.packets_of(out, "audio") == media.packets_of(path, "audio")
    assert media.packets_of(out, "audio")[0][0] < 0


# --- which track

BIG, SMALL = (64, 48), (32, 24)


def movie(path: Path, size: tuple[int, int] = BIG, tone_hz: float = 440.0) -> Path:
    audio = [Audio(seconds=1, tone_hz=tone_hz)]
    return media.make(path, Clip(frames=25, size_wh_px=size, audio=audio))


def silent(path: Path, frames: int = 25, size: tuple[int, int] = SMALL, **more: str) -> Path:
    return media.make(path, Clip(frames=frames, size_wh_px=size, **more))  # type: ignore[arg-type] # its str fields


def still(path: Path) -> Path:
    """One picture, larger than the videos of these tests."""
    return silent(path, 1, (320, 240), codec="mjpeg", pix_fmt="yuvj420p")


@pytest.mark.parametrize("suffix", [".mov", ".mkv"])
def test_a_preview_picture_is_not_the_video(tmp_path: Path, suffix: str) -> None:
    preview, video = still(tmp_path / "p.mov"), movie(tmp_path / "v.mp4")
    source, frames = read(media.beside(tmp_path / f"both{suffix}", [preview, video]))
    assert len(frames) == 25
    assert (source.info.width_px, source.info.height_px) == BIG
    assert source.info.notes[0].startswith("video track 2 of 2 is used (1 mjpeg 320x240")


@pytest.mark.parametrize(
    ("default", "expected"), [(0, SMALL), (1, BIG), (None, BIG)], ids=["first", "second", "both"]
)
def test_the_default_track_is_used_else_the_largest(
    tmp_path: Path, default: int | None, expected: tuple[int, int]
) -> None:
    sources = [silent(tmp_path / "s.mp4"), movie(tmp_path / "b.mp4")]
    path = media.beside(tmp_path / "two.mkv", sources, default)
    source, _ = read(path)
    assert (source.info.width_px, source.info.height_px) == expected
    assert read_header(path).width_px == expected[0]


@pytest.mark.parametrize(("track", "expected"), [(1, SMALL), (2, BIG)])
def test_a_track_can_be_named(tmp_path: Path, track: int, expected: tuple[int, int]) -> None:
    sources = [silent(tmp_path / "s.mp4", 30), movie(tmp_path / "b.mp4")]
    path = media.beside(tmp_path / "two.mkv", sources)
    source, frames = read(path, video_track=track)
    assert (source.info.width_px, source.info.height_px) == expected
    assert len(frames) == readable_frames(path, track) == (30 if track == 1 else 25)


@pytest.mark.parametrize("track", [0, 3])
def test_a_track_that_is_not_there_is_named(tmp_path: Path, track: int) -> None:
    path = media.beside(
        tmp_path / "two.mkv", [silent(tmp_path / "s.mp4"), movie(tmp_path / "b.mp4")]
    )
    with pytest.raises(SourceError, match=f"no video track {track}; it has 2: 1 h264 32x24"):
        PyavSource(path, video_track=track)


def test_a_track_without_a_decoder_is_passed_over(tmp_path: Path) -> None:
    path = media.beside(tmp_path / "x.mp4", [movie(tmp_path / "b.mp4"), silent(tmp_path / "s.mp4")])
    source, frames = read(media.hide_codec(path, b"avc1"))
    assert len(frames) == 25
    assert (source.info.width_px, source.info.height_px) == SMALL
    assert "1 cannot be decoded" in source.info.notes[0]
    with pytest.raises(SourceError, match="no decoder for video track 1"):
        PyavSource(path, video_track=1)


def test_a_track_of_which_nothing_decodes_is_passed_over(tmp_path: Path) -> None:
    large = movie(tmp_path / "b.mp4")
    bad = media.damage(tmp_path / "bad.mp4", large, range(25), skip=0)
    path = media.beside(tmp_path / "x.mkv", [bad, silent(tmp_path / "s.mp4")])
    source, frames = read(path)
    assert len(frames) == 25
    assert (source.info.width_px, source.info.height_px) == SMALL
    assert source.decode_errors == 0


@pytest.mark.parametrize("track", [1, 2])
def test_a_programme_has_its_own_sound(tmp_path: Path, track: int) -> None:
    parts = [movie(tmp_path / "1.ts", SMALL, 880), movie(tmp_path / "2.ts", BIG, 440)]
    path = media.programmes(tmp_path / "tv.ts", parts)
    source = PyavSource(path, threads=1, video_track=track)
    assert (source.info.width_px, source.info.audio_stream_count) == ((SMALL, BIG)[track - 1][0], 1)
    assert "with 1 of 2 sound tracks, those of its programme" in source.info.notes[0]
    out = copied(source, path, tmp_path / "out.mp4")
    own = [data for _, data in media.packets_of(parts[track - 1], "audio")]
    assert [data for _, data in media.packets_of(out, "audio")] == [
        data[7:]
        for data in own  # without the ADTS header of a transport stream
    ]


# --- the way up

ORIENTATIONS = {
    "mirrored": (-1, 0, 0, 1),
    "upside_down_mirrored": (1, 0, 0, -1),
    "rotated_90": (0, 1, -1, 0),
    "rotated_180": (-1, 0, 0, -1),
    "rotated_270": (0, -1, 1, 0),
    "transposed": (0, 1, 1, 0),
    "anti_transposed": (0, -1, -1, 0),
}


def drawn_f(size_wh: tuple[int, int] = (64, 48)) -> npt.NDArray[np.uint8]:
    """A picture of the letter F, shape `(height, width, 3)`: every way up looks different."""
    width, height = size_wh
    picture = np.full((height, width, 3), 40, np.uint8)
    picture[8:40, 16:24] = picture[8:16, 16:48] = picture[20:28, 16:36] = 200
    return picture


def write_pictures(
    path: Path, pictures: Sequence[npt.NDArray[np.uint8]], **settings: object
) -> Path:
    """An intra-only H.264 file of RGB pictures at 25 frames/s; settings of the codec context."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25, options={"crf": "8", "g": "1"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def is_shown_at(
    picture: npt.NDArray[np.uint8], a: int, b: int, c: int, d: int
) -> npt.NDArray[np.uint8]:
    """Moves each point (x, y) to (a x + c y, b x + d y), as ISO/IEC 14496-12 says."""
    height, width = picture.shape
    points = {
        (a * x + c * y, b * x + d * y): picture[y, x] for y in range(height) for x in range(width)
    }
    left, top = (min(values) for values in zip(*points, strict=True))
    right, bottom = (max(values) for values in zip(*points, strict=True))
    out = np.zeros((bottom - top + 1, right - left + 1), np.uint8)
    for (x, y), value in points.items():
        out[y - top, x - left] = value
    return out


@pytest.mark.parametrize("name", sorted(ORIENTATIONS))
def test_a_picture_stands_as_its_matrix_says(tmp_path: Path, name: str) -> None:
    matrix = ORIENTATIONS[name]
    path = media.set_matrix(write_pictures(tmp_path / "f.mp4", [drawn_f()] * 2), *matrix)
    source, frames = read(path)
    expected = is_shown_at(drawn_f()[..., 1], *matrix)
    assert frames[0].image.y.shape == expected.shape
    limited = 16 + expected * (219 / 255)
    assert np.abs(frames[0].image.y - limited).mean() < 3
    assert source.info.notes[0].endswith("to stand upright")


# --- levels without colour


@pytest.mark.parametrize("samples", [0, 1, 2])
@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray12le"])
def test_levels_of_a_picture_without_colour_stay(
    tmp_path: Path, pix_fmt: str, samples: int
) -> None:
    clip = Clip(frames=3, codec="libx265", pix_fmt=pix_fmt, color=(2, samples, 2, 2))
    path = media.make(tmp_path / "mono.mp4", clip)
    source, frames = read(path)
    with av.open(str(path)) as container:
        decoded = next(container.decode(video=0))
        bits = decoded.format.components[0].bits
        plane = np.frombuffer(bytes(decoded.planes[0]), np.uint8 if bits == 8 else "<u2")
        stride = decoded.planes[0].line_size // (1 if bits == 8 else 2)
        levels = plane.reshape(48, stride)[:, :64] / 2 ** (bits - 8)
    assert np.abs(frames[0].image.y - levels).max() < 1.5  # libswscale dithers
    assert (frames[0].image.uv == 128).all()
    assert source.info.color.full_range == (samples == 2)


# --- joined transport streams

MS_3 = Fraction(3, 1000)  # Matroska, in which these tests look, counts milliseconds


def part(path: Path, video_s: float, sound_s: float, start_s: float = 0.0) -> Path:
    first = round(start_s * 25)
    stamps = range(first, first + round(video_s * 25))
    audio = [Audio(seconds=sound_s, start_s=start_s)]
    clip = Clip(pts=stamps, time_base=Fraction(1, 25), options={"bf": "0"}, audio=audio)
    return media.make(path, clip)


def starts_of(path: Path) -> dict[str, list[Fraction]]:
    """Presentation times of a file's packets by kind, in order."""
    return {kind: sorted(t for t, _ in media.packets_of(path, kind)) for kind in ("video", "audio")}


@pytest.mark.parametrize(
    ("lengths", "count"),
    [
        ([(1.2, 2.0), (2.0, 2.0)], 2),
        ([(2.0, 1.2), (2.0, 2.0)], 2),
        ([(0.6, 1.0), (1.0, 0.6)] * 3, 6),
        ([(1.0, 1.0)] * 12, 12),
    ],
    ids=["sound-longer", "picture-longer", "in-turns", "twelve"],
)
def test_parts_of_a_joined_stream_stay_in_sync(
    tmp_path: Path, lengths: list[tuple[float, float]], count: int
) -> None:
    parts = [part(tmp_path / f"{n}.ts", *each) for n, each in enumerate(lengths)]
    path = media.join(tmp_path / "joined.ts", parts)
    source = PyavSource(path, threads=1)
    out = copied(source, path, tmp_path / "out.mkv")
    found = starts_of(out)
    at = {"video": 0, "audio": 0}
    ends = Fraction(0)
    for each in parts:
        expected = starts_of(each)
        first = {}
        for kind, stamps in expected.items():
            ours = found[kind][at[kind] : at[kind] + len(stamps)]
            at[kind] += len(stamps)
            first[kind] = ours[0] - stamps[0]
            steps = [t - s for t, s in zip(ours, stamps, strict=True)]
            assert max(steps) - min(steps) < MS_3
        assert abs(first["video"] - first["audio"]) < MS_3
        begins = min(stamps[0] + first[kind] for kind, stamps in expected.items())
        assert begins >= ends - MS_3
        ends = max(stamps[-1] + first[kind] for kind, stamps in expected.items())
    assert at == {kind: len(stamps) for kind, stamps in found.items()}  # nothing dropped
    assert any(f"{count - 1} joins" in text for text in source.warnings)


def test_parts_that_overlap_lose_nothing(tmp_path: Path) -> None:
    parts = [part(tmp_path / "1.ts", 1, 1), part(tmp_path / "2.ts", 1, 1, start_s=0.84)]
    path = media.join(tmp_path / "joined.ts", parts)
    source = PyavSource(path, threads=1)
    out = copied(source, path, tmp_path / "out.mkv")
    found = starts_of(out)
    for kind in ("video", "audio"):
        assert len(found[kind]) == sum(len(starts_of(each)[kind]) for each in parts)
        assert all(b > a for a, b in itertools.pairwise(found[kind]))
    # The second part starts with its sound, as in its own file.
    lead = starts_of(parts[1])
    ours = found["video"][25] - found["audio"][len(starts_of(parts[0])["audio"])]
    assert abs(ours - (lead["video"][0] - lead["audio"][0])) < MS_3


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_overlap_of_some_packets_of_sound_loses_none(tmp_path: Path, suffix: str) -> None:
    """The sound of a part begins before that of the one before ends, its picture does not."""
    first = part(tmp_path / "1.ts", 1, 1.08)
    path = media.join(tmp_path / "joined.ts", [first, part(tmp_path / "2.ts", 1, 1, start_s=1)])
    source = PyavSource(path, threads=1)
    out = copied(source, path, tmp_path / f"out{suffix}")
    found, theirs = starts_of(out), starts_of(path)
    assert {kind: len(stamps) for kind, stamps in found.items()} == {
        kind: len(stamps) for kind, stamps in theirs.items()
    }
    assert max(abs(a - b) for a, b in zip(found["audio"], theirs["audio"], strict=True)) < Fraction(
        1, 12
    )
    assert not any("joins" in text for text in source.warnings)


def test_one_wrong_time_is_no_join(tmp_path: Path) -> None:
    """A damaged stamp far back, and right ones behind it."""
    path = part(tmp_path / "a.ts", 2, 2)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packet = list(container.demux(video=0))[20]
    at = data.index(b"\x00\x00\x01\xe0", packet.pos) + 9
    assert data[at - 2] >> 6 == 2  # only a PTS, five bytes (ISO/IEC 13818-1, 2.4.3.7)
    data[at : at + 5] = struct.pack(">BHH", 0x21, 1, 1)
    path.write_bytes(data)
    source, frames = read(path)
    steps = [b - a for a, b in itertools.pairwise(times(frames))]
    assert len(frames) == 50
    assert frames[-1].time_s - frames[0].time_s == pytest.approx(49 / 25)
    assert sum(step != Fraction(1, 25) for step in steps) <= 2
    assert not any("joins" in text for text in source.warnings)


# --- shape


def circle(size_wh: tuple[int, int], aspect: float = 1.0) -> npt.NDArray[np.uint8]:
    """A picture of a circle, if its samples have the aspect."""
    width, height = size_wh
    y, x = np.mgrid[:height, :width]
    radius = min(width * aspect, height) / 3
    inside = ((x - width / 2) * aspect) ** 2 + (y - height / 2) ** 2 < radius**2
    return np.where(inside, 220, 40)[..., None].repeat(3, axis=2).astype(np.uint8)


def extent(y: npt.NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height of the bright part."""
    rows, columns = np.nonzero(y > 120)
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


@pytest.mark.parametrize(
    ("size_wh", "aspect"),
    [((96, 320), 1.0), ((640, 96), 1.0), ((240, 180), 4 / 3), ((320, 180), 0.5), ((50, 50), 1.0)],
)
def test_a_part_of_another_shape_keeps_it(
    tmp_path: Path, size_wh: tuple[int, int], aspect: float
) -> None:
    first = write_pictures(tmp_path / "1.ts", [circle((320, 180))] * 10)
    ratio = Fraction(aspect).limit_denominator(10)
    second = write_pictures(
        tmp_path / "2.ts", [circle(size_wh, aspect)] * 10, sample_aspect_ratio=ratio
    )
    source, frames = read(media.join(tmp_path / "both.ts", [first, second]))
    assert {frame.image.y.shape for frame in frames} == {(180, 320)}
    assert len(frames) == 20
    for frame in (frames[9], frames[10], frames[19]):
        width, height = extent(frame.image.y)
        assert abs(width - height) <= 4, frame.index
    assert any(
        "10 frames differ in size or shape from the first one" in text for text in source.warnings
    )


# --- the end


def long_clip(path: Path, **more: object) -> Path:
    clip = Clip(frames=200, size_wh_px=(320, 240), options={"g": "10", "crf": "5"}, **more)  # type: ignore[arg-type] # its own fields
    return media.make(path, clip)


def test_a_file_that_is_cut_short_while_it_is_read_is_incomplete(tmp_path: Path) -> None:
    path = long_clip(tmp_path / "a.mp4", container={"movflags": "faststart"})
    source = PyavSource(path, threads=1)
    os.truncate(path, path.stat().st_size // 2)
    frames = list(source)
    assert 20 < len(frames) < 180
    assert "of 200 pictures came" in source.incomplete
    assert any("of 200 pictures came" in text for text in source.warnings)


@pytest.mark.parametrize("name", ["front.mp4", "a.mkv", "a.avi", "a.flv"])
def test_a_file_that_was_cut_short_is_incomplete(tmp_path: Path, name: str) -> None:
    container = {"movflags": "faststart"} if name == "front.mp4" else {}
    whole = long_clip(tmp_path / f"whole_{name}", container=container)
    source, frames = read(media.cut(tmp_path / name, whole, 0.6))
    assert 20 < len(frames) < 180
    assert source.incomplete.startswith(f"{tmp_path / name}: is not complete: ")
    assert source.warnings


@pytest.mark.parametrize(
    "name", ["a.mp4", "pieces.mp4", "a.mkv", "a.webm", "a.avi", "a.asf", "a.flv", "a.ts", "a.nut"]
)
@pytest.mark.parametrize("sound_s", [0.3, 1.0, 3.0])
def test_a_whole_file_is_complete(tmp_path: Path, name: str, sound_s: float) -> None:
    webm = name == "a.webm"
    audio = [Audio("libopus" if webm else "aac" if name != "a.asf" else "mp3", seconds=sound_s)]
    if name in ("a.avi", "a.flv"):
        audio = [Audio("mp3", seconds=sound_s)]
    clip = Clip(
        frames=30,
        codec="libvpx-vp9" if webm else "libx264",
        options={"deadline": "realtime"} if webm else MEDIUM,
        container={"movflags": "frag_keyframe+empty_moov"} if name == "pieces.mp4" else {},
        audio=audio if name != "a.flv" else (),
    )
    source, frames = read(media.make(tmp_path / name, clip))
    assert len(frames) == 30
    assert (source.incomplete, source.warnings) == ("", ())


@dataclass(frozen=True, slots=True)
class Pipe:
    """A file that a muxer can only write on."""

    write: Callable[[bytes], int]


def test_an_avi_that_came_through_a_pipe_is_complete(tmp_path: Path) -> None:
    """Its writer could not come back to say how long it is."""
    whole, path = media.make(tmp_path / "whole.avi", Clip(frames=30)), tmp_path / "a.avi"
    with (
        path.open("wb") as file,
        av.open(str(whole)) as source,
        av.open(Pipe(file.write), "w", format="avi") as output,
    ):
        copy = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    assert path.read_bytes()[4:8] == b"\xff" * 4
    source_, frames = read(path)
    assert len(frames) == 30
    assert (source_.incomplete, source_.warnings) == ("", ())


def with_error_correction(path: Path, source: Path) -> Path:
    """A transport stream as satellite receivers write it: 16 more bytes behind each packet."""
    data = source.read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    path.write_bytes(b"".join(packet + bytes(16) for packet in packets))
    return path


@pytest.mark.parametrize("missing", [0, 100])
def test_packets_with_error_correction_are_counted(tmp_path: Path, missing: int) -> None:
    whole = media.make(tmp_path / "whole.ts", Clip(frames=30))
    path = with_error_correction(tmp_path / "a.ts", whole)
    os.truncate(path, path.stat().st_size - missing)
    source, _ = read(path)
    assert bool(source.warnings) == bool(missing)


def test_a_gif_is_no_transport_stream(tmp_path: Path) -> None:
    source, frames = read(media.make(tmp_path / "a.gif", Clip(codec="gif", pix_fmt="rgb8")))
    assert len(frames) == 10
    assert source.warnings == ()


def test_a_video_behind_another_one_is_told(tmp_path: Path) -> None:
    part = media.make(tmp_path / "1.mp4", Clip(frames=20))
    source, frames = read(media.join(tmp_path / "both.mp4", [part, part]))
    assert len(frames) == 20  # as players do
    assert any(note.startswith("another video follows") for note in source.info.notes)


def test_an_encrypted_video_is_refused(tmp_path: Path) -> None:
    key = {f"encryption_{name}": "0123456789abcdef" * 2 for name in ("key", "kid")}
    clip = Clip(container={"encryption_scheme": "cenc-aes-ctr", **key})
    path = media.make(tmp_path / "a.mp4", clip)
    with pytest.raises(SourceError, match=r"a\.mp4: is encrypted \(DRM\)"):
        PyavSource(path)


def test_a_file_with_an_empty_sample_is_complete(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mp4", Clip(frames=30))
    data = bytearray(path.read_bytes())
    sizes_at = data.index(b"stsz") + 8  # ISO/IEC 14496-12: sample size, count, sizes
    assert struct.unpack_from(">2I", data, sizes_at) == (0, 30)
    struct.pack_into(">I", data, sizes_at + 8 + 4 * 29, 0)
    path.write_bytes(data)
    source, frames = read(path)
    assert len(frames) == 29
    assert source.incomplete == ""


def test_a_file_that_is_longer_than_it_says_is_told(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mkv", Clip(frames=100))
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3  # Duration, a double (RFC 9559)
    assert struct.unpack_from(">d", data, at)[0] == 4000
    path.write_bytes(data[:at] + struct.pack(">d", 3000) + data[at + 8 :])
    source, frames = read(path)
    assert len(frames) == 100
    assert source.incomplete == ""
    assert source.warnings == (
        "the file does not match its header: it ends 1.00 s after the end that its header gives",
    )


def test_a_closed_source_is_not_called_incomplete(tmp_path: Path) -> None:
    source = PyavSource(long_clip(tmp_path / "a.mp4"), threads=1)
    frames = iter(source)
    next(frames)
    source.close()
    assert list(frames) == []
    assert source.incomplete == ""


# --- sound against picture

AT_S = (0.4, 1.0, 1.6)


def clap(path: Path, seconds: float = 2.0, start_s: float = 0.0, **more: object) -> Path:
    """Flashes and beeps at the same moments: at the start, in the middle, at the end."""
    lossless = path.suffix in (".avi", ".mov")
    codec = "pcm_s16le" if lossless else "mp3" if path.suffix in (".asf", ".mpg", ".flv") else "aac"
    rate = Fraction(25)
    first = round(start_s * rate)
    clip = Clip(
        pts=range(first, first + round(seconds * rate)),
        rate=rate,
        time_base=1 / rate,
        options=MEDIUM,
        audio=[Audio(codec, seconds=seconds, start_s=start_s, tone_hz=1000, beeps_s=AT_S)],
        flashes_s=AT_S,
    )
    return media.make(path, replace(clip, **more))  # type: ignore[arg-type] # fields of a clip


def offsets_ms(path: Path) -> list[float]:
    """By how much each beep comes after its flash."""
    flashes, beeps = media.flashes_of(path), media.beeps_of(path)
    return [1000 * (beep - flash) for flash, beep in zip(flashes, beeps, strict=True)]


@pytest.mark.parametrize(
    "suffix",
    [".mp4", ".mov", ".mkv", ".ts", ".avi", ".asf", ".nut", ".mpg", ".late.ts", ".cut.mp4"],
)
def test_sound_and_picture_of_one_moment_stay_together(tmp_path: Path, suffix: str) -> None:
    more: dict[str, object] = {"start_s": 80_000.0} if suffix == ".late.ts" else {}
    if suffix == ".mpg":
        more = {"codec": "mpeg2video", "options": {"bf": "2"}}
    path = clap(tmp_path / f"in{suffix}", **more)  # type: ignore[arg-type] # its own keywords
    count = len(AT_S)
    if suffix == ".cut.mp4":
        # FFmpeg shows B frames behind a cut two frames late, and so does a copy of it.
        path = clap(tmp_path / "in.mp4", options={"g": "25", "bf": "0"})
        media.edit(path, [(0.8, 0.0), (0.8, 1.2)])  # without the middle
        count -= 1
    out = copied(PyavSource(path, threads=1), path, tmp_path / "out.mp4")
    found = offsets_ms(out)
    assert len(found) == count
    assert max(map(abs, found)) <= 41  # one frame


@pytest.mark.parametrize("overlap_s", [0.0, 0.16])
def test_sound_and_picture_stay_together_behind_joins(tmp_path: Path, overlap_s: float) -> None:
    parts = [
        clap(tmp_path / f"{n}.ts", start_s=n * (2 - overlap_s) * bool(overlap_s)) for n in (0, 1, 2)
    ]
    sound = [Audio(seconds=2.6, tone_hz=1000, beeps_s=AT_S)]
    parts.append(clap(tmp_path / "long_sound.ts", audio=sound))
    parts.append(clap(tmp_path / "last.ts"))
    path = media.join(tmp_path / "joined.ts", parts)
    out = copied(PyavSource(path, threads=1), path, tmp_path / "out.mp4")
    found = offsets_ms(out)
    assert len(found) == 5 * len(AT_S)
    assert max(map(abs, found)) <= 41


# --- what was right before, and stays so

UNCHANGED: dict[str, tuple[str, Clip]] = {
    "one-frame": ("a.mp4", Clip(frames=1)),
    "240-fps": ("a.mp4", Clip(frames=60, rate=Fraction(240))),
    "gap": ("a.mkv", Clip(pts=(0, 1, 2, 302, 303), time_base=Fraction(1, 25))),
    "epoch": (
        "a.mkv",
        Clip(pts=range(1_700_000_000_000, 1_700_000_000_400, 40), time_base=Fraction(1, 1000)),
    ),
    "negative": ("a.nut", Clip(pts=range(-5, 20), time_base=Fraction(1, 25))),
    "wrap": ("a.ts", Clip(pts=range(2_386_090, 2_386_190), time_base=Fraction(1, 25))),
    "32:9": ("a.mp4", Clip(size_wh_px=(256, 72))),
    "portrait": ("a.mp4", Clip(size_wh_px=(72, 128))),
}


@pytest.mark.parametrize("name", sorted(UNCHANGED))
def test_what_was_right_stays_right(tmp_path: Path, name: str) -> None:
    file, clip = UNCHANGED[name]
    path = media.make(tmp_path / file, clip)
    source, frames = read(path)
    theirs = media.times_of(path)
    assert times(frames) == theirs
    assert len(frames) == len(clip.pts or range(clip.frames))
    assert (source.info.width_px, source.info.height_px) == clip.size_wh_px
    assert (source.warnings, source.incomplete) == ((), "")

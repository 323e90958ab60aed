"""Muxing of bare Annex-B packets, with x264 in NVENC's place, and the options NVENC is given."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.errors import EncoderError, SinkError, UsageError
from dualface_client.types import ColorMatrix, ColorSpec, Frame, Nv12Image, VideoInfo
from dualface_client.video.annexb import (
    AnnexbFilter,
    DecodeStamps,
    begins_anew,
    sequence_sets,
)
from dualface_client.video.ffmpeg import packet_of
from dualface_client.video.nvenc import (
    Encode,
    NvencSink,
    check_options,
    encoder_of,
    encoder_options,
    packet_stream,
)
from tests import media

SIZE = (64, 48)
RATE = Fraction(30_000, 1001)
STAMPS = [0, 1001, 2002, 3100, 4004, 5200, 6006, 9009, 10_010, 11_011, 12_012, 20_020]


def x264(b_frames: int) -> Any:
    """An encoder with NVENC's manners: bare packets, numbered in presentation order."""
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
    context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
    context.options = {"preset": "medium", "x264-params": f"bframes={b_frames}:b-pyramid=none"}
    context.thread_count = 1
    count = 0

    def encode(image: Nv12Image | None) -> list[tuple[bytes, int, int]]:
        nonlocal count
        picture = None
        if image is not None:
            rgb = media.gradient_rgb(count, SIZE)
            picture = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
            picture.pts, count = count, count + 1
        packets = context.encode(picture)
        return [(bytes(p), p.pts, 3 if p.is_keyframe else 0) for p in packets]

    return encode


def write(path: Path, b_frames: int) -> Path:
    color = ColorSpec(ColorMatrix.BT601, full_range=True)
    info = VideoInfo(*SIZE, RATE, Fraction(1, 30_000), color=color)
    image = Nv12Image(np.zeros((48, 64), np.uint8), np.zeros((24, 32, 2), np.uint8))
    with av.open(str(path), "w") as container:
        depth = 1 if b_frames else 0
        stream = packet_stream(container, info, SIZE, x264(b_frames), reorder_depth=depth)
        for pts in STAMPS:
            container.mux(stream.encode((image, pts)))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("b_frames", [0, 2])
def test_packets_keep_their_times_and_order(tmp_path: Path, suffix: str, b_frames: int) -> None:
    path = write(tmp_path / f"out.{suffix}", b_frames)
    with av.open(str(path)) as container:
        frames: list[Any] = list(container.decode(video=0))
    first = frames[0].pts * frames[0].time_base
    times = [f.pts * f.time_base - first for f in frames]
    unit = Fraction(1, 1000) if suffix == "mkv" else Fraction(0)
    for time, pts in zip(times, STAMPS, strict=True):
        assert abs(time - Fraction(pts, 30_000)) <= unit
    lumas = [media.luma_of(f.to_ndarray(format="gray")) for f in frames]
    assert media.luma_order_is_kept(lumas)


def test_colour_tags_are_written_into_the_stream(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "out.mp4", 0))) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (6, 2)


def test_only_key_pictures_are_marked(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "out.mp4", 0))) as container:
        keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
    assert keys == [True] + [False] * (len(STAMPS) - 1)


def test_decode_stamps_never_come_after_the_picture_is_shown() -> None:
    stamps = DecodeStamps(1, 10)
    for pts in (100, 110, 120, 130):
        stamps.shown(pts)
    decoding_order = (100, 130, 110, 120)
    found = [stamps.next() for _ in decoding_order]
    assert found == [90, 100, 110, 120]
    assert all(dts <= pts for dts, pts in zip(found, decoding_order, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"profile": "high"}, "'profile' is unknown"),
        ({"preset": "p4"}, "preset='p4'"),
        ({"rc": "cqp"}, "rc='cqp'"),
    ],
)
def test_options_that_nvenc_would_ignore_are_refused(change: dict[str, str], message: str) -> None:
    options = encoder_options((1920, 1080), RATE)
    check_options(options)
    with pytest.raises(UsageError, match=message):
        check_options({**options, **change})


def test_the_exact_rate_is_given_as_a_ratio() -> None:
    options = encoder_options((1920, 1080), RATE)
    assert options["fps"] == "30000/1001"
    assert options["bf"] == 0


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_container_packets_get_start_codes_and_parameter_sets(tmp_path: Path, codec: str) -> None:
    path = media.make(tmp_path / "a.mp4", media.Clip(codec=codec))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        annexb = AnnexbFilter(stream)
        packets = [out for p in container.demux(stream) if p.size for out in annexb.push(p)]
    assert len(packets) == 10
    assert all(bytes(p)[:3] in {b"\0\0\1", b"\0\0\0"} for p in packets)
    decoder: Any = av.CodecContext.create({"libx264": "h264", "libx265": "hevc"}[codec], "r")
    bare = [av.Packet(bytes(p)) for p in packets]
    frames = [frame for packet in (*bare, None) for frame in decoder.decode(packet)]
    assert len(frames) == 10


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(("codec", "bsf"), [("libx264", "h264"), ("libx265", "hevc")])
def test_start_codes_are_put_in_as_ffmpeg_does_it(
    tmp_path: Path, codec: str, bsf: str, name: str
) -> None:
    path = media.make(tmp_path / name, media.Clip(codec=codec, frames=40, options={"g": "12"}))
    with av.open(str(path)) as ours, av.open(str(path)) as theirs:
        stream, same = ours.streams.video[0], theirs.streams.video[0]
        annexb = AnnexbFilter(stream)
        expected = av.bitstream.BitStreamFilterContext(f"{bsf}_mp4toannexb", same)
        pairs = zip(ours.demux(stream), theirs.demux(same), strict=True)
        found = [(a.is_keyframe, annexb.push(a), expected.filter(b)) for a, b in pairs if a.size]
    assert {is_key for is_key, _, _ in found} == {True, False}
    for _, mine, ffmpegs in found:
        assert [p.pts for p in mine] == [p.pts for p in ffmpegs]
        assert [units(p) for p in mine] == [units(p) for p in ffmpegs]


def test_lengths_that_are_shorter_than_a_start_code_are_left_to_ffmpeg(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mp4", media.Clip(frames=40, options={"g": "12"}))
    short = tmp_path / "short.mkv"
    with av.open(str(path)) as given, av.open(str(short), "w") as out:
        stream = given.streams.video[0]
        copy = out.add_stream_from_template(stream)
        header = bytearray(stream.codec_context.extradata or b"")
        header[4] = 0xFC | 1  # lengths of two bytes
        copy.codec_context.extradata = bytes(header)
        for packet in given.demux(stream):
            if packet.size:
                part = packet_of(shortened(bytes(packet)))
                part.pts, part.dts, part.time_base = packet.pts, packet.dts, packet.time_base
                part.is_keyframe, part.stream = packet.is_keyframe, copy
                out.mux(part)
    with av.open(str(path)) as long, av.open(str(short)) as changed:
        expected, found = (units_of(each) for each in (long, changed))
        header_read = changed.streams.video[0].codec_context.extradata or b""
        assert header_read[4] & 3 == 1
    assert len(found) == 40
    assert found == expected


def units_of(container: Any) -> list[list[bytes]]:
    stream = container.streams.video[0]
    annexb = AnnexbFilter(stream)
    packets = (packet for packet in container.demux(stream) if packet.size)
    return [[unit for part in annexb.push(packet) for unit in units(part)] for packet in packets]


def shortened(data: bytes) -> bytes:
    """Units with lengths of two bytes instead of four."""
    found = b""
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        found, data = found + data[2:end], data[end:]
    return found


def units(packet: Any) -> list[bytes]:
    return [unit.rstrip(b"\0") for unit in bytes(packet).split(b"\0\0\1")[1:]]


def test_a_later_key_frame_has_parameter_sets_too_where_only_the_first_has_its_own(
    tmp_path: Path,
) -> None:
    path = media.make(tmp_path / "a.mp4", media.Clip(frames=40, options={"g": "12"}))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        sets = units(AnnexbFilter(stream).push(copied(packets[0]))[0])[:2]
        own = b"".join(len(unit).to_bytes(4, "big") + unit for unit in sets)
        packets[0] = copied(packets[0], own)
        annexb = AnnexbFilter(stream)
        keys = [annexb.whole(packet) for packet in packets if packet.is_keyframe]
    assert len(keys) == 4
    assert all(sequence_sets(key, "h264") for key in keys)


def test_a_key_frame_that_is_no_idr_picture_gets_no_header_of_mp4(tmp_path: Path) -> None:
    options = {"x264-params": "keyint=12:open-gop=1:bframes=2:scenecut=0"}
    path = media.make(tmp_path / "a.mp4", media.Clip(frames=40, options=options))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        annexb = AnnexbFilter(stream)
        keys = [annexb.whole(p) for p in container.demux(stream) if p.size and p.is_keyframe]
    assert [begins_anew(key, "h264") for key in keys] == [True] + [False] * (len(keys) - 1)
    assert len(keys) > 2
    assert all(key.startswith((b"\0\0\1", b"\0\0\0\1")) for key in keys)


def copied(packet: Any, prefix: bytes = b"") -> Any:
    copy = packet_of(prefix + bytes(packet))
    copy.is_keyframe = packet.is_keyframe
    return copy


def test_a_packet_whose_lengths_make_no_sense_is_left_to_ffmpeg(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mp4", media.Clip())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        annexb = AnnexbFilter(stream)
        packet = next(p for p in container.demux(stream) if p.size and not p.is_keyframe)
        damaged = packet_of(b"\x7f" + bytes(packet)[1:])
        with pytest.raises(av.error.InvalidDataError):
            annexb.push(damaged)


def canvases(count: int) -> Iterator[Frame]:
    y, uv = np.zeros((48, 64), np.uint8), np.zeros((24, 32, 2), np.uint8)
    for index in range(count):
        yield Frame(index, index * 1001, Fraction(1, 30_000), Nv12Image(y, uv))


INFO = VideoInfo(*SIZE, RATE, Fraction(1, 30_000))


def test_its_packets_become_a_file(tmp_path: Path) -> None:
    sink = NvencSink(tmp_path / "out.mp4", INFO, SIZE, x264(0))
    for canvas in canvases(12):
        sink.write(canvas)
    assert sink.close()
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 12


def test_one_that_fails_is_told_apart_from_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    encode: Encode = x264(0)

    def fails_later(image: Nv12Image | None) -> list[tuple[bytes, int, int]]:
        if sink.frame_count < 4:
            return encode(image)
        raise EncoderError("NVENC failed (device lost)")

    sink = NvencSink(tmp_path / "out.mp4", INFO, SIZE, fails_later)
    first, second, third, last = canvases(4)
    for canvas in (first, second, third):
        sink.write(canvas)
    with pytest.raises(EncoderError, match=r"out.mp4: the encoder failed \(NVENC failed"):
        sink.write(last)
    with pytest.raises(SinkError, match="an earlier write failed"):
        sink.close()


def test_what_the_library_raises_is_a_failure_of_the_encoder() -> None:
    class LibraryError(Exception):
        pass

    class Lost:
        def EndEncode(self) -> list[dict[str, Any]]:  # noqa: N802 - the library's name
            raise LibraryError("NV_ENC_ERR_GENERIC:\n device lost")

    with pytest.raises(EncoderError, match=r"NVENC failed \(NV_ENC_ERR_GENERIC: device lost\)"):
        encoder_of(Lost(), LibraryError)(None)

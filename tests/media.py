"""Small videos of every odd kind, made with PyAV where a test needs them.

Picture `i` of a clip is a gradient whose mean luma rises with `i`, so that a test can tell the
order of pictures after a lossy codec: see `luma_of` and `luma_order_is_kept`.
"""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from dualface_client.video.ffmpeg import packet_of

AUDIO_RATE_HZ = 48_000
FLASH_S = 0.08
_LUMA_STEP = 6
_ROUNDING_S = 0.005  # time stamps that differ by less belong together
_DEGREES_TO_MATRIX = {  # ISO/IEC 14496-12, 16.16 fixed point: a, b, c, d
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


@dataclass(frozen=True, slots=True)
class Audio:
    """One audio stream to be made.

    Attributes:
        codec: FFmpeg's encoder name.
        seconds: Length of its tone.
        start_s: Time of its first sample.
        tone_hz: Frequency of its tone.
        language: ISO 639-2 code, empty for none.
        layout: Its channels, all with the same sound.
        rate_hz: Samples per second.
        is_sweep: Whether its frequency rises, so that every moment sounds different.
        later: Further sounds of the same stream; their own codecs count for nothing.
        beeps_s: When there is a tone for 0.08 s, and silence otherwise; empty for always.
    """

    codec: str = "aac"
    seconds: float = 1.0
    start_s: float = 0.0
    tone_hz: float = 440.0
    language: str = ""
    layout: str = "mono"
    rate_hz: int = AUDIO_RATE_HZ
    is_sweep: bool = False
    later: Sequence[Audio] = ()
    beeps_s: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Clip:
    """One video to be made; the defaults give an ordinary small one.

    Attributes:
        frames: Number of pictures.
        size_wh_px: Width and height.
        rate: Frames per second.
        codec: FFmpeg's encoder name.
        pix_fmt: Pixel format of the encoder.
        pts: Time stamps in `time_base`, None for a constant rate.
        time_base: Unit of `pts`, None for one over the rate.
        options: Encoder options.
        container: Muxer options.
        audio: Audio streams.
        interlaced: Whether pictures are marked as interlaced, top field first.
        sample_aspect: Width over height of one sample.
        color: Matrix, range (1 limited, 2 full), primaries and transfer by H.273 numbers.
        flashes_s: When pictures are white for 0.08 s.
    """

    frames: int = 10
    size_wh_px: tuple[int, int] = (64, 48)
    rate: Fraction = Fraction(25)
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    pts: Sequence[int] | None = None
    time_base: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)
    container: dict[str, str] = field(default_factory=dict)
    audio: Sequence[Audio] = ()
    interlaced: bool = False
    sample_aspect: Fraction = Fraction(1)
    color: tuple[int, int, int, int] = (2, 0, 2, 2)
    flashes_s: Sequence[float] = ()


def make(path: Path, clip: Clip | None = None) -> Path:
    """Writes a clip; the suffix selects the container.

    Args:
        path: Where to.
        clip: What to, None for the default one.

    Returns:
        The path.
    """
    clip = clip or Clip()
    with av.open(str(path), "w", options=clip.container) as output:
        video = _add_video(output, clip)
        audio = [(spec, _add_audio(output, spec)) for spec in clip.audio]
        stamps = clip.pts or range(clip.frames)
        for index, pts in enumerate(stamps):
            output.mux(video.encode(_picture(clip, index, pts)))
        output.mux(video.encode(None))
        for spec, stream in audio:
            for part in (spec, *spec.later):
                for frame in _tone(part, stream):
                    output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


def repeated(path: Path, clip: Path, times: int) -> Path:
    """A clip several times in a row, packet for packet: hours are made in a moment."""
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        copies = {each.index: output.add_stream_from_template(each) for each in source.streams}
        packets: list[Any] = [each for each in source.demux() if each.size]
        ends = [float((each.dts + each.duration) * each.time_base) for each in packets]
        length_s = max(ends) - min(float(each.dts * each.time_base) for each in packets)
        for number in range(times):
            for packet in packets:
                copy = packet_of(bytes(packet))
                copy.stream, copy.time_base = copies[packet.stream_index], packet.time_base
                moved = round(number * length_s / packet.time_base)
                copy.pts, copy.dts = packet.pts + moved, packet.dts + moved
                copy.duration, copy.is_keyframe = packet.duration, packet.is_keyframe
                output.mux(copy)
    return path


def make_audio_only(path: Path, *, cover: bool = False) -> Path:
    """Writes a file with a tone and, where asked, an attached cover picture."""
    with av.open(str(path), "w") as output:
        spec = Audio()
        stream = _add_audio(output, spec)
        picture = _add_cover(output) if cover else None
        for frame in _tone(spec, stream):
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if picture is not None:
            output.mux(picture.encode(_picture(Clip(pix_fmt="yuvj420p"), 0, 0)))
            output.mux(picture.encode(None))
    return path


def with_cover(path: Path, video: Path) -> Path:
    """Copies a video's streams behind an attached cover picture, which comes first."""
    with av.open(str(video)) as source, av.open(str(path), "w") as output:
        cover = _add_cover(output)
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams}
        output.mux(cover.encode(_picture(Clip(pix_fmt="yuvj420p"), 0, 0)))
        output.mux(cover.encode(None))
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
    return path


def rotate(path: Path, degrees_clockwise: int) -> Path:
    """Sets the display matrix of the first track of an MP4 in place."""
    return set_matrix(path, *_DEGREES_TO_MATRIX[degrees_clockwise])


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Likewise: a picture's point (x, y) is to be shown at (a x + c y, b x + d y)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4  # version 0: the matrix starts 40 bytes into the box's body
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at + 40, *matrix)
    path.write_bytes(data)
    return path


def edit(path: Path, parts_s: Sequence[tuple[float, float]]) -> Path:
    """Replaces the edit list of every track of an MP4 in place.

    Args:
        path: An MP4 whose index comes last.
        parts_s: Length and start of each part that is shown, in seconds.
    """
    data = path.read_bytes()
    end = max(at for kind, at, _ in _boxes(data, 0, len(data)) if kind == b"moov")
    path.write_bytes(data[:end] + _edited(data[end:], parts_s, []))
    return path


def _boxes(data: bytes, start: int, end: int) -> Iterable[tuple[bytes, int, int]]:
    """Type, offset and size of each box."""
    while start < end:
        size = int.from_bytes(data[start : start + 4], "big")
        yield data[start + 4 : start + 8], start, size
        start += size


def _edited(data: bytes, parts_s: Sequence[tuple[float, float]], scales: list[int]) -> bytes:
    """Boxes with other edit lists; `scales` are the movie's and the track's units per second."""
    out = b""
    for kind, at, size in _boxes(data, 0, len(data)):
        body = data[at + 8 : at + size]
        if kind == b"mvhd":
            scales = [int.from_bytes(body[12:16], "big")]
        elif kind == b"trak":
            mdhd = body.index(b"mdhd") + 4
            scales = [scales[0], int.from_bytes(body[mdhd + 12 : mdhd + 16], "big")]
            body = _edited(body, parts_s, scales)
        elif kind in (b"moov", b"edts"):
            body = _edited(body, parts_s, scales)
        elif kind == b"elst":
            first = int.from_bytes(body[12:16], "big", signed=True)
            body = body[:4] + struct.pack(">I", len(parts_s))
            for length_s, start_s in parts_s:
                start = first + round(start_s * scales[1])
                body += struct.pack(">IiI", round(length_s * scales[0]), start, 1 << 16)
        out += struct.pack(">I", 8 + len(body)) + kind + body
    return out


def hide_codec(path: Path, fourcc: bytes) -> Path:
    """Gives the first track with a codec a name in place that no decoder has."""
    data = path.read_bytes()
    at = data.index(b"stsd")
    at = data.index(fourcc, at)
    path.write_bytes(data[:at] + b"none" + data[at + 4 :])
    return path


def beside(path: Path, sources: Sequence[Path], default: int | None = None) -> Path:
    """Copies the streams of files beside one another; the suffix selects the container.

    Args:
        path: Where to.
        sources: From where.
        default: Which of the streams of the output is the default one, None for all.
    """
    with ExitStack() as stack:
        inputs = [stack.enter_context(av.open(str(source))) for source in sources]
        output = stack.enter_context(av.open(str(path), "w"))
        copies = [{s.index: output.add_stream_from_template(s) for s in i.streams} for i in inputs]
        for number, stream in enumerate(output.streams):
            is_default = default is None or number == default
            stream.disposition = av.stream.Disposition(int(is_default))
        packets = [(p, c) for i, c in zip(inputs, copies, strict=True) for p in i.demux() if p.size]
        for packet, streams in sorted(packets, key=lambda pair: _decode_time(pair[0])):
            packet.stream = streams[packet.stream.index]
            output.mux(packet)
    return path


def _decode_time(packet: Any) -> Fraction:
    return Fraction((packet.dts or 0) * packet.time_base)


def programmes(path: Path, sources: Sequence[Path]) -> Path:
    """Makes one transport stream with a programme of its own for each (ISO/IEC 13818-1)."""
    table = b""
    packets: list[bytes] = []
    for number, source in enumerate(sources, 1):
        data = source.read_bytes()
        for at in range(0, len(data), 188):
            packet = bytearray(data[at : at + 188])
            pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
            if pid >= 0x20:  # not one of the reserved tables
                _move_pids(packet, pid, 0x10 * number)
                packets.append(bytes(packet))
        table += struct.pack(">HH", 0x10 * number, 0xE000 | (_PMT_PID + 0x10 * number))
    section = b"\x00" + struct.pack(">HHBBB", 0xB000 | (9 + len(table)), 1, 0xC1, 0, 0) + table
    section += struct.pack(">I", _crc32_mpeg(section))
    pat = (b"\x47\x40\x00\x10\x00" + section).ljust(188, b"\xff")
    path.write_bytes(pat + b"".join(packets))
    return path


_PMT_PID = 0x1000


def _move_pids(packet: bytearray, pid: int, by: int) -> None:
    """Moves a packet to another PID, and with it what a programme's table says."""
    packet[1:3] = (int.from_bytes(packet[1:3], "big") + by).to_bytes(2, "big")
    if pid != _PMT_PID:
        return
    start = 5 + packet[4]
    length = int.from_bytes(packet[start + 1 : start + 3], "big") & 0xFFF
    end = start + 3 + length - 4
    packet[start + 3 : start + 5] = by.to_bytes(2, "big")  # the programme's number
    at = start + 8
    for offset in (at, *_entries(packet, at, end)):
        value = int.from_bytes(packet[offset : offset + 2], "big") + by
        packet[offset : offset + 2] = value.to_bytes(2, "big")
    struct.pack_into(">I", packet, end, _crc32_mpeg(bytes(packet[start:end])))


def _entries(packet: bytearray, at: int, end: int) -> Iterable[int]:
    """Offsets of the PIDs of a programme's streams."""
    at += 4 + (int.from_bytes(packet[at + 2 : at + 4], "big") & 0xFFF)
    while at < end:
        yield at + 1
        at += 5 + (int.from_bytes(packet[at + 3 : at + 5], "big") & 0xFFF)


def _crc32_mpeg(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def cut(path: Path, source: Path, keep: float) -> Path:
    """Copies the first part of a file's bytes.

    Args:
        path: Where to.
        source: From where.
        keep: Share of the bytes, 0 to 1.
    """
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def damage(path: Path, source: Path, packets: Iterable[int], *, skip: int = 8) -> Path:
    """Copies a file and overwrites the bodies of some of its video packets.

    Args:
        path: Where to.
        source: From where; a container whose packets lie in one piece (MP4, MKV).
        packets: Positions of the packets, 0-based, in decoding order.
        skip: Leading bytes of each packet that stay.
    """
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        found = [bytes(p) for p in container.demux(video=0) if p.size]
    noise = np.random.default_rng(7)
    for index in packets:
        body = found[index]
        at = data.index(body)
        data[at + skip : at + len(body)] = noise.bytes(len(body) - skip)
    path.write_bytes(data)
    return path


def join(path: Path, parts: Iterable[Path]) -> Path:
    """Concatenates the bytes of files, as one may do with MPEG-TS."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def packets_of(path: Path, kind: str, index: int = 0) -> list[tuple[Fraction, bytes]]:
    """Time in seconds and payload of each packet of one stream, in file order.

    Args:
        path: The file.
        kind: `video` or `audio`.
        index: Which of the streams of that kind.
    """
    with av.open(str(path)) as container:
        stream = container.streams.get({kind: index})[0]
        return [
            (Fraction(p.pts or 0) * p.time_base, bytes(p))
            for p in container.demux(stream)
            if p.size
        ]


def times_of(path: Path) -> list[Fraction]:
    """Presentation times in seconds of the decoded pictures of the first video stream.

    As FFmpeg's player takes them: without the presentation times that PyAV lets FFmpeg invent.
    """
    with av.open(str(path)) as container:
        container.flags &= ~1  # AVFMT_FLAG_GENPTS
        base = container.streams.video[0].time_base or Fraction(0)
        stamps: list[int] = []
        for frame in container.decode(video=0):
            known = frame.dts if frame.pts is None else frame.pts
            after = stamps[-1] + (frame.duration or 0) if stamps else 0
            stamps.append(after if known is None else known)
        return [stamp * base for stamp in stamps]


def flashes_of(path: Path) -> list[float]:
    """When the pictures of a file turn white, in seconds, as FFmpeg's player shows them."""
    with av.open(str(path)) as container:
        seen = [(f.time or 0.0, luma_of(plane_of(f)) > 128) for f in decoded(container)]
    pairs = zip([(0.0, False), *seen], seen, strict=False)
    return [time_s for (_, before), (time_s, now) in pairs if now and not before]


def plane_of(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Luma of a picture."""
    return np.asarray(frame.to_ndarray(format="gray"), np.uint8)


def decoded(container: Any) -> Iterable[av.VideoFrame]:
    """Pictures of the first video track that moves, in the order of presentation."""
    yield from container.decode(max(container.streams.video, key=lambda s: s.width))


def beeps_of(path: Path) -> list[float]:
    """When the tones of a file's last sound track begin, in seconds, as a player plays them."""
    times, levels = [], []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("flt", "mono", AUDIO_RATE_HZ)
        for frame in container.decode(container.streams.audio[-1]):
            for block in resampler.resample(frame):
                level = np.abs(block.to_ndarray()[0])
                levels.append(level)
                times.append((block.time or 0.0) + np.arange(len(level)) / AUDIO_RATE_HZ)
    loud = np.concatenate(times)[np.concatenate(levels) > 0.1]
    return [float(t) for before, t in zip([-1.0, *loud], loud, strict=False) if t - before > 0.2]


def luma_of(y: npt.NDArray[np.uint8]) -> float:
    """Mean luma of a picture."""
    return float(y.mean())


def luma_order_is_kept(lumas: Sequence[float]) -> bool:
    """Whether pictures come in the order in which `make` wrote them."""
    return all(b - a > _LUMA_STEP / 2 for a, b in itertools.pairwise(lumas))


def gradient_rgb(index: int, size_wh_px: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Picture `index` of a clip, shape `(height, width, 3)`, uint8: brighter to the right."""
    width, height = size_wh_px
    across = np.linspace(0, 60, width).astype(np.uint8)
    down = (np.linspace(0, 20, height) + 20 + _LUMA_STEP * (index % 25)).astype(np.uint8)
    return np.repeat(np.add.outer(down, across)[..., None], 3, axis=2)


def _add_video(output: Any, clip: Clip) -> Any:
    options = {"preset": "ultrafast"} if clip.codec in {"libx264", "libx265"} else {}
    if clip.codec == "libx265":
        options["x265-params"] = "log-level=none"
    stream = output.add_stream(clip.codec, rate=clip.rate, options={**options, **clip.options})
    stream.width, stream.height = clip.size_wh_px
    stream.pix_fmt = clip.pix_fmt
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = clip.time_base or 1 / clip.rate
    context.sample_aspect_ratio = clip.sample_aspect
    matrix, samples, primaries, transfer = clip.color
    context.colorspace, context.color_range = matrix, samples
    context.color_primaries, context.color_trc = primaries, transfer
    return stream


def _add_cover(output: Any) -> Any:
    stream = output.add_stream("mjpeg", rate=1)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
    stream.disposition = av.stream.Disposition.attached_pic.value
    return stream


def _picture(clip: Clip, index: int, pts: int) -> av.VideoFrame:
    rgb = gradient_rgb(index, clip.size_wh_px)
    if clip.flashes_s:
        time_s = float((pts - (clip.pts or (0,))[0]) * (clip.time_base or 1 / clip.rate))
        rgb[:] = 255 * any(0 <= time_s - at_s + 1e-6 < FLASH_S for at_s in clip.flashes_s)
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=clip.pix_fmt)
    frame.pts, frame.time_base = pts, clip.time_base or 1 / clip.rate
    return frame


def _add_audio(output: Any, spec: Audio) -> Any:
    stream = output.add_stream(spec.codec, rate=spec.rate_hz)
    stream.layout = spec.layout
    if spec.codec == "wmav2":  # which has no default
        stream.bit_rate = 128_000
    if spec.language:
        stream.metadata["language"] = spec.language
    return stream


def _tone(spec: Audio, stream: Any) -> Iterable[av.AudioFrame]:
    sample_format = stream.codec_context.format.name
    resampler = av.AudioResampler(sample_format, spec.layout, spec.rate_hz)
    total, block = round(spec.seconds * spec.rate_hz), 1024
    first = round(spec.start_s * spec.rate_hz)
    for start in range(0, total, block):
        time_s = np.arange(start, min(start + block, total)) / spec.rate_hz
        turns = time_s * spec.tone_hz * (1 + time_s * spec.is_sweep)
        samples = np.sin(turns * 2 * math.pi) * 12_000
        if spec.beeps_s:
            since_s = time_s[:, None] - np.array(spec.beeps_s)
            samples *= ((since_s >= 0) & (since_s < FLASH_S)).any(axis=1)
        samples = np.repeat(samples.astype(np.int16)[None, :], stream.layout.nb_channels, axis=1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=spec.layout)
        frame.sample_rate, frame.pts = spec.rate_hz, first + start
        frame.time_base = Fraction(1, spec.rate_hz)
        yield from resampler.resample(frame)


def sound_of(path: Path, index: int = 0, rate_hz: int = 16_000) -> npt.NDArray[np.float32]:
    """The decoded sound of one audio stream, mixed to one channel, from time 0 on.

    Args:
        path: The file.
        index: Which of its audio streams.
        rate_hz: Samples per second of the result.

    Returns:
        Shape `(n,)`; frames follow one another, and a gap between their time stamps is silence.
    """
    with av.open(str(path)) as container:
        resampler = av.AudioResampler("fltp", "mono", rate_hz)
        pieces = [f for frame in container.decode(audio=index) for f in resampler.resample(frame)]
        pieces += [frame for frame in resampler.resample(None) if frame is not None]
    parts: list[npt.NDArray[np.float32]] = []
    end = 0
    for frame in pieces:
        place = round(Fraction(frame.pts or 0) * (frame.time_base or 0) * rate_hz)
        if abs(place - end) > _ROUNDING_S * rate_hz:
            parts.append(np.zeros(max(0, place - end), np.float32))
        samples = frame.to_ndarray()[0].astype(np.float32)
        parts.append(samples[max(0, -place) :])
        end = sum(map(len, parts))
    return np.concatenate(parts)


def sound_lag_s(
    one: npt.NDArray[np.float32], other: npt.NDArray[np.float32], rate_hz: int
) -> float:
    """By how many seconds the other sound is later, by cross-correlation."""
    size = 1 << (len(one) + len(other)).bit_length()
    spectrum = np.fft.rfft(other, size) * np.conj(np.fft.rfft(one, size))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    return (lag - size if lag > size // 2 else lag) / rate_hz

"""Is the output the input's film: the same frames at the same times, the same sound?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dualface_client.errors import SourceError
from dualface_client.types import ByteArray, FloatArray
from scripts.clips.truth import Truth

#: A tone is sought this far around the place where it belongs.
SEARCH_S = 0.4
#: Tones are 150 Hz apart.
PITCH_TOLERANCE_HZ = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One answer.

    Attributes:
        name: What was asked.
        ok: Whether it holds.
        detail: What was seen, for people.
        values: What was seen, for programs.
    """

    name: str
    ok: bool
    detail: str
    values: dict[str, Any]


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a decoder says about a video stream.

    Attributes:
        codec: For example `h264`.
        profile: For example `High`.
        pix_fmt: For example `yuv420p`.
        size_wh: Coded picture size.
        times_s: Exact time of every decoded frame.
    """

    codec: str
    profile: str
    pix_fmt: str
    size_wh: tuple[int, int]
    times_s: tuple[Fraction, ...]


def video_frames(path: Path) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """Every decoded frame with its exact time in seconds.

    Raises:
        SourceError: The file cannot be opened or decoded.
    """
    try:
        with _opened(path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 2
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                yield Fraction(frame.pts or 0) * Fraction(frame.time_base or 0), frame
    except av.FFmpegError as error:
        raise SourceError(f"{path} cannot be decoded to its end: {error}") from error


def _opened(path: Path) -> av.container.InputContainer:
    """The opened file, which has a video stream."""
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise SourceError(f"{path} cannot be opened as a video: {error}") from error
    if not container.streams.video:
        container.close()
        raise SourceError(f"{path} has no video stream")
    return container


def video_facts(path: Path, times_s: tuple[Fraction, ...] | None = None) -> VideoFacts:
    """Facts of a file's first video stream; decodes it unless the times are given.

    Raises:
        SourceError: The file cannot be opened or decoded.
    """
    if times_s is None:
        times_s = tuple(time_s for time_s, _ in video_frames(path))
    with _opened(path) as container:
        context = container.streams.video[0].codec_context
        return VideoFacts(
            context.name,
            str(context.profile),
            str(context.pix_fmt),
            (context.width, context.height),
            times_s,
        )


def check_video(output: VideoFacts, source: VideoFacts, size_wh: tuple[int, int]) -> list[Check]:
    """Count, times and format of the output's frames."""
    counts = {"output": len(output.times_s), "source": len(source.times_s)}
    late = [abs(a - b) for a, b in zip(output.times_s, source.times_s, strict=False)]
    worst_ms = float(max(late, default=Fraction(0))) * 1000
    same = output.times_s == source.times_s
    form = (output.codec, output.profile, output.pix_fmt, *output.size_wh)
    return [
        Check(
            "frame_count",
            counts["output"] == counts["source"],
            f"{counts['output']} frames out, {counts['source']} in",
            counts,
        ),
        Check(
            "frame_times",
            same,
            "every pts equals the source's"
            if same
            else f"pts differ, by {worst_ms:.3f} ms at most",
            {"worst_ms": worst_ms},
        ),
        Check(
            "format",
            form == ("h264", "High", "yuv420p", *size_wh),
            " ".join(str(part) for part in form),
            {"format": list(form)},
        ),
    ]


def _audio_packets(path: Path) -> list[tuple[int, Fraction, bytes]]:
    packets = []
    with _opened(path) as container:
        if not container.streams.audio:
            return []
        for packet in container.demux(container.streams.audio):
            if packet.size:
                time_s = Fraction(packet.pts or 0) * Fraction(packet.time_base)
                packets.append((packet.stream.index, time_s, bytes(packet)))
    return packets


def check_audio_packets(output: Path, source: Path) -> Check:
    """The compressed sound is the source's, bit for bit."""
    ours, theirs = _audio_packets(output), _audio_packets(source)
    same_bytes = [packet[2] for packet in ours] == [packet[2] for packet in theirs]
    worst = max((abs(a[1] - b[1]) for a, b in zip(ours, theirs, strict=False)), default=Fraction(0))
    return Check(
        "audio_packets",
        same_bytes,
        f"{len(ours)} packets out, {len(theirs)} in, {'' if same_bytes else 'not '}bit-identical, "
        f"times differ by {float(worst) * 1000:.2f} ms at most",
        {"output": len(ours), "source": len(theirs), "worst_ms": float(worst) * 1000},
    )


def _sound(path: Path) -> tuple[FloatArray, int]:
    """Mono samples with index 0 at time 0, and their rate."""
    pieces: list[tuple[int, FloatArray]] = []
    rate = 0
    with _opened(path) as container:
        if not container.streams.audio:
            return np.zeros(0, np.float32), 1
        resampler = av.AudioResampler(format="fltp", layout="mono")
        for frame in container.decode(container.streams.audio[0]):
            start_s = Fraction(frame.pts or 0) * Fraction(frame.time_base or 0)
            rate = frame.sample_rate
            samples = np.concatenate([part.to_ndarray()[0] for part in resampler.resample(frame)])
            pieces.append((round(start_s * rate), samples.astype(np.float32)))
    end = max((start + len(samples) for start, samples in pieces), default=0)
    whole = np.zeros(max(end, 0), np.float32)
    for start, samples in pieces:
        skip = max(-start, 0)
        whole[start + skip : start + len(samples)] = samples[skip:]
    return whole, max(rate, 1)


def tone_at(sound: FloatArray, rate_hz: int, near_s: float, length_s: float) -> tuple[float, float]:
    """Onset in seconds and pitch in Hz of the tone around a moment; NaN where it is silent."""
    low = max(round((near_s - SEARCH_S) * rate_hz), 0)
    window = np.abs(sound[low : round((near_s + SEARCH_S) * rate_hz)])
    if not len(window) or window.max() < 0.05:
        return float("nan"), float("nan")
    # A sine's swing reaches a quarter of its peak within a fraction of a millisecond.
    start = low + int(np.argmax(window > 0.25 * window.max()))
    part = sound[start : start + round(length_s * rate_hz)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * len(part)))
    return start / rate_hz, float(spectrum.argmax() * rate_hz / (8 * len(part)))


def check_tones(output: Path, truth: Truth, tolerance_s: float) -> Check:
    """Every second's tone starts at its second and has its pitch.

    Args:
        output: The file to listen to.
        truth: Says where the tones belong.
        tolerance_s: How far an onset may be off.
    """
    sound, rate = _sound(output)
    errors_ms, wrong = [], []
    for onset_s, hz in truth.tones:
        heard_s, heard_hz = tone_at(sound, rate, onset_s, truth.tone_length_s)
        error_s = abs(heard_s - onset_s)
        if not (error_s <= tolerance_s and abs(heard_hz - hz) <= PITCH_TOLERANCE_HZ):
            wrong.append([onset_s, None if np.isnan(heard_s) else heard_s])
        if not np.isnan(error_s):
            errors_ms.append(error_s * 1000)
    worst_ms = max(errors_ms, default=0.0)
    heard = f"{len(truth.tones) - len(wrong)} of {len(truth.tones)} tones in place"
    return Check(
        "tones",
        not wrong,
        f"{heard}, at most {worst_ms:.1f} ms off",
        {"worst_ms": worst_ms, "wrong": wrong},
    )


def bgr_of(frame: av.VideoFrame) -> ByteArray:
    """A decoded frame as BGR `(height, width, 3)` uint8."""
    return np.asarray(frame.to_ndarray(format="bgr24"), np.uint8)

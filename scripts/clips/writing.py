"""Writes a composed clip: H.264 video and AAC tones that say which second it is."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from dualface_client.atomic_file import replacing
from dualface_client.types import ByteArray, FloatArray

SAMPLE_RATE_HZ = 48000
TONE_LENGTH_S = 0.05
TIME_BASE = Fraction(1, 90000)
#: Samples of one AAC frame.
AAC_FRAME = 1024


def tone_schedule(duration_s: float) -> tuple[tuple[float, float], ...]:
    """Onset in seconds and frequency in Hz of every tone.

    One starts at each full second. The pitch repeats after seven seconds only, so that sound that
    is late by whole seconds is noticed too.
    """
    count = int(np.ceil(duration_s - TONE_LENGTH_S))
    return tuple((float(second), 700.0 + 150.0 * (second % 7)) for second in range(count))


def tone_samples(duration_s: float) -> FloatArray:
    """The whole sound track, mono, -1 to 1, silent between the tones."""
    samples = np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.float32)
    length = round(TONE_LENGTH_S * SAMPLE_RATE_HZ)
    for onset_s, hz in tone_schedule(duration_s):
        start = round(onset_s * SAMPLE_RATE_HZ)
        part = samples[start : start + length]
        part[:] = 0.5 * np.sin(2 * np.pi * hz * np.arange(len(part)) / SAMPLE_RATE_HZ)
    return samples


def write_clip(
    path: Path,
    frames: Iterable[ByteArray],
    size_wh: tuple[int, int],
    fps: Fraction,
    duration_s: float,
    crf: int = 20,
) -> None:
    """Encodes and muxes.

    Args:
        path: MP4 file to write; replaced when the clip is complete.
        frames: BGR `(height, width, 3)` uint8 pictures.
        size_wh: Their size, even.
        fps: Frame rate; frame `n` is shown at `n / fps`.
        duration_s: Length of the sound.
        crf: x264's quality, 0 (lossless) to 51.
    """
    with replacing(path) as draft, av.open(str(draft), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=fps)
        _configure(video, size_wh, crf)
        audio = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        audio.bit_rate = 96000
        sound = tone_samples(duration_s)
        sent = 0
        for index, bgr in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
            )
            frame.pts, frame.time_base = round(index / fps / TIME_BASE), TIME_BASE
            container.mux(video.encode(frame))
            upto = min(int((index + 1) / fps * SAMPLE_RATE_HZ), len(sound))
            sent = _send_sound(container, audio, sound, sent, upto)
        container.mux(video.encode(None))
        _send_sound(container, audio, sound, sent, len(sound), last=True)
        container.mux(audio.encode(None))


def _configure(video: VideoStream, size_wh: tuple[int, int], crf: int) -> None:
    video.width, video.height = size_wh
    video.pix_fmt = "yuv420p"
    video.time_base = TIME_BASE
    video.codec_context.time_base = TIME_BASE
    video.codec_context.thread_count = 2
    # 1 is BT.709 for all three, and limited range.
    video.codec_context.colorspace = 1
    video.codec_context.color_primaries = 1
    video.codec_context.color_trc = 1
    video.codec_context.color_range = 1
    video.options = {"preset": "veryfast", "crf": str(crf)}


def _send_sound(
    container: av.container.OutputContainer,
    audio: AudioStream,
    sound: FloatArray,
    sent: int,
    upto: int,
    *,
    last: bool = False,
) -> int:
    """Encodes whole AAC frames up to a sample; returns how many samples are sent by now."""
    while sent < upto and (last or upto - sent >= AAC_FRAME):
        part = np.ascontiguousarray(sound[None, sent : min(sent + AAC_FRAME, upto)])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, sent
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        container.mux(audio.encode(frame))
        sent += part.shape[1]
    return sent

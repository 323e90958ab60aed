"""Re-encodes a composed clip with film grain at a broadcast bit rate, for decoder measurements.

    python scripts/make_clips.py cross_once --out CLIPS --seconds 12 --seed 1 --fps 30 --crf 21
    python benchmarks/gpu/make_clips.py CLIPS/cross_once.mp4 CLIPS

A clip without grain is a tenth of the bits of a camera's, and decoding depends on bits.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np

_X265 = "log-level=none:pools=1:frame-threads=1"
#: File name, FFmpeg's encoder, pixel format, frames, options.
CLIPS: tuple[tuple[str, str, str, int, dict[str, str]], ...] = (
    ("h264.mp4", "libx264", "yuv420p", 300, {"preset": "veryfast", "b": "8M", "bf": "2"}),
    (
        "hevc.mp4",
        "libx265",
        "yuv420p",
        60,
        {"preset": "ultrafast", "crf": "20", "x265-params": _X265},
    ),
    (
        "hevc10.mp4",
        "libx265",
        "yuv420p10le",
        60,
        {"preset": "ultrafast", "crf": "20", "x265-params": _X265},
    ),
)


def grain(shape: tuple[int, int], sigma: float) -> np.ndarray[Any, np.dtype[np.int16]]:
    """A field of noise twice the picture's size, so that each picture gets a part of its own."""
    noise = np.random.default_rng(3).normal(0, sigma, (shape[0] * 2, shape[1] * 2))
    return np.rint(noise).astype(np.int16)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    for name, codec, pix_fmt, count, encoding in CLIPS:
        encode(options.source, options.out / name, codec, pix_fmt, count, encoding)
        print(name, (options.out / name).stat().st_size)


def encode(
    source: Path, target: Path, codec: str, pix_fmt: str, count: int, options: dict[str, str]
) -> None:
    """Writes one clip."""
    bit_rate = int(options.pop("b", "0M")[:-1]) * 1_000_000
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        stream: Any = writer.add_stream(codec, rate=video.average_rate, options=options)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, pix_fmt
        if bit_rate:
            stream.bit_rate = bit_rate
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        noise = grain((video.height, video.width), 2.5)
        for index, frame in enumerate(islice(reader.decode(video), count)):
            picture = frame.to_ndarray(format="gray").astype(np.int16)
            top, left = (index * 97) % picture.shape[0], (index * 61) % picture.shape[1]
            picture += noise[top : top + picture.shape[0], left : left + picture.shape[1]]
            full = frame.to_ndarray(format="yuv420p")
            full[: video.height] = picture.clip(16, 235).astype(np.uint8)
            noisy = av.VideoFrame.from_ndarray(full, "yuv420p")
            noisy.pts, noisy.time_base = index, 1 / (video.average_rate or Fraction(30))
            writer.mux(stream.encode(noisy.reformat(format=pix_fmt)))
        writer.mux(stream.encode(None))


if __name__ == "__main__":
    main()

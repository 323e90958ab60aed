"""Whether an output is as long as its source, by FFmpeg's own decoders and by the headers."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import av

FRAME_S = 0.04
#: Sound may end a packet later than the pictures, and some headers have one length for both.
SLACK_S = 0.06


def spans_s(path: Path) -> list[float]:
    """Seconds from the first picture to the last, of each video track with several pictures."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    with av.open(str(path)) as container:
        videos = [stream for stream in container.streams.video if stream.codec_context is not None]
        for packet in container.demux(videos):
            stream = next(s for s in videos if s.index == packet.stream_index)
            try:
                shown = stream.codec_context.decode(packet)
            except av.error.FFmpegError:  # a damaged packet: the next one, as players do
                continue
            times[packet.stream_index] += [frame.time for frame in shown if frame.time is not None]
    return [max(each) - min(each) for each in times.values() if len(each) > 1]


def header_s(path: Path) -> float:
    """The length that a file's header gives, in seconds; 0 if it gives none."""
    with av.open(str(path)) as container:
        return (container.duration or 0) / av.time_base


def length_faults(source: Path, output: Path) -> list[str]:
    """In words, where an output is longer or shorter than its source by more than a frame."""
    try:
        (ours_s,) = spans_s(output) or [0.0]
        theirs_s = spans_s(source)
        headers_s = header_s(source), header_s(output)
    except (av.error.FFmpegError, ValueError) as error:
        return [f"lengths cannot be compared: {error}"]
    found = []
    if theirs_s and min(abs(ours_s - length_s) for length_s in theirs_s) > FRAME_S + 0.001:
        found.append(f"{ours_s:.2f} s of pictures, its source has {theirs_s}")
    if all(headers_s) and abs(headers_s[0] - headers_s[1]) > FRAME_S + SLACK_S:
        found.append("headers: {:.2f} s, its output {:.2f} s".format(*headers_s))
    return found

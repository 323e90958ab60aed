"""The plots of a run's report: what its samples say over its time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dualface_client.observe.axes import Axes, color_of
from dualface_client.observe.samples import Sample

_MIB = 1 << 20
_RATE_WINDOW_S = 2.0
_RATE_WINDOWS = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; a dashed one is not in the legend.

    Attributes:
        color: A CSS colour.
        points: Seconds and values, seconds ascending.
    """

    name: str
    color: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over the run's time; without axes where nothing was measured."""

    title: str
    unit: str
    lines: Sequence[Line]
    axes: Axes | None


def figures(samples: Sequence[Sample]) -> Iterator[Figure]:
    """One for each quantity; decode errors only where there were any."""
    for title, unit, lines in (
        ("Throughput", "frames written per second", _throughput(samples)),
        ("Latency", "ms from decoded to written; dashed: 95th percentile", _latency(samples)),
        ("Memory", "MiB resident", _memory(samples)),
        ("ReID", "frames with ReID so far", _counted(samples, "reid_frames")),
        ("Decode errors", "packets and pictures so far", _counted(samples, "decode_errors")),
    ):
        values = [value for line in lines for _, value in line.points]
        if title != "Decode errors" or any(values):
            axes = Axes(samples[-1].time_s, max(values)) if values else None
            yield Figure(title, unit, lines, axes)


def _names(samples: Sequence[Sample]) -> list[str]:
    """Streams that wrote anything."""
    written = (n for sample in samples for n, s in sample.streams.items() if s.frames_out)
    return sorted(set(written))


def _throughput(samples: Sequence[Sample]) -> list[Line]:
    return [
        Line(name, color_of(index), tuple(_rates(samples, name)))
        for index, name in enumerate(_names(samples))
    ]


def _rates(samples: Sequence[Sample], name: str) -> Iterator[tuple[float, float]]:
    """Frames per second over the last two seconds, or more of a long run: curves are calm."""
    window: deque[Sample] = deque()
    span_s = max(_RATE_WINDOW_S, samples[-1].time_s / _RATE_WINDOWS)
    for sample in samples:
        window.append(sample)
        while len(window) > 2 and sample.time_s - window[1].time_s >= span_s:
            window.popleft()
        now, old = sample.streams[name], window[0].streams[name]
        if len(window) > 1 and (now.is_running or old.is_running):
            frames = max(0, now.frames_out - old.frames_out)
            yield sample.time_s, frames / (sample.time_s - window[0].time_s)


def _latency(samples: Sequence[Sample]) -> list[Line]:
    lines = []
    for index, name in enumerate(_names(samples)):
        seen = [s for s in samples if s.streams[name].is_running and s.streams[name].frames_out]
        p50 = tuple((s.time_s, 1e3 * s.streams[name].latency_p50_s) for s in seen)
        p95 = tuple((s.time_s, 1e3 * s.streams[name].latency_p95_s) for s in seen)
        lines += [Line(name, color_of(index), p50), Line(name, color_of(index), p95, dashed=True)]
    return lines


def _memory(samples: Sequence[Sample]) -> list[Line]:
    names = list(dict.fromkeys(name for sample in samples for name in sample.memory_bytes))
    return [
        Line(
            name,
            color_of(index),
            tuple((s.time_s, s.memory_bytes.get(name, 0) / _MIB) for s in samples),
        )
        for index, name in enumerate(names)
    ]


def _counted(samples: Sequence[Sample], what: str) -> list[Line]:
    return [
        Line(
            name,
            color_of(index),
            tuple((s.time_s, float(getattr(s.streams[name], what))) for s in samples),
        )
        for index, name in enumerate(_names(samples))
    ]

"""A run's figures over time, thinned out so that they stay few however long it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dualface_client.background import BackgroundLoop
from dualface_client.observe.host import resident_bytes
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.observe.run_log import failure_logger

_SAMPLES_LIMIT = 720


@dataclass(frozen=True, slots=True)
class StreamSample:
    """One stream at one moment; counts are since its start.

    Attributes:
        frames_out: Frames written.
        reid_frames: Frames that cost a ReID request.
        decode_errors: Packets or pictures that could not be decoded.
        latency_p50_s: Median latency of the recent frames.
        latency_p95_s: 95th percentile of the same.
        is_running: Whether it was being worked on.
    """

    frames_out: int
    reid_frames: int
    decode_errors: int
    latency_p50_s: float
    latency_p95_s: float
    is_running: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """The whole run at one moment.

    Attributes:
        time_s: Since the start of the sampling.
        streams: By name.
        memory_bytes: Resident size by process name.
    """

    time_s: float
    streams: dict[str, StreamSample]
    memory_bytes: dict[str, int]


class Sampler(BackgroundLoop):
    """Samples until it is closed; a context manager.

    Closing takes a last sample. After 720 samples, every second one is dropped and the interval is
    doubled.

    Args:
        statuses: One per stream.
        roots: Returns the process ids by name; called each time, as workers come and go.
        interval_s: Between two samples, at the beginning.
    """

    def __init__(
        self,
        statuses: Sequence[StreamStatus],
        roots: Callable[[], Mapping[str, int]],
        interval_s: float = 0.5,
    ) -> None:
        self._statuses = statuses
        self._roots = roots
        self._samples: list[Sample] = []
        self._started_s = time.monotonic()
        super().__init__(
            self._add_sample,
            name="samples",
            period_s=interval_s,
            at_once=True,
            once_more=True,
            failed=failure_logger("the sampling of figures"),
        )

    @property
    def samples(self) -> tuple[Sample, ...]:
        """In order of time; complete after `close`."""
        return tuple(self._samples)

    def _add_sample(self) -> None:
        self._samples.append(self._sample())
        self._samples, thinned = thin(self._samples, _SAMPLES_LIMIT)
        self.period_s *= 2 if thinned else 1

    def _sample(self) -> Sample:
        reports = [report for s in self._statuses if not (report := s.snapshot()).resumed]
        return Sample(
            time.monotonic() - self._started_s,
            {report.name: _stream_sample(report) for report in reports},
            {name: resident_bytes(pid) for name, pid in self._roots().items()},
        )


def thin(samples: list[Sample], limit: int) -> tuple[list[Sample], bool]:
    """Every second sample if there are too many, and whether that was done."""
    return (samples[::2], True) if len(samples) > limit else (samples, False)


def _stream_sample(report: StreamReport) -> StreamSample:
    return StreamSample(
        report.frames_out,
        report.reid_frames,
        report.decode_errors,
        report.latency_p50_s,
        report.latency_p95_s,
        report.state == "running",
    )

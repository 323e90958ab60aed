"""A run, or a daemon, as Prometheus metrics; made when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dualface_client.histogram import BOUNDS_S, Histogram
from dualface_client.observe.report import FINAL_STATES, StreamReport
from dualface_client.observe.run_state import RunState, WorkerState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Counters of a stream: name, help, and where the count is.
_COUNTERS: tuple[tuple[str, str, Callable[[StreamReport], float]], ...] = (
    ("frames_in", "Frames decoded, or sent by a live source.", lambda r: r.frames_in),
    ("frames_out", "Frames written.", lambda r: r.frames_out),
    (
        "decode_errors",
        "Packets or pictures that could not be decoded.",
        lambda r: r.decode_errors,
    ),
    ("reid_frames", "Frames that cost a ReID request.", lambda r: r.reid_frames),
    ("reid_failures", "Frames whose ReID request failed.", lambda r: r.reid_failures),
    ("resends", "Detection requests that were sent again.", lambda r: r.resends),
    ("reconnects", "Times that a live source was connected to again.", lambda r: r.reconnects),
)
_HISTOGRAMS: tuple[tuple[str, str, Callable[[StreamReport], Histogram]], ...] = (
    ("frame_latency", "From a decoded frame to its encoded canvas.", lambda r: r.latency),
    ("frame_queue", "From a decoded frame to its detection request.", lambda r: r.queue),
)


def metrics_text(state: RunState) -> bytes:
    """The text that Prometheus reads.

    Args:
        state: Of the run.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RunCollector(state))
    return generate_latest(registry)


class RunCollector(Collector):
    """Turns the state as it is now into metrics.

    Args:
        state: Of the run.
    """

    def __init__(self, state: RunState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        """Every metric; what is not known is not there."""
        reports, workers = self._state.reports(), self._state.workers()
        yield from self._of_run(reports)
        yield from _of_streams(reports)
        yield from _of_workers(workers)

    def _of_run(self, reports: Iterable[StreamReport]) -> Iterator[Metric]:
        state = self._state
        yield _gauge("ready", "Whether streams are worked on.", float(state.is_ready))
        yield _gauge("stalled_streams", "Running streams without progress.", len(state.stalled()))
        awaited = float(state.server_awaited)
        yield _gauge("server_awaited", "Whether the inference server went away.", awaited)
        counts = Counter(report.state for report in reports)
        streams = GaugeMetricFamily("dualface_streams", "Streams by state.", labels=["state"])
        for name in ("waiting", "running", *FINAL_STATES):
            streams.add_metric([name], counts[name])
        yield streams
        fault = float(bool(state.pool_fault))
        yield _gauge("pool_fault", "Whether Triton's memory pools have run dry.", fault)
        yield _counter(
            "pool_fallbacks",
            "Lines of Triton's log that say a memory pool was not enough.",
            "kind",
            state.pool_fallbacks,
        )
        free = GaugeMetricFamily(
            "dualface_output_free_bytes", "Free bytes where outputs go.", labels=["directory"]
        )
        for place, free_bytes in state.output_space().items():
            free.add_metric([place], free_bytes)
        yield free
        yield _counter("errors", "Streams that failed, by class.", "class", state.errors())


def _of_streams(reports: Iterable[StreamReport]) -> Iterator[Metric]:
    reports = [report for report in reports if not report.resumed]  # another run's work
    for key, text, count_of in _COUNTERS:
        yield _counter(key, text, "stream", {r.name: count_of(r) for r in reports})
    drift = GaugeMetricFamily(
        "dualface_sound_drift_seconds",
        "Written sound against written pictures of live streams.",
        labels=["stream"],
    )
    corrected = CounterMetricFamily(
        "dualface_sound_corrected_seconds",
        "Silence filled in and sound cut away, so that sound stays with its pictures.",
        labels=["stream"],
    )
    failures = CounterMetricFamily(
        "dualface_output_failures", "Times that an output was tried again.", labels=["stream"]
    )
    for report in reports:
        if report.live:
            drift.add_metric([report.name], report.sound_drift_s)
            corrected.add_metric([report.name], report.sound_corrected_s)
            failures.add_metric([report.name], sum(each.failures for each in report.outputs))
    yield from (drift, corrected, failures)
    dropped = CounterMetricFamily(
        "dualface_frames_dropped", "Live frames not written.", labels=["stream", "cause"]
    )
    for report in reports:
        for cause, count in report.dropped.items():
            dropped.add_metric([report.name, cause], count)
    yield dropped
    for key, text, histogram_of in _HISTOGRAMS:
        family = HistogramMetricFamily(f"dualface_{key}_seconds", text, labels=["stream"])
        for report in reports:
            _add(family, [report.name], histogram_of(report))
        yield family


def _of_workers(workers: Iterable[WorkerState]) -> Iterator[Metric]:
    restarts = CounterMetricFamily("dualface_worker_restarts", "Restarts of workers.")
    restarts.add_metric([], sum(worker.restarts for worker in workers))
    yield restarts
    up = GaugeMetricFamily("dualface_worker_up", "Whether it runs.", labels=["worker"])
    slots = GaugeMetricFamily(
        "dualface_slots", "Slots of shared memory.", labels=["worker", "model", "state"]
    )
    waits = CounterMetricFamily(
        "dualface_slot_wait_seconds", "Time spent waiting for slots.", labels=["worker", "model"]
    )
    requests = HistogramMetricFamily(
        "dualface_request_seconds", "From a request to its answer.", labels=["worker", "model"]
    )
    for worker in workers:
        number = str(worker.number)
        up.add_metric([number], float(worker.pid > 0))
        for model, figures in worker.slots.items():
            for name in ("capacity", "leased", "quarantined"):
                slots.add_metric([number, model, name], getattr(figures, name))
            waits.add_metric([number, model], figures.wait_s)
        for model, histogram in worker.requests.items():
            _add(requests, [number, model], histogram)
    yield from (up, slots, waits, requests)


def _gauge(key: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"dualface_{key}", text, value)


def _counter(key: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(f"dualface_{key}", text, labels=[label])
    for name, value in values.items():
        family.add_metric([name], value)
    return family


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    if not histogram.counts:
        return
    bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    family.add_metric(labels, buckets, histogram.sum_s)

"""Watches the machine during a run, and decides what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import asdict, fields
from typing import Any

from dualface_client.background import BackgroundLoop
from dualface_client.closing import ClosesAtExit
from dualface_client.observe.alerts import TELL, Alert, AlertRules, HardwareSample
from dualface_client.observe.gpus import GpuSample, Nvml
from dualface_client.observe.host import read_host
from dualface_client.settings.program import MonitorSettings

_ALERTS_KEPT = 100


class HardwareReader(ClosesAtExit):
    """Reads samples of this process, its host and the GPUs that are used.

    Args:
        on_gpu: Whether any is; otherwise GPUs are ignored.
        uuids: Which ones; none for the one that this process uses.

    Attributes:
        note: Why there are no GPU figures, empty if there are.
    """

    def __init__(self, *, on_gpu: bool, uuids: Collection[str] = ()) -> None:
        self.note = "" if on_gpu else "the GPU is not used"
        self._nvml: Nvml | None = None
        self._indices: list[int] = []
        if not on_gpu:
            return
        try:
            self._nvml = Nvml()
        except OSError as error:
            self.note = str(error)
            return
        used = self._nvml.used_index()
        self._indices = self._nvml.indices(uuids) if uuids else [] if used is None else [used]

    def read(self) -> HardwareSample:
        """The machine now."""
        nvml = self._nvml
        gpus = {} if nvml is None else {index: nvml.sample(index) for index in self._indices}
        return HardwareSample(read_host(), gpus)

    def close(self) -> None:
        """Closes NVML."""
        if self._nvml is not None:
            self._nvml.close()


class HardwareMonitor(ClosesAtExit):
    """Samples on one thread and acts on thresholds; a context manager, usable from any thread.

    Args:
        settings: Interval and thresholds; an interval of 0 never samples and always admits.
        tell: Gets every alert when it begins and when it is over.
        read: Returns a sample; None reads this machine.
        on_gpu: Whether the run uses a GPU.
        uuids: Of the GPUs that it uses; none for the one that this process uses.
    """

    def __init__(
        self,
        settings: MonitorSettings,
        tell: Callable[[Alert], None],
        read: Callable[[], HardwareSample] | None = None,
        *,
        on_gpu: bool = False,
        uuids: Collection[str] = (),
    ) -> None:
        self._tell = tell
        self._read = read
        self._on_gpu, self._uuids = on_gpu, uuids
        self._rules = AlertRules(settings)
        self._peaks = _Peaks()
        self._alerts: list[dict[str, Any]] = []
        self._note = ""
        self._admits, self._is_slowed = True, False
        self._started_s = time.monotonic()
        self._resources = ExitStack()
        self._loop: BackgroundLoop | None = None
        if settings.interval_s > 0:
            self._loop = BackgroundLoop(
                self._sample,
                name="hardware",
                period_s=settings.interval_s,
                at_once=True,
                at_end=self._resources.close,
                failed=self._give_up,
            )

    def admit(self) -> bool:
        """Whether a further stream may be started."""
        return self._admits

    def requests(self, in_flight: int, frames: int) -> tuple[int, int]:
        """See `stream.pacing.Pacing`: half of the frames that a stream wants, while slowed."""
        if not self._is_slowed:
            return in_flight, frames
        return (in_flight // 2, frames) if in_flight > 1 else (1, max(1, frames // 2))

    def summary(self) -> dict[str, Any]:
        """For the run's summary: samples, peaks, alerts."""
        return {
            "samples": self._peaks.samples,
            "note": self._note,
            "peaks": self._peaks.as_dict(),
            "alerts": list(self._alerts),
        }

    def close(self) -> None:
        """Ends; safe to call twice. Afterwards everything is admitted."""
        if self._loop is not None:
            self._loop.close()
        self._admits, self._is_slowed = True, False

    def _sample(self) -> None:
        if self._read is None:  # opened on the loop's thread, because NVML is slow
            reader = HardwareReader(on_gpu=self._on_gpu, uuids=self._uuids)
            self._resources.enter_context(reader)
            self._note, self._read = reader.note, reader.read
        self.take(self._read())

    def _give_up(self, error: Exception) -> None:
        """Admits everything: a run must not end because it lost its monitor."""
        self._note = f"the monitor stopped: {error!r}"
        self._admits, self._is_slowed = True, False
        self._tell(Alert("hardware monitor", self._note, TELL))

    def take(self, sample: HardwareSample) -> None:
        """Acts on a sample; called on the thread."""
        self._peaks.add(sample)
        for alert in self._rules.update(sample):
            self._report(alert)
        self._admits, self._is_slowed = self._rules.admits, self._rules.is_slowed

    def _report(self, alert: Alert) -> None:
        since_s = round(time.monotonic() - self._started_s, 3)
        if len(self._alerts) < _ALERTS_KEPT:
            self._alerts.append({"time_s": since_s, **asdict(alert)})
        self._tell(alert)


class _Peaks:
    """Largest figures seen."""

    def __init__(self) -> None:
        self.samples = 0
        self._host: dict[str, float] = {}
        self._gpus: dict[int, dict[str, float]] = {}

    def add(self, sample: HardwareSample) -> None:
        self.samples += 1
        host = sample.host
        _raise(self._host, "memory_share", host.memory_share)
        _raise(self._host, "resident_bytes", host.resident_bytes)
        _raise(self._host, "open_files", host.open_files)
        for index, gpu in sample.gpus.items():
            peaks = self._gpus.setdefault(index, {})
            for name in _GPU_FIGURES:
                _raise(peaks, name, getattr(gpu, name))
            if gpu.power_capped:
                peaks["samples_power_capped"] = peaks.get("samples_power_capped", 0) + 1

    def as_dict(self) -> dict[str, Any]:
        return {
            "host": _rounded(self._host),
            "gpus": {str(index): _rounded(peaks) for index, peaks in self._gpus.items()},
        }


_GPU_FIGURES = tuple(
    field.name
    for field in fields(GpuSample)
    if field.name not in {"throttled", "power_capped", "memory_total_bytes"}
)


def _raise(peaks: dict[str, float], name: str, value: float | None) -> None:
    if value is not None:
        peaks[name] = max(value, peaks.get(name, value))


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in figures.items()}

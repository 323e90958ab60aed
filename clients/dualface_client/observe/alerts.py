"""What to do about the machine's figures: pure decisions without clocks, threads or libraries.

A threshold has two values. An effect begins at the upper one and ends below the lower one; between
them nothing changes. So a figure that hovers around one value has no effect.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from dualface_client.observe.gpus import GpuSample
from dualface_client.observe.host import HostSample
from dualface_client.settings.program import MonitorSettings

#: What an alert does.
HOLD, SLOW, TELL = "no further stream is started", "fewer frames in flight", "nothing changes"
#: A throttled GPU and a full decoder come and go within a second; it takes this many samples to
#: raise an alert.
_SAMPLES_TO_BELIEVE = 3
_DECODER_FULL = 0.98


@dataclass(frozen=True, slots=True)
class HardwareSample:
    """The machine at one moment.

    Attributes:
        host: Memory and files.
        gpus: Those that this run uses, by NVML's index; empty without one.
    """

    host: HostSample
    gpus: Mapping[int, GpuSample] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """Something is wrong, or was.

    Attributes:
        name: What, such as `gpu 0 memory`.
        text: The figure and the threshold.
        effect: One of `HOLD`, `SLOW`, `TELL`.
        is_over: Whether it ended.
    """

    name: str
    text: str
    effect: str
    is_over: bool = False

    def __str__(self) -> str:
        if self.is_over:
            return f"{self.name}: {self.text}: normal again"
        return f"{self.name}: {self.text}: {self.effect}"


@dataclass(frozen=True, slots=True)
class _Figure:
    """A figure with its thresholds."""

    name: str
    value: float
    high: float
    low: float
    effect: str
    unit: str = "%"

    def text(self) -> str:
        scale = 100 if self.unit == "%" else 1
        return f"{self.value * scale:.0f} {self.unit} (limit {self.high * scale:.0f})"


@dataclass(slots=True)
class AlertRules:
    """Remembers what was decided; one for a process.

    Attributes:
        settings: The thresholds.
        active: Alerts in force, by name.
    """

    settings: MonitorSettings
    active: dict[str, Alert] = field(default_factory=dict)
    _in_a_row: dict[str, int] = field(default_factory=dict)

    def update(self, sample: HardwareSample) -> list[Alert]:
        """Takes a sample.

        Returns:
            Alerts that began or ended with it.
        """
        judged = (self._judge(figure) for figure in self._figures(sample))
        return [alert for alert in judged if alert is not None]

    @property
    def admits(self) -> bool:
        """Whether further streams may be started."""
        return all(alert.effect != HOLD for alert in self.active.values())

    @property
    def is_slowed(self) -> bool:
        """Whether fewer requests should be in flight."""
        return any(alert.effect == SLOW for alert in self.active.values())

    def _judge(self, figure: _Figure) -> Alert | None:
        active = figure.name in self.active
        if not active and figure.value >= figure.high:
            self.active[figure.name] = Alert(figure.name, figure.text(), figure.effect)
            return self.active[figure.name]
        if active and figure.value < figure.low:
            del self.active[figure.name]
            return Alert(figure.name, figure.text(), figure.effect, is_over=True)
        return None

    def _figures(self, sample: HardwareSample) -> Iterator[_Figure]:
        own, host = self.settings, sample.host
        yield _Figure("memory", host.memory_share, own.host_memory_high, own.host_memory_low, HOLD)
        yield _Figure("open files", host.files_share, own.files_high, own.files_low, HOLD)
        for index, gpu in sample.gpus.items():
            yield from self._gpu_figures(f"gpu {index}", gpu)

    def _gpu_figures(self, name: str, gpu: GpuSample) -> Iterator[_Figure]:
        own = self.settings
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes:
            share = gpu.memory_used_bytes / gpu.memory_total_bytes
            yield _Figure(f"{name} memory", share, own.gpu_memory_high, own.gpu_memory_low, HOLD)
        if gpu.temperature_c is not None:
            high, low = own.temperature_high_c, own.temperature_low_c
            yield _Figure(f"{name} temperature", gpu.temperature_c, high, low, SLOW, "C")
        yield self._lasting(f"{name} throttled", bool(gpu.throttled), SLOW)
        full = (gpu.decoder_load or 0.0) >= _DECODER_FULL
        yield self._lasting(f"{name} decoder full", full, TELL)

    def _lasting(self, name: str, now: bool, effect: str) -> _Figure:
        """A state as a figure: for how many samples in a row it held."""
        count = min(self._in_a_row.get(name, 0) + 1, _SAMPLES_TO_BELIEVE) if now else 0
        self._in_a_row[name] = count
        return _Figure(name, count, _SAMPLES_TO_BELIEVE, 1, effect, "samples in a row")

"""The hardware monitor: decisions on given samples, and the real reader on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dualface_client.observe.alerts import HOLD, SLOW, TELL, Alert, AlertRules, HardwareSample
from dualface_client.observe.gpus import GpuFacts, GpuSample, first_visible, used_gpu
from dualface_client.observe.hardware import HardwareMonitor, HardwareReader
from dualface_client.observe.host import (
    HostSample,
    disk_write_bytes_s,
    family,
    read_host,
    read_machine,
    resident_bytes,
)
from dualface_client.settings.program import MonitorSettings
from tests.processes import wait_until

GIB = 1 << 30
SETTINGS = MonitorSettings()


def host(*, memory: float = 0.2, files: int = 20) -> HostSample:
    return HostSample(memory, 300 << 20, files, 1000)


def at(*, memory: float = 0.2, files: int = 20, **gpu: object) -> HardwareSample:
    gpus = {0: GpuSample(**gpu)} if gpu else {}  # type: ignore[arg-type] # fields by name
    return HardwareSample(host(memory=memory, files=files), gpus)


def vram(share: float) -> HardwareSample:
    return at(memory_used_bytes=int(share * 80 * GIB), memory_total_bytes=80 * GIB)


def feed(rules: AlertRules, samples: list[HardwareSample]) -> list[str]:
    return [str(alert) for sample in samples for alert in rules.update(sample)]


def test_a_quiet_machine_raises_nothing() -> None:
    rules = AlertRules(SETTINGS)
    gpu = at(memory_used_bytes=GIB, memory_total_bytes=80 * GIB, temperature_c=60.0, load=1.0)
    assert feed(rules, [at(), gpu, at()]) == []
    assert (rules.admits, rules.is_slowed) == (True, False)


def test_a_threshold_holds_until_the_lower_value() -> None:
    """Up through 0.95, trembling between the two, then below 0.90."""
    rules = AlertRules(SETTINGS)
    admitted = []
    for share in (0.94, 0.96, 0.94, 0.951, 0.91, 0.9, 0.89, 0.94):
        rules.update(vram(share))
        admitted.append(rules.admits)
    assert admitted == [True, False, False, False, False, False, True, True]


def test_an_alert_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    told = feed(AlertRules(SETTINGS), [vram(s) for s in (0.5, 0.97, 0.99, 0.92, 0.97, 0.8, 0.7)])
    assert told == [
        f"gpu 0 memory: 97 % (limit 95): {HOLD}",
        "gpu 0 memory: 80 % (limit 95): normal again",
    ]


@pytest.mark.parametrize(
    ("bad", "name", "effect"),
    [
        (at(memory=0.97), "memory", HOLD),
        (at(files=950), "open files", HOLD),
        (vram(0.99), "gpu 0 memory", HOLD),
        (at(temperature_c=91.0), "gpu 0 temperature", SLOW),
    ],
)
def test_each_figure_has_its_effect(bad: HardwareSample, name: str, effect: str) -> None:
    rules = AlertRules(SETTINGS)
    (alert,) = rules.update(bad)
    assert (alert.name, alert.effect) == (name, effect)
    assert (rules.admits, rules.is_slowed) == (effect != HOLD, effect == SLOW)


def test_a_moment_of_throttling_is_not_believed() -> None:
    rules = AlertRules(SETTINGS)
    hot = at(throttled=("hardware thermal slowdown",))
    assert feed(rules, [hot, hot, at(load=0.5), hot, hot]) == []
    assert not rules.is_slowed
    assert len(feed(rules, [hot])) == 1
    assert rules.is_slowed
    assert "normal again" in feed(rules, [at(load=0.5)])[0]


def test_a_power_cap_is_everyday() -> None:
    assert feed(AlertRules(SETTINGS), [at(power_capped=True, power_w=700.0)] * 10) == []


def test_a_full_decoder_is_told_and_nothing_more() -> None:
    rules = AlertRules(SETTINGS)
    (told,) = feed(rules, [at(decoder_load=1.0)] * 5)
    assert TELL in told
    assert (rules.admits, rules.is_slowed) == (True, False)


def test_two_alerts_hold_until_both_are_over() -> None:
    rules = AlertRules(SETTINGS)
    rules.update(at(memory=0.99, files=990))
    rules.update(at(memory=0.5, files=990))
    assert not rules.admits
    rules.update(at(memory=0.5, files=10))
    assert rules.admits


def test_a_second_gpu_is_watched_under_its_own_name() -> None:
    cool, hot = GpuSample(temperature_c=50.0), GpuSample(temperature_c=95.0)
    (alert,) = AlertRules(SETTINGS).update(HardwareSample(host(), {0: cool, 1: hot}))
    assert alert.name == "gpu 1 temperature"


@pytest.fixture
def monitor() -> Callable[..., tuple[HardwareMonitor, list[str]]]:
    """A monitor that is fed by hand: its thread never samples."""

    def make(**settings: float) -> tuple[HardwareMonitor, list[str]]:
        told: list[str] = []
        settings_of = MonitorSettings(interval_s=0, **settings)
        return HardwareMonitor(settings_of, lambda alert: told.append(str(alert))), told

    return make


def test_the_monitor_admits_slows_and_reports(
    monitor: Callable[..., tuple[HardwareMonitor, list[str]]],
) -> None:
    watched, told = monitor()
    watched.take(vram(0.97))
    assert not watched.admit()
    watched.take(at(temperature_c=90.0, memory_used_bytes=GIB, memory_total_bytes=80 * GIB))
    assert watched.admit()
    assert [watched.requests(n, 16) for n in (2, 5, 8)] == [(1, 16), (2, 16), (4, 16)]
    assert [watched.requests(1, n) for n in (1, 3, 16)] == [(1, 1), (1, 1), (1, 8)]
    watched.take(at(temperature_c=70.0))
    assert watched.requests(8, 16) == (8, 16)
    assert [line.rpartition(": ")[2] for line in told] == [
        HOLD,
        "normal again",
        SLOW,
        "normal again",
    ]
    summary = watched.summary()
    assert summary["samples"] == 3
    assert summary["peaks"]["gpus"]["0"]["temperature_c"] == 90.0
    assert [entry["is_over"] for entry in summary["alerts"]] == [False, True, False, True]


def test_alerts_are_kept_up_to_a_limit(
    monitor: Callable[..., tuple[HardwareMonitor, list[str]]],
) -> None:
    watched, told = monitor()
    for _ in range(80):
        watched.take(at(memory=0.99))
        watched.take(at(memory=0.1))
    assert (len(told), len(watched.summary()["alerts"])) == (160, 100)


def test_the_thread_samples_this_machine_and_ends() -> None:
    with HardwareMonitor(MonitorSettings(interval_s=0.01), lambda alert: None) as watched:
        wait_until(lambda: watched.summary()["samples"] >= 3)
    summary = watched.summary()
    assert summary["samples"] >= 3
    assert summary["peaks"]["host"]["resident_bytes"] > 10 << 20
    assert "hardware" not in {thread.name for thread in threading.enumerate()}
    watched.close()


def test_a_reader_that_fails_ends_the_monitor_and_not_the_run() -> None:
    told: list[Alert] = []
    samples = iter([vram(0.99)])
    with HardwareMonitor(
        MonitorSettings(interval_s=0.001), told.append, lambda: next(samples)
    ) as w:
        wait_until(lambda: len(told) >= 2)
        assert w.admit()
    assert str(told[-1]).startswith("hardware monitor: the monitor stopped: StopIteration")


def test_reading_this_machine() -> None:
    reader = HardwareReader(on_gpu=True)
    sample = reader.read()
    reader.close()
    assert 0 < sample.host.memory_share < 1
    assert sample.host.open_files == pytest.approx(len(os.listdir("/proc/self/fd")), abs=3)
    assert bool(sample.gpus) == (reader.note == "")


def test_resident_sizes_count_children_and_nobody_who_is_gone() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1); input()'])"
    parent = subprocess.Popen([sys.executable, "-uc", code], stdin=-1, stdout=-1)
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"1\n"
    processes = family(parent.pid)
    assert processes[0].pid == parent.pid
    assert len(processes) == 2
    assert resident_bytes(parent.pid) > processes[0].memory_info().rss > 1 << 20
    parent.communicate(b"\n", timeout=10)
    assert resident_bytes(parent.pid) == 0


def test_a_gpu_that_is_not_used_is_not_looked_at() -> None:
    reader = HardwareReader(on_gpu=False)
    assert (reader.read().gpus, reader.note) == ({}, "the GPU is not used")


@pytest.mark.parametrize(
    ("visible", "index"),
    [
        (None, 0),
        ("0", 0),
        ("1", 1),
        ("1,0", 1),
        ("7", None),
        ("", None),
        ("GPU-b", 1),
        ("GPU-c", None),
        ("MIG-x", 0),
        ("-1", None),
    ],
)
def test_the_gpu_that_is_used_follows_the_environment(
    visible: str | None, index: int | None
) -> None:
    assert first_visible(visible, ["GPU-a1", "GPU-b2"]) == index
    assert first_visible(visible, []) is None


def test_open_files_are_counted() -> None:
    before = read_host().open_files
    with tempfile.TemporaryFile(), tempfile.TemporaryFile():
        assert read_host().open_files == before + 2


def test_a_containers_limits_count(tmp_path: Path) -> None:
    free = read_machine(tmp_path)
    assert free.core_quota is None
    for name, text in (
        ("cpu.max", "150000 100000"),
        ("memory.max", str(64 << 20)),
        ("memory.current", str(48 << 20)),
        ("memory.stat", f"anon 1\ninactive_file {16 << 20}\n"),
    ):
        (tmp_path / name).write_text(text)
    facts = read_machine(tmp_path)
    assert (facts.core_quota, facts.usable_cores, facts.memory_bytes) == (1.5, 1, 64 << 20)
    assert read_host(tmp_path).memory_share >= 0.5
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert read_machine(tmp_path) == free


def test_the_disks_speed_is_measured_and_nothing_stays(tmp_path: Path) -> None:
    assert disk_write_bytes_s(tmp_path, limit_bytes=8 << 20) > 1e5
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="No such file"):
        disk_write_bytes_s(tmp_path / "none")


def test_memory_is_judged_by_the_gpu_that_cuda_uses() -> None:
    small, large = (
        GpuFacts(name, "580.1", total, used, "9.0", False, True, uuid=uuid)
        for name, total, used, uuid in (
            ("small", 24 << 30, 23 << 30, "GPU-a1"),
            ("large", 141 << 30, 1 << 30, "GPU-b2"),
        )
    )
    for visible, expected in (("1", large), ("GPU-b2,GPU-a1", large), ("0", small), ("7", None)):
        assert used_gpu([small, large], {"CUDA_VISIBLE_DEVICES": visible}) is expected
    assert used_gpu([small, large], {}) is small
    assert used_gpu(None) is None

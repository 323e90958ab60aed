"""One row of `compare.py`: some processes at work, watched from beside, and one of them killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from dualface_client.background import BackgroundLoop
from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.memory.vram import MIB
from dualface_client.observe.gpus import GpuSample, Nvml
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device_cuda import for_cuda
from dualface_client.stream.load import demands
from dualface_client.triton.mps import multi_process_service
from dualface_client.triton.server_process import free_ports

WORKER = Path(__file__).with_name("compare_worker.py")
_SAMPLE_S, _SETTLED_S, _STOP_S = 0.25, 5.0, 40.0


@dataclass(frozen=True)
class Row:
    """What is run.

    Attributes:
        way: Which of the ways it belongs to.
        processes: That share the streams.
        mps: Whether all of them share the GPU by a Multi-Process Service.
        how: What it is and how it is tuned.
    """

    way: str
    processes: int
    mps: bool
    how: str

    @property
    def name(self) -> str:
        """Way, processes and MPS in one word."""
        return f"{self.way}-{self.processes}" + ("-mps" if self.mps else "")


@dataclass(frozen=True)
class Job:
    """What every row is given.

    Attributes:
        clip: The file of every stream of the measured run.
        short: That of the run in which a process is killed.
        frames: Frames of both.
        streams: How many.
        seconds: After so long the measured run is ended.
        device: `cuda`, or `cpu` to try the script.
        model: Another detector, on a CPU only.
        torch_python: Interpreter with PyTorch.
        work: Folder for what the processes leave.
    """

    clip: Path
    short: Path
    frames: tuple[int, int]
    streams: int
    seconds: float
    device: str
    model: Path | None
    torch_python: str
    work: Path


def worker_command(row: Row, job: Job, clip: Path, number: int, *, limit: bool) -> list[str]:
    """How one process of a way without a server is started."""
    decoder = "pyav" if row.way == "cpu-decode" or job.device == "cpu" else "nvdec"
    detector = "torch" if row.way == "torch" else "onnx"
    python = job.torch_python if row.way == "torch" else sys.executable
    command = [python, str(WORKER), str(clip), "--decoder", decoder]
    command += ["--detector", "onnx-cpu" if job.device == "cpu" else detector]
    command += ["--model", str(job.model)] if job.model else []
    command += ["--streams", str(len(streams_of(row, job.streams, number)))]
    command += ["--progress", str(job.work / f"progress{number}")]
    return command + (["--seconds", str(job.seconds)] if limit else [])


def client_command(row: Row, job: Job, clips: list[str], address: str, port: int) -> list[str]:
    """How this client is started; every frame is detected, and none is looked at before."""
    command = [sys.executable, "-m", "dualface_client", "run", *clips, "--encoder", "none"]
    command += ["--server", address, "--streams", str(job.streams), "--quiet"]
    command += ["--workers", str(row.processes), "--detect-every", "1", "--no-cast"]
    command += ["--health-port", str(port), "--summary", str(job.work / "summary.json")]
    if row.way == "client-bytes":  # frames are on the CPU then
        return [*command, "--device", "cpu", "--transport", "bytes"]
    return [*command, "--device", job.device]


def streams_of(row: Row, streams: int, number: int) -> list[int]:
    """Which streams one of a row's processes has."""
    return list(range(streams))[number :: row.processes]


@dataclass(frozen=True)
class Sample:
    """All processes and the GPU at one moment.

    Attributes:
        at_s: On the monotonic clock.
        frames: Frames composed so far, by stream.
        cpu_s: CPU time of all processes so far.
        gpu: What NVML says of the whole card; nothing without one.
    """

    at_s: float
    frames: dict[str, int]
    cpu_s: float = 0.0
    gpu: GpuSample = field(default_factory=GpuSample)


class Watch(BackgroundLoop):
    """Samples four times a second while it is open.

    Args:
        frames: Says how far each stream is; empty while nobody knows.

    Attributes:
        samples: What it saw.
        before_mib: GPU memory in use when it was made.
    """

    def __init__(self, frames: Callable[[], Mapping[str, int]]) -> None:
        self._frames = frames
        self._cpu_s: dict[int, float] = {}
        self.samples: list[Sample] = []
        self._nvml: Nvml | None = None
        with contextlib.suppress(OSError):  # no GPU: the script is only tried
            self._nvml = Nvml()
        self._index = (self._nvml and self._nvml.used_index()) or 0
        self.before_mib = self._settled_mib()
        super().__init__(self._sample, name="watch", period_s=_SAMPLE_S, once_more=True)

    def _gpu(self) -> GpuSample:
        return self._nvml.sample(self._index) if self._nvml else GpuSample()

    def _settled_mib(self) -> float | None:
        """Used memory, when processes of the row before have given back theirs."""
        end_s, used = time.monotonic() + _SETTLED_S, _used_mib(self._gpu())
        while used is not None and time.monotonic() < end_s:
            time.sleep(2 * _SAMPLE_S)
            before, used = used, _used_mib(self._gpu())
            if used is not None and used >= before:
                break
        return used

    def _sample(self) -> None:
        at_s, frames = time.monotonic(), dict(self._frames())
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just ended
                times = process.cpu_times()
                self._cpu_s[process.pid] = times.user + times.system
        self.samples.append(Sample(at_s, frames, sum(self._cpu_s.values()), self._gpu()))


def _used_mib(gpu: GpuSample) -> float | None:
    return None if gpu.memory_used_bytes is None else gpu.memory_used_bytes / MIB


def steady(samples: list[Sample], total: int) -> list[Sample]:
    """Those in which every stream is under way and none has all of its frames."""
    return [
        each
        for each in samples
        if each.frames and min(each.frames.values()) > 0 and max(each.frames.values()) < total
    ]


def rate(samples: list[Sample], streams: set[str] | None = None) -> float | None:
    """Frames per second between the first and the last sample; None for fewer than two.

    Args:
        samples: In order.
        streams: Those that count; None for all.
    """
    if len(samples) < 2:
        return None
    first, last = samples[0], samples[-1]

    def count(sample: Sample) -> int:
        return sum(n for name, n in sample.frames.items() if streams is None or name in streams)

    return round((count(last) - count(first)) / (last.at_s - first.at_s), 1)


def watched(watch: Watch, streams: int, total: int) -> dict[str, Any]:
    """What the samples of a measured run say."""
    window = steady([each for each in watch.samples if len(each.frames) == streams], total)
    used = [mib for each in watch.samples if (mib := _used_mib(each.gpu)) is not None]
    found: dict[str, Any] = {"steady_frames_per_s": rate(window), "samples": len(window)}
    if used and watch.before_mib is not None:
        found["vram_mib"] = round(max(used) - watch.before_mib)
    for name, key in (
        ("power_w", "power_w"),
        ("gpu_load", "load"),
        ("decoder_load", "decoder_load"),
    ):
        values = [value for each in window if (value := getattr(each.gpu, key)) is not None]
        found |= {name: round(statistics.mean(values), 2)} if values else {}
    if len(window) >= 2:
        frames = sum(window[-1].frames.values()) - sum(window[0].frames.values())
        cpu_s = window[-1].cpu_s - window[0].cpu_s
        found["cpu_ms_per_frame"] = round(cpu_s / max(frames, 1) * 1e3, 3)
        found["cores"] = round(cpu_s / (window[-1].at_s - window[0].at_s), 2)
    return found


class Workers:
    """The processes of a way without a server, ready to start."""

    def __init__(self, row: Row, job: Job, clip: Path, *, limit: bool) -> None:
        self._row, self._job = row, job
        self._log = job.work / "stderr.txt"
        with self._log.open("w") as log:
            self.processes = [
                subprocess.Popen(
                    worker_command(row, job, clip, number, limit=limit),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
                for number in range(row.processes)
            ]
        if any(self._line(process) != "ready" for process in self.processes):
            self.end()
            raise RuntimeError(f"a process ended before it was ready: {self.last_words()}")

    @staticmethod
    def _line(process: subprocess.Popen[str]) -> str:
        return process.stdout.readline().strip() if process.stdout else ""

    def last_words(self) -> str:
        """The end of what all of them wrote to standard error."""
        return self._log.read_text(errors="replace")[-1200:]

    def go(self) -> None:
        """Starts the work of all."""
        for process in self.processes:
            print("go", file=process.stdin, flush=True)

    def frames(self) -> dict[str, int]:
        """Frames composed so far, by stream."""
        found: dict[str, int] = {}
        for number in range(self._row.processes):
            streams = streams_of(self._row, self._job.streams, number)
            with contextlib.suppress(OSError, ValueError):  # not made yet
                counts = np.fromfile(self._job.work / f"progress{number}", np.int64)
                found.update({str(s): int(n) for s, n in zip(streams, counts, strict=True)})
        return found

    def results(self) -> list[dict[str, Any] | None]:
        """What each says at its end; None for one that died without a word."""
        found: list[dict[str, Any] | None] = []
        for process in self.processes:
            line = self._line(process)
            found.append(json.loads(line) if line else None)
            process.communicate()
        return found

    def has_one_ended(self) -> bool:
        """Whether one has ended by itself."""
        return any(process.poll() is not None for process in self.processes)

    def end(self) -> None:
        """Kills what is left."""
        for process in self.processes:
            process.kill()
            process.wait()


def measured_workers(row: Row, job: Job) -> dict[str, Any]:
    """A measured run of a way without a server."""
    with ExitStack() as stack:
        watch, workers = _started(row, job, job.clip, stack, limit=True)
        workers.go()
        results = workers.results()
    said = [result for result in results if result]
    if len(said) < row.processes:
        raise RuntimeError(f"{row.processes - len(said)} processes died: {workers.last_words()}")
    frames = sum(sum(result["frames"]) for result in said)
    return {
        "decoder": said[0]["decoder"],
        "frames": frames,
        "frames_per_s": round(frames / max(result["elapsed_s"] for result in said), 1),
        "latency_p50_ms": _middle([ms for result in said for ms in result["latency_p50_ms"]]),
        "latency_p99_ms": _middle([ms for result in said for ms in result["latency_p99_ms"]]),
        "errors": [text for result in said for text in result["errors"]],
        **watched(watch, job.streams, job.frames[0]),
    }


def _started(
    row: Row, job: Job, clip: Path, stack: ExitStack, *, limit: bool
) -> tuple[Watch, Workers]:
    """Workers that are ready, and who watches them; the memory before is without them."""
    place: list[Workers] = []
    watch = stack.enter_context(Watch(lambda: place[0].frames() if place else {}))
    stack.enter_context(multi_process_service(wanted=row.mps))
    workers = Workers(row, job, clip, limit=limit)
    stack.callback(workers.end)
    place.append(workers)
    return watch, workers


def killed_worker(row: Row, job: Job) -> dict[str, Any]:
    """A run of a way without a server in which the first process is killed in the middle."""
    if row.processes == 1:
        return {"others": 0, "verdict": "there are no others: all streams end with the process"}
    with ExitStack() as stack:
        watch, workers = _started(row, job, job.short, stack, limit=False)
        workers.go()
        killed_s = _killed_in_the_middle(
            watch, job, lambda: workers.processes[0].pid, workers.has_one_ended
        )
        results = workers.results()[1:]
    lost = {str(stream) for stream in streams_of(row, job.streams, 0)}
    frames = [count for result in results if result for count in result["frames"]]
    return {
        **_before_and_after(watch.samples, killed_s, lost, job),
        "others_ended": sum(result is not None for result in results),
        "others_complete": sum(count == job.frames[1] for count in frames),
        "errors": [text for result in results if result for text in result["errors"]],
        "stderr": workers.last_words(),
    }


def _killed_in_the_middle(
    watch: Watch, job: Job, victim: Callable[[], int], ended: Callable[[], bool]
) -> float:
    """Kills a process when every stream has a third of its frames; returns when that was."""
    counts: dict[str, int] = {}
    while not ended():
        counts = watch.samples[-1].frames if watch.samples else {}
        if len(counts) == job.streams and min(counts.values()) > job.frames[1] / 3:
            break
        time.sleep(0.05)
    if ended():
        raise RuntimeError(f"it ended before every stream had a third of its frames: {counts}")
    killed_s = time.monotonic()
    os.kill(victim(), signal.SIGKILL)
    return killed_s


def _before_and_after(
    samples: list[Sample], killed_s: float, lost: set[str], job: Job
) -> dict[str, Any]:
    """Rates of the streams of other processes, before and after the kill."""
    others = {name for each in samples for name in each.frames} - lost
    mine = [
        Sample(each.at_s, {n: c for n, c in each.frames.items() if n in others}) for each in samples
    ]
    window = steady(mine, job.frames[1])
    return {
        "others": len(others),
        "others_before_frames_per_s": rate([each for each in window if each.at_s <= killed_s]),
        "others_after_frames_per_s": rate([each for each in window if each.at_s > killed_s]),
    }


class Client:
    """One run of this client on a server."""

    def __init__(self, row: Row, job: Job, clip: Path, address: str) -> None:
        self._job = job
        (port,) = free_ports(1)
        self._page = f"http://127.0.0.1:{port}/healthz"
        self._log = job.work / "stderr.txt"
        folder = job.work / f"in-{clip.stem}"
        folder.mkdir(exist_ok=True)
        clips = [folder / f"copy{index:02}{clip.suffix}" for index in range(job.streams)]
        for path in clips:
            if not path.is_symlink():
                path.symlink_to(clip)
        command = client_command(row, job, [str(path) for path in clips], address, port)
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stderr=log)

    def state(self) -> dict[str, Any]:
        """From the health page; empty while there is none."""
        try:
            with urllib.request.urlopen(self._page, timeout=5) as reply:  # noqa: S310 - our own page
                found: dict[str, Any] = json.load(reply)
        except urllib.error.HTTPError as error:  # it says that it is unwell, and how
            with error:
                found = json.load(error)
        except (OSError, ValueError):  # not up yet, or gone
            return {}
        return found

    def frames(self) -> dict[str, int]:
        """Frames composed so far, by stream."""
        return {each["name"]: each["frames_out"] for each in self.state().get("streams", ())}

    def stop_after(self, seconds: float) -> None:
        """Ends the run, if it does not end itself within so long of its first frames."""
        end_s = time.monotonic() + _STOP_S  # to come up
        begun = False
        while self.process.poll() is None and time.monotonic() < end_s:
            if not begun and any(self.frames().values()):
                begun, end_s = True, time.monotonic() + seconds
            time.sleep(0.2)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def reports(self) -> list[dict[str, Any]]:
        """What the run says of each stream, at its end."""
        self.process.wait(_STOP_S + 60)
        path = self._job.work / "summary.json"
        if not path.exists():
            raise RuntimeError(f"no summary (status {self.process.returncode}): {self.words()}")
        found: list[dict[str, Any]] = json.loads(path.read_text())["streams"]
        path.unlink()
        return found

    def words(self) -> str:
        """The end of its standard error."""
        return self._log.read_text(errors="replace")[-1200:]


@contextlib.contextmanager
def _client(row: Row, job: Job, clip: Path) -> Iterator[tuple[Watch, Client]]:
    """A run on a server of its own, and who watches both; memory before is without them."""
    place: list[Client] = []
    with ExitStack() as stack:
        watch = stack.enter_context(Watch(lambda: place[0].frames() if place else {}))
        stack.enter_context(multi_process_service(wanted=row.mps))
        settings = for_cuda(StreamSettings(), job.streams, mps=row.mps)
        choice = ServerChoice(
            device=job.device,
            has_live=False,
            detector_onnx=job.model,
            demands=demands(settings, job.streams, 0),
        )
        server = stack.enter_context(start_embedded(choice))
        client = Client(row, job, clip, server.grpc_address)
        stack.callback(client.process.wait)
        stack.callback(client.process.kill)
        place.append(client)
        yield watch, client


def measured_client(row: Row, job: Job) -> dict[str, Any]:
    """A measured run of this client."""
    with _client(row, job, job.clip) as (watch, client):
        client.stop_after(job.seconds)
        reports = client.reports()
    frames = sum(report["frames_out"] for report in reports)
    slowest_s = max((report["elapsed_s"] for report in reports), default=0.0)
    return {
        "decoder": "NvdecSource" if row.way == "client" and job.device == "cuda" else "PyavSource",
        "frames": frames,
        "frames_per_s": round(frames / slowest_s, 1) if slowest_s else None,
        "latency_p50_ms": _middle([1e3 * report["latency_p50_s"] for report in reports]),
        "latency_p99_ms": _middle([1e3 * report["latency_p99_s"] for report in reports]),
        "errors": sorted({report["error"] for report in reports if report["error"]}),
        "warnings": sorted({text for report in reports for text in report["warnings"]}),
        **watched(watch, job.streams, job.frames[0]),
    }


def killed_client(row: Row, job: Job) -> dict[str, Any]:
    """A run of this client in which one of its workers is killed in the middle."""
    lost: set[str] = set()
    with _client(row, job, job.short) as (watch, client):

        def victim() -> int:
            first = client.state()["workers"][0]
            lost.update(first["streams"])
            return int(first["pid"])

        killed_s = _killed_in_the_middle(
            watch, job, victim, lambda: client.process.poll() is not None
        )
        reports = client.reports()
    others = [report for report in reports if report["name"] not in lost]
    return {
        **_before_and_after(watch.samples, killed_s, lost, job),
        "others_ended": sum(report["state"] == "done" for report in others),
        "others_complete": sum(report["frames_out"] == job.frames[1] for report in others),
        "victims": len(lost),
        "victims_complete": sum(
            report["frames_out"] == job.frames[1] for report in reports if report["name"] in lost
        ),
        "errors": sorted({report["error"] for report in reports if report["error"]}),
        "stderr": client.words(),
    }


def _middle(values: list[float]) -> float | None:
    """Median over the streams."""
    return round(statistics.median(values), 1) if values else None


def run(row: Row, job: Job, *, kill: bool) -> dict[str, Any]:
    """One phase of a row: measured, or with a kill in the middle."""
    is_client = row.way in ("client", "client-bytes")
    if kill:
        return (killed_client if is_client else killed_worker)(row, job)
    return (measured_client if is_client else measured_workers)(row, job)

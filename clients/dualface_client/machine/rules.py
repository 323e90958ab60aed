"""From what a machine is to how to use it best: pure rules, each with its reason.

The figures behind the rules were measured on one H200 and on CPUs (docs/performance.md); on another
GPU they are a starting point, and `manual.yaml` has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dualface_client.memory.vram import (
    DEFAULT_LIMIT,
    DETECTOR_BYTES,
    EMBEDDED_SERVER_BYTES,
    MIB,
    WORKER_BYTES,
    StreamShape,
    stream_terms,
)
from dualface_client.observe.gpus import GpuFacts, used_gpu
from dualface_client.observe.host import MachineFacts
from dualface_client.observe.usable_gpus import UsableGpu
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.device_cuda import MANY_STREAMS, for_cuda
from dualface_client.stream.load import frames_held, load_of
from dualface_client.triton.pool_plan import Deployment, plan_pools
from dualface_client.video.capabilities import VideoFacts

#: With more streams, Python's lock slows a process down.
_STREAMS_PER_WORKER = 4
#: Further processes added nothing: the GPU was at 100 %.
_WORKERS_MAX = 2
#: Cores that a worker of four streams and the server's processes used.
_CORES_PER_WORKER = 2
_CORES_PER_CPU_STREAM = 4
#: A stream that memory is planned for.
_USUAL = StreamShape("1080p", 1920, 1080)
#: Host memory on a CPU machine, peaks of runs with one, two and three streams: client 379, 554, 737
#: MiB, server 496, 765, 1,115 MiB. The clip was small: 100 MiB more for frames of 1080p.
_CPU_FIRST_MIB, _CPU_STREAM_MIB = 975, 600
#: At most this share of the host's memory is planned for.
_PLANNED_SHARE = 0.8
#: Consumer cards: NVENC sessions of all processes together since driver 551, and before. From
#: reports on the web, not from NVIDIA's own matrix; never tried.
_CONSUMER_SESSIONS, _CONSUMER_SESSIONS_BEFORE, _CONSUMER_DRIVER = 8, 5, 551
_X264_WRITE_BYTES_S = 1e6


@dataclass(frozen=True, slots=True)
class ProbeFacts:
    """What the probe found.

    Attributes:
        machine: Cores and memory.
        gpus: From NVML, empty without one.
        gpu_note: Why there are none, empty if there are.
        gpu_nodes: Whether the kernel shows GPUs, whatever NVML says.
        video: The first GPU's video engines.
        cuda_problem: What keeps `--device cuda` from working, empty if it works.
        mps: The MPS daemon's pipes.
        shm_bytes: Size of /dev/shm.
        disk_bytes_s: How fast the disk takes an output, None if it was not tried.
        disk: Directory on that disk.
        chosen: GPUs that a run is to use together, none for CUDA's first.
    """

    machine: MachineFacts
    gpus: tuple[GpuFacts, ...]
    gpu_note: str
    gpu_nodes: bool
    video: VideoFacts
    cuda_problem: str
    mps: Path | None
    shm_bytes: int
    disk_bytes_s: float | None
    disk: Path
    chosen: tuple[UsableGpu, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A setting that the probe chose.

    Attributes:
        key: Key in the table of settings.
        text: Its value.
        reason: Why, in a line or two.
    """

    key: str
    text: str
    reason: str


def derive(facts: ProbeFacts) -> list[Chosen]:
    """How to use the machine, in the order of the table."""
    on_gpu = bool(facts.gpus) and not facts.cuda_problem
    return [*(_on_gpu(facts) if on_gpu else _on_cpu(facts)), *_encoding(facts, on_gpu=on_gpu)]


def _on_cpu(facts: ProbeFacts) -> list[Chosen]:
    device, why = "cpu", facts.cuda_problem if facts.gpus else f"no GPU: {facts.gpu_note}"
    if facts.gpu_nodes and not facts.gpus:
        device, why = "auto", f"/dev has GPUs that cannot be queried: {facts.gpu_note}"
    cores = facts.machine.usable_cores
    by_cores = max(1, cores // _CORES_PER_CPU_STREAM)
    room_mib = facts.machine.memory_bytes * _PLANNED_SHARE / MIB - _CPU_FIRST_MIB
    by_memory = 1 + max(0, int(room_mib // _CPU_STREAM_MIB))
    streams = min(by_cores, by_memory)
    bound = f"{facts.machine.memory_bytes // MIB} MiB of memory"
    if by_cores <= by_memory:
        bound = f"{cores} cores, and a stream keeps about {_CORES_PER_CPU_STREAM} busy"
    return [
        Chosen("run.device", device, why),
        Chosen("run.streams", str(streams), f"{bound}; detection takes the most"),
        Chosen("run.workers", "1", "one process keeps these cores busy"),
        Chosen("server.model_threads", "0", "one thread per core, as streams take turns"),
        Chosen("server.detector_instances", "1", "one model run already uses every core"),
        Chosen("detection.frames_per_request", "1", "a CPU gains nothing from larger batches"),
        Chosen(
            "detection.requests_in_flight",
            "2",
            "one is computed while the next one's picture is prepared",
        ),
    ]


def _on_gpu(facts: ProbeFacts) -> list[Chosen]:
    gpu = _used(facts)
    workers, streams, bound = _spread(facts)
    planned = for_cuda(StreamSettings(), streams * workers).detection
    count = max(1, len(facts.chosen))
    of_each = f" of each of {count} GPUs" if facts.chosen else ""
    return [
        Chosen("run.device", "cuda", f"{gpu.name}, CuPy and PyNvVideoCodec work"),
        *_several(facts.chosen),
        Chosen(
            "run.streams",
            str(count * streams * workers),
            f"{streams} in each of {workers} processes{of_each}: {bound}",
        ),
        Chosen(
            "run.workers",
            str(count * workers),
            f"more than {_STREAMS_PER_WORKER} streams slow a process down, and a third "
            "process found the GPU fully used (H200)",
        ),
        Chosen(
            "server.detector_instances",
            "1",
            "it queues the next batch while one runs; a second one needs "
            f"{DETECTOR_BYTES // MIB} MiB more and gained 5 % (H200)",
        ),
        Chosen(
            "server.cuda_pool_mib",
            str(_pool_mib(streams * workers, planned.in_flight, planned.batch)),
            f"as `dualface-client plan --streams {streams * workers} --in-flight "
            f"{planned.in_flight} --batch {planned.batch} --backend python` says, at least 256",
        ),
        *_requests(streams),
    ]


def _several(chosen: Sequence[UsableGpu]) -> list[Chosen]:
    if not chosen:
        return []
    names = ",".join(gpu.number for gpu in chosen)
    return [Chosen("run.gpus", names, "as they were named; each has a server and workers")]


def _requests(streams: int) -> list[Chosen]:
    """With more than one stream, the run knows better than the machine how many there are."""
    frames, in_flight = ("8", "4") if streams == 1 else ("auto", "auto")
    return [
        Chosen(
            "detection.frames_per_request",
            frames,
            "batches of 8, several in flight, reach 99 % of batches of 16 (H200) with less delay"
            if streams == 1
            else "8, or 16 for many streams without MPS: the embedded server copies each request "
            "in a turn of its own on the GPU (7 % with 16 streams, H200)",
        ),
        Chosen(
            "detection.requests_in_flight",
            in_flight,
            "a single stream gains 12 % from four (H200)"
            if streams == 1
            else "2, or 1 for many streams, which fill each other's gaps",
        ),
    ]


def _used(facts: ProbeFacts) -> GpuFacts:
    return used_gpu(facts.gpus) or facts.gpus[0]


def _stream_bytes() -> int:
    """A typical stream with the settings for a GPU."""
    settings = for_cuda(StreamSettings(), MANY_STREAMS)
    return sum(stream_terms(_USUAL, load_of(settings, frames_held(settings))).values())


def _spread(facts: ProbeFacts) -> tuple[int, int, str]:
    """Workers, streams in each, and what limits them."""
    total = min(
        (gpu.memory_total_bytes for gpu in facts.chosen), default=_used(facts).memory_total_bytes
    )
    room = total * DEFAULT_LIMIT - EMBEDDED_SERVER_BYTES
    worker, stream = WORKER_BYTES, _stream_bytes()
    cores = facts.machine.usable_cores // max(1, len(facts.chosen))
    workers = max(1, min(_WORKERS_MAX, cores // _CORES_PER_WORKER))
    full = worker + _STREAMS_PER_WORKER * stream
    if room >= workers * full:
        bound = "enough cores and memory" if workers == _WORKERS_MAX else f"{cores} cores"
        return workers, _STREAMS_PER_WORKER, bound
    memory = f"{total // MIB} MiB of GPU memory"
    if room >= full:
        return 1, _STREAMS_PER_WORKER, memory
    return 1, max(1, int((room - worker) // stream)), memory


def _pool_mib(streams: int, in_flight: int, batch: int) -> int:
    """What `dualface-client plan` computes for the embedded server, at least 256."""
    plan = plan_pools(
        Deployment(
            streams=streams,
            requests_in_flight=in_flight,
            batch=batch,
            backend="python",
            warm_up=False,
        )
    )
    return max(256, -(-plan.cuda_bytes // MIB))


def _encoding(facts: ProbeFacts, *, on_gpu: bool) -> list[Chosen]:
    video = facts.video
    if not on_gpu:
        return [_x264("frames are on the CPU", facts)]
    if not video.encoders:
        reason = video.encoder_note or "no NVENC"
        return [_x264(reason, facts), Chosen("limits.nvenc_sessions", "0", reason)]
    engines = f"{video.encoder_engines or 'its'} NVENC engines"
    return [
        Chosen("output.encoder", "auto", f"{engines} encode {', '.join(video.encoders)}"),
        _sessions(_used(facts)),
    ]


def _x264(reason: str, facts: ProbeFacts) -> Chosen:
    speed = facts.disk_bytes_s
    slow = speed is not None and speed < _X264_WRITE_BYTES_S
    disk = f"; the disk takes only {speed / 1e6:.1f} MB/s" if slow and speed else ""
    return Chosen("output.encoder", "x264", reason + disk)


def _sessions(gpu: GpuFacts) -> Chosen:
    key = "limits.nvenc_sessions"
    if not gpu.is_consumer:
        return Chosen(key, "unknown", "data centre and workstation cards have no fixed limit")
    major = gpu.driver.partition(".")[0]
    recent = major.isdigit() and int(major) >= _CONSUMER_DRIVER
    limit = _CONSUMER_SESSIONS if recent else _CONSUMER_SESSIONS_BEFORE
    used = gpu.encoder_sessions or 0
    others = f", {used} in use by others" if used else ""
    return Chosen(key, str(max(0, limit - used)), f"{limit} on consumer cards{others}")

"""Settings of a process and its machine: streams, server, what the monitor watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dualface_client.settings.stream import StreamSettings


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the work is spread.

    Attributes:
        device: Where pixels live; `auto` is `cuda` where that works.
        streams: Videos processed at a time; `auto` is one per 4 cores.
        workers: Processes that share the streams; `auto` is one for every four. From two on, one
            that dies is started again.
        vram_limit: Share of the GPU's memory that server, streams and others may take together.
        on_oom: What becomes of videos that do not fit there: `refuse` fails them by name before any
            starts, `queue` runs fewer at a time.
    """

    device: str = "auto"
    streams: int | None = None
    workers: int | None = 1
    vram_limit: float = 0.75
    on_oom: str = "refuse"


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What a run tells others than its user.

    Attributes:
        log_format: `json` writes one object per event to standard error instead of progress.
        health_port: Port that answers /healthz, /readyz and /metrics, 0 for a free one; `off` for
            none.
        health_host: Address that the health page listens on.
    """

    log_format: str = "text"
    health_port: int | None = None
    health_host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Which Triton, and how an embedded one runs.

    Attributes:
        address: A running Triton's gRPC address, or `embedded` to start one of our own.
        detector_onnx: Own face detector for the embedded server, or the one that was `exported`.
        reid_onnx: Own face ReID model for the embedded server, or the one that was `exported`.
        model_threads: Threads of one model run in the embedded server; 0 for one per core.
        detector_instances: Processes that run the detector in the embedded server; `auto` is one:
            it has the next batch queued while one runs.
        cuda_pool_mib: The embedded server's pool of GPU memory for tensors on their way to a model;
            `auto` is CUDA_MEMORY_POOL_BYTES of the environment, else 256.
    """

    address: str | None = None
    detector_onnx: Path | None = None
    reid_onnx: Path | None = None
    model_threads: int = 0
    detector_instances: int | None = None
    cuda_pool_mib: int | None = None


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What the hardware monitor watches.

    Each pair is a hysteresis: something is done at the upper value and undone below the lower one.

    Attributes:
        interval_s: Between two samples; 0 turns the monitor off.
        gpu_memory_high: Used share of GPU memory from which on no further stream is started.
        gpu_memory_low: Share below which streams are started again.
        temperature_high_c: GPU temperature from which on fewer requests are kept in flight.
        temperature_low_c: Temperature below which all of them are again.
        host_memory_high: Used share of the host's memory, or of the container's limit, from which
            on no further stream is started.
        host_memory_low: Share below which streams are started again.
        files_high: Open files of this process, as a share of its limit, from which on no further
            stream is started.
        files_low: Share below which streams are started again.
    """

    interval_s: float = 1.0
    gpu_memory_high: float = 0.95
    gpu_memory_low: float = 0.9
    temperature_high_c: float = 88.0
    temperature_low_c: float = 83.0
    host_memory_high: float = 0.95
    host_memory_low: float = 0.9
    files_high: float = 0.9
    files_low: float = 0.8


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What the machine allows; other settings are checked against it.

    Attributes:
        nvenc_sessions: NVENC sessions that the GPU's driver allows at a time, 0 where the GPU has
            no encoder; `unknown` checks nothing.
        detector_batch: Frames that the detector's engine takes in one request.
    """

    nvenc_sessions: int | None = None
    detector_batch: int = 16


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """Everything that a configuration can say.

    Attributes:
        run: How the work is spread.
        server: Which Triton.
        stream: What a stream's loop is told.
        record: What is told to others than the user.
        monitor: What is watched.
        limits: What the machine allows.
    """

    run: RunSettings = field(default_factory=RunSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)

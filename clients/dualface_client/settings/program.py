"""Settings of a process and its machine: streams, server, what the monitor watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dualface_client.settings.field import setting
from dualface_client.settings.kinds import (
    SHARE,
    Address,
    Choice,
    ExistingDirectory,
    ExistingFile,
    Gpus,
    Host,
    Integer,
    Or,
    Real,
    Switch,
    WebAddress,
)
from dualface_client.settings.stream import StreamSettings


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the work is spread."""

    device: str = setting(
        "auto",
        Choice(("auto", "cpu", "cuda"), (("gpu", "cuda"), ("nvidia", "cuda"))),
        "Where pixels live; `auto` is `cuda` where that works.",
        flag="--device",
        common=True,
        per_stream=False,
    )
    gpus: tuple[str, ...] | None = setting(
        None,
        Or("one", Gpus()),
        "GPUs that share the streams, as `nvidia-smi` counts them: `all`, or some, such as 0,2."
        " Each has a server and workers of its own, and one that fails is left out. An instance of"
        " a split GPU (MIG) counts as one, such as 0:1. `one` is CUDA's first.",
        flag="--gpus",
        common=True,
        per_stream=False,
    )
    streams: int | None = setting(
        None,
        Or("auto", Integer(1, 1024)),
        "Videos processed at a time; `auto` is one per 4 cores. For the daemon, streams that it"
        " runs at a time; `auto` is 16.",
        flag="--streams",
        common=True,
        per_stream=False,
    )
    workers: int | None = setting(
        1,
        Or("auto", Integer(1, 64)),
        "Processes that share the streams; `auto` is one per four. With two or more, one that dies"
        " is restarted. The daemon starts each when it is needed, up to this many or one per four"
        " streams, whichever is more, and restarts it always.",
        flag="--workers",
        common=True,
        per_stream=False,
    )
    deciders: int | None = setting(
        None,
        Or("auto", Integer(0, 256)),
        "Processes that track and frame, which is Python, beside those that hold the GPU; 0 does it"
        " in the streams' own process. `auto` is 0 on a CPU, and on a GPU one per stream, but at"
        " most half of the cores.",
        flag="--deciders",
        per_stream=False,
    )
    vram_limit: float = setting(
        0.75,
        Real(0.01, 1),
        "Share of GPU memory that the server, the streams and other programs may use together.",
        flag="--vram-limit",
        common=True,
        per_stream=False,
    )
    on_oom: str = setting(
        "refuse",
        Choice(("refuse", "queue")),
        "What to do with videos that do not fit in GPU memory: `refuse` fails them before any "
        "starts, `queue` runs fewer at a time.",
        flag="--on-oom",
        common=True,
        per_stream=False,
    )


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """What a run reports to anybody but its user."""

    log_format: str = setting(
        "text",
        Choice(("text", "json")),
        "`json` writes one object per event to standard error instead of progress.",
        flag="--log-format",
        common=True,
        per_stream=False,
    )
    health_port: int | None = setting(
        None,
        Or("off", Integer(0, 65535)),
        "Port of /healthz, /readyz and /metrics; 0 is a free one.",
        flag="--health-port",
        common=True,
        per_stream=False,
    )
    health_host: str = setting(
        "127.0.0.1",
        Host(),
        "Address that the health page listens on.",
        flag="--health-host",
        common=True,
        per_stream=False,
    )


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """Which frames' ways are traced, and where the traces go."""

    endpoint: str | None = setting(
        None,
        Or("off", WebAddress()),
        "OpenTelemetry collector (OTLP over HTTP) that gets traces of frames; needs the extra"
        " `trace`.",
        flag="--trace-endpoint",
        per_stream=False,
    )
    every_s: float = setting(
        1.0,
        Real(0, 3600),
        "Time from one traced frame of a stream to the next; 0 traces all.",
        per_stream=False,
    )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Which Triton, and how an embedded one runs."""

    address: str | None = setting(
        None,
        Or("embedded", Address()),
        "gRPC address of a running Triton; `embedded` starts one.",
        flag="--server",
        common=True,
        per_stream=False,
    )
    transport: str = setting(
        "shm",
        Choice(("shm", "bytes", "gzip"), (("grpc", "bytes"), ("shared-memory", "shm"))),
        "How pixels get to the server: `shm` through shared memory, which needs one on the same"
        " host; `bytes` in messages, for one on another host (frames are on the CPU then); `gzip`"
        " in compressed messages, for a network below some 400 Mbit/s.",
        flag="--transport",
        per_stream=False,
    )
    detector_onnx: Path | None = setting(
        None,
        Or("exported", ExistingFile()),
        "Your own face detector for the embedded server, or the `exported` one.",
        flag="--detector-onnx",
        common=True,
        per_stream=False,
    )
    reid_onnx: Path | None = setting(
        None,
        Or("exported", ExistingFile()),
        "Your own face ReID model for the embedded server, or the `exported` one.",
        flag="--reid-onnx",
        common=True,
        per_stream=False,
    )
    mps: bool = setting(
        False,
        Switch(),
        "The embedded server and the workers share the GPU by a Multi-Process Service of their "
        "own, which ends with them.",
        flag="--mps",
        per_stream=False,
    )
    model_threads: int = setting(
        0,
        Integer(0, 1024),
        "Threads of one model run in the embedded server; 0 is one per core.",
        flag="--model-threads",
        common=True,
        per_stream=False,
    )
    detector_instances: int | None = setting(
        None,
        Or("auto", Integer(1, 64)),
        "Detector processes in the embedded server; `auto` is one, which queues the next batch "
        "while one runs.",
        per_stream=False,
    )
    cuda_pool_mib: int | None = setting(
        None,
        Or("auto", Integer(1, 1 << 20)),
        "MiB of GPU memory in the embedded server's tensor pool; `auto` is CUDA_MEMORY_POOL_BYTES "
        "of the environment, else 256.",
        per_stream=False,
    )


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What the hardware monitor watches.

    Each pair is a hysteresis: an effect begins at the upper value and ends below the lower one.
    """

    interval_s: float = setting(
        1.0, Real(0, 3600), "Time between two samples; 0 turns the monitor off.", per_stream=False
    )
    gpu_memory_high: float = setting(
        0.95, SHARE, "Used share of GPU memory at which no further stream starts.", per_stream=False
    )
    gpu_memory_low: float = setting(
        0.9, SHARE, "Share below which streams start again.", per_stream=False
    )
    temperature_high_c: float = setting(
        88.0,
        Real(0, 150),
        "GPU temperature at which fewer requests are kept in flight.",
        per_stream=False,
    )
    temperature_low_c: float = setting(
        83.0, Real(0, 150), "Temperature below which that ends.", per_stream=False
    )
    host_memory_high: float = setting(
        0.95,
        SHARE,
        "Used share of the host's or the container's memory at which no further stream starts.",
        per_stream=False,
    )
    host_memory_low: float = setting(
        0.9, SHARE, "Share below which streams start again.", per_stream=False
    )
    files_high: float = setting(
        0.9,
        SHARE,
        "Open files as a share of this process's limit at which no further stream starts.",
        per_stream=False,
    )
    files_low: float = setting(
        0.8, SHARE, "Share below which streams start again.", per_stream=False
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What the machine allows; other settings are checked against it."""

    nvenc_sessions: int | None = setting(
        None,
        Or("unknown", Integer(0, 1024)),
        "NVENC sessions that the driver allows; 0 where the GPU has no encoder, `unknown` checks "
        "nothing.",
        per_stream=False,
    )
    detector_batch: int = setting(
        16,
        Integer(1, 4096),
        "Frames that the detector's engine takes in one request.",
        per_stream=False,
    )


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The daemon's API and page, and what requests may open."""

    host: str = setting(
        "127.0.0.1",
        Host(),
        "Address that the daemon's API and page listen on.",
        flag="--host",
        common=True,
        per_stream=False,
    )
    port: int = setting(
        8070,
        Integer(0, 65535),
        "Port of the daemon's API and page; 0 is a free one.",
        flag="--port",
        common=True,
        per_stream=False,
    )
    tls_certificate_file: Path | None = setting(
        None,
        Or("off", ExistingFile()),
        "Certificate (PEM) with which the daemon speaks TLS.",
        flag="--tls-certificate",
        common=True,
        per_stream=False,
    )
    tls_key_file: Path | None = setting(
        None,
        Or("off", ExistingFile()),
        "Key (PEM) of the certificate.",
        flag="--tls-key",
        common=True,
        per_stream=False,
    )
    input_directory: Path | None = setting(
        None,
        Or("off", ExistingDirectory()),
        "Directory whose files requests to the daemon may read; `off` allows addresses only.",
        flag="--input-directory",
        common=True,
        per_stream=False,
    )
    output_directory: Path | None = setting(
        None,
        Or("off", ExistingDirectory()),
        "Directory below which requests to the daemon may write; `off` allows addresses only.",
        flag="--output-directory",
        common=True,
        per_stream=False,
    )


@dataclass(frozen=True, slots=True)
class ProgramSettings:
    """Everything that a configuration can say.

    Attributes:
        run: How the work is spread.
        server: Which Triton.
        stream: How a stream is processed.
        record: What is reported to anybody but the user.
        trace: What is traced.
        monitor: What is watched.
        limits: What the machine allows.
        daemon: What the daemon listens on and lets requests open.
    """

    run: RunSettings = field(default_factory=RunSettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    stream: StreamSettings = field(default_factory=StreamSettings)
    record: RecordSettings = field(default_factory=RecordSettings)
    trace: TraceSettings = field(default_factory=TraceSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)

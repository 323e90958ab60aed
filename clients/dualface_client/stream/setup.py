"""What a worker is told, except for its jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dualface_client.memory.vram import VramLimit
from dualface_client.settings.program import MonitorSettings, TraceSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.triton.transport import TransportKind


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """What workers need, in this process and in others.

    Attributes:
        address: `HOST:PORT` of Triton's gRPC endpoint.
        device: `cpu` or `cuda`.
        settings: How to process jobs without settings of their own.
        streams: How many run at a time in one worker.
        tracks: File or directory for tracks, None for nowhere.
        overlay: File or directory for debug overlays, None for nowhere.
        monitor: When the machine is at its limit; each worker process checks this for itself.
        open_access: Whether the server is an embedded one, which has neither keys nor certificates.
        deciders: Processes of one worker that track and frame, 0 for none.
        vram: How far the GPU's memory may be filled, None for no limit.
        trace: What is traced.
        transport: How pixels get to the server.
    """

    address: str
    device: str = "cpu"
    settings: StreamSettings = field(default_factory=StreamSettings)
    streams: int = 1
    tracks: Path | None = None
    overlay: Path | None = None
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    open_access: bool = False
    deciders: int = 0
    vram: VramLimit | None = None
    trace: TraceSettings = field(default_factory=TraceSettings)
    transport: TransportKind = "shm"

"""What a probe found, for people: printed by the command and kept in the written layer."""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.machine.rules import ProbeFacts
from dualface_client.memory.vram import MIB
from dualface_client.observe.gpus import GpuFacts
from dualface_client.video.capabilities import VideoFacts


def summary_lines(facts: ProbeFacts) -> list[str]:
    """What was found, for people."""
    machine = facts.machine
    quota = f", limited to {machine.core_quota:g}" if machine.core_quota is not None else ""
    lines = [
        f"CPU: {machine.cpu}, {machine.cores} cores{quota}",
        f"memory: {machine.memory_bytes / 1e9:.1f} GB, /dev/shm {facts.shm_bytes / 1e9:.1f} GB",
    ]
    if facts.disk_bytes_s is not None:
        lines.append(f"disk: {facts.disk} takes {facts.disk_bytes_s / 1e6:.0f} MB/s")
    lines += _gpu_lines(facts.gpus) or [f"GPU: none ({facts.gpu_note})"]
    if facts.gpus:
        lines += _video_lines(facts.video)
        lines.append(f"CUDA: {facts.cuda_problem or 'CuPy, PyNvVideoCodec and ONNX Runtime work'}")
        lines.append(f"MPS: {f'control daemon in {facts.mps}' if facts.mps else 'not running'}")
    return lines


def _gpu_lines(gpus: Sequence[GpuFacts]) -> list[str]:
    return [
        f"GPU {index}: {gpu.name}, capability {gpu.compute_capability}, "
        f"{gpu.memory_total_bytes // MIB} MiB ({gpu.memory_used_bytes // MIB} in use), "
        f"driver {gpu.driver}, CUDA {gpu.cuda or 'unknown'}, PCIe {gpu.pcie or 'unknown'}, "
        f"MIG {'on' if gpu.mig_on else 'off'}"
        for index, gpu in enumerate(gpus)
    ]


def _video_lines(video: VideoFacts) -> list[str]:
    decoders = ", ".join(map(str, video.decoders)) or "nothing"
    lines = [f"NVDEC: {video.engines or 'unknown number of'} engines, decodes {decoders}"]
    if video.note:
        lines.append(f"NVDEC: {video.note}")
    encoders = ", ".join(video.encoders)
    return [*lines, f"NVENC: {encoders or video.encoder_note or 'none'}"]

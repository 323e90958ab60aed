"""What the soaks share: vital signs of processes, clips, the slope test and its picture."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from dualface_client.errors import ServerError
from dualface_client.memory.names import OwnerState, owner_state, parse
from dualface_client.memory.region import SHM_DIR
from dualface_client.memory.vram import MIB
from dualface_client.observe.gpus import read_gpus
from dualface_client.observe.host import family
from dualface_client.triton.connection import Connection
from dualface_client.triton.registration import Kind, registered_regions

#: Growth over the tested part that is still called flat: allocator noise, not a leak per file.
#: Threads and files come and go with each stream's phase: what lies within three standard errors of
#: the fit is flat too, up to one per hundred files.
LIMITS = {
    "client_rss_mib": 16.0,
    "server_rss_mib": 16.0,
    "client_fds": 1.0,
    "server_fds": 1.0,
    "client_threads": 1.0,
    "server_threads": 1.0,
    "regions": 0.5,
    "vram_mib": 64.0,
}


@dataclass(frozen=True, slots=True)
class Vitals:
    """One sample.

    Attributes:
        client_rss_mib: Resident memory of the client and its children.
        server_rss_mib: The same of the server and its Python processes.
        client_fds: Open file descriptors.
        server_fds: The same of the server.
        client_threads: Threads.
        server_threads: The same of the server.
        regions: Regions of ours that the server lists, both kinds.
        vram_mib: Memory of the first GPU in use, by anybody; 0 without a GPU.
    """

    client_rss_mib: float
    server_rss_mib: float
    client_fds: float
    server_fds: float
    client_threads: float
    server_threads: float
    regions: float
    vram_mib: float


def take(client_pid: int, server_pid: int, connection: Connection) -> Vitals:
    """Samples once.

    Args:
        client_pid: Root of the client's processes.
        server_pid: Root of the server's.
        connection: To the server.
    """
    client, server = tree(client_pid), tree(server_pid)
    return Vitals(
        client[0],
        server[0],
        client[1],
        server[1],
        client[2],
        server[2],
        float(len(our_regions(connection))),
        vram_mib(),
    )


def tree(pid: int) -> tuple[float, float, float]:
    """MiB resident, file descriptors and threads of a process and its children."""
    sums = np.zeros(3)
    try:
        for process in family(pid):
            with process.oneshot():
                sums += (
                    process.memory_info().rss / MIB,
                    process.num_fds(),
                    process.num_threads(),
                )
    except psutil.Error:  # ended meanwhile
        pass
    return float(sums[0]), float(sums[1]), float(sums[2])


def our_regions(connection: Connection) -> list[str]:
    """Names of our scheme that the server lists."""
    names: list[str] = []
    for kind in Kind:
        try:
            names += registered_regions(connection, kind)
        except ServerError:  # a server without GPUs has no CUDA registry
            continue
    return sorted(name for name in names if parse(name))


def vram_mib() -> float:
    """Used memory of the first GPU, 0 without one."""
    gpus = read_gpus()
    return round(gpus[0].memory_used_bytes / MIB, 1) if gpus else 0.0


def left_behind() -> set[str]:
    """Files of our scheme in /dev/shm whose process is gone."""
    return {name for name in os.listdir(SHM_DIR) if owner_state(name) is OwnerState.GONE}


def short_clip(source: Path, target: Path, frames: int, width_px: int = 480) -> Path:
    """The first frames of a clip as H.264, scaled."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        video = given.streams.video[0]
        height_px = round(video.height * width_px / video.width / 2) * 2
        out = made.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        out.width, out.height, out.pix_fmt = width_px, height_px, "yuv420p"
        for index, frame in zip(range(frames), given.decode(video), strict=False):
            scaled = frame.reformat(width_px, height_px, "yuv420p")
            scaled.pts = index
            made.mux(out.encode(scaled))
        made.mux(out.encode(None))
    return target


def slopes(
    samples: Sequence[tuple[float, Any]],
    begin: float,
    bins: int = 16,
    limits: Mapping[str, float] = LIMITS,
) -> dict[str, dict[str, float | bool | list[float]]]:
    """Growth of each sign from `begin` on, by a line through medians of bins.

    Args:
        samples: x (such as files done) and the signs at that time, a dataclass of numbers.
        begin: Samples before are left out: caches fill there.
        bins: How many medians.
        limits: Growth of each sign, in the dataclass's order, that is still called flat.
    """
    rows = [(x, list(asdict(vitals).values())) for x, vitals in samples if x >= begin]
    if len(rows) < 2 * bins:
        raise SystemExit(f"{len(rows)} samples from {begin:g} on: too few for {bins} bins")
    x, values = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    edges = np.linspace(x.min(), x.max() + 1e-9, bins + 1)
    where = np.digitize(x, edges) - 1
    filled = [number for number in range(bins) if (where == number).any()]
    middles = np.array([np.median(x[where == number]) for number in filled])
    medians = np.array([np.median(values[where == number], axis=0) for number in filled])
    found: dict[str, dict[str, float | bool | list[float]]] = {}
    for column, name in enumerate(limits):
        fit = np.polyfit(middles, medians[:, column], 1)
        width = float(x.max() - x.min())
        growth = float(fit[0]) * width
        rest = medians[:, column] - np.polyval(fit, middles)
        spread = float(np.sqrt((rest**2).sum() / max(len(rest) - 2, 1)))
        noise = 3 * spread / float(np.sqrt(((middles - middles.mean()) ** 2).sum())) * width
        tolerated = max(limits[name], min(noise, width / 100))
        found[name] = {
            "first": round(float(medians[0, column]), 2),
            "last": round(float(medians[-1, column]), 2),
            "growth": round(growth, 3),
            "noise": round(noise, 3),
            "limit": limits[name],
            "medians": [round(float(value), 1) for value in medians[:, column]],
            "flat": growth < tolerated,
        }
    return found


def plot(
    path: Path,
    samples: Sequence[tuple[float, Any]],
    x_name: str,
    names: Collection[str] = LIMITS.keys(),
) -> None:
    """One small picture per sign, in one SVG.

    Args:
        path: Where to.
        samples: As for `slopes`.
        x_name: Unit of x.
        names: Of the signs.
    """
    panels = [
        _panel(index, name, [(x, asdict(vitals)[name]) for x, vitals in samples], x_name)
        for index, name in enumerate(names)
    ]
    height = 150 * ((len(panels) + 1) // 2)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 700 {height}" '
        f'font-family="sans-serif" font-size="11">{"".join(panels)}</svg>\n'
    )


def _panel(index: int, name: str, points: Sequence[tuple[float, float]], x_name: str) -> str:
    left, top = 50 + 350 * (index % 2), 22 + 150 * (index // 2)
    x_end = max(x for x, _ in points) or 1.0
    y_end = max(max(y for _, y in points) * 1.1, 1.0)
    shown = points[:: max(1, len(points) // 300)]
    line = " ".join(
        f"{left + x / x_end * 280:.1f},{top + 95 - y / y_end * 95:.1f}" for x, y in shown
    )
    return (
        f'<text x="{left}" y="{top - 6}">{name}</text>'
        f'<rect x="{left}" y="{top}" width="280" height="95" fill="none" stroke="#bbb"/>'
        f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">{y_end:.0f}</text>'
        f'<text x="{left - 4}" y="{top + 95}" text-anchor="end">0</text>'
        f'<text x="{left + 280}" y="{top + 108}" text-anchor="end">{x_end:.0f} {x_name}</text>'
        f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="1.5"/>'
    )


def verdict(checks: Mapping[str, bool]) -> int:
    """Prints what failed; the exit code."""
    failed = [name for name, good in checks.items() if not good]
    print("FAILED: " + ", ".join(failed) if failed else "all checks passed")
    return int(bool(failed))

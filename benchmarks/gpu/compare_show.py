"""What `compare.py` shows of its results: a Markdown table, and bars."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

#: Frames per second of a stream in the table.
STREAM_FPS = 30
HEAD = (
    "way, processes",
    "frames/s",
    "while all run",
    "30 fps streams",
    "latency p50 / p99, ms",
    "CPU ms/frame",
    "VRAM of all, MiB",
    "W per 30 fps stream",
    "one process is killed",
)
_MEASURED = (
    "frames_per_s",
    "steady_frames_per_s",
    "latency_p50_ms",
    "latency_p99_ms",
    "cpu_ms_per_frame",
    "vram_mib",
    "power_w",
)


def middle(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Median over the rounds; None where no round has the figure."""
    found = [row["measured"][key] for row in rows if row["measured"].get(key) is not None]
    return float(statistics.median(found)) if found else None


def by_name(result: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Rounds of each row, in the order in which they ran."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        found.setdefault(row["name"], []).append(row)
    return found


def table(result: Mapping[str, Any]) -> str:
    """The results as Markdown; medians where there are several rounds."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    lines += ["| " + " | ".join(_cells(rows)) + " |" for rows in by_name(result).values()]
    return "\n".join(lines)


def _cells(rows: Sequence[dict[str, Any]]) -> list[str]:
    first = rows[0]
    name = f"`{first['way']}`, {first['processes']}" + (", MPS" if first["mps"] else "")
    found = {key: middle(rows, key) for key in _MEASURED}
    per_s, power_w = found["frames_per_s"], found["power_w"]
    if per_s is None:
        error = str(first["measured"].get("error", "")).strip().splitlines() or ["not measured"]
        return [name, error[-1].replace("|", "/"), *[""] * (len(HEAD) - 2)]
    running_per_s = found["steady_frames_per_s"] or per_s  # power is of that time, too
    streams = running_per_s / STREAM_FPS
    return [
        name,
        f"{per_s:,.0f}",
        f"{running_per_s:,.0f}",
        f"{streams:.0f}",
        f"{_text(found['latency_p50_ms'])} / {_text(found['latency_p99_ms'])}",
        _text(found["cpu_ms_per_frame"], 2),
        _text(found["vram_mib"]),
        _text(power_w / streams if power_w is not None else None, 1),
        killed(first["killed"]),
    ]


def killed(found: Mapping[str, Any]) -> str:
    """What a kill did to the others, in words."""
    if "error" in found:
        last = str(found["error"]).strip().splitlines() or [""]
        return f"not seen: {last[-1]}".replace("|", "/")
    if not found:
        return ""
    if not found["others"]:
        return "all streams end with it"
    before = _text(found["others_before_frames_per_s"])
    after = _text(found["others_after_frames_per_s"])
    text = f"{found['others_complete']} of {found['others']} other streams complete"
    text += f", at {after} frames/s (before {before})"
    if "victims" in found:
        text += f"; of its own, {found['victims_complete']} of {found['victims']} complete"
        text += " by another worker"
    return text


def _text(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Frames per second of each row while all its streams run, as bars, in one SVG."""
    rates = {
        name: middle(rows, "steady_frames_per_s") or middle(rows, "frames_per_s") or 0.0
        for name, rows in by_name(result).items()
    }
    longest = max(rates.values(), default=0.0) or 1.0
    parts = []
    for number, (name, per_s) in enumerate(rates.items()):
        y, width = 30 + 26 * number, 430 * per_s / longest
        colour = "#0072b2" if name.startswith("client") else "#999"
        parts += [
            f'<text x="164" y="{y + 13}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="170" y="{y}" width="{width:.1f}" height="18" fill="{colour}"/>',
            f'<text x="{176 + width:.1f}" y="{y + 13}">{per_s:,.0f}</text>',
        ]
    height = 40 + 26 * len(rates)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 680 {height}" '
        f'font-family="sans-serif" font-size="12"><text x="170" y="18">frames/s while all '
        f"{result['streams']} streams run</text>{''.join(parts)}</svg>\n"
    )

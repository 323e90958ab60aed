"""The report of a run as one HTML page that needs nothing else: styles and plots are inside."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path

from dualface_client.atomic_file import write_atomically
from dualface_client.errors import SinkError
from dualface_client.observe.html_plots import plots
from dualface_client.observe.html_style import STYLE
from dualface_client.observe.report import RunSummary, StreamReport
from dualface_client.observe.run_log import Event
from dualface_client.observe.samples import Sample
from dualface_client.observe.svg import seating_strip

_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of an output.

    Attributes:
        time_s: Where in the output.
        jpeg: The picture.
    """

    time_s: float
    jpeg: bytes


@dataclass(frozen=True, slots=True)
class RunRecord:
    """Everything that a report tells.

    Attributes:
        summary: The run and its streams.
        samples: Figures over time.
        events: What happened.
        thumbnails: Of the outputs, by stream name.
        started_unix_s: When the run started, seconds since 1970.
    """

    summary: RunSummary
    samples: tuple[Sample, ...]
    events: tuple[Event, ...]
    thumbnails: Mapping[str, Sequence[Thumbnail]]
    started_unix_s: float


def write_html(record: RunRecord, path: Path) -> None:
    """Writes the report, as a whole.

    Raises:
        SinkError: The file cannot be written.
    """
    try:
        write_atomically(path, html_page(record).encode(errors="backslashreplace"))
    except OSError as error:
        raise SinkError(f"{path}: cannot write the report: {error.strerror}") from error


def html_page(record: RunRecord) -> str:
    """The whole page."""
    started = datetime.fromtimestamp(record.started_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    summary = record.summary
    parts = [
        "<header><h1>dualface run</h1>",
        f"<p>{started} &middot; version {escape(summary.version)} &middot; "
        f"server {escape(summary.server)}</p></header>",
        *_tiles(record),
        *plots(record.samples),
        "<h2>Streams</h2>",
        *(_stream(report, record) for report in summary.streams),
        *_events(record.events, record.started_unix_s),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>dualface run, {started}</title><style>{STYLE}</style></head>\n"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _tiles(record: RunRecord) -> Iterator[str]:
    streams = record.summary.streams
    states = [report.state for report in streams]
    frames = sum(report.frames_out for report in streams)
    elapsed_s = record.summary.elapsed_s
    reid = sum(report.reid_frames for report in streams)
    memory = sum(record.summary.peak_memory_bytes.values())
    failed = states.count("failed")
    yield '<section class="tiles">'
    yield _tile("streams done", f"{states.count('done')} of {len(streams)}", "bad" * bool(failed))
    yield _tile("frames written", f"{frames:,}")
    yield _tile("duration", _duration(elapsed_s))
    yield _tile("frames per second", f"{frames / elapsed_s:.1f}" if elapsed_s else "-")
    yield _tile("frames with ReID", f"{reid / frames:.1%}" if frames else "-")
    yield _tile("peak memory", f"{memory / _MIB:,.0f} MiB")
    yield "</section>"


def _tile(label: str, value: str, kind: str = "") -> str:
    return f'<div class="tile {kind}"><b>{value}</b><span>{label}</span></div>'


def _stream(report: StreamReport, record: RunRecord) -> str:
    target = report.partial_output or (report.output if report.state == "done" else "")
    parts = [
        f'<section class="stream"><h3>{escape(report.name)} '
        f'<span class="state {escape(report.state)}">{escape(report.state)}</span></h3>',
        f'<p class="paths">{escape(report.input)}',
        f" &rarr; {escape(target)}</p>" if target else "</p>",
        f'<p class="error">{escape(report.error)}</p>' if report.error else "",
        _trace(report.trace) if report.trace else "",
        f"<p>{_figures(report)}</p>" if report.frames_out else "",
        _thumbnails(record.thumbnails.get(report.name, ())),
        seating_strip(report.timeline) if report.timeline.seatings else "",
        "".join(f'<p class="note">{escape(text)}</p>' for text in report.warnings),
        _stages(report),
    ]
    return "".join(parts) + "</section>"


def _trace(text: str) -> str:
    return (
        f'<details><summary>Stack trace</summary><pre class="scroll">{escape(text)}</pre></details>'
    )


def _figures(report: StreamReport) -> str:
    parts = [
        f"{report.frames_out:,} frames in {_duration(report.elapsed_s)} ({report.fps:.1f} fps)",
        f"ReID on {report.reid_ratio:.1%} of frames",
        f"latency {1e3 * report.latency_p50_s:.0f} ms (95 %: {1e3 * report.latency_p95_s:.0f} ms)",
    ]
    if report.decode_errors:
        parts.append(f"{report.decode_errors} decode errors")
    if report.attempts > 1:
        parts.append(f"started {report.attempts} times")
    return ", ".join(parts)


def _thumbnails(thumbnails: Sequence[Thumbnail]) -> str:
    pictures = [
        f'<figure><img alt="tiles at {one.time_s:.1f} s" '
        f'src="data:image/jpeg;base64,{base64.b64encode(one.jpeg).decode()}">'
        f"<figcaption>{one.time_s:.1f} s</figcaption></figure>"
        for one in thumbnails
    ]
    return f'<div class="thumbs">{"".join(pictures)}</div>' if pictures else ""


def _stages(report: StreamReport) -> str:
    if not report.stages:
        return ""
    rows = [
        f"<tr><td>{escape(name)}</td><td>{time.wall_s:.2f}</td><td>{time.cpu_s:.2f}</td>"
        f"<td>{time.calls:,}</td><td>{1e3 * time.wall_s / max(1, time.calls):.2f}</td></tr>"
        for name, time in report.stages.items()
    ]
    return (
        "<details><summary>Where the time went</summary><table><tr><th>stage</th><th>wall s</th>"
        f"<th>CPU s</th><th>calls</th><th>ms a call</th></tr>{''.join(rows)}</table></details>"
    )


def _events(events: Sequence[Event], started_unix_s: float) -> Iterator[str]:
    yield "<h2>Errors and events</h2>"
    told = [event for event in events if event.event != "stream_progress"]
    if not told:
        yield '<p class="empty">Nothing went wrong.</p>'
        return
    yield '<div class="scroll"><table class="events"><tr><th>after</th><th>level</th>'
    yield "<th>stream</th><th>what</th></tr>"
    for event in told:
        yield (
            f'<tr class="{escape(event.level)}"><td>{event.time_unix_s - started_unix_s:.1f} s</td>'
            f"<td>{escape(event.level)}</td><td>{escape(event.stream)}</td>"
            f"<td>{escape(event.text)}</td></tr>"
        )
    yield "</table></div>"


def _duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> _duration(42.04), _duration(3725)
    ('42.0 s', '1 h 2 min 5 s')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"

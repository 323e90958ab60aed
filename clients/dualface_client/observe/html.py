"""The report of a run as one HTML page that needs nothing else: styles and plots are inside."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from dualface_client.atomic_file import write_atomically
from dualface_client.errors import SinkError
from dualface_client.observe.axes import Axes, color_of
from dualface_client.observe.html_plots import figures
from dualface_client.observe.report import RunSummary
from dualface_client.observe.run_log import Event
from dualface_client.observe.samples import Sample

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

    @property
    def data_uri(self) -> str:
        """The picture as the source of an image."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


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
    """The whole page; names and messages of any kind stay text in it."""
    # A misspelled name in the template is an error and not an empty place in the page.
    environment = Environment(
        loader=PackageLoader("dualface_client", "observe"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = _duration
    started = datetime.fromtimestamp(record.started_unix_s, UTC)
    return environment.get_template("report.html.jinja").render(
        Axes=Axes,
        color_of=color_of,
        summary=record.summary,
        started=started.strftime("%Y-%m-%d %H:%M:%S UTC"),
        started_unix_s=record.started_unix_s,
        tiles=_tiles(record.summary),
        figures=figures(record.samples),
        thumbnails=record.thumbnails,
        events=[event for event in record.events if event.event != "stream_progress"],
    )


def _tiles(summary: RunSummary) -> Iterator[tuple[str, str, str]]:
    """Label, value and CSS class of each."""
    states = [report.state for report in summary.streams]
    frames = sum(report.frames_out for report in summary.own)
    reid = sum(report.reid_frames for report in summary.own)
    memory = sum(summary.peak_memory_bytes.values())
    rate = f"{frames / summary.elapsed_s:.1f}" if summary.elapsed_s else "-"
    yield (
        "streams done",
        f"{states.count('done')} of {len(states)}",
        "bad" * bool({"failed", "incomplete"} & set(states)),
    )
    yield "frames written", f"{frames:,}", ""
    yield "duration", _duration(summary.elapsed_s), ""
    yield "frames per second", rate, ""
    yield "frames with ReID", f"{reid / frames:.1%}" if frames else "-", ""
    yield "peak memory", f"{memory / _MIB:,.0f} MiB", ""


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

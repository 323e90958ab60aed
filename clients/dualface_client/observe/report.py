"""What is known about a stream and a run, during it and afterwards."""

from __future__ import annotations

import json
import textwrap
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dualface_client.atomic_file import write_atomically
from dualface_client.errors import SinkError
from dualface_client.histogram import Histogram
from dualface_client.observe.stage_clock import StageTime
from dualface_client.observe.timeline import Timeline

#: States that a stream does not leave.
FINAL_STATES = ("done", "incomplete", "stopped", "failed")
#: What a later run of the same videos tells about those that this one finished.
KEPT_FIGURES = (
    "detections",
    "reid_frames",
    "reid_faces",
    "reid_failures",
    "scene_cuts",
    "compose_failures",
    "resends",
    "sides",
    "latency_p50_s",
    "latency_p95_s",
    "latency_p99_s",
)


@dataclass(frozen=True, slots=True)
class OutputReport:
    """One of the outputs of a live stream.

    Attributes:
        target: Where it goes, without secrets.
        error: Why it does not work at the moment, empty while it does.
        failures: How often it failed; each time it is tried again.
        lost_packets: Packets of sound and video that it did not get.
    """

    target: str
    error: str = ""
    failures: int = 0
    lost_packets: int = 0


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream.

    Attributes:
        name: Short name, unique in the run.
        input: What was read.
        output: What was written, or would have been.
        state: `waiting`, `running`, `done`, `incomplete` (the output is finished, but the input
            ended before it should), `stopped` (by the user) or `failed`.
        phase: `looking` while a running stream looks through its file before the first frame,
            `preparing` while a live one tries its models before the camera is connected,
            `connecting` while it has no connection, else empty.
        frames_expected: Frames according to the container, 0 if it does not say.
        frames_in: Frames decoded; those that its source sent, if it is live.
        frames_out: Frames written.
        frames_looked_at: Frames that went to the detector; the faces of others lie between theirs.
        elapsed_s: Seconds from opening to closing.
        detections: Faces found above the threshold.
        reid_frames: Frames that cost a ReID request.
        reid_faces: Faces embedded.
        reid_failures: Frames whose ReID request failed: motion alone decided them.
        scene_cuts: Frames taken for the first of a new shot, without the video's first.
        compose_failures: Frames that could not be composed: the last good one was shown again.
        resends: Detection requests that were sent again because the server went away.
        sides: Side of each identity at the end.
        decode_errors: Packets or pictures that could not be decoded.
        warnings: What the user should know.
        error: Why it failed or is incomplete, else empty.
        exit_code: The exit code that the error gives a run, 0 without an error.
        trace: Stack trace of an error that this program did not expect, empty for others.
        partial_output: Path of the part that was written, empty if the output is complete.
        stages: Time per stage.
        attempts: How often it was started; more than once if a worker died under it.
        resumed: Whether an earlier run had finished it, so that it was only verified.
        latency_p50_s: Median time from decoded to written, of the last 1,024 frames.
        latency_p95_s: 95th percentile of the same.
        latency_p99_s: 99th percentile of the same.
        latency: Histogram of the seconds from decoded to written, of all frames.
        queue: Histogram of the seconds from decoded to the detection request, of all frames.
        failure: Class of the error, empty without one.
        timeline: Who sat where and when ReID ran; complete when the stream has ended.
        live: Whether it is a live stream, whose frames do not wait.
        dropped: Frames of a live stream that were not written, by cause: `behind` (too late to be
            processed), `undecodable`, `lost_in_network`, `stopped` (on their way at the end).
            With `frames_out` they add up to `frames_in` when it has ended.
        reconnects: How often a live stream was connected to again.
        outputs: Those of a live stream.
        sound_drift_s: How far the sound of a live stream is written from its picture, seconds.
        sound_corrected_s: Silence that was filled in and sound that was cut away for that, seconds.
        place: Where it ran last, such as `GPU 0`; empty where there is only one place.
    """

    name: str
    input: str
    output: str
    state: str = "waiting"
    frames_expected: int = 0
    frames_in: int = 0
    frames_out: int = 0
    elapsed_s: float = 0.0
    frames_looked_at: int = 0
    detections: int = 0
    reid_frames: int = 0
    reid_faces: int = 0
    reid_failures: int = 0
    scene_cuts: int = 0
    compose_failures: int = 0
    resends: int = 0
    sides: dict[int, str] = field(default_factory=dict)
    decode_errors: int = 0
    warnings: tuple[str, ...] = ()
    error: str = ""
    exit_code: int = 0
    trace: str = ""
    partial_output: str = ""
    stages: dict[str, StageTime] = field(default_factory=dict)
    attempts: int = 1
    resumed: bool = False
    latency_p50_s: float = 0.0
    latency_p95_s: float = 0.0
    latency_p99_s: float = 0.0
    phase: str = ""
    latency: Histogram = field(default_factory=Histogram)
    queue: Histogram = field(default_factory=Histogram)
    failure: str = ""
    timeline: Timeline = field(default_factory=Timeline)
    live: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    outputs: tuple[OutputReport, ...] = ()
    sound_drift_s: float = 0.0
    sound_corrected_s: float = 0.0
    place: str = ""

    @property
    def fps(self) -> float:
        """Frames written per second of elapsed time."""
        return self.frames_out / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def reid_ratio(self) -> float:
        """Share of frames that cost a ReID request."""
        return self.reid_frames / self.frames_out if self.frames_out else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the fields and the derived figures."""
        return {**asdict(self), "fps": round(self.fps, 3), "reid_ratio": round(self.reid_ratio, 5)}


class StreamStatus:
    """The current report of one stream, changed by its loop and read by the display."""

    def __init__(self, report: StreamReport) -> None:
        self._lock = threading.Lock()
        self._report = report

    def update(self, **changes: Any) -> None:
        """Replaces fields of the report.

        A final state stays: a later change of it has no effect.

        Raises:
            TypeError: A field does not exist.
        """
        with self._lock:
            self._replace(replace(self._report, **changes))

    def warn(self, text: str) -> None:
        """Adds a note for the user, unless it is already there."""
        with self._lock:
            notes = tuple(dict.fromkeys((*self._report.warnings, text)))
            self._report = replace(self._report, warnings=notes)

    def take(self, report: StreamReport) -> None:
        """Replaces the whole report with one that came from another process.

        A final state stays: a report of another state has no effect.
        """
        with self._lock:
            self._replace(report)

    def _replace(self, report: StreamReport) -> None:
        if self._report.state not in FINAL_STATES or report.state == self._report.state:
            self._report = report

    def snapshot(self) -> StreamReport:
        """The report as it is now."""
        with self._lock:
            return self._report


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A whole run.

    Attributes:
        version: Of this program.
        server: Address of the server used, and whether it was embedded.
        streams: One report each, in the order of the inputs.
        elapsed_s: Seconds of the whole run, server start included.
        peak_memory_bytes: Largest resident size seen per process: `client`, `server`.
        region: Figures of the shared memory region's slots; empty if there was no region.
        hardware: What the hardware monitor saw: peaks, alerts; empty if it was not started.
        places: Servers with their workers, where there are several: name, server, and why it was
            left out, empty if it was not.
    """

    version: str
    server: str
    streams: tuple[StreamReport, ...]
    elapsed_s: float
    peak_memory_bytes: dict[str, int]
    region: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    places: tuple[dict[str, str], ...] = ()

    @property
    def own(self) -> tuple[StreamReport, ...]:
        """Streams that this run worked on: without those that an earlier one had finished."""
        return tuple(stream for stream in self.streams if not stream.resumed)

    def write(self, path: Path) -> None:
        """Writes JSON, as a whole.

        Raises:
            SinkError: The file cannot be written.
        """
        data = {
            "version": self.version,
            "server": self.server,
            "elapsed_s": round(self.elapsed_s, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
            "region": self.region,
            "hardware": self.hardware,
            **({"places": list(self.places)} if self.places else {}),
        }
        try:
            streams = (stream.as_dict() for stream in self.streams)
            write_atomically(path, json_pieces(data, "streams", streams, indent=2))
        except OSError as error:
            raise SinkError(f"{path}: cannot write the summary: {error.strerror}") from error


def json_pieces(
    head: Mapping[str, Any], name: str, entries: Iterable[Any], indent: int
) -> Iterator[str]:
    """A JSON object that ends with a list, piece by piece: it may have 100,000 entries.

    Args:
        head: The object without the list; not empty.
        name: Of the list.
        entries: Of the list, made when their turn comes.
        indent: Blanks for each level.
    """
    blanks = " " * indent
    yield json.dumps(head, indent=indent).removesuffix("\n}") + f',\n{blanks}"{name}": ['
    for number, entry in enumerate(entries):
        yield ",\n" if number else "\n"
        yield textwrap.indent(json.dumps(entry, indent=indent), 2 * blanks)
    yield f"\n{blanks}]\n}}\n"

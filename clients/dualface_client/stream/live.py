"""What is different about a stream that does not wait: its settings, its input, its figures."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from dualface_client.errors import SinkError, SourceError
from dualface_client.observe.report import OutputReport, StreamStatus
from dualface_client.observe.run_log import log_event
from dualface_client.settings.addresses import problem_of, scheme_of, shown, with_secret
from dualface_client.settings.stream import InputSettings, OutputSettings, StreamSettings
from dualface_client.stream.device import StreamDevice
from dualface_client.stream.job import Job
from dualface_client.video.live_decoding import DeviceDecoder
from dualface_client.video.live_encoded import Target
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_reader import LiveNews
from dualface_client.video.live_sink import LiveSink
from dualface_client.video.live_sound import LiveSound
from dualface_client.video.live_source import LiveSource
from dualface_client.video.live_targets import TargetOptions, make_directory, target_of


def live_settings(settings: StreamSettings) -> StreamSettings:
    """How a live stream is processed: no frame waits for a later one, and none for a full request.

    Args:
        settings: Of the stream.
    """
    return replace(
        settings,
        detection=replace(settings.detection, frames_per_request=1, requests_in_flight=1),
        framing=replace(settings.framing, lookahead_s=0.0),
        queues=replace(settings.queues, frames_ahead=1, frames_behind=1),
        cast=replace(settings.cast, enabled=False),
    )


def live_input(job: Job, settings: InputSettings) -> LiveInput:
    """What a job reads, with its credentials.

    Args:
        job: Of a live stream.
        settings: Of its input.

    Raises:
        SourceError: The address may not be opened, or its credentials are missing.
    """
    url = job.address or str(job.input)
    if job.address and (problem := problem_of(url, settings.schemes, "input")):
        raise SourceError(problem)
    try:
        secret = secret_of(settings.credentials_file, settings.credentials_variable)
    except (OSError, KeyError, ValueError) as error:
        raise SourceError(f"{job.shown_input}: {error_text(error)}") from None
    return LiveInput(
        job.shown_input,
        with_secret(url, secret) if job.address else url,
        settings.transport,
        settings.connect_timeout_s,
        settings.read_timeout_s,
        settings.reconnect_s,
        settings.reconnect_pause_s,
        settings.realtime,
    )


def secret_of(file: Path | None, variable: str | None = None) -> str:
    """A secret from where the settings say that it is, empty if they name no place.

    Raises:
        OSError: The file cannot be read.
        KeyError: The variable is not set.
        ValueError: The file is empty.
    """
    if file is not None:
        found = file.read_text(encoding="utf-8").strip()
        if not found:
            raise ValueError(f"{file}: is empty; expected USER:PASSWORD")
        return found
    return os.environ[variable] if variable is not None else ""


def error_text(error: Exception) -> str:
    """Why a secret cannot be had, without it."""
    if isinstance(error, KeyError):
        return f"the environment variable {error.args[0]} is not set; set it to USER:PASSWORD"
    if isinstance(error, OSError):
        return f"{error.filename}: cannot be read ({error.strerror})"
    return str(error)


def live_targets(job: Job, settings: OutputSettings) -> list[Target]:
    """Where a live stream goes, with credentials.

    Args:
        job: Of the stream.
        settings: Of its outputs.

    Raises:
        SinkError: An address may not be written to, or its credentials are missing.
        UsageError: An output is none that can be written.
    """
    mib = settings.segment_mib
    options = TargetOptions(
        settings.segment_s,
        None if mib is None else mib << 20,
        settings.hls_window_s,
        settings.overwrite,
    )
    targets = []
    for text in job.outputs:
        url = text
        if scheme_of(text):
            if problem := problem_of(text, settings.schemes, "output"):
                raise SinkError(problem)
            try:
                url = with_secret(text, secret_of(settings.credentials_file))
            except (OSError, ValueError) as error:
                raise SinkError(f"{shown(text)}: {error_text(error)}") from None
        targets.append(target_of(text, url, job.name, options))
    return targets


def make_directories(job: Job) -> None:
    """Makes the directories of a live stream's outputs; not before there is something to write.

    Args:
        job: Of the stream.

    Raises:
        SinkError: One cannot be made.
    """
    for text in job.outputs:
        if not scheme_of(text):
            make_directory(text)


class LiveFigures:
    """What a live stream's report says besides what every stream's does.

    Args:
        source: Where the frames come from.
        sink: Where they go; None for nowhere.
    """

    def __init__(self, source: LiveSource, sink: LiveSink | None) -> None:
        self._source = source
        self._sink = sink

    def report(self, decoded: int, dropped: Mapping[str, int]) -> dict[str, Any]:
        """Fields of the report.

        Args:
            decoded: Frames that the source has yielded.
            dropped: Those of them that were not written, by cause.
        """
        by_source = self._source.dropped
        causes: Counter[str] = Counter(by_source)
        causes.update(dropped)
        return {
            "frames_in": decoded + sum(by_source.values()),
            "dropped": dict(causes),
            "reconnects": self._source.reconnects,
            "outputs": self.outputs,
            "sound_drift_s": self._sink.sound_drift_s if self._sink is not None else 0.0,
            "sound_corrected_s": self._sink.sound_corrected_s if self._sink is not None else 0.0,
        }

    @property
    def outputs(self) -> tuple[OutputReport, ...]:
        """How the outputs are doing."""
        outputs = self._sink.outputs if self._sink is not None else ()
        return tuple(OutputReport(o.shown, o.error, o.failures, o.lost) for o in outputs)


class LiveRun(Protocol):
    """What is needed of a stream that is being processed; `runner.StreamRun` has it."""

    @property
    def job(self) -> Job:
        """What to do."""

    @property
    def status(self) -> StreamStatus:
        """Kept up to date."""

    @property
    def device(self) -> StreamDevice:
        """Its share of the device."""


def connection_teller(run: LiveRun) -> Callable[[LiveNews], None]:
    """Puts what happens to a connection into the status and the log.

    Of attempts that fail one after the other, the first one is told.

    Args:
        run: The stream.
    """
    failing = threading.Event()

    def tell(news: LiveNews) -> None:
        is_up = news.event == "connected"
        run.status.update(phase="" if is_up else "connecting")
        if news.event == "unreachable":
            if failing.is_set():
                return
            failing.set()
        else:
            failing.clear()
        level = logging.INFO if is_up else logging.WARNING
        log_event(f"source_{news.event}", news.text, stream=run.job.name, level=level)

    return tell


def live_decoder(run: LiveRun, place: LiveInput) -> DeviceDecoder | None:
    """What decodes an input on the stream's device; None if only the CPU may.

    Args:
        run: The stream.
        place: Its input.
    """

    def tell(why: str) -> None:
        text = f"decoded on the CPU: {why}"
        run.status.warn(text)
        log_event("decoded_on_cpu", text, stream=run.job.name, level=logging.WARNING)

    decoder = run.device.live_decoder(tell)
    if decoder is not None and not place.is_whole:
        # A device decodes what lacks a part as a smear, in which faces are found.
        tell("its network may lose parts of pictures, which only FFmpeg notices")
        return None
    return decoder


def open_live_sink(
    run: LiveRun, source: LiveSource, targets: Sequence[Target], output: OutputSettings
) -> LiveSink:
    """The encoder of a live stream and its outputs.

    Args:
        run: The stream.
        source: Whose sound is used.
        targets: Where it goes.
        output: How it is encoded.

    Raises:
        EncoderError: The encoder cannot be opened.
    """

    def tell(text: str) -> None:
        log_event("output_changed", text, stream=run.job.name, level=logging.WARNING)

    has_sound = source.has_sound and output.audio != "drop"
    return LiveSink(
        targets,
        source.info,
        output.tile_layout.canvas_wh_px,
        LiveSound(source.reader.sounds) if has_sound else None,
        tell,
        preset=output.preset,
        crf=output.crf,
        threads=output.encoder_threads or "auto",
    )

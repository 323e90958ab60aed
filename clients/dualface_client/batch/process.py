"""The main job as one call, for programs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path

from dualface_client.background import BackgroundLoop
from dualface_client.batch.execute import Listener, carry_out
from dualface_client.batch.prepare import prepare_run
from dualface_client.batch.run import RunRequest
from dualface_client.config.layers import command_layer
from dualface_client.config.stack import build
from dualface_client.errors import ConfigError
from dualface_client.observe.report import StreamReport
from dualface_client.settings.program import ProgramSettings
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.stop import Stop

#: How soon a caller's wish to stop is seen.
_LOOK_S = 0.05

AnyPath = str | PathLike[str]


def process(  # noqa: PLR0913 - what the command has as options, by name
    inputs: AnyPath | Sequence[AnyPath],
    output: AnyPath | None,
    *,
    server: str | None = None,
    settings: StreamSettings | ProgramSettings | None = None,
    streams: int | str | None = None,
    stop: threading.Event | None = None,
    device: str | None = None,
    workers: int | str | None = None,
    tracks: AnyPath | None = None,
    overlay: AnyPath | None = None,
    resume: bool = False,
    listener: Listener | None = None,
) -> tuple[StreamReport, ...]:
    """Turns each video into one with its two people side by side, as `dualface-client run` does.

    Every argument means what the option of its name means; the same planning, server, admission to
    the GPU's memory, monitor and workers are behind it. Configuration files and variables count
    where the caller has read them: `config.stack` gives a `ProgramSettings`.

    Args:
        inputs: Files, directories or glob patterns; one or several.
        output: A file (for one video) or a directory; None writes no video.
        server: `HOST:PORT` of a running Triton; without one the embedded server is started, and
            stopped at the end.
        settings: How to process, of the streams alone or of the whole program (but `record`, which
            is about what the command shows); None for the defaults. The arguments go over it.
        streams: Videos processed at a time; `auto` is one per 4 cores.
        stop: Set it from another thread to end early, as Ctrl-C does here; partial outputs stay
            playable.
        device: `cpu`, `cuda`, or `auto` for `cuda` where that works.
        workers: Processes that share the streams; `auto` is one for every four. With two or more,
            one that dies is restarted.
        tracks: File or directory for tracks in MOTChallenge's text form.
        overlay: File or directory for debug overlays.
        resume: Skip videos whose outputs are finished and verified.
        listener: Hears what the run has to say; None for Python's logging, `dualface_client`.

    Returns:
        One report per video, in order. A video that failed says why in `error`; it raises nothing.

    Raises:
        UsageError: A value makes no sense, or the outputs cannot be laid out as asked, exist or
            cannot be written; nothing was started.
        PlatformError: The device was asked for and something is missing, or no embedded server
            runs here.
        ServerError: The server cannot be had or is not the right one.
        AssetError: The embedded server's models or binary are missing.
    """
    program = settings if isinstance(settings, ProgramSettings) else ProgramSettings()
    if isinstance(settings, StreamSettings):
        program = replace(program, stream=settings)
    named = {
        "run.device": device,
        "run.streams": streams,
        "run.workers": workers,
        "server.address": server,
    }
    many = [inputs] if isinstance(inputs, str | PathLike) else inputs
    request = RunRequest(
        tuple(os.fspath(path) for path in many),
        None if output is None else os.fspath(output),
        _with(program, {key: str(value) for key, value in named.items() if value is not None}),
        tracks=None if tracks is None else Path(tracks),
        overlay=None if overlay is None else Path(overlay),
        resume=resume,
    )
    run = prepare_run(request)
    listener = listener or Listener()
    for note in run.notes:
        listener.say("note", f"note: {note}")
    with _following(stop) as own:
        carry_out(run, own, listener)
    return run.summary(0.0).streams


def _with(program: ProgramSettings, named: dict[str, str]) -> ProgramSettings:
    """Settings with single values over them, read as the command's options are."""
    layer = command_layer(named)
    if layer.problems:
        raise ConfigError("; ".join(map(str, layer.problems)))
    return build(layer.values, onto=program)


@contextmanager
def _following(event: threading.Event | None) -> Iterator[Stop]:
    """A stop that is asked when a caller's event is set; the event is never set here."""
    stop = Stop()
    if event is None:
        yield stop
        return

    def look() -> bool:
        if event.is_set():
            stop.ask()
        return not stop.is_asked

    with BackgroundLoop(look, name="stop", period_s=_LOOK_S, at_once=True):
        yield stop

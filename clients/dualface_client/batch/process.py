"""The main job as one call, for programs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path

from dualface_client.background import BackgroundLoop
from dualface_client.batch.execute import carry_out
from dualface_client.batch.held_server import HeldServer, refuse_no_event
from dualface_client.batch.listener import Listener
from dualface_client.batch.prepare import prepare_run
from dualface_client.batch.run import RunRequest
from dualface_client.config.program import AnySettings, check_settings
from dualface_client.errors import UsageError
from dualface_client.observe.report import StreamReport
from dualface_client.settings.program import ProgramSettings, ServerSettings
from dualface_client.stream.stop import Stop

#: How soon a caller's wish to stop is seen.
_LOOK_S = 0.05

AnyPath = str | PathLike[str]


def process(  # noqa: PLR0913 - what the command has as options, by name
    inputs: AnyPath | Iterable[AnyPath],
    output: AnyPath | None,
    *,
    server: str | HeldServer | None = None,
    settings: AnySettings | None = None,
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

    Every argument means what the option of the same name means, and the same code does the work.
    Configuration files and variables count only if the caller reads them with `load_settings`.

    Args:
        inputs: Files, directories or glob patterns; one or several.
        output: A file (for one video) or a directory; None writes no video.
        server: One that `serve` started, or `HOST:PORT` of another running Triton; without either
            the embedded server is started, and stopped at the end.
        settings: How to process: a mapping such as `{"output.crf": 18}`, or typed settings of the
            streams alone or of the whole program (but `record`, which is about what the command
            shows); None for the defaults. They are checked in the same way as files. The arguments
            take precedence.
        streams: Videos processed at a time; `auto` is one per 4 cores.
        stop: Set it from another thread to end early, as Ctrl-C does here; partial outputs stay
            playable.
        device: `cpu`, `cuda`, or `auto` for `cuda` if that works.
        workers: Processes that share the streams; `auto` is one for every four. With two or more,
            one that dies is restarted.
        tracks: File or directory for tracks in MOTChallenge's text form.
        overlay: File or directory for debug overlays.
        resume: Skip videos whose outputs are finished and verified.
        listener: Hears what the run has to say; None for Python's logging, `dualface_client`.

    Returns:
        One report per video, in order. A video that failed says why in `error`; it raises nothing.

    Raises:
        UsageError: A value is invalid, or the outputs cannot be laid out as asked, exist or cannot
            be written; nothing was started.
        PlatformError: The device was asked for and something is missing, or no embedded server
            runs here.
        ServerError: The server cannot be reached or started, or is not the right one.
        AssetError: The embedded server's models or binary are missing.
    """
    refuse_no_event(stop)
    held = server if isinstance(server, HeldServer) else None
    arguments: dict[str, tuple[str, object]] = {
        "device": ("run.device", device),
        "streams": ("run.streams", streams),
        "workers": ("run.workers", workers),
        "server": ("server.address", "embedded" if held else server),
    }
    program = check_settings(settings, arguments)
    request = RunRequest(
        _inputs(inputs),
        _path("output", output),
        _on_held(held, program) if held else program,
        tracks=_file("tracks", tracks),
        overlay=_file("overlay", overlay),
        resume=_flag("resume", resume),
        held=held.embedded() if held else None,
    )
    hears = _listener(listener)
    run = prepare_run(request)
    for note in run.notes:
        hears.say("note", f"note: {note}")
    with _following(stop) as own:
        carry_out(run, own, hears)
    return run.summary(0.0).streams


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


def _on_held(held: HeldServer, program: ProgramSettings) -> ProgramSettings:
    """The settings for a server that is already running."""
    if program.run.device not in ("auto", held.device):
        raise UsageError(
            f"device: {program.run.device}: the held server runs on {held.device}; leave "
            "it out, or start the server with that device"
        )
    if program.server not in (ServerSettings(), held.settings):
        asked, has = asdict(program.server), asdict(held.settings)
        other = [f"server.{k}: {asked[k]} (it has {has[k]})" for k in has if asked[k] != has[k]]
        raise UsageError(
            f"settings: {', '.join(other)}: the held server was started with others; pass "
            "these settings to serve()"
        )
    return replace(program, run=replace(program.run, device=held.device))


def _inputs(inputs: object) -> tuple[str, ...]:
    many = [inputs] if isinstance(inputs, str | PathLike) else inputs
    if not isinstance(many, Iterable) or isinstance(many, bytes):
        raise _wrong("inputs", inputs, "a path or several; name at least one video")
    found = tuple(_text("inputs", path) for path in many)
    if not found:
        raise UsageError("inputs: is empty: expected a path or several; name at least one video")
    return found


def _path(name: str, path: object) -> str | None:
    return None if path is None else _text(name, path)


def _file(name: str, path: object) -> Path | None:
    return None if path is None else Path(_text(name, path))


def _text(name: str, path: object) -> str:
    text = os.fspath(path) if isinstance(path, str | PathLike) else None
    if not isinstance(text, str):
        raise _wrong(name, path, "a path as str or pathlib.Path")
    return text


def _flag(name: str, flag: object) -> bool:
    if not isinstance(flag, bool):
        raise _wrong(name, flag, "True or False")
    return flag


def _listener(listener: object) -> Listener:
    if listener is None:
        return Listener()
    if not isinstance(listener, Listener):
        raise _wrong("listener", listener, "an object of a class derived from Listener")
    return listener


def _wrong(name: str, value: object, expected: str) -> UsageError:
    return UsageError(f"{name}: {type(value).__name__} {value!r:.80}: expected {expected}")

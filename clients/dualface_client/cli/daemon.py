"""`dualface-client daemon`: streams that are kept running, and come and go by an API."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from dualface_client.batch.listener import Listener
from dualface_client.cli.setting_options import read_settings, setting_options
from dualface_client.cli.signals import set_on_hangup, stop_on_signal
from dualface_client.errors import StoppedError, UsageError
from dualface_client.extras import require
from dualface_client.observe.run_log import log_event, run_log
from dualface_client.settings import paths


@click.command(
    epilog="""
\b
Examples:
  dualface-client daemon --config streams.yaml
  dualface-client daemon --config streams.yaml --directory /var/lib/dualface --port 8070
  dualface-client daemon --config streams.yaml --server 127.0.0.1:8001 --log-format json
"""
)
@click.option(
    "--config",
    "streams_path",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="YAML with the streams that should run, as of `run --streams-file`; read again at SIGHUP.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the daemon keeps its state and its token. [default: $STATE_DIRECTORY, else "
    "~/.local/state/dualface]",
)
@setting_options("")
def daemon(streams_path: Path, directory: Path | None, given: dict[str, str]) -> int:
    """Keep streams running that come and go, with an API and a page.

    What the API adds, removes and changes is kept, also over a restart. Settings come from the
    files, variables and options that `run` reads; since `--config` is the file of streams here,
    the variable DUALFACE_CONFIG names a file or a directory of settings.

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 the command or the machine's set-up is wrong, 3 the
    inference server failed.
    """
    require("fastapi", "uvicorn", "prometheus_client")
    from dualface_client.daemon.run import DaemonRequest, run_daemon
    from dualface_client.daemon.service import ServiceNotifier
    from dualface_client.triton.reaper import unlink_own_shared_memory

    effective = read_settings(None, given, fallback=False)
    place = _directory(directory)
    log_format = effective.program().record.log_format
    with run_log(log_format, lambda line: click.echo(line, err=True)):
        listener = _Teller(quiet=log_format == "json")
        with (
            stop_on_signal(
                lambda text: listener.say("stopping", text), unlink_own_shared_memory
            ) as stop,
            set_on_hangup() as reload,  # inside, because SIGHUP would be a stop otherwise
        ):
            request = DaemonRequest(streams_path, place, effective)
            try:
                run_daemon(request, stop, reload, listener, ServiceNotifier())
            except StoppedError:
                if not stop.signal_number:
                    raise  # otherwise the user had it ended while the server was starting
    return 0


class _Teller(Listener):
    """Says what happens on standard error; in the JSON log only where that is wanted."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def say(self, event: str, text: str, level: int = logging.INFO) -> None:
        """One line."""
        if not self._quiet and level < logging.WARNING:
            click.echo(text, err=True)
        log_event(event, text, level=level)


def _directory(chosen: Path | None) -> Path:
    """Where state and token are kept; made if it is missing, for this user alone."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]  # of systemd, perhaps several
    place = chosen or (Path(given) if given else paths.state_dir())
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--directory {place}: cannot be made: {error.strerror}") from error
    return place

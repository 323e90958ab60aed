"""The commands, each imported when it is called, and what turns errors into exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import sys

import click

from dualface_client import __version__
from dualface_client.errors import DualfaceError

#: Name and first line of help; the command is `NAME` of the module `dualface_client.cli.NAME`.
COMMANDS = {
    "run": "Turn each INPUT into a video with its two people side by side.",
    "daemon": "Keep streams running that come and go, with an API and a page.",
    "cast": "Print who a video is about: the people whom `run` finds before the first frame.",
    "setup": "Fetch and make what the embedded server needs.",
    "serve": "Run the embedded Triton server until Ctrl-C.",
    "models": "List, load, unload or swap a server's models.",
    "reap": "Remove shared memory whose owner is gone.",
    "doctor": "Check what a run needs and say what to do.",
    "probe": "Examine GPU, video engines, cores, memory and disk, and write suitable settings.",
    "guard": "Alert when Triton's memory pools have run dry.",
    "plan": "Compute how large Triton's memory pools must be, term by term, each with its source.",
    "compose": "Write a compose file with a Triton and a client for each GPU.",
    "config": "Show the settings and where they come from, or check a file.",
}
_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
_MACHINE = 2


class LazyGroup(click.Group):
    """Commands whose imports happen only when they run; help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one command; None if there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dualface_client.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


_EPILOG = """
\b
Examples:
  dualface-client run talk.mp4 -o talk_tiles.mp4
  dualface-client doctor
  dualface-client run --help
"""


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG
)
@click.version_option(__version__, prog_name="dualface-client")
def cli() -> None:
    """Frame each of two people in a video in a tile of their own, side by side.

    Exit codes: 0 done, 1 a video failed or is incomplete (the others are done), 2 the command or
    the machine's set-up is wrong, 3 the inference server failed, 130 ended by Ctrl-C, 143 by
    SIGTERM.
    """


def run_command_line() -> int:
    """Runs the command that the arguments name; returns the exit code and shows every error."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):  # the user's wish, not a mistake
        click.echo("interrupted", err=True)
        return _INTERRUPTED
    except DualfaceError as error:
        click.echo(f"error: {error}", err=True)
        return error.exit_code
    except OSError as error:
        return _system_error(error)
    return code if isinstance(code, int) else 0


def _system_error(error: OSError) -> int:
    """An error that no part of the program foresaw, most likely a limit of the machine."""
    if error.errno == errno.EPIPE:  # the reader of our output has left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    where = f"{error.filename}: " if error.filename else ""
    click.echo(
        f"error: {where}{error.strerror or error}; `dualface-client doctor` checks this machine",
        err=True,
    )
    return _MACHINE

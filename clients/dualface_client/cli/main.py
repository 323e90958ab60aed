"""The command line's entry: one command a file, one place that turns errors into exit codes."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from dualface_client import __version__
from dualface_client.cli.config import config
from dualface_client.cli.doctor import doctor
from dualface_client.cli.guard import guard
from dualface_client.cli.plan import plan
from dualface_client.cli.probe import probe
from dualface_client.cli.reap import reap
from dualface_client.cli.run import run
from dualface_client.cli.serve import serve
from dualface_client.errors import DualfaceError

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dualface-client")
def cli() -> None:
    """Frame the two people of a video in tiles of their own, side by side.

    Exit codes: 0 done, 1 a stream failed (the others are done), 2 the command or the machine's
    set-up is wrong, 3 the inference server failed, 130 interrupted.
    """


cli.add_command(run)
cli.add_command(serve)
cli.add_command(reap)
cli.add_command(doctor)
cli.add_command(guard)
cli.add_command(plan)
cli.add_command(config)
cli.add_command(probe)


def main() -> NoReturn:
    """Runs the command line and exits; a user's mistake never shows a stack trace."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(_INTERRUPTED)
    except DualfaceError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)

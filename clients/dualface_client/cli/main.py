"""The entry of the command line: quick to start, so that Ctrl-C and a bare install end well.

It imports next to nothing: until `main` runs, Ctrl-C would show a trace of imports.
"""

from __future__ import annotations

import signal
import sys

from dualface_client.extras import missing_package


def main() -> None:
    """Runs the command line and exits; a user's mistake never shows a stack trace."""
    # While modules are imported there is nothing to undo: Ctrl-C ends the process, without a trace.
    # A command that has something to undo says so itself (`cli.signals`).
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in a shell's background job
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from dualface_client.cli.commands import run_command_line

        code = run_command_line()
    except ModuleNotFoundError as error:
        if (missing := missing_package(error)) is None:
            raise
        sys.stderr.write(f"error: {missing}\n")
        code = missing.exit_code
    sys.exit(code)

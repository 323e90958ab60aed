"""`dualface-client doctor`: why does it not run here?"""

from __future__ import annotations

import click

from dualface_client.pipeline.doctor import FAIL, examine


@click.command(
    epilog="""
\b
Examples:
  dualface-client doctor
  dualface-client doctor --server 127.0.0.1:8001
"""
)
@click.option("--server", metavar="HOST:PORT", help="Look at this Triton, not at the embedded one.")
def doctor(server: str | None) -> int:
    """Look at what a run needs and say what to do.

    Exit codes: 0 everything is there, 2 something is missing.
    """
    failed = False
    for finding in examine(server):
        failed |= finding.state == FAIL
        click.echo(f"{finding.state:<5} {finding.name}: {finding.detail}")
    return 2 if failed else 0

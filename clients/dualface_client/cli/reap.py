"""`dualface-client reap`: remove what killed processes left behind."""

from __future__ import annotations

import click

from dualface_client.triton.connection import Connection
from dualface_client.triton.reaper import reap_server, reap_shared_memory


@click.command(
    epilog="""
\b
Examples:
  dualface-client reap
  dualface-client reap --server 127.0.0.1:8001
"""
)
@click.option("--server", metavar="HOST:PORT", help="Also unregister dead regions on this server.")
def reap(server: str | None) -> int:
    """Remove shared memory whose owner is gone, by name, and only dualface's own.

    Regions of processes that live, of other containers and of other programs are left alone.
    """
    if server:
        connection = Connection(server)
        try:
            for name in reap_server(connection):
                click.echo(f"unregistered {name}")
        finally:
            connection.close()
    for name in reap_shared_memory():
        click.echo(f"removed {name}")
    return 0

"""`dualface-client reap`: remove what killed processes left behind."""

from __future__ import annotations

import click

from dualface_client.cli.options import server_option


@click.command(
    epilog="""
\b
Examples:
  dualface-client reap
  dualface-client reap --server 127.0.0.1:8001
"""
)
@server_option("Also unregister dead regions on this server.")
def reap(server: str | None) -> int:
    """Remove shared memory whose owner is gone, by name, and only dualface's own.

    Regions of processes that live, of other containers and of other programs are left alone.

    Exit codes: 0 nothing of the dead is left, 3 the server does not answer.
    """
    from dualface_client.triton.connection import Connection
    from dualface_client.triton.reaper import reap_server, reap_shared_memory

    # The files first: a server that does not answer keeps none of them.
    for name in reap_shared_memory():
        click.echo(f"removed {name}")
    if server:
        connection = Connection(server)
        try:
            reaped = reap_server(connection)
            for name in reaped.gone:
                click.echo(f"unregistered {name}")
            for name in reaped.kept:
                click.echo(f"kept {name}: a request still uses it; run this again", err=True)
        finally:
            connection.close()
    return 0

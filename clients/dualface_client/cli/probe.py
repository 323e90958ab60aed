"""`dualface-client probe`: what can this machine handle?"""

from __future__ import annotations

import os
from pathlib import Path

import click

from dualface_client.cli.setting_options import gpus_option


@click.command(
    epilog="""
\b
Examples:
  dualface-client probe
  dualface-client probe --output -
  dualface-client probe --gpus all
  dualface-client probe --output /etc/dualface/auto_detected.yaml --disk /srv/videos
"""
)
@click.option(
    "--output",
    metavar="FILE|-",
    help="Where to write the layer; - prints it [default: auto_detected.yaml in ./configs, else in "
    "the user's configuration directory].",
)
@click.option(
    "--disk",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path(),
    show_default="the current directory",
    help="Directory of the outputs; its disk is measured.",
)
@gpus_option("GPUs that runs are to use together; the layer then says so.")
@click.option("--no-disk", is_flag=True, help="Do not measure a disk: write only the layer.")
def probe(output: str | None, disk: Path, gpus: tuple[str, ...] | None, no_disk: bool) -> int:
    """Examine GPU, video engines, cores, memory and disk, and write suitable settings.

    Your own `manual.yaml` wins over them. Takes a few seconds and needs no GPU.
    """
    from datetime import UTC, datetime

    from dualface_client.machine.probe import layer_text, write_layer
    from dualface_client.machine.probe import probe as look
    from dualface_client.machine.summary import summary_lines

    facts = look(disk.absolute(), measure_disk=not no_disk, wanted=gpus)
    text = layer_text(facts, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))
    if output == "-":
        click.echo(text, nl=False)
        return 0
    path = Path(output) if output else _usual_place()
    write_layer(path, text)
    for line in summary_lines(facts):
        click.echo(line)
    click.echo(f"written: {path}")
    return 0


def _usual_place() -> Path:
    from dualface_client.config.stack import user_directory

    here = Path("configs")
    directory = here if here.is_dir() else user_directory(os.environ)
    return directory / "auto_detected.yaml"

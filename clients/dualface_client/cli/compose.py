"""`dualface-client compose`: a compose file for several GPUs."""

from __future__ import annotations

from pathlib import Path

import click

from dualface_client.cli.options import FILE_TO_WRITE
from dualface_client.cli.setting_options import gpus_option


@click.command(
    epilog="""
\b
Examples:
  dualface-client compose --gpus all
  dualface-client compose --gpus 0,1 --output -
  docker compose -p gpus -f compose.gpus.yaml up -d
"""
)
@gpus_option("GPUs that get a server and a client each; only `all` needs them to be here.")
@click.option(
    "--base",
    type=click.Path(path_type=Path),
    default=Path("compose.yaml"),
    show_default=True,
    help="The file for one GPU.",
)
@click.option(
    "--output",
    type=FILE_TO_WRITE,
    default=Path("compose.gpus.yaml"),
    show_default=True,
    help="What to write, beside the base; - prints it.",
)
def compose(gpus: tuple[str, ...] | None, base: Path, output: Path) -> int:
    """Write a compose file with a Triton and a client for each GPU.

    The clients share one directory of videos, and each takes its shard of them.

    Exit codes: 0 written, 1 it cannot be written, 2 there is no such GPU, or the base is not ours.
    """
    from dualface_client.atomic_file import write_atomically
    from dualface_client.errors import SinkError
    from dualface_client.machine.compose_file import compose_text, for_gpus, read_base
    from dualface_client.observe.gpus import read_gpus
    from dualface_client.observe.usable_gpus import choose_gpus, usable_gpus

    wanted = gpus or ("all",)
    numbers = list(wanted)
    if wanted == ("all",):
        numbers = [gpu.number for gpu in choose_gpus(wanted, usable_gpus(read_gpus() or ()))]
    command = f"dualface-client compose --gpus {','.join(wanted)}"
    text = compose_text(for_gpus(read_base(base), numbers), command)
    if str(output) == "-":
        click.echo(text, nl=False)
        return 0
    try:
        write_atomically(output, text)
    except OSError as error:
        raise SinkError(f"--output {output}: cannot be written: {error.strerror}") from error
    click.echo(f"written: {output} ({len(numbers)} GPUs)")
    return 0

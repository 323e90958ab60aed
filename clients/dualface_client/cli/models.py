"""`dualface-client models`: what a server serves, and new versions while it serves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dualface_client.cli.options import server_option

if TYPE_CHECKING:
    from dualface_client.triton.connection import Connection

_MODEL = click.argument("model", metavar="MODEL")
_SERVER = server_option("gRPC address of the server.", required=True)
_TIMEOUT = click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="How long the server may take to load it.",
)


@click.group(
    epilog="""
\b
Examples:
  dualface-client models list --server 127.0.0.1:8001
  dualface-client models load face_reid --server 127.0.0.1:8001
  dualface-client models swap --help
"""
)
def models() -> None:
    """List, load, unload or swap a server's models, or check one of your own.

    The server must allow this: `dualface-client serve --model-control`, or Triton with
    --model-control-mode=explicit, as in compose.yaml.

    Exit codes: 0 done, 2 the request is wrong, 3 the server cannot do it, or not in time; the
    message says which version answers.
    """


@models.command("list")
@_SERVER
def list_models(server: str) -> int:
    """Print each model's versions and their states."""
    from dualface_client.triton.control import model_versions

    with _connected(server) as connection:
        for row in model_versions(connection):
            state = f"{row.state or 'not loaded'}  {row.reason}".rstrip()
            click.echo(f"{row.name:12} {row.version or '-':>3}  {state}")
    return 0


@models.command()
@_MODEL
@_SERVER
@_TIMEOUT
def load(model: str, server: str, timeout_s: float) -> int:
    """Load MODEL's newest version."""
    from dualface_client.triton.control import load as load_model

    with _connected(server) as connection:
        click.echo(f"{model}: version {load_model(connection, model, timeout_s)} answers")
    return 0


@models.command()
@_MODEL
@_SERVER
def unload(model: str, server: str) -> int:
    """Unload MODEL: from then on requests for it fail."""
    from dualface_client.triton.control import unload as unload_model

    with _connected(server) as connection:
        unload_model(connection, model)
    click.echo(f"{model}: unloaded")
    return 0


@models.command(
    epilog="""
\b
Examples:
  dualface-client models swap face_reid --server 127.0.0.1:8001
  dualface-client models swap face_reid --server 127.0.0.1:43210 \\
      --onnx new_reid.onnx --repository /tmp/dualface-.../models
"""
)
@_MODEL
@_SERVER
@click.option(
    "--onnx",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="New weights for an embedded server; needs --repository.",
)
@click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The embedded server's model repository, as `serve --model-control` prints it.",
)
@_TIMEOUT
def swap(
    model: str, server: str, onnx: Path | None, repository: Path | None, timeout_s: float
) -> int:
    """Put a new version of MODEL into service without a failed request.

    The new version is in a directory of its own with a higher number than the present one; --onnx
    creates one for an embedded server. If it does not load, the present version stays in service.
    """
    from dualface_client.triton.control import swap as swap_model

    if (onnx is None) != (repository is None):
        raise click.UsageError("--onnx and --repository go together.")
    with _connected(server) as connection:
        done = swap_model(connection, model, onnx, repository, timeout_s)
    click.echo(f"{model}: version {done.now} answers, before it was {done.before or 'none'}")
    return 0


@models.command(
    epilog="""
\b
Examples:
  dualface-client models check my_reid.onnx --as face_reid
"""
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--as",
    "name",
    type=click.Choice(["face_detect", "face_reid"]),
    required=True,
    help="Which of the two models it is to be.",
)
def check(file: Path, name: str) -> int:
    """Check whether the ONNX FILE can replace a model: tensors, batches and numbers.

    docs/models.md has the contract. No server is needed. Exit codes: 0 it can, 2 it cannot; the
    message says why.
    """
    from dualface_client.triton.description import MODELS
    from dualface_client.triton.model_check import check_model

    (spec,) = (spec for spec in MODELS if spec.name == name)
    height_px, width_px, _ = check_model(file, spec).input.dims
    click.echo(f"{file}: keeps the contract of {name} (input {width_px}x{height_px})")
    return 0


def _connected(server: str) -> Connection:
    from dualface_client.triton.connection import Connection

    return Connection(server)

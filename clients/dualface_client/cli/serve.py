"""`dualface-client serve`: the embedded server in the foreground."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from dualface_client.cli.setting_options import config_options, read_settings, setting_options
from dualface_client.location import Location
from dualface_client.settings.program import ProgramSettings

_POLL_S = 0.5
#: Settings of the embedded server.
_KEYS = (
    "server.detector_onnx",
    "server.reid_onnx",
    "server.model_threads",
    "server.detector_instances",
    "server.cuda_pool_mib",
    "server.mps",
    "run.gpus",
)


@click.command(
    epilog="""
\b
Examples:
  dualface-client serve
  dualface-client serve --model-threads 1
  dualface-client serve --device cuda
  dualface-client serve --gpus all
  dualface-client serve --model-control
  dualface-client serve --socket-directory /run/user/1000/dualface --metrics-port 8002
  dualface-client serve --detector-onnx face_detect_640x384.onnx
"""
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    help="Where the models run [default: cpu, and cuda with --gpus].",
)
@click.option(
    "--model-control",
    is_flag=True,
    help="Let clients load and swap models (`dualface-client models`).",
)
@click.option(
    "--socket-directory",
    "socket_dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Directory to make for gRPC's socket, so that its address is always the same; it must not "
    "exist. With --gpus one is made for each, with the GPU's number behind the name.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="TCP port of the metrics, with --gpus of the first one's [default: a free one].",
)
@config_options
@setting_options(*_KEYS)
def serve(
    device: str | None,
    model_control: bool,
    socket_dir: Path | None,
    metrics_port: int | None,
    config_path: Path | None,
    config_fallback: bool,
    given: dict[str, str],
) -> int:
    """Run the embedded Triton server until Ctrl-C.

    Prints its gRPC address, a socket that `dualface-client run --server` takes and that no other
    user of this machine reaches, and the address of its metrics, which every user can read.

    Exit codes: 0 ended by Ctrl-C or SIGTERM, 2 the machine's set-up is wrong, 3 the server died,
    130 ended before it was ready.
    """
    from rich.console import Console

    from dualface_client.batch.server import choice_of, start_embedded
    from dualface_client.batch.shared_memory import check_server_memory
    from dualface_client.cli.downloads import download_bar
    from dualface_client.cli.signals import stop_on_signal
    from dualface_client.errors import ServerError
    from dualface_client.triton.embedded import EmbeddedServer
    from dualface_client.triton.mps import multi_process_service
    from dualface_client.triton.reaper import reap_shared_memory, unlink_own_shared_memory
    from dualface_client.triton.server_process import refuse_taken

    program = read_settings(config_path, given, fallback=config_fallback).program()
    locations = _locations(program, device)
    device = device or ("cuda" if program.run.gpus else "cpu")
    if device == "cuda":
        _refuse_no_gpu()
    ports = [None if metrics_port is None else metrics_port + n for n in range(len(locations))]
    for port in ports:
        if port is not None:
            refuse_taken("--metrics-port", port)
    reap_shared_memory()
    choice = replace(choice_of(program.server, device), address=None, model_control=model_control)
    check_server_memory(choice)
    with (
        stop_on_signal(lambda text: None, unlink_own_shared_memory) as stop,
        multi_process_service(wanted=choice.uses_mps) as variables,
        ExitStack() as stack,
    ):
        servers: dict[str, EmbeddedServer] = {}
        for location, port in zip(locations, ports, strict=True):
            own = replace(
                choice,
                metrics_port=port,
                socket_dir=socket_dir and _beside(socket_dir, location.name),
                location=location,
            )
            server = start_embedded(
                own,
                stop.event,
                partial(click.echo, err=True),
                partial(download_bar, Console(stderr=True)),
            )
            servers[location.name] = stack.enter_context(server)
            head = f"{location.name}: " if location.name else ""
            click.echo(f"{head}gRPC on {server.grpc_address}, metrics on {server.metrics_url}")
            if model_control:
                click.echo(f"{head}models in {server.repository}")
        for name, value in variables.items():
            click.echo(f"for its clients: export {name}={value}")
        click.echo("Ctrl-C ends it.", err=True)
        while not stop.event.wait(_POLL_S):
            for name, server in servers.items():
                if not server.is_alive():
                    raise ServerError(
                        f"the server {f'of {name} ' if name else ''}died; its last log lines:\n"
                        f"{server.log_tail()}"
                    )
    return 0


def _locations(program: ProgramSettings, device: str | None) -> tuple[Location, ...]:
    """Where servers are started: on each GPU that was named, or here."""
    from dualface_client.batch.locations import locations_of

    run = replace(program.run, device=device or "auto")
    return locations_of(replace(program, run=run, server=replace(program.server, address=None)))


def _beside(directory: Path, name: str) -> Path:
    """A directory for each location: `DIR-0` for GPU 0."""
    number = name.rpartition(" ")[2]
    return directory.with_name(f"{directory.name}-{number}") if name else directory


def _refuse_no_gpu() -> None:
    from dualface_client.errors import PlatformError
    from dualface_client.stream.device_cuda import why_no_cuda_server

    if reason := why_no_cuda_server():
        raise PlatformError(f"--device cuda: {reason}; --device cpu works without it")

"""`dualface-client plan`: how much memory a deployment needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from dualface_client.batch.execute import STREAMS_PER_WORKER
from dualface_client.batch.server import ServerChoice
from dualface_client.batch.shared_memory import shared_memory_of
from dualface_client.cli.setting_options import gpus_option
from dualface_client.errors import UsageError
from dualface_client.memory.vram import MIB, WORKER_BYTES, StreamShape, stream_terms
from dualface_client.observe.gpus import read_gpus, used_gpu
from dualface_client.observe.usable_gpus import choose_gpus, usable_gpus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.load import frames_held, load_of
from dualface_client.triton.ensembles import read_ensembles
from dualface_client.triton.pool_file import write_pools
from dualface_client.triton.pool_plan import (
    CUDA_KEY,
    MARGIN,
    PINNED_KEY,
    Deployment,
    PoolPlan,
    Term,
    checked_pool,
    plan_pools,
)

_LEAST_SHM_BYTES = 256 * MIB


@click.command(
    epilog="""
\b
Examples:
  dualface-client plan --streams 8
  dualface-client plan --streams 16 --in-flight 3 --write configs/gpu.env
  dualface-client plan --streams 64 --gpus 0,1,2,3
  dualface-client plan --streams 4 --backend python --shared-memory system
  dualface-client plan --streams 8 --repository my_models --dims prepare/pixels=3,640,640
"""
)
@click.option("--streams", type=int, default=1, show_default=True, help="Streams at a time.")
@gpus_option("GPUs that share the streams; what is planned is for each of them.")
@click.option(
    "--in-flight", type=int, default=2, show_default=True, help="Requests of one stream under way."
)
@click.option("--batch", type=int, default=8, show_default=True, help="Frames in one request.")
@click.option(
    "--backend",
    type=click.Choice(["tensorrt", "python"]),
    default="tensorrt",
    show_default=True,
    help="'python' is the embedded server.",
)
@click.option(
    "--shared-memory",
    type=click.Choice(["cuda", "system"]),
    default="cuda",
    show_default=True,
    help="Where the clients' pixels are.",
)
@click.option(
    "--instances",
    multiple=True,
    metavar="MODEL=N",
    help="Copies of a model on the GPU [default: face_detect=2, face_reid=1].",
)
@click.option(
    "--repository",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Model repository whose ensembles also run.",
)
@click.option(
    "--dims",
    multiple=True,
    metavar="MODEL/TENSOR=D,D,...",
    help="Largest shape of a tensor whose configuration leaves it open.",
)
@click.option(
    "--bls-bytes",
    type=int,
    default=0,
    help="GPU memory of the requests that Python models make themselves, for each request.",
)
@click.option("--cuda-pool", metavar="BYTES", help="Check whether this CUDA pool is enough.")
@click.option(
    "--write",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the sizes to this environment file (configs/gpu.env).",
)
def plan(  # noqa: PLR0913, PLR0917 - one parameter for each option, by name
    streams: int,
    gpus: tuple[str, ...] | None,
    in_flight: int,
    batch: int,
    backend: str,
    shared_memory: str,
    instances: tuple[str, ...],
    repository: Path | None,
    dims: tuple[str, ...],
    bls_bytes: int,
    cuda_pool: str | None,
    write: Path | None,
) -> int:
    """Compute how large Triton's memory pools must be, term by term, each with its source.

    The pools depend on the models; what grows with the streams is the clients' memory, which is
    shown after them.

    Exit codes: 0 done, 2 the request makes no sense, or a pool is too small or too large.
    """
    shapes = _dims(dims)
    count = _count_of(gpus)
    if count > 1:
        click.echo(f"{count} GPUs; memory is for each of them and its share of the streams\n")
    deployment = Deployment(
        streams=-(-streams // count),
        requests_in_flight=in_flight,
        batch=batch,
        backend=backend,
        instances={**Deployment().instances, **_instances(instances)},
        cuda_shared_memory=shared_memory == "cuda",
        warm_up=backend == "tensorrt",
        ensembles=read_ensembles(repository, shapes) if repository else (),
        bls_bytes=bls_bytes,
    )
    found = plan_pools(deployment)
    gpu = used_gpu(read_gpus())
    total_bytes = gpu.memory_total_bytes if gpu else None
    checked_pool(CUDA_KEY, str(found.cuda_bytes), total_bytes)
    _show(found)
    shm_bytes = count * _show_clients(deployment, cuda=shared_memory == "cuda")
    if count > 1:
        click.echo(f"All {count}: {shm_bytes:,} bytes of /dev/shm\n")
    if cuda_pool is not None:
        _compare(checked_pool("--cuda-pool", cuda_pool, total_bytes), found)
    if write is not None:
        comment = f"dualface-client plan --streams {streams} --in-flight {in_flight}"
        comment += f" --gpus {','.join(gpus)}" if gpus else ""
        also = {"DUALFACE_SHM_SIZE": f"{shm_bytes >> 20}m"}
        write_pools(write, found, f"{comment} --batch {batch} --backend {backend}", also)
        click.echo(f"written to {write}")
    return 0


def _count_of(gpus: tuple[str, ...] | None) -> int:
    """How many GPUs share the streams; only `all` needs them to be here."""
    if gpus != ("all",):
        return len(gpus or ("one",))
    return len(choose_gpus(gpus, usable_gpus(read_gpus() or ())))


def _show(found: PoolPlan) -> None:
    for name, key, terms, size in (
        ("CUDA pool", CUDA_KEY, found.cuda_terms, found.cuda_bytes),
        ("Pinned pool", PINNED_KEY, found.pinned_terms, found.pinned_bytes),
    ):
        click.echo(f"{name}")
        _show_terms(terms)
        needed = sum(term.byte_size for term in terms)
        click.echo(f"  {needed:>15,}  bytes in all")
        click.echo(f"  {size:>15,}  with a margin of {MARGIN:g}, whole MiB, at least the minimum")
        click.echo(f"  {key}={size}\n")


def _show_clients(deployment: Deployment, *, cuda: bool) -> int:
    """What the clients and the server take for these streams; returns bytes of /dev/shm."""
    streams = deployment.streams
    settings = StreamSettings(
        detection=replace(
            StreamSettings().detection,
            frames_per_request=deployment.batch,
            requests_in_flight=deployment.requests_in_flight,
        )
    )
    workers = -(-streams // STREAMS_PER_WORKER)
    choice = ServerChoice(
        address=None if deployment.backend == "python" else "127.0.0.1:8001",
        device="cuda" if cuda else "cpu",
    )
    shm_bytes = shared_memory_of(settings, choice, streams, workers)
    with_margin = max(_LEAST_SHM_BYTES, -(-int(shm_bytes * MARGIN) // MIB) * MIB)
    click.echo(f"Clients (streams: {streams}, processes: {workers})")
    click.echo(f"  {shm_bytes:>15,}  bytes of /dev/shm")
    click.echo(f"  {with_margin:>15,}  with a margin of {MARGIN:g}, at least 256 MiB")
    if cuda:
        load = load_of(settings, frames_held(settings))
        terms = stream_terms(StreamShape("1080p", 1920, 1080), load)
        stream_bytes = sum(terms.values())
        click.echo(f"  {workers * WORKER_BYTES:>15,}  bytes of GPU memory for the processes")
        click.echo(f"  {streams * stream_bytes:>15,}  bytes of GPU memory for streams of 1080p")
    click.echo("")
    return with_margin


def _show_terms(terms: Sequence[Term]) -> None:
    for term in terms:
        click.echo(f"  {term.byte_size:>15,}  {term.what}: {term.how}")
        click.echo(f"  {'':>15}    [{term.source}]")


def _compare(given_bytes: int, found: PoolPlan) -> None:
    if given_bytes < found.cuda_bytes:
        raise UsageError(
            f"--cuda-pool {given_bytes}: {found.cuda_bytes} bytes are planned; Triton would fall "
            "back to host memory at full load"
        )
    click.echo(f"{given_bytes / MIB:g} MiB are enough: {found.cuda_bytes / MIB:g} MiB are planned")


def _instances(pairs: Sequence[str]) -> dict[str, int]:
    found = {}
    for pair in pairs:
        name, equals, count = pair.partition("=")
        if not (name and equals and count.isdigit() and int(count)):
            raise UsageError(f"--instances {pair}: expected MODEL=N, such as face_detect=2")
        found[name] = int(count)
    return found


def _dims(pairs: Sequence[str]) -> dict[str, tuple[int, ...]]:
    found = {}
    for pair in pairs:
        name, _, shape = pair.partition("=")
        sizes = shape.split(",")
        if "/" not in name or not all(size.isdigit() for size in sizes):
            raise UsageError(f"--dims {pair}: expected MODEL/TENSOR=D,D,..., such as a/b=3,640,640")
        found[name] = tuple(int(size) for size in sizes)
    return found

"""On which GPUs a run is to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dualface_client.errors import PlatformError, UsageError
from dualface_client.location import HERE, Location
from dualface_client.observe.gpus import GpuFacts, read_gpus, why_no_gpus
from dualface_client.observe.usable_gpus import VISIBLE, choose_gpus, location_of, usable_gpus
from dualface_client.settings.program import ProgramSettings


def locations_of(
    program: ProgramSettings,
    *,
    held: bool = False,
    read: Callable[[], list[GpuFacts] | None] = read_gpus,
) -> tuple[Location, ...]:
    """Where the servers and workers of a run are started.

    Args:
        program: What was asked for.
        held: Whether an embedded server runs already and is used.
        read: Asks NVML.

    Returns:
        A location for each GPU, or this whole machine.

    Raises:
        UsageError: GPUs were named together with what has no use for them, or one is not there.
        PlatformError: There is no GPU, or NVML does not say.
    """
    wanted, named = program.run.gpus, ",".join(program.run.gpus or ())
    if wanted is None:
        return (HERE,)
    if program.run.device == "cpu":
        raise UsageError(f"--gpus {named}: has no effect with --device cpu; leave one of them out")
    if program.server.address is not None or held:
        raise UsageError(
            f"--gpus {named}: each GPU gets an embedded server of its own, and a server was named "
            "already (--server); leave it out, or start one run for each server and share the "
            "inputs with --shard"
        )
    gpus = read()
    if gpus is None:
        raise PlatformError(
            f"--gpus {named}: {why_no_gpus() or 'NVML cannot be read'}; `dualface-client doctor` "
            "says more, and --gpus one leaves it out"
        )
    return tuple(location_of(gpu) for gpu in choose_gpus(wanted, usable_gpus(gpus)))


def visible_of(locations: Sequence[Location]) -> list[str]:
    """UUIDs of the GPUs at several locations; none for the one that this process uses."""
    return [location.environ[VISIBLE] for location in locations if VISIBLE in location.environ]

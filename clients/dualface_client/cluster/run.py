"""A run on a cluster: what `batch.execute` does on one machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from dualface_client import __version__
from dualface_client.batch.listener import Listener
from dualface_client.batch.run import Run
from dualface_client.cluster.driver import Driver, Nodes, Say
from dualface_client.cluster.messages import NodePlan
from dualface_client.cluster.ray_nodes import RayNodes
from dualface_client.errors import DualfaceError, StoppedError, UsageError
from dualface_client.observe.memory_peak import MemoryPeak
from dualface_client.stream.job import fail_unstarted
from dualface_client.stream.stop import Stop

#: Opens the nodes of a cluster: its address, what they are told, and who hears of them.
OpenNodes = Callable[[str, NodePlan, Say], AbstractContextManager[Nodes]]


def carry_out_on_cluster(
    address: str, run: Run, stop: Stop, listener: Listener, open_nodes: OpenNodes = RayNodes
) -> None:
    """Runs every video that may be tried on a cluster; a failure ends up in its status.

    Args:
        address: As of `RayNodes`.
        run: From `prepare_run` for a cluster; afterwards it knows how everything ended.
        stop: Asked from outside to end early.
        listener: Hears what happens.
        open_nodes: For the tests.

    Raises:
        UsageError: There is no such cluster, or the run cannot be spread.
        DualfaceError: No node of it works.
    """
    try:
        refuse_what_stays_here(run)
        _run(address, run, stop, listener, open_nodes)
    except StoppedError as error:
        fail_unstarted(run.statuses, stop.error or error)
    except DualfaceError as error:
        fail_unstarted(run.statuses, error)
        raise


def _run(address: str, run: Run, stop: Stop, listener: Listener, open_nodes: OpenNodes) -> None:
    request = run.request
    plan = NodePlan(
        __version__, request.program, _absolute(request.tracks), _absolute(request.overlay)
    )
    if run.has_ended:
        with listener.display(run.statuses):
            return

    def say(event: str, text: str, level: int) -> None:
        listener.say(event, text, level)

    say("cluster_connecting", f"connecting to the Ray cluster {address} ...", logging.INFO)
    with (
        MemoryPeak(lambda: {"client": os.getpid()}) as peak,
        open_nodes(address, plan, say) as nodes,
        listener.display(run.statuses),
    ):
        run.state.set_server(f"Ray {address}")
        run.state.set_phase("running")
        Driver(
            nodes,
            run.jobs,
            run.statuses,
            run.settings,
            say,
            resume=request.resume,
            recorded=request.recorded,
        ).run(stop)
    peak.close()
    run.peaks_bytes = peak.peaks_bytes


def refuse_what_stays_here(run: Run) -> None:
    """Refuses what only one machine can do.

    Raises:
        UsageError: There are live streams, a server that runs already, or GPUs of this machine.
    """
    gpus = run.request.program.run.gpus
    if gpus is not None:
        raise UsageError(
            f"--cluster: --gpus {','.join(gpus)} names GPUs of one machine, but a cluster has a "
            "node for each GPU that Ray knows; leave it out"
        )
    live = next((job for job in run.jobs if job.is_live(run.settings)), None)
    if live is not None:
        raise UsageError(
            f"--cluster: {live.shown_input} is a live stream, which cannot be done again "
            "elsewhere; run it on one machine, or with the daemon"
        )
    if run.request.program.server.address is not None:
        raise UsageError(
            f"--cluster: server.address is {run.request.program.server.address}, but every node of "
            "a cluster has a server of its own; leave it out"
        )


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else path.absolute()

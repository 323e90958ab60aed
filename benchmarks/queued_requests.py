"""How long a request waits that is sent while the embedded server's detector is busy, on a CPU.

    python benchmarks/queued_requests.py [--rounds 60] [--out FILE]

A second request follows the first one 0 to 50 ms later, and none after it until both are answered:
with priorities, as where live streams are possible, and without, as for files alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from pathlib import Path
from typing import Any

from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from dualface_client.triton.session import Session, SlotGroup

APART_S, PAUSE_S, STALLED_S = 0.05, 0.01, 0.4


def measured(rounds: int, *, has_priorities: bool) -> dict[str, Any]:
    """One row."""
    models = [EmbeddedModel(FACE_DETECT, paths.models_dir() / f"{FACE_DETECT.name}.onnx")]
    options = EmbeddedOptions(len(os.sched_getaffinity(0)), has_priorities=has_priorities)
    groups = {FACE_DETECT.name: SlotGroup(1, 2)}
    apart = random.Random(1)  # noqa: S311 - nothing secret
    waits_s = []
    with (
        EmbeddedServer(paths.tritonserver_dir(), models, options) as server,
        Session(server.grpc_address, groups, specs=(FACE_DETECT,)) as session,
    ):
        leases = [session.lease(FACE_DETECT.name, 1.0, "benchmark") for _ in range(2)]
        for lease in leases:
            session.input_array(FACE_DETECT.name, lease)[:] = 0
            session.infer_async(FACE_DETECT.name, lease).result()
        for _ in range(rounds):
            time.sleep(PAUSE_S)
            first = session.infer_async(FACE_DETECT.name, leases[0])
            time.sleep(apart.uniform(0, APART_S))
            sent_s = time.perf_counter()
            session.infer_async(FACE_DETECT.name, leases[1]).result()
            waits_s.append(time.perf_counter() - sent_s)
            first.result()
    return {
        "has_priorities": has_priorities,
        "rounds": rounds,
        "stalled": sum(wait_s > STALLED_S for wait_s in waits_s),
        "median_ms": round(statistics.median(waits_s) * 1e3),
        "most_ms": round(max(waits_s) * 1e3),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = [measured(options.rounds, has_priorities=has) for has in (True, False)]
    text = json.dumps(rows, indent=1)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""Fills the cache of the tracking comparison in several processes.

python -m benchmarks.tracking.build [--seeds 4] [--processes 2]
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import cv2

from benchmarks.tracking.cache import Watcher
from benchmarks.tracking.clipset import Clip, clips
from dualface_client.settings.paths import home_dir


def cache_dir() -> Path:
    """Where the cache files lie."""
    return home_dir() / "tracking"


def build_one(clip: Clip) -> str:
    """Makes one cache file; returns its path."""
    cv2.setNumThreads(1)
    return str(Watcher(cache_dir()).watch(clip))


def build(wanted: list[Clip], processes: int) -> None:
    """Makes all that are missing, in order, and says how it goes."""
    watcher = Watcher(cache_dir())
    missing = [clip for clip in wanted if not watcher.path_of(clip).is_file()]
    start = time.monotonic()
    with ProcessPoolExecutor(processes) as pool:
        running = {pool.submit(build_one, clip): clip for clip in missing}
        for done, future in enumerate(as_completed(running), 1):
            future.result()
            took_s = time.monotonic() - start
            print(f"{done}/{len(missing)} {running[future].name} ({took_s:.0f} s)", flush=True)


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Fill the cache of the tracking comparison.")
    parser.add_argument("--seeds", type=int, default=4, help="seeds per kind of clip")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    build(list(clips(range(options.seeds))), options.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

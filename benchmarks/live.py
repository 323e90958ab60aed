"""Live streams: a camera that is killed again and again, a machine that is too slow, priorities.

    python benchmarks/live.py kills --out benchmarks/results
    python benchmarks/live.py overload --out benchmarks/results --seconds 120
    python benchmarks/live.py priority --out benchmarks/results

`kills` needs GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi,
gstreamer1.0-plugins-good and -bad). It kills the server, once with a goodbye and once to come back
with another size, and says how long the output took to go on, and how far sound and picture are
apart. Its detector costs nothing, so that frames are dense enough to tell. `overload` plays four
streams that together are four times what the machine can do. `priority` runs two live streams
beside a file on one server, with and without priority. Each writes live_MODE.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.soak import cheap_detector
from dualface_client import serve
from dualface_client.batch.listener import Listener
from dualface_client.batch.process import process
from dualface_client.observe.report import StreamReport, StreamStatus
from tests.live_servers import free_port, rtsp_server, why_no_rtsp_server
from tests.media import Audio, Clip, beeps_of, luma_of, make, plane_of

_POLL_S = 0.02
_START_S = 120.0
_MIB = 1 << 20
_SECONDS = tuple(range(1, 120))
_SMALL = {"output.size": "320x180", "output.preset": "ultrafast"}


@dataclass
class Watched(Listener):
    """Hands out the statuses of a run that goes on in a thread."""

    statuses: Sequence[StreamStatus] = ()
    begun: threading.Event = field(default_factory=threading.Event)

    def display(self, statuses: Sequence[StreamStatus]) -> AbstractContextManager[object]:
        """Keeps the statuses."""
        self.statuses = statuses
        self.begun.set()
        return nullcontext()

    def reports(self) -> list[StreamReport]:
        """As they are now."""
        return [status.snapshot() for status in self.statuses]

    def next_frame(self) -> Callable[[], bool]:
        """Asks whether the first stream has written a frame since now."""
        before = self.reports()[0].frames_out
        return lambda: self.reports()[0].frames_out > before


@contextmanager
def running(inputs: Sequence[str], output: str, **options: Any) -> Iterator[Watched]:
    """Runs streams in this process until the body ends; then their reports are final."""
    watched, stop = Watched(), threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            process(inputs, output, stop=stop, listener=watched, streams=len(inputs), **options)
        except BaseException as error:  # raised below
            failed.append(error)
            watched.begun.set()

    thread = threading.Thread(target=run, name="run")
    thread.start()
    try:
        watched.begun.wait(_START_S)
        yield watched
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


def wait_for(true: Callable[[], object], limit_s: float) -> float:
    """Seconds until something holds; the limit if it does not."""
    begin_s = time.monotonic()
    while not true() and time.monotonic() - begin_s < limit_s:
        time.sleep(_POLL_S)
    return time.monotonic() - begin_s


def figures_add_up(report: StreamReport) -> bool:
    """Whether every frame that came is written or dropped for a cause."""
    return report.frames_in == report.frames_out + sum(report.dropped.values())


def camera(path: Path, size_wh_px: tuple[int, int]) -> Path:
    """Two minutes with a flash and a beep in every second."""
    beeps = Audio(seconds=120.0, beeps_s=_SECONDS)
    options = {"g": "25", "bf": "0"}
    return make(path, Clip(3000, size_wh_px, options=options, audio=(beeps,), flashes_s=_SECONDS))


def kills(options: argparse.Namespace, work: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """Kills a camera's server again and again."""
    if why := why_no_rtsp_server():
        raise SystemExit(why)
    usual = camera(work / "camera.mp4", (320, 180))
    other = camera(work / "other.mp4", (480, 360))
    detector = cheap_detector.write(work / "cheap.onnx")
    port, out = free_port(), work / "out.mp4"
    settings = {**_SMALL, "server.detector_onnx": str(detector)}
    back_s: list[float] = []
    address = f"rtsp://127.0.0.1:{port}/camera"
    with running([address], str(out), settings=settings) as watched:
        for number in range(options.kills + 1):
            clip = other if number == options.kills // 2 else usual
            with rtsp_server(port, clip) as server:
                back_s.append(wait_for(watched.next_frame(), 30.0))
                time.sleep(options.every_s - 2)
                server.send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
                server.wait()
            time.sleep(2)
    (report,) = watched.reports()
    apart = apart_s(out)
    result = {
        "kills": options.kills,
        "back_after_s": [round(each, 2) for each in back_s[1:]],
        "frames_in": report.frames_in,
        "frames_out": report.frames_out,
        "dropped": report.dropped,
        "reconnects": report.reconnects,
        "latency_p50_s": round(report.latency_p50_s, 4),
        "latency_p99_s": round(report.latency_p99_s, 4),
        "beeps_compared": len(apart),
        "sound_from_picture_ms_at_most": round(1000 * max(apart, default=9.0)),
        "sound_from_picture_ms_at_the_end": round(1000 * max(apart[-5:], default=9.0)),
    }
    checks = {
        "connected again every time": report.reconnects == options.kills,
        "output goes on within 2 s": max(back_s[1:]) < 2.0,
        "sound and picture within 40 ms at the end": max(apart[-5:], default=9.0) <= 0.04,
        "figures add up": figures_add_up(report),
    }
    return result, checks


def apart_s(path: Path) -> list[float]:
    """How far each beep is from its flash, seconds, where frames are dense enough to tell.

    A flash begins between the last dark frame and the first white one: a beep between these two
    is not apart from it.
    """
    with av.open(str(path)) as container:
        seen = [(f.time or 0.0, luma_of(plane_of(f)) > 128) for f in container.decode(video=0)]
    onsets = [
        (dark_s, white_s)
        for (dark_s, was), (white_s, now) in itertools.pairwise(seen)
        if now and not was and white_s - dark_s < 0.1
    ]
    found = []
    for beep_s in beeps_of(path):
        near = [max(dark - beep_s, beep_s - white, 0.0) for dark, white in onsets]
        if near and min(near) < 0.4:
            found.append(min(near))
    return found


def overload(options: argparse.Namespace, work: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """Four streams that together are four times what the machine can do."""
    clip = make(work / "probe.mp4", Clip(25 * 120, (320, 180), options={"g": "25", "bf": "0"}))
    settings = {**_SMALL, "input.realtime": True}
    with running([str(clip)], str(work / "probe_out.mp4"), settings=settings) as watched:
        wait_for(lambda: watched.reports()[0].frames_out > 3, 60.0)
        first = watched.reports()[0].frames_out
        time.sleep(20)
        capacity_fps = (watched.reports()[0].frames_out - first) / 20
    rate = Fraction(max(1, round(capacity_fps)))
    count = int(rate * (options.seconds + 60))
    source = Clip(count, (320, 180), rate=rate, options={"g": str(2 * rate), "bf": "0"})
    clips = [make(work / f"s{number}.mp4", source) for number in range(4)]
    rss_mib, latencies_s = [], []
    me = psutil.Process()
    with running([str(each) for each in clips], f"{work}/out/", settings=settings) as watched:
        wait_for(lambda: all(r.frames_out > 3 for r in watched.reports()), 120.0)
        for _ in range(int(options.seconds)):
            time.sleep(1)
            rss_mib.append(me.memory_info().rss / _MIB)
            latencies_s.append(max(r.latency_p50_s for r in watched.reports()))
    reports = watched.reports()
    shares = [sum(r.dropped.values()) / max(1, r.frames_in) for r in reports]
    third = len(rss_mib) // 3
    growth_mib = float(np.median(rss_mib[-third:]) - np.median(rss_mib[third : 2 * third]))
    result = {
        "capacity_fps": round(capacity_fps, 2),
        "offered_fps": float(4 * rate),
        "seconds": options.seconds,
        "dropped_share": [round(share, 3) for share in shares],
        "frames": [{"in": r.frames_in, "out": r.frames_out, **r.dropped} for r in reports],
        "latency_p50_s": [round(r.latency_p50_s, 3) for r in reports],
        "latency_p99_s": [round(r.latency_p99_s, 3) for r in reports],
        "latency_p50_s_over_time": [round(each, 2) for each in latencies_s[:: max(1, third // 3)]],
        "rss_growth_mib": round(growth_mib, 1),
    }
    checks = {
        "drops are even": max(shares) - min(shares) < 0.1,
        "latency does not grow": np.median(latencies_s[-third:])
        < 1.5 * np.median(latencies_s[third : 2 * third]) + 0.1,
        "memory is flat": growth_mib < 16,
        "figures add up": all(map(figures_add_up, reports)),
    }
    return result, {name: bool(value) for name, value in checks.items()}


def priority(options: argparse.Namespace, work: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """Live streams of half a frame a second beside a file, on one server.

    So few that they leave something to the file even where a detection takes a second.
    """
    count = int(options.seconds + 60)
    live = Clip(count, (320, 180), rate=Fraction(1, 2), options={"g": "2", "bf": "0"})
    clips = [make(work / f"live{number}.mp4", live) for number in range(options.streams)]
    batch = make(work / "batch.mp4", Clip(5000, (320, 180), options={"g": "25"}))
    found: dict[str, Any] = {}
    with serve() as server:
        for name, is_first, has_batch in (
            ("alone", True, False),
            ("beside a file, with priority", True, True),
            ("beside a file, without priority", False, True),
        ):
            settings = {**_SMALL, "input.realtime": True, "detection.live_first": is_first}
            beside: AbstractContextManager[Any] = nullcontext()
            if has_batch:
                busy = {**_SMALL, "detection.requests_in_flight": 8, "cast.enabled": False}
                out = str(work / f"batch{is_first}.mp4")
                beside = running([str(batch)], out, settings=busy, server=server)
            with beside as other:
                inputs, place = [str(each) for each in clips], f"{work}/{len(found)}/"
                with running(inputs, place, settings=settings, server=server) as watched:
                    time.sleep(options.seconds)
                reports = watched.reports()
                files = other.reports() if other is not None else []
            found[name] = {
                "latency_p50_s": [round(r.latency_p50_s, 3) for r in reports],
                "latency_p99_s": [round(r.latency_p99_s, 3) for r in reports],
                "frames": [{"in": r.frames_in, "out": r.frames_out, **r.dropped} for r in reports],
                "file_fps": [round(r.fps, 2) for r in files],
            }
    with_p50, without_p50 = (
        max(found[f"beside a file, {way} priority"]["latency_p50_s"]) for way in ("with", "without")
    )
    checks = {
        "priority makes live frames sooner": with_p50 < without_p50,
        "the file goes on": min(found["beside a file, with priority"]["file_fps"]) > 0,
    }
    return found, checks


_MODES: Mapping[str, Any] = {"kills": kills, "overload": overload, "priority": priority}


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("mode", choices=sorted(_MODES))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every-s", type=float, default=30.0, help="From one kill to the next.")
    parser.add_argument("--streams", type=int, default=2, help="Live ones of priority.")
    parser.add_argument("--seconds", type=float, default=60.0, help="Of overload and priority.")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as directory:
        result, checks = _MODES[options.mode](options, Path(directory))
    told = {
        "machine": f"{psutil.cpu_count()} cores, load {load:.1f} at the start",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
        **result,
        "checks": checks,
    }
    (options.out / f"live_{options.mode}.json").write_text(json.dumps(told, indent=2) + "\n")
    print(json.dumps(told, indent=2))
    return int(not all(checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())

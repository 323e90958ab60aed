"""Live streams: a camera that is killed again and again, a machine that is too slow, priorities.

    python benchmarks/live.py kills --out benchmarks/results
    python benchmarks/live.py overload --out benchmarks/results --seconds 120
    python benchmarks/live.py priority --out benchmarks/results

`kills` needs GStreamer's RTSP server (Debian: gir1.2-gst-rtsp-server-1.0, python3-gi,
gstreamer1.0-plugins-good and -bad). It kills the server of a daemon's stream 20 times in 10
minutes, every second time with a goodbye, once frozen so that nothing at all is told, and once to
come back with another size, and says how long the output took to go on, and how far sound and
picture are apart. Its detector costs nothing, so that frames are dense enough to tell. `overload`
plays four streams that together are four times what the machine can do. `priority` runs two live
streams beside a file on one server, with and without priority. Each writes live_MODE.json, and
`kills` live_kills.svg.
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
from dataclasses import astuple, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.soak import cheap_detector
from benchmarks.soak.fault_inputs import write_tiny
from benchmarks.soak.vitals import plot
from dualface_client import serve
from dualface_client.batch.listener import Listener
from dualface_client.batch.process import process
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.triton.description import FACE_REID
from tests.daemons import DaemonProcess
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


@dataclass(frozen=True, slots=True)
class Pulse:
    """How the stream does at one moment of `kills`.

    Attributes:
        frames_out: Written since the daemon's start.
        latency_p50_ms: From decoded to encoded, of the last 1,024 frames.
        sound_drift_ms: Of the last sound from where its time stamp puts it.
        memory_mib: Of the daemon and its worker.
    """

    frames_out: float
    latency_p50_ms: float
    sound_drift_ms: float
    memory_mib: float


class Kills:
    """A daemon with one stream of a camera whose server is killed again and again."""

    def __init__(self, daemon: DaemonProcess, port: int) -> None:
        self._daemon, self._port = daemon, port
        self._began_s = time.monotonic()
        self.back_s: list[float] = []
        self.pulses: list[tuple[float, Pulse]] = []

    def live(self, clip: Path, seconds: float, end: str) -> None:
        """One life of the server.

        Args:
            clip: What it sends.
            seconds: From its first frame in the output to its end.
            end: `asked` (SIGTERM), `killed`, or `silent`: it is frozen, so that nothing tells the
                client, and goes when the client has noticed.
        """
        before, connected = self._daemon.frames("door"), len(self.back_s)

        def goes_on() -> bool:
            now = self._daemon.stream("door")
            return bool(now["reconnects"] >= connected and now["frames_out"] > before)

        with rtsp_server(self._port, clip) as server:
            self.back_s.append(wait_for(goes_on, 60.0))
            self._watch(seconds)
            if end == "silent":
                server.send_signal(signal.SIGSTOP)
                wait_for(lambda: self._daemon.stream("door")["phase"] == "connecting", 60.0)
            server.send_signal(signal.SIGTERM if end == "asked" else signal.SIGKILL)
            server.wait()

    def _watch(self, seconds: float) -> None:
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            stream, pids = self._daemon.stream("door"), self._daemon.pids()
            own = [pid for name, pid in pids.items() if name != "server"]
            pulse = Pulse(
                stream["frames_out"],
                1000 * stream["latency_p50_s"],
                1000 * stream["sound_drift_s"],
                sum(psutil.Process(pid).memory_info().rss for pid in own) / _MIB,
            )
            self.pulses.append(((time.monotonic() - self._began_s) / 60, pulse))
            time.sleep(1)


def kills(options: argparse.Namespace, work: Path) -> tuple[dict[str, Any], dict[str, bool]]:
    """Kills a camera's server again and again, under a stream of a daemon."""
    if why := why_no_rtsp_server():
        raise SystemExit(why)
    usual = camera(work / "camera.mp4", (320, 180))
    other = camera(work / "other.mp4", (480, 360))
    models = [cheap_detector.write(work / "face_detect.onnx"), write_tiny(work, FACE_REID)]
    port, out = free_port(), work / "out.mp4"
    (work / "streams.yaml").write_text(
        f"streams:\n- {{name: door, input: 'rtsp://127.0.0.1:{port}/camera', output: {out}, "
        f"settings: {json.dumps({**_SMALL, 'tracking.reid': 'never'})}}}\n"
    )
    ends = ["asked", "killed"] * (options.kills // 2 + 1)
    ends[options.kills // 4] = "silent"
    with DaemonProcess(work, "--detector-onnx", models[0], "--reid-onnx", models[1]) as daemon:
        wait_for(lambda: daemon.stream("door").get("phase") == "connecting", _START_S)
        found = Kills(daemon, port)
        for number in range(options.kills + 1):
            clip = other if number == options.kills // 2 else usual
            found.live(clip, options.every_s - 2, ends[number])
            time.sleep(2)
        stream, workers = daemon.stream("door"), len(daemon.pids()) - 2
        restarts = daemon.metric("dualface_worker_restarts_total") + stream["restarts"]
        daemon.done("DELETE", "/v1/streams/door")
        ended = daemon.end()
    plot(options.out / "live_kills.svg", found.pulses, "min", [each.name for each in fields(Pulse)])
    apart, back_s = apart_s(out), found.back_s[1:]
    result = {
        "kills": options.kills,
        "every_s": options.every_s,
        "without_goodbye": ends.index("silent") + 1,
        "back_after_s": [round(each, 2) for each in back_s],
        **{key: stream[key] for key in ("frames_in", "frames_out", "dropped", "reconnects")},
        **{key: stream[key] for key in ("latency_p50_s", "latency_p99_s")},
        "workers": workers,
        "restarts": restarts,
        "beeps_compared": len(apart),
        "sound_from_picture_ms_at_most": round(1000 * max(apart, default=9.0)),
        "sound_from_picture_ms_at_the_end": round(1000 * max(apart[-5:], default=9.0)),
        "pulses": [
            [round(x, 2), *(round(value, 1) for value in astuple(p))] for x, p in found.pulses
        ],
    }
    on_the_way = stream["frames_in"] - stream["frames_out"] - sum(stream["dropped"].values())
    checks = {
        "connected again every time": stream["reconnects"] == options.kills,
        "output goes on within 2 s": max(back_s) < 2.0,
        "sound and picture within 40 ms at the end": max(apart[-5:], default=9.0) <= 0.04,
        "figures add up": 0 <= on_the_way <= 4,
        "one worker, and nothing was restarted": (workers, restarts) == (1, 0),
        "the daemon ends well": ended == 0,
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
    print(json.dumps({key: value for key, value in told.items() if key != "pulses"}, indent=2))
    return int(not all(checks.values()))


if __name__ == "__main__":
    raise SystemExit(main())

"""Frames per second of several streams, by threads of one process or by processes.

    python benchmarks/gpu/decode.py CLIP --out RESULT.json --streams 1 4 8 16 --work decode pixels

`decode` is NvdecSource alone. `pixels` adds what the client does to every frame without inference:
letterbox and thumbnail, the wait before a request would go out, and the canvas. Each row is one run
in processes of its own, whose exit status is kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import av

from dualface_client.cuda.stream import CudaStream
from dualface_client.imaging.cuda import CudaImaging
from dualface_client.types import Crop, Frame, Letterbox, Side, TileLayout, View
from dualface_client.video.nvdec import NvdecSource

BATCH = 8
CROPS = Crop(300.3, 200.2, 480.0, 540.0), Crop(1000.7, 200.9, 720.0, 810.0)


def frames_of(clip: Path, stream: CudaStream, seconds: float, start: Any) -> Any:
    """Frames of the clip again and again until the time is over."""
    source = NvdecSource(clip, stream)
    start.wait()
    until = time.perf_counter() + seconds
    while True:
        for frame in source:
            yield frame
            if time.perf_counter() > until:
                source.close()
                return
        source = NvdecSource(clip, stream)


def decode(clip: Path, seconds: float, start: Any, counts: list[int]) -> None:
    """One stream: decoding alone."""
    stream = CudaStream()
    count = sum(1 for _ in frames_of(clip, stream, seconds, start))
    stream.finish()
    counts.append(count)


def pixels(clip: Path, seconds: float, start: Any, counts: list[int]) -> None:
    """One stream: decoding and every kernel, with one wait per batch as before a request."""
    stream = CudaStream()
    imaging = CudaImaging(stream)
    imaging.warm_up()
    with stream:
        slots = stream.cupy.empty((BATCH, 640, 640, 3), "u1")
    fit, layout = Letterbox.fit((1920, 1080), (640, 640)), TileLayout()
    views = [View(crop, layout.area(side)) for crop, side in zip(CROPS, Side, strict=True)]
    count = 0
    batch: list[Frame] = []
    for frame in frames_of(clip, stream, seconds, start):
        batch.append(frame)
        if len(batch) == BATCH:
            imaging.letterbox([done.image for done in batch], [fit] * BATCH, slots)
            imaging.finish()
            for done in batch:
                imaging.thumbnail(done.image)
                imaging.compose([done.image], [views], layout)
            count += len(batch)
            batch = []
    stream.finish()
    counts.append(count)


WORKS = {"decode": decode, "pixels": pixels}


def run_threads(clip: Path, work: str, streams: int, seconds: float, start: Any) -> dict[str, Any]:
    """Streams as threads of this process."""
    counts: list[int] = []
    threads = [
        threading.Thread(target=WORKS[work], args=(clip, seconds, start, counts))
        for _ in range(streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {"frames": sum(counts), "cpu_s": usage.ru_utime + usage.ru_stime}


def child(options: argparse.Namespace, start: Any, ready: Any, results: Any) -> None:
    """One process with its share of the streams; CPU time counts from the start signal."""

    class Start:
        """Says that this thread is ready, then waits for all."""

        def wait(self) -> None:
            ready.release()
            start.wait()

    cpu_at: list[float] = []

    def mark() -> None:
        start.wait()
        cpu_at.append(time.process_time())

    threading.Thread(target=mark, daemon=True).start()
    result = run_threads(
        options.clip, options.one_work, options.one_streams, options.seconds, Start()
    )
    result["cpu_s"] = time.process_time() - cpu_at[0]
    results.put(result)


def one(options: argparse.Namespace) -> None:
    """One row: prints it as JSON."""
    context = multiprocessing.get_context("spawn")
    start, ready, results = context.Event(), context.Semaphore(0), context.Queue()
    processes = [
        context.Process(target=child, args=(options, start, ready, results), daemon=True)
        for _ in range(options.one_processes)
    ]
    for process in processes:
        process.start()
    for _ in range(options.one_processes * options.one_streams):
        if not ready.acquire(timeout=30):
            for process in processes:
                process.terminate()
            raise SystemExit("not every stream could be opened")
    start.set()
    time.sleep(options.seconds * 0.7)
    used_mib, utilisation = gpu_state()
    rows = [results.get(timeout=30) for _ in processes]
    for process in processes:
        process.join(20)
    frames = sum(row["frames"] for row in rows)
    print(
        json.dumps(
            {
                "work": options.one_work,
                "processes": options.one_processes,
                "streams_per_process": options.one_streams,
                "frames_per_s": round(frames / options.seconds, 1),
                "cpu_ms_per_frame": round(sum(r["cpu_s"] for r in rows) / max(frames, 1) * 1e3, 3),
                "gpu_used_mib": used_mib,
                "gpu_and_decoder_percent": utilisation,
                "exit_statuses": sorted({process.exitcode for process in processes}),
            }
        )
    )


def repeated(clip: Path, times: int) -> Path:
    """A file of the clip's packets several times, so that opening costs little beside decoding."""
    target = Path(tempfile.mkdtemp()) / f"long{clip.suffix}"
    with av.open(str(target), "w") as writer:
        out: Any = None
        shift = 0
        for _ in range(times):
            end = 0
            with av.open(str(clip)) as reader:
                video = reader.streams.video[0]
                out = out or writer.add_stream_from_template(video)
                for packet in reader.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    end = max(end, packet.pts + (packet.duration or 0))
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = out
                    writer.mux(packet)
            shift += end
    return target


def gpu_state() -> tuple[int, list[str]]:
    """Used memory in MiB, and the busy share of the multiprocessors and the decoders."""
    query = "memory.used,utilization.gpu,utilization.decoder"
    found = subprocess.run(
        [
            "nvidia-smi",
            "-i",
            os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
            f"--query-gpu={query}",
            "--format=csv,noheader,nounits",
        ],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split(",")
    return int(found[0]), [part.strip() for part in found[1:]]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 4, 8, 16])
    parser.add_argument(
        "--shapes", nargs="+", default=[], help="more rows as PROCESSESxSTREAMS, for example 4x4"
    )
    parser.add_argument("--work", nargs="+", choices=WORKS, default=["decode"])
    parser.add_argument(
        "--repeat", type=int, default=10, help="length of the file that is read, in clips"
    )
    parser.add_argument("--seconds", type=float, default=4.0)
    for name in ("--one-streams", "--one-processes"):
        parser.add_argument(name, type=int)
    parser.add_argument("--one-work")
    options = parser.parse_args()
    if options.one_work:
        one(options)
        return
    shapes = [(1, n) for n in options.streams]
    shapes += [(int(p), int(s)) for p, _, s in (shape.partition("x") for shape in options.shapes)]
    before_mib, _ = gpu_state()
    if options.repeat > 1:
        options.clip = repeated(options.clip, options.repeat)
    rows: list[dict[str, Any]] = [{"gpu_used_mib_before": before_mib, "cpus": os.cpu_count()}]
    for work in options.work:
        for processes, streams in shapes:
            command = [sys.executable, __file__, str(options.clip)]
            command += ["--seconds", str(options.seconds), "--one-work", work]
            command += ["--one-processes", str(processes), "--one-streams", str(streams)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            try:
                row = json.loads(done.stdout.strip().splitlines()[-1])
            except (ValueError, IndexError):  # it died: its last words go into the row
                row = {"work": work, "processes": processes, "streams_per_process": streams}
            row["stderr"] = done.stderr[-1500:]
            row["exit_status"] = done.returncode
            rows.append(row)
            print(json.dumps(row))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

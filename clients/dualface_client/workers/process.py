"""A worker in a process of its own: `python -m dualface_client.workers.process`.

Reads messages from its standard input and answers on its standard output (`workers.messages`).
It ends when it is told to, and when its supervisor has gone, which ends its input.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from dualface_client.background import BackgroundLoop
from dualface_client.decisions.commands import ChangeLayout, Command, HoldSide, SwapSides
from dualface_client.errors import DualfaceError, relayed
from dualface_client.observe.hardware import HardwareMonitor
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import ROOT, event_of, trace_of
from dualface_client.stream.controls import Outside
from dualface_client.stream.device_choice import make_device
from dualface_client.stream.job import Job, new_statuses
from dualface_client.stream.pacing import within_memory
from dualface_client.stream.preview import Preview, PreviewTap
from dualface_client.stream.runner import Runner
from dualface_client.stream.session import LAST_ANSWERS_S, open_runner, settle_interpreter
from dualface_client.stream.setup import WorkerSetup
from dualface_client.stream.stop import Stop
from dualface_client.types import Side
from dualface_client.workers.messages import (
    Beat,
    Begin,
    Closed,
    End,
    Figures,
    LogLine,
    Message,
    Progress,
    ProtocolError,
    Ready,
    Refused,
    ServerAwaited,
    Shown,
    Steered,
    SteerStream,
    StopJobs,
    StopStream,
    TakeJob,
    WatchStream,
    encode,
    heard_by_worker,
)

#: The supervisor hears from a worker at least this often.
BEAT_S = 1.0
_REPORT_S = 0.2
#: Without a supervisor it has this long to finish files and unregister memory.
_ORPHAN_LIMIT_S = 8.0


class _Voice:
    """Writes whole messages from any thread; a missing supervisor is not an error."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._lock = threading.Lock()

    def say(self, message: Message) -> None:
        line = encode(message)
        try:
            with self._lock:
                self._out.write(line)
                self._out.flush()
        except (OSError, ValueError):
            pass  # the input has ended too, or will, and that ends this process


class _LogForward(logging.Handler):
    def __init__(self, voice: _Voice) -> None:
        super().__init__(logging.INFO)
        self._voice = voice

    def emit(self, record: logging.LogRecord) -> None:
        event = event_of(record)
        self._voice.say(
            LogLine(record.levelno, event.event, event.stream, event.text, trace_of(record))
        )


class _Reporter(BackgroundLoop):
    """Sends what changed, and a beat; closing sends what happened last."""

    def __init__(self, voice: _Voice) -> None:
        self._voice = voice
        self._lock = threading.Lock()
        self._watched: dict[str, StreamStatus] = {}
        self._sent: dict[str, StreamReport] = {}
        self._shown: dict[str, Preview] = {}
        self._beat_s = 0.0
        super().__init__(self._report_all, name="report", period_s=_REPORT_S, once_more=True)

    def watch(self, status: StreamStatus) -> None:
        with self._lock:
            self._watched[status.snapshot().name] = status

    def show(self, name: str, preview: Preview) -> None:
        """Sends a picture with the next report; a newer one replaces it until then."""
        with self._lock:
            self._shown[name] = preview

    def _report_all(self) -> None:
        with self._lock:
            watched = list(self._watched.items())
            shown, self._shown = self._shown, {}
        for name, preview in shown.items():
            self._voice.say(Shown(name, preview))
        for name, status in watched:
            self._report(name, status.snapshot())
        if time.monotonic() - self._beat_s > BEAT_S / 2:
            self._beat_s = time.monotonic()
            self._voice.say(Beat())

    def _report(self, name: str, report: StreamReport) -> None:
        if self._sent.get(name) is not report:
            self._sent[name] = report
            self._voice.say(Progress(report))
        if report.state in FINAL_STATES:
            del self._sent[name]
            with self._lock:
                del self._watched[name]


def main() -> int:
    """Serves one supervisor; returns the exit status."""
    # Ctrl-C, a closed terminal and a service manager's SIGTERM reach all processes: the supervisor
    # decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    settle_interpreter()
    voice = _Voice(_own_stdout())
    logger = logging.getLogger(ROOT)
    logger.setLevel(logging.INFO)
    logger.addHandler(_LogForward(voice))
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    first = heard_by_worker(line)
    if not isinstance(first, Begin):
        raise ProtocolError(f"expected the setup first: {line[:80]!r}")
    try:
        _serve(first.setup, voice)
    except DualfaceError as error:
        voice.say(Refused(str(error), error.exit_code))
        return 1
    return 0


def _own_stdout() -> BinaryIO:
    """The pipe to the supervisor; what libraries print goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out


def _serve(setup: WorkerSetup, voice: _Voice) -> None:
    device = make_device(setup.device, setup.settings)
    stop = Stop()
    on_gpu = setup.device == "cuda"
    # The supervisor's own monitor tells the user.
    with (
        _Reporter(voice) as reporter,
        HardwareMonitor(setup.monitor, lambda alert: None, on_gpu=on_gpu) as monitor,
        open_runner(
            setup,
            device,
            stop,
            within_memory(setup.vram, monitor),
            lambda: voice.say(ServerAwaited()),
        ) as (runner, session),
    ):
        # What is there now stays: collections at the ends of streams need not look at it.
        gc.collect()
        gc.freeze()
        voice.say(Ready())

        def tell_figures() -> None:
            voice.say(Figures(session.pool.report(), session.client.request_times()))

        with (
            BackgroundLoop(tell_figures, name="figures", period_s=BEAT_S, once_more=True),
            ThreadPoolExecutor(setup.streams, thread_name_prefix="stream") as pool,
        ):
            _listen(_Streams(runner, pool, reporter, voice, stop))
        session.client.wait_idle(LAST_ANSWERS_S)
        region = session.pool.report()
    voice.say(Closed(region))


@dataclass(frozen=True, slots=True)
class _Stream:
    stop: Stop
    outside: Outside


class _Streams:
    """The jobs of this process, each with a stop and controls of its own.

    Args:
        runner: Runs them.
        pool: Has a thread for each that may run.
        reporter: Tells the supervisor how they are doing.
        voice: Answers the supervisor.
        stop: Of the whole process.
    """

    def __init__(
        self,
        runner: Runner,
        pool: ThreadPoolExecutor,
        reporter: _Reporter,
        voice: _Voice,
        stop: Stop,
    ) -> None:
        self._runner, self._pool, self._reporter = runner, pool, reporter
        self._voice, self._stop = voice, stop
        self._lock = threading.Lock()
        self._streams: dict[str, _Stream] = {}

    def take(self, job: Job) -> None:
        (status,) = new_statuses([job])
        tap = PreviewTap(partial(self._reporter.show, job.name))
        stream = _Stream(Stop(), Outside(tap=tap))
        with self._lock:
            self._streams[job.name] = stream
        self._reporter.watch(status)
        self._pool.submit(self._run, job, status, stream)

    def _run(self, job: Job, status: StreamStatus, stream: _Stream) -> None:
        try:
            self._runner.run_job(job, status, stream.stop, stream.outside)
        finally:
            with self._lock:  # perhaps a stream of the same name has come meanwhile
                if self._streams.get(job.name) is stream:
                    del self._streams[job.name]
            # PyAV's streams and their container refer to each other: the decoder of a stream that
            # was stopped would keep its threads and pictures until some later collection.
            gc.collect()

    def stop_all(self, error: DualfaceError | None = None) -> None:
        self._stop.ask(error)
        with self._lock:
            streams = list(self._streams.values())
        for stream in streams:
            stream.stop.ask(error)

    def stop(self, name: str) -> None:
        with self._lock:
            stream = self._streams.get(name)
        if stream is not None:
            stream.stop.ask()

    def watch(self, name: str, seconds: float) -> None:
        with self._lock:
            stream = self._streams.get(name)
        if stream is not None:
            stream.outside.tap.watch(seconds)

    def steer(self, wish: SteerStream) -> None:
        def answer(problem: str) -> None:
            self._voice.say(Steered(wish.number, problem))

        with self._lock:
            stream = self._streams.get(wish.stream)
        if stream is None:
            answer("the stream has ended")
        else:
            stream.outside.controls.ask(_command(wish), answer)


def _command(wish: SteerStream) -> Command:
    if wish.wish == "swap":
        return SwapSides()
    if wish.wish == "hold":
        return HoldSide(Side(wish.side), wish.person)
    return ChangeLayout(wish.layout, wish.gap_px)


def _listen(streams: _Streams) -> None:
    for line in sys.stdin.buffer:
        match heard_by_worker(line):
            case TakeJob(job):
                streams.take(job)
            case StopStream(name):
                streams.stop(name)
            case SteerStream() as wish:
                streams.steer(wish)
            case WatchStream(name, seconds):
                streams.watch(name, seconds)
            case StopJobs(text, exit_code):
                streams.stop_all(relayed(text, exit_code) if text else None)
            case End():
                return
            case Begin():
                raise ProtocolError(f"the setup came twice: {line[:80]!r}")
    streams.stop_all()  # the supervisor is gone
    watchdog = threading.Timer(_ORPHAN_LIMIT_S, os._exit, (1,))
    watchdog.daemon = True
    watchdog.start()


if __name__ == "__main__":
    sys.exit(main())

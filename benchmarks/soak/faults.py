"""Faults while four streams run: what becomes of each, and of the others?

    python benchmarks/soak/faults.py --out build/soak
    python benchmarks/soak/faults.py --out DIR --only worker_killed,disk_full

Each fault is injected into a run of four short real clips with two worker processes on an embedded
server, on the CPU; `--tiny` takes models of the same contract that cost nothing, where the machine
has little time. Judged are: the affected streams' outcome as docs/errors.md has it, the other
streams' outputs (byte for byte those of an undisturbed run), shared memory and processes left, and
the time to recover. Needs root for mounts (a small /dev/shm, a small disk) and libfaketime (a clock
that jumps); without them those rows say so. Writes faults.json and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

import psutil
from fault_run import (  # type: ignore[import-not-found] # the module beside this one
    CLI,
    FRAMES,
    Forward,
    Run,
    Verdict,
    digest,
    make_inputs,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fault_inputs import make_bad, write_tiny  # type: ignore[import-not-found] # as fault_run

from dualface_client.batch.server import ServerChoice, start_embedded
from dualface_client.settings import paths
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.triton.embedded import EmbeddedModel, EmbeddedOptions, EmbeddedServer
from tests import media

_FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


class Suite:
    """The faults, one method each; what it returns is judged."""

    def __init__(self, work: Path, *, tiny: bool) -> None:
        self.work = work
        self.choice = ServerChoice(model_threads=1)
        if tiny:
            (work / "tiny").mkdir()
            made = [write_tiny(work / "tiny", spec) for spec in (FACE_DETECT, FACE_REID)]
            self.choice = replace(self.choice, detector_onnx=made[0], reid_onnx=made[1])
        self.forward = Forward("127.0.0.1:9")
        make_inputs(work / "in", 5 if tiny else 1)
        calm = Run(work / "calm", models=self.models())
        calm.finish()
        self.reference = {name: digest(calm.output(name)) for name in FRAMES}
        if not all(self.reference.values()):
            raise SystemExit(f"the undisturbed run failed: {calm.events[-3:]} {calm.noise}")

    def models(self) -> list[str]:
        """Options of a run for an embedded server."""
        choice = self.choice
        if choice.detector_onnx is None:
            return ["--model-threads", "1"]
        own = ["--detector-onnx", str(choice.detector_onnx), "--reid-onnx", str(choice.reid_onnx)]
        return [*own, "--model-threads", "1"]

    def judge(
        self,
        run: Run,
        verdict: Verdict,
        *,
        code: int = 0,
        affected: Iterable[str] = (),
        state: str = "done",
        same: Iterable[str] = FRAMES,
        text: str = "",
    ) -> Verdict:
        """Compares what became of a run with what is documented."""
        found = run.finish()
        verdict.elapsed_s = round(time.monotonic() - run.started_s, 1)
        if found != code:
            verdict.wrong.append(f"exit {found}, expected {code}")
        reports = run.summary()
        for name in affected:
            report = reports.get(name, {"state": "no report", "error": "", "warnings": []})
            words = " ".join([report["error"], *report["warnings"]])
            verdict.outcome = f"{report['state']}: {words[-160:]}" if words else report["state"]
            if report["state"] != state or text not in words:
                verdict.wrong.append(f"{name}: {report['state']}: {words}")
        for name in same:
            verdict.others += 1
            equal = digest(run.output(name)) == self.reference[name]
            verdict.others_identical += equal
            if not equal:
                verdict.wrong.append(f"{name}: not as in an undisturbed run")
        verdict.wrong += [f"left running: {one}" for one in run.left_running()]
        verdict.wrong += [f"left in /dev/shm: {one}" for one in run.left_in_shm()]
        verdict.wrong += [f"not JSON: {line}" for line in run.noise if "Traceback" in line]
        return verdict

    def worker_killed(self, run: Run, verdict: Verdict) -> Verdict:
        """SIGKILL of a worker: its streams start again."""
        return self._replaced(run, verdict, signal.SIGKILL)

    def worker_frozen(self, run: Run, verdict: Verdict) -> Verdict:
        """SIGSTOP of a worker: noticed after 30 s, killed, replaced."""
        return self._replaced(run, verdict, signal.SIGSTOP)

    def _replaced(self, run: Run, verdict: Verdict, number: signal.Signals) -> Verdict:
        run.under_way()
        victim = run.victim("a")
        run.inject()
        os.kill(victim, number)
        run.wait_for(lambda: run.worker_of("a") not in (0, victim))
        verdict.recover_s = run.moves_again("a")
        return self.judge(run, verdict, affected=["a"], text="its worker died (killed by SIGKILL)")

    def worker_killed_three_times(self, run: Run, verdict: Verdict) -> Verdict:
        """A stream under which three workers die is put aside."""
        run.under_way()
        run.inject()
        killed: set[int] = set()
        while len(killed) < 3 and run.process.poll() is None:
            pid = run.worker_of("b")
            if pid and pid not in killed and run.frames().get("b", 0) > 1:
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        verdict.recover_s = time.monotonic() - run.injected_s
        return self.judge(
            run,
            verdict,
            code=1,
            affected=["b"],
            state="failed",
            same="acd",
            text="put aside: 3 workers died under it",
        )

    def server_killed(self, run: Run, verdict: Verdict) -> Verdict:
        """SIGKILL of the embedded server: restarted, nothing lost."""
        run.under_way()
        run.inject()
        os.kill(run.server_pid(), signal.SIGKILL)
        verdict.recover_s = run.moves_again("a")
        return self.judge(run, verdict, affected=["a"], text="")

    def model_process_killed(self, run: Run, verdict: Verdict) -> Verdict:
        """SIGKILL of a model's process: the server is restarted."""
        run.under_way()
        stubs = psutil.Process(run.server_pid()).children(recursive=True)
        run.inject()
        os.kill(stubs[0].pid, signal.SIGKILL)
        verdict.recover_s = run.moves_again("a")
        return self.judge(run, verdict, affected=["a"])

    def server_suspended(self, run: Run, verdict: Verdict) -> Verdict:
        """The server does not answer for ten seconds."""
        run.under_way()
        pid = run.server_pid()
        run.inject()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(10)
        os.kill(pid, signal.SIGCONT)
        verdict.recover_s = run.moves_again("a") - 10
        return self.judge(run, verdict, affected=["a"])

    def sigterm(self, run: Run, verdict: Verdict) -> Verdict:
        """SIGTERM: files are finished, everything ends within 10 s."""
        run.under_way()
        run.inject()
        run.process.terminate()
        code = run.finish(60)
        verdict.recover_s = time.monotonic() - run.injected_s
        if verdict.recover_s > 10:
            verdict.wrong.append(f"took {verdict.recover_s:.1f} s")
        for name, report in run.summary().items():
            frames = len(media.times_of(Path(report["partial_output"])))
            if frames != report["frames_out"]:
                verdict.wrong.append(f"{name}: {frames} of {report['frames_out']} frames play")
        verdict.others = 0
        return self.judge(
            run, verdict, code=143 if code == 143 else -1, affected=FRAMES, state="stopped", same=()
        )

    def sigint_twice(self, run: Run, verdict: Verdict) -> Verdict:
        """Ctrl-C twice: ends at once, parts play, `reap` finds the rest."""
        run.under_way(40)
        run.inject()
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        run.process.send_signal(signal.SIGINT)
        run.finish(30)
        verdict.recover_s = time.monotonic() - run.injected_s
        return self._after_end(run, verdict, code=130)

    def everything_killed(self, run: Run, verdict: Verdict) -> Verdict:
        """SIGKILL of the supervisor: workers and server end by themselves, parts play."""
        run.under_way(40)
        run.inject()
        run.process.kill()
        run.finish(30)
        verdict.recover_s = time.monotonic() - run.injected_s
        return self._after_end(run, verdict, code=-9)

    def _after_end(self, run: Run, verdict: Verdict, code: int) -> Verdict:
        verdict.wrong += [f"left running: {one}" for one in run.left_running()]
        played = 0
        for name in FRAMES:
            part = run.output(name).with_suffix(".partial.mp4")
            played += bool(media.times_of(part)) if part.is_file() else run.output(name).is_file()
        verdict.outcome = f"{played} of 4 parts play"
        if played < 4:
            verdict.wrong.append(verdict.outcome)
        subprocess.run([*CLI, "reap"], capture_output=True, check=True)
        return self.judge(run, verdict, code=code, same=())

    def disk_full_then_space(self, run: Run, verdict: Verdict) -> Verdict:
        """The outputs' disk fills up: they wait, and go on when there is space again."""
        run.under_way(2)
        run.inject()
        ballast = fill(run.work / "out")
        run.wait_for(lambda: len(waiting(run)) == len(FRAMES))
        time.sleep(2)
        ballast.unlink()
        freed_s = time.monotonic() - run.injected_s
        verdict.recover_s = run.moves_again("c") - freed_s
        return self.judge(run, verdict, affected=FRAMES, text="no space is left; waiting")

    def disk_full(self, run: Run, verdict: Verdict) -> Verdict:
        """They wait in vain, five seconds: they fail, and their parts play."""
        run.under_way(2)
        run.inject()
        fill(run.work / "out")
        self.judge(
            run,
            verdict,
            code=1,
            affected=FRAMES,
            state="failed",
            same=(),
            text="no space is left for the output",
        )
        parts = [run.output(name).with_suffix(".partial.mp4") for name in FRAMES]
        played = sum(bool(media.times_of(part)) for part in parts)
        if played < len(parts):
            verdict.wrong.append(f"{played} of {len(parts)} parts play")
        return verdict

    def file_size_limit(self, run: Run, verdict: Verdict) -> Verdict:
        """An output has become as large as its process may write: it fails alone and at once."""
        run.under_way(2)
        pid = run.victim("c")
        mates = [n for n in FRAMES if n != "c" and run.worker_of(n) == pid]
        part = run.output("c").with_suffix(".partial.mp4")
        run.inject()
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (part.stat().st_size + 2000, hard))
        same = [name for name in FRAMES if name != "c" and name not in mates]
        run.wait_for(lambda: any(e["event"] == "stream_failed" for e in run.events))
        verdict.recover_s = time.monotonic() - run.injected_s
        self.judge(
            run,
            verdict,
            code=1,
            affected=["c"],
            state="failed",
            same=same,
            text="the output has reached the largest size allowed here",
        )
        if waiting(run):
            verdict.wrong.append("it was waited for")
        return verdict

    def output_appears(self, run: Run, verdict: Verdict) -> Verdict:
        """Somebody else writes a file of an output's name."""
        run.under_way()
        run.inject()
        run.output("d").write_text("mine")
        found = self.judge(
            run,
            verdict,
            code=1,
            affected=["d"],
            state="failed",
            same="abc",
            text="appeared while it was written",
        )
        if run.output("d").read_text() != "mine":
            found.wrong.append("d: the other's file was replaced")
        return found

    def second_run_same_outputs(self, run: Run, verdict: Verdict) -> Verdict:
        """Another run wants to write the same outputs: it is refused, this one does not mind."""
        run.under_way()
        run.inject()
        other = Run(
            self.work / "second", "--overwrite", "-o", str(run.work / "out"), models=self.models()
        )
        if other.finish() != 2:
            verdict.wrong.append(f"the second run ended with {other.process.returncode}")
        said = [*other.noise, *(event["text"] for event in other.events)]
        refusals = [text for text in said if "another process is writing it" in text]
        verdict.outcome = "the second run is refused before it starts"
        if not refusals:
            verdict.wrong.append(f"nothing was refused: {said}"[:200])
        return self.judge(run, verdict)

    def reaped_while_running(self, run: Run, verdict: Verdict) -> Verdict:
        """`dualface-client reap` takes nothing from the living."""
        run.under_way()
        run.inject()
        done = subprocess.run([*CLI, "reap"], capture_output=True, text=True, check=True)
        verdict.outcome = done.stdout.strip() or "nothing removed"
        return self.judge(run, verdict)

    def input_removed(self, run: Run, verdict: Verdict) -> Verdict:
        """An input's name is gone while it is read."""
        run.under_way()
        run.inject()
        (self.work / "extra" / "a.mp4").unlink()
        return self.judge(run, verdict, affected=["a"])

    def input_cut(self, run: Run, verdict: Verdict) -> Verdict:
        """An input is cut short while it is read: what was there is used, and said."""
        run.under_way()
        run.inject()
        path = self.work / "extra" / "a.mp4"
        os.truncate(path, path.stat().st_size // 2)
        return self.judge(run, verdict, affected=["a"], same="bcd", text="")

    def state_folder_removed(self, run: Run, verdict: Verdict) -> Verdict:
        """The state file cannot be written any more: said once, the run goes on."""
        run.under_way()
        run.inject()
        shutil.rmtree(self.work / "elsewhere")
        found = self.judge(run, verdict)
        told = sum(e["event"] == "state_not_written" for e in run.events)
        found.outcome = f"said {told} times"
        if told != 1:
            found.wrong.append(found.outcome)
        return found

    def health_client_silent(self, run: Run, verdict: Verdict) -> Verdict:
        """Somebody connects to the health page and says nothing."""
        run.under_way()
        run.inject()
        host, _, port = run.page.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))):
            answered = bool(run.state()) or bool(run.state())
        verdict.outcome = "others are answered" if answered else "others are not answered"
        if not answered:
            verdict.wrong.append(verdict.outcome)
        return self.judge(run, verdict)

    def clock_jump(self, run: Run, verdict: Verdict) -> Verdict:
        """The wall clock jumps a day ahead, then two back."""
        run.under_way()
        run.inject()
        for jump in ("+1d", "-1d"):
            (self.work / "clock").write_text(jump)
            time.sleep(3)
        verdict.recover_s = run.moves_again("d")
        return self.judge(run, verdict)

    def server_with_other_models(self, run: Run, verdict: Verdict) -> Verdict:
        """A `--server` comes back with another contract: streams fail, naming the tensor."""
        run.under_way()
        run.inject()
        folder = self.work / "other"
        folder.mkdir()
        dims = (64,)
        spec = replace(FACE_REID, output=replace(FACE_REID.output, dims=dims))
        self.forward.turn_to("127.0.0.1:9")
        models = [EmbeddedModel(each, write_tiny(folder, each)) for each in (FACE_DETECT, spec)]
        with EmbeddedServer(paths.tritonserver_dir(), models, EmbeddedOptions(1)) as other:
            self.forward.turn_to(other.grpc_address)
            found = self.judge(
                run, verdict, code=3, affected=["a"], state="failed", same=(), text="embedding"
            )
            found.recover_s = time.monotonic() - run.injected_s
        return found

    def server_gone(self, run: Run, verdict: Verdict) -> Verdict:
        """A `--server` dies and does not come back: awaited for 60 s, then the streams fail."""
        run.under_way()
        run.inject()
        self.forward.turn_to("127.0.0.1:9")
        return self.judge(
            run, verdict, code=3, affected=["a"], state="failed", same=(), text="did not come back"
        )

    def shared_memory_full(self, run: Run, verdict: Verdict) -> Verdict:
        """Shared memory of 4 MiB: refused at the start, with sizes and remedy."""
        code = run.finish()
        last = run.events[-1]["text"] if run.events else ""
        verdict.outcome = f"exit {code}: {last[:160]}"
        if code in (0, -7) or "/dev/shm" not in last:  # noqa: S108 - a word of the message
            verdict.wrong.append(verdict.outcome)
        return self.judge(run, verdict, code=code, same=())

    def bad_inputs(self) -> list[Verdict]:
        """The bad inputs of the main job beside the four, each its own row."""
        folder = self.work / "bad"
        folder.mkdir()
        bad = make_bad(folder)
        run = Run(
            self.work / "bad_run",
            inputs=[*(self.work / "in" / f"{n}.mp4" for n in FRAMES), *bad],
            models=self.models(),
        )
        shared = self.judge(run, Verdict("bad inputs"), code=1)
        reports = run.summary()
        rows = []
        for path in bad:
            report = reports[path.stem]
            row = replace(shared, fault=f"input: {path.stem}", wrong=list(shared.wrong))
            row.outcome = f"{report['state']}: {report['error'] or ' '.join(report['warnings'])}"
            wanted = "done" if path.stem in ("cut_mkv", "damaged") else "failed"
            named = wanted == "done" or path.name in report["error"]
            if report["state"] != wanted or not named or "unexpected" in report["error"]:
                row.wrong.append(row.outcome)
            rows.append(row)
        return rows


def fill(disk: Path) -> Path:
    """Leaves no space on a disk; the file that takes it."""
    ballast = disk / "ballast"
    block = bytes(1 << 16)
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(block)
        except OSError:  # full: that is the point
            return ballast


def waiting(run: Run) -> set[str]:
    """Streams that have said that they wait for space."""
    return {event["stream"] for event in run.events if event["event"] == "disk_full"}


def mount_small(folder: Path) -> bool:
    """A disk of 16 MiB of its own at a folder; whether this user may do so."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    return subprocess.run(mount, capture_output=True, check=False).returncode == 0


def with_clock(suite: Suite, work: Path) -> Run:
    """A run whose wall clock is what a file says."""
    (suite.work / "clock").write_text("+0")
    env = {
        "LD_PRELOAD": str(_FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(suite.work / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return Run(work, "--server", suite.forward.address, env=env)


def arrange(suite: Suite, name: str) -> Run | None:
    """The run that a fault needs; None where the machine cannot do it."""
    work = suite.work / name
    if name in ("input_removed", "input_cut"):
        shutil.rmtree(suite.work / "extra", ignore_errors=True)  # not there the first time
        shutil.copytree(suite.work / "in", suite.work / "extra")
        return Run(
            work,
            inputs=[suite.work / "extra" / f"{n}.mp4" for n in FRAMES],
            models=suite.models(),
        )
    if name == "clock_jump":
        return with_clock(suite, work) if _FAKETIME.exists() else None
    if name == "shared_memory_full":
        command = 'mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"'
        prefix = ["unshare", "-m", "sh", "-c", command, "sh"]
        able = subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
        return Run(work, prefix=prefix, models=suite.models()) if able else None
    if name.startswith("disk_full"):
        wait_s = "5" if name == "disk_full" else "60"
        able = mount_small(work / "out")
        return Run(work, "--disk-wait", wait_s, models=suite.models()) if able else None
    if name in ("server_with_other_models", "server_gone"):
        return Run(work, "--server", suite.forward.address)
    options = []
    if name == "state_folder_removed":
        (suite.work / "elsewhere").mkdir()
        options = ["--state", str(suite.work / "elsewhere" / "s.json")]
    workers = 4 if name == "file_size_limit" else 2
    return Run(work, *options, workers=workers, models=suite.models())


FAULTS = (
    *("worker_killed", "worker_killed_three_times", "worker_frozen", "server_killed"),
    *("model_process_killed", "server_suspended", "server_with_other_models", "server_gone"),
    *("sigterm", "sigint_twice", "everything_killed", "disk_full_then_space", "disk_full"),
    "file_size_limit",
    *("output_appears", "second_run_same_outputs", "reaped_while_running", "input_removed"),
    *("input_cut", "state_folder_removed", "health_client_silent", "clock_jump"),
    "shared_memory_full",
)


def one(suite: Suite, name: str) -> Verdict:
    """Injects one fault."""
    verdict = Verdict(name)
    run = arrange(suite, name)
    if run is None:
        verdict.wrong.append("this machine cannot do it")
        return verdict
    inject: Callable[[Run, Verdict], Verdict] = getattr(suite, name)
    try:
        return inject(run, verdict)
    except (RuntimeError, OSError, IndexError, ValueError, psutil.Error) as error:
        run.process.kill()
        run.process.wait(10)
        verdict.wrong.append(f"{type(error).__name__}: {error}")
        return verdict
    finally:
        if name.startswith("disk_full"):
            subprocess.run(["umount", "--lazy", str(run.work / "out")], check=True)


def table(rows: list[Verdict]) -> str:
    """As Markdown."""
    lines = ["| fault | affected stream | others identical | recovered in s | as documented |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        took = "" if row.recover_s is None else f"{row.recover_s:.1f}"
        fine = "yes" if not row.wrong else "NO: " + "; ".join(row.wrong)[:300]
        outcome = row.outcome.replace("|", "/").replace("\n", " ")
        lines.append(
            f"| {row.fault} | {outcome} | {row.others_identical}/{row.others} | {took} | {fine} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Parses, runs, writes; 1 where anything is not as documented."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="directory of the results")
    parser.add_argument("--tiny", action="store_true", help="models that cost nothing")
    parser.add_argument("--only", help="faults by name, separated by commas")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    names = options.only.split(",") if options.only else [*FAULTS, "bad_inputs"]
    rows: list[Verdict] = []
    with tempfile.TemporaryDirectory() as work:
        suite = Suite(Path(work), tiny=options.tiny)
        with start_embedded(suite.choice) as server:
            suite.forward = Forward(server.grpc_address)
            for name in names:
                if name in ("server_with_other_models", "server_gone", "clock_jump"):
                    suite.forward.turn_to(server.grpc_address)
                rows += suite.bad_inputs() if name == "bad_inputs" else [one(suite, name)]
                print(table(rows[-1:]).splitlines()[-1], flush=True)
                record = [asdict(row) for row in rows]
                (options.out / "faults.json").write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows))
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())

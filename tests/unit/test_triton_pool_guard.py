"""Every form of a fallback line is seen, nothing else is, and the log may be cut or replaced."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from pathlib import Path, PosixPath

import pytest

from dualface_client.triton.log_lines import LogFile, LogPipe
from dualface_client.triton.pool_guard import FORMS, PoolGuard, recognise
from tests.processes import wait_until
from tests.triton_log import HARMLESS, LINES


@pytest.mark.parametrize("kind", LINES)
def test_each_form_is_recognised(kind: str) -> None:
    found = recognise(LINES[kind])
    assert found is not None
    assert found.form.kind == kind
    assert "dualface-client plan" in str(found.error())
    assert LINES[kind] in str(found.error())


def test_there_is_an_example_of_every_form() -> None:
    assert {form.kind for form in FORMS} == set(LINES)


@pytest.mark.parametrize("line", HARMLESS)
def test_ordinary_lines_are_not(line: str) -> None:
    assert recognise(line) is None


def test_a_server_without_gpus_has_no_pinned_pool_to_lose() -> None:
    kinds = {kind for kind, line in LINES.items() if recognise(line, gpu=False)}
    assert kinds == {"cuda_pool", "lost_output", "output_by_ipc"}


def test_a_growing_cut_and_replaced_file_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path)
    assert list(log.lines()) == []
    with path.open("w") as out:
        print("one\ntw", end="", file=out, flush=True)
        assert list(log.lines()) == ["one"]
        print("o\nthree", file=out, flush=True)
        assert list(log.lines()) == ["two", "three"]
    path.write_text("cut\n")
    assert list(log.lines()) == ["cut"]
    with path.open("a") as old:
        print("late", file=old)
        path.rename(tmp_path / "log.1")
        path.write_text("new\n")
        old.flush()
    assert list(log.lines()) == ["late", "new"]
    assert list(log.lines()) == []
    log.close()


class FleetingPath(PosixPath):
    """Its file is removed as soon as it has been looked at once, when that is asked for."""

    looks_left: int | None = None

    def __fspath__(self) -> str:
        if self.looks_left is not None:
            if self.looks_left == 0:
                os.unlink(str(self))
            self.looks_left = self.looks_left - 1 if self.looks_left else None
        return str(self)


def test_a_log_that_is_removed_while_it_is_looked_at_is_followed_on(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\n")
    fleeting = FleetingPath(path)
    log = LogFile(fleeting)
    assert list(log.lines()) == ["one"]
    (tmp_path / "new").write_text("two\n")
    (tmp_path / "new").replace(path)
    fleeting.looks_left = 1
    assert list(log.lines()) == []
    assert not path.exists()
    assert list(log.lines()) == []
    path.write_text("three\n")
    assert list(log.lines()) == ["three"]
    log.close()


def test_the_first_fault_is_told_at_once_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("\n".join(HARMLESS) + "\n")
    told: list[str] = []
    with PoolGuard(LogFile(path), lambda f: told.append(f.form.kind), poll_s=0.01) as guard:
        with path.open("a") as out:
            print(LINES["pool_not_shared"], file=out, flush=True)
            wait_until(lambda: told)
            assert guard.fault is None
            for _ in range(3):
                print(LINES["output_by_ipc"], file=out, flush=True)
            wait_until(lambda: guard.counts["output_by_ipc"] == 3)
        assert guard.fault is not None
        with path.open("a") as out:
            print(LINES["lost_output"], file=out)  # seen by the last look
    assert told == ["pool_not_shared", "output_by_ipc", "lost_output"]
    assert guard.fault.form.kind == "output_by_ipc"
    assert guard.counts["cuda_pool"] == 0


def test_a_pipe_ends_with_its_writer() -> None:
    reader, writer = os.pipe()
    log = LogPipe(reader)
    assert list(log.lines()) == []
    os.write(writer, b"one\ntwo")
    assert list(log.lines()) == ["one"]
    os.close(writer)
    assert list(log.lines()) == ["two"]
    assert log.ended
    os.close(reader)


def guard_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dualface_client", "guard", *arguments]


@pytest.mark.parametrize(("kind", "code"), [("cuda_pool", 3), ("pool_not_shared", 0), (None, 0)])
def test_the_health_check_fails_by_exit_code(tmp_path: Path, kind: str | None, code: int) -> None:
    path = tmp_path / "log"
    path.write_text("".join(f"{line}\n" for line in (*HARMLESS, *([LINES[kind]] if kind else []))))
    command = guard_command("--log", str(path), "--once")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert ("exhausted" in done.stderr) == (code == 3)


def get(address: str, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=5)
    connection.request("GET", path)
    with connection.getresponse() as answer:
        found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_guard_reads_a_pipe_and_answers_health_checks() -> None:
    command = guard_command("--log", "-", "--health-port", "0")
    guard = subprocess.Popen(command, stdin=-1, stderr=-1, text=True)
    assert guard.stderr is not None
    assert guard.stdin is not None
    address = guard.stderr.readline().split()[-1]
    assert get(address, "/healthz")[0] == 200
    print(LINES["cuda_pool"], file=guard.stdin, flush=True)
    assert "error: Triton's memory pool" in guard.stderr.readline()
    wait_until(lambda: get(address, "/healthz")[0] == 503)
    assert 'dualface_pool_fallbacks_total{kind="cuda_pool"} 1' in get(address, "/metrics")[1]
    guard.communicate(timeout=60)
    assert guard.returncode == 3


def test_a_missing_log_is_an_error_of_the_user() -> None:
    command = guard_command("--log", "/nonexistent/log", "--once")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "no such file" in done.stderr) == (2, True)


def test_a_log_that_is_not_there_yet_is_waited_for_and_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "log"
    command = guard_command("--log", str(path), "--health-port", "0")
    guard = subprocess.Popen(command, stderr=-1, text=True)
    try:
        assert guard.stderr is not None
        said = guard.stderr.readline()
        assert said == f"--log {path}: no such file yet; waiting for it to appear\n"
        assert "/healthz" in guard.stderr.readline()
        path.write_text(LINES["cuda_pool"] + "\n")
        assert "error: Triton's memory pool" in guard.stderr.readline()
        guard.terminate()  # Ctrl-C is ignored by what a shell runs in the background
        guard.communicate(timeout=60)
        assert guard.returncode == 3
    finally:
        guard.kill()
        guard.communicate()


def test_no_thread_stays(tmp_path: Path) -> None:
    PoolGuard(LogFile(tmp_path / "log"), lambda fallback: None).close()
    assert "pool-guard" not in {thread.name for thread in threading.enumerate()}

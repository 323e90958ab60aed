"""Starts a server, watches the parent, and leaves nothing behind when either ends.

Run as a script with the standard library only: a process of its own, with one thread. The kernel's
parent-death signal fires when the creating *thread* ends, and streams start servers from any
thread; here the creating thread is the whole process. Between parent and keeper a pipe plays that
role, backed up by the parent's pid, because a forked child of the parent may hold the pipe open.

    stdin    first one line of JSON: parent, command, env, cwd, socket_dir, log, shm_dir,
             shm_prefix, parent_prefix (every user of the machine can read a process's arguments,
             and the environment may hold secrets); then a line "stop SECONDS" ends the server, by
             force after that time; end of file means that the parent has gone
    stdout   one JSON line with the server's pid
    exit     0; by then the server's group is dead and its shared memory files are unlinked, and
             if the parent has gone, also the server's directories and the parent's own regions
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import sys
import time
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 22, 38
_SECCOMP_MODE_FILTER, _SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_SPEC_ALLOW = 2, 1, 4
#: By machine: AUDIT_ARCH_*, and the numbers of `seccomp` and `fchmod`.
_SYSCALLS = {"x86_64": (0xC000003E, 317, 91), "aarch64": (0xC00000B7, 277, 52)}
_POLL_S = 0.25
_PARENT_END_S = 2.0


def main() -> int:
    """Runs one server from its start to its end; returns the exit status."""
    line = sys.stdin.readline()
    if not line:  # the parent died before it had written anything
        return 0
    launch = json.loads(line)
    keep_files_private()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: terminated.append(number))
    server = _start(launch)
    print(json.dumps({"pid": server.pid}), flush=True)  # noqa: T201 - the parent reads it
    closed = False
    try:
        closed = _watch(server, launch["parent"], terminated)
    finally:
        _kill_group(server)
        _unlink_all(launch["shm_dir"], launch["shm_prefix"])
        if _has_gone(launch["parent"], _PARENT_END_S if closed else 0.0):
            _unlink_all(launch["shm_dir"], launch["parent_prefix"])
            for directory in (launch["cwd"], launch["socket_dir"]):
                shutil.rmtree(directory, ignore_errors=True)  # nobody is left to tell
    return 0


def keep_files_private() -> None:
    """Lets this process and those that it starts create files for their own user only.

    A umask alone does not: Boost, which makes the stubs' shared memory, sets the mode 0644 itself
    by `fchmod`. So a seccomp filter makes every `fchmod` that would let others in succeed without
    being executed. Whether it worked shows on the files; nothing is said where a sandbox or another
    kernel does not take the filter.
    """
    os.umask(0o077)
    if platform.machine() not in _SYSCALLS:
        return
    arch, seccomp, fchmod = _SYSCALLS[platform.machine()]
    instructions = (
        (0x20, 0, 0, 4),  # load the machine
        (0x15, 0, 5, arch),  # another one: allow
        (0x20, 0, 0, 0),  # load the call's number
        (0x15, 0, 3, fchmod),  # another call: allow
        (0x20, 0, 0, 24),  # load its second argument, the mode
        (0x45, 0, 1, 0o077),  # nothing for group and others: allow
        (0x06, 0, 0, 0x00050000),  # SECCOMP_RET_ERRNO with 0, which is success
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    )
    code = b"".join(struct.pack("=HBBI", *each) for each in instructions)
    program = _Program(len(instructions), code)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    pointer, flags = ctypes.byref(program), _SECCOMP_FILTER_FLAG_SPEC_ALLOW
    # Without this flag, kernels before 5.16 slow every process with a filter down.
    if libc.syscall(seccomp, _SECCOMP_SET_MODE_FILTER, flags, pointer) != 0:
        libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, pointer, 0, 0)


class _Program(ctypes.Structure):
    """`struct sock_fprog`: a filter's length, in instructions, and its code."""

    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _start(launch: dict[str, Any]) -> subprocess.Popen[bytes]:
    libc = ctypes.CDLL(None, use_errno=True)
    keeper = os.getpid()

    def die_with_keeper() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it died before the line above
            os._exit(1)

    with open(launch["log"], "ab") as log:
        return subprocess.Popen(
            launch["command"],
            env=launch["env"],
            cwd=launch["cwd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # a group that the stubs share and one signal ends
            preexec_fn=die_with_keeper,  # noqa: PLW1509 - safe: this process has one thread
        )


def _watch(server: subprocess.Popen[bytes], parent: int, terminated: list[int]) -> bool:
    """Returns when the server has ended or must end; true if the parent's pipe was closed."""
    while server.poll() is None and os.getppid() == parent and not terminated:
        readable, _, _ = select.select([sys.stdin], [], [], _POLL_S)
        if readable:
            words = sys.stdin.readline().split()
            if words[:1] != ["stop"]:
                return True
            limit_s = float(words[1])
            if limit_s > 0:
                server.terminate()
                _wait(server, limit_s)
            return False
    return False


def _wait(server: subprocess.Popen[bytes], limit_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed next
        server.wait(limit_s)


def _has_gone(parent: int, limit_s: float) -> bool:
    """Whether the parent has gone; its files are closed a moment before that."""
    end_s = time.monotonic() + limit_s
    while os.getppid() == parent and time.monotonic() < end_s:
        time.sleep(0.01)
    return os.getppid() != parent


def _unlink_all(directory: str, prefix: str) -> None:
    for name in os.listdir(directory):
        if name.startswith(prefix):
            with contextlib.suppress(OSError):  # gone already; `reap` finds what stays
                os.unlink(os.path.join(directory, name))


def _kill_group(server: subprocess.Popen[bytes]) -> None:
    # The leader's exit does not end the group: stubs live until they notice.
    for _ in range(100):
        with contextlib.suppress(ProcessLookupError):  # nobody is left; see the end below
            os.killpg(server.pid, signal.SIGKILL)
            server.poll()
            time.sleep(0.01)
            continue
        return


if __name__ == "__main__":
    sys.exit(main())

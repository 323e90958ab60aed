"""What a service manager is told: ready, reloading, alive, stopping (`sd_notify(3)`)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class ServiceNotifier:
    """Sends states to the socket that systemd names; does nothing without one.

    Args:
        environ: Environment variables; None reads this process's.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        self._address = env.get("NOTIFY_SOCKET", "")
        watchdog_us = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._limit_s = int(watchdog_us) / 1e6 if watchdog_us.isdigit() and ours else 0.0
        self._alive_s = 0.0

    def tell(self, *lines: str) -> None:
        """Sends lines such as `READY=1`; a manager that has gone is no error."""
        if not self._address:
            return
        address = self._address.replace("@", "\0", 1)  # an abstract name begins with a NUL byte
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            try:
                notify.sendto("\n".join(lines).encode(), address)
            except OSError:  # it is restarting, and will ask the kernel
                return

    def reloading(self) -> None:
        """A reload begins; `tell("READY=1")` ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def alive(self) -> None:
        """Keeps the watchdog quiet, three times within its limit; cheap to call often."""
        now_s = time.monotonic()
        if self._limit_s and now_s - self._alive_s > self._limit_s / 3:
            self._alive_s = now_s
            self.tell("WATCHDOG=1")

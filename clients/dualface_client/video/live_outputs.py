"""Feeds one output of a live stream on a thread of its own, so that it can fail alone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from dualface_client.backoff import Backoff
from dualface_client.errors import DualfaceError
from dualface_client.video.ffmpeg import AV_ERRORS, reason
from dualface_client.video.live_encoded import Encoded, Target, Templates

_WAITING_BYTES = 32 << 20
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_TRUSTED_AFTER_S = 3.0
_POLL_S = 0.1
_FAILURES: tuple[type[Exception], ...] = (*AV_ERRORS, DualfaceError)


class LiveOutput:
    """One output: written as fast as it takes the packets, and tried again when it fails.

    What it cannot take is dropped up to the next key frame; the stream never waits for it.

    Attributes:
        failures: How often it failed.
        lost: Packets that it did not get.
        written: Packets that it got.
        error: Why it does not work at the moment, empty while it does.
    """

    def __init__(self, target: Target, templates: Templates, tell: Callable[[str], None]) -> None:
        """Starts the thread.

        Args:
            target: Where to write.
            templates: Of the encoder.
            tell: Hears when it stops working, and when it works again; on the thread.
        """
        self._target = target
        self._templates = templates
        self._tell = tell
        self._changed = threading.Condition()
        self._waiting: deque[Encoded] = deque()
        self._waiting_bytes = 0
        self._finished = False
        self._needs_key = True
        self._retry_at_s = 0.0
        self._works_since_s: float | None = None
        self._backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        self.failures = self.lost = self.written = 0
        self.error = ""
        self._thread = threading.Thread(target=self._run, name="live output", daemon=True)
        self._thread.start()

    @property
    def shown(self) -> str:
        """Where it goes, for people."""
        return self._target.shown

    def put(self, packet: Encoded) -> None:
        """Hands a packet over; never waits."""
        with self._changed:
            if self._waiting_bytes > _WAITING_BYTES:
                self.lost += len(self._waiting)
                self._waiting.clear()
                self._waiting_bytes, self._needs_key = 0, True
            self._waiting.append(packet)
            self._waiting_bytes += len(packet.data)
            self._changed.notify()

    def close(self, timeout_s: float) -> bool:
        """Writes what is waiting and ends.

        Args:
            timeout_s: How long that may take; a server that takes nothing is then left behind.

        Returns:
            Whether it ended with everything written.
        """
        with self._changed:
            self._finished = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and not self.error

    def _run(self) -> None:
        while (packet := self._next()) is not None:
            try:
                self._target.write(packet, self._templates)
            except _FAILURES as error:
                self._fail(error, lost=1)
                continue
            self.written += 1
            if self.error:
                self._trust_again()
        try:
            self._target.finish()
        except _FAILURES as error:
            self._fail(error)

    def _next(self) -> Encoded | None:
        """The next packet to be written, None at the end."""
        with self._changed:
            while True:
                while not self._waiting and not self._finished:
                    self._changed.wait(_POLL_S)
                if not self._waiting:
                    return None
                packet = self._waiting.popleft()
                self._waiting_bytes -= len(packet.data)
                if self._can_follow(packet):
                    return packet

    def _can_follow(self, packet: Encoded) -> bool:
        """Whether a packet can be shown behind those before it; called under the lock.

        What is lost while this one is being written asks for a key frame anew.
        """
        begins = packet.is_picture and packet.is_key and time.monotonic() >= self._retry_at_s
        if self._needs_key and not begins:
            self.lost += bool(self.written or self.failures)  # nothing begins with sound
            return False
        self._needs_key = False
        return True

    def _trust_again(self) -> None:
        """It works again if it has for a while: buffers take the first packets in any case."""
        now_s = time.monotonic()
        if self._works_since_s is None:
            self._works_since_s = now_s
        if now_s - self._works_since_s >= _TRUSTED_AFTER_S:
            self.error, self._works_since_s = "", None
            self._backoff.reset()
            self._tell(f"{self.shown}: the output works again")

    def _fail(self, error: Exception, lost: int = 0) -> None:
        self._target.abandon()
        with self._changed:
            self._needs_key = True
            self.lost += lost
        self._works_since_s = None
        self.failures += 1
        self._backoff.fail()
        self._retry_at_s = time.monotonic() + self._backoff.pause_s
        text = str(error) if isinstance(error, DualfaceError) else reason(error)
        if not self.error:
            self._tell(f"{self.shown}: the output fails and is tried again ({text})")
        self.error = text or type(error).__name__

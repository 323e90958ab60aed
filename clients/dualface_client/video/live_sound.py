"""The sound of a live input: decoded, put on the stream's clock, without holes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from dualface_client.types import FloatArray
from dualface_client.video.ffmpeg import AV_ERRORS, av
from dualface_client.video.live_packet import Connection, LivePacket
from dualface_client.video.live_times import UNITS_PER_S

#: What every live output has, whatever the camera sends: every player and service takes it.
RATE_HZ = 48_000
LAYOUT = "stereo"
_CHANNELS = 2
# Time stamps are rounded and jitter; what is beyond this is a gap or an overlap.
_TOLERANCE = RATE_HZ // 50
# Longer gaps stay gaps: nobody listens to an hour of silence, which would take seconds to encode.
_SILENCE_LIMIT = 5 * RATE_HZ
_BLOCK = RATE_HZ // 10
# Packets that may wait for their pictures; far more than pictures are ever late.
_WAITING_LIMIT = 2000


class LiveSound:
    """Samples in sync with the pictures of the same live input.

    Attributes:
        drift_s: How far the last sound was written from where its time stamp puts it beside the
            pictures, seconds; at most 0.02, because what is beyond that is corrected.
        filled_s: Silence filled in so far, seconds.
        cut_s: Sound cut away so far, seconds.
        damaged: Packets that could not be decoded.
    """

    def __init__(self, packets: Callable[[], Iterable[LivePacket]]) -> None:
        """Starts without any sample.

        Args:
            packets: Returns those that have come since the last call.
        """
        self._packets = packets
        self._waiting: deque[LivePacket] = deque()
        self._resampler: av.AudioResampler | None = None
        self._format: object = None
        self._next: int | None = None
        self.drift_s = 0.0
        self.filled_s = self.cut_s = 0.0
        self.damaged = 0

    def until(self, time_s: float, patience_s: float) -> Iterator[Any]:
        """What belongs before a time, as frames that follow each other without holes.

        Sound comes long before its picture, which is examined first. Sound that is later than
        `time_s` waits, so that an output which begins with a later picture has it.

        Args:
            time_s: When the picture is shown that is about to be written.
            patience_s: Where no sound has come for that long before `time_s`, it is silent.

        Yields:
            Audio frames of 48 kHz, stereo, float; `pts` counts samples on the stream's clock.
        """
        self._waiting.extend(self._packets())
        while self._waiting and self._is_due(self._waiting[0], time_s):
            yield from self._placed(self._waiting.popleft())
        due = round((time_s - patience_s) * RATE_HZ)
        # A stream whose sound begins a little later than its pictures is not filled in.
        if self._next is None and (due >= 0 or not self._waiting):
            self._next = max(0, due)
        if self._next is not None and 0 < due - self._next <= _SILENCE_LIMIT:
            yield from self._silence(due - self._next)

    def rest(self) -> Iterator[Any]:
        """All that is left when no further picture comes, as `until` does."""
        self._waiting.extend(self._packets())
        while self._waiting:
            yield from self._placed(self._waiting.popleft())
        try:
            for frame in self._flushed():
                yield from self._on_clock(frame)
        except AV_ERRORS:  # counted; a resampler that took nothing, and the outputs end as always
            self.damaged += 1

    def _is_due(self, packet: LivePacket, time_s: float) -> bool:
        at = packet.packet.dts
        # Where too much waits, it is better written early than lost.
        return at is None or at <= time_s * UNITS_PER_S or len(self._waiting) > _WAITING_LIMIT

    def _placed(self, packet: LivePacket) -> Iterator[Any]:
        try:
            for decoded in packet.connection.sound.decode(packet.packet):
                for frame in self._resampled(decoded, packet.connection):
                    yield from self._on_clock(frame)
        except AV_ERRORS:  # counted; silence takes its place
            self.damaged += 1

    def _resampled(self, frame: Any, connection: Connection) -> list[Any]:
        found = connection, frame.format.name, frame.layout.name, frame.sample_rate
        before = []
        if found != self._format:
            # A resampler takes one format only, and a channel changes it for an advertisement.
            before = self._flushed()
            self._format = found
            self._resampler = av.AudioResampler("fltp", LAYOUT, RATE_HZ)
        assert self._resampler is not None  # noqa: S101 - made for the first frame
        return [*before, *self._resampler.resample(frame)]

    def _flushed(self) -> list[Any]:
        resampler, self._resampler = self._resampler, None
        found = resampler.resample(None) if resampler is not None else []
        return [frame for frame in found if frame is not None]  # None: nothing was resampled

    def _on_clock(self, frame: Any) -> Iterator[Any]:
        samples: FloatArray = frame.to_ndarray()
        at = round(frame.pts * frame.time_base * RATE_HZ) if frame.pts is not None else self._next
        if self._next is None or at is None:
            self._next = max(0, at or 0)
        early = (at if at is not None else self._next) - self._next
        if early > _SILENCE_LIMIT:
            self._next += early
        elif early > _TOLERANCE:
            yield from self._silence(early)
        elif early < -_TOLERANCE:
            self.cut_s += min(-early, samples.shape[1]) / RATE_HZ
            samples = samples[:, -early:]
        self.drift_s = early / RATE_HZ if abs(early) <= _TOLERANCE else 0.0
        if samples.shape[1]:
            yield self._frame(samples)

    def _silence(self, count: int) -> Iterator[Any]:
        self.filled_s += count / RATE_HZ
        for done in range(0, count, _BLOCK):
            yield self._frame(np.zeros((_CHANNELS, min(_BLOCK, count - done)), np.float32))

    def _frame(self, samples: FloatArray) -> Any:
        assert self._next is not None  # noqa: S101 - set by both callers
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", LAYOUT)
        frame.sample_rate, frame.pts = RATE_HZ, self._next
        self._next += samples.shape[1]
        return frame

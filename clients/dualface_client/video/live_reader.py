"""Reads a live input on a thread of its own: connects, reads, connects again."""

from __future__ import annotations

import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dualface_client.backoff import Backoff
from dualface_client.errors import SourceError
from dualface_client.video.annexb import AnnexbFilter
from dualface_client.video.ffmpeg import AV_ERRORS, av, packet_of, reason
from dualface_client.video.live_input import LiveInput, open_live
from dualface_client.video.live_packet import Connection, LivePacket
from dualface_client.video.live_times import UNITS_PER_S, LiveClock

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

#: Packets of pictures that may wait to be decoded; that is seconds, which only a machine far beyond
#: its limit needs.
_PICTURES_LIMIT = 256
_PICTURE_BYTES_LIMIT = 32 << 20
_SOUNDS_LIMIT = 2000
_POLL_S = 0.1
_NO_VIDEO = "has no video that can be decoded"
_FIRST_PAUSE_S = 0.1
# A recording that is served like a camera has come to its end, if it ends this close to it.
_END_SLACK_S = 2.0
_PLAUSIBLE_RATE = (1, 240)
_WAITING_LIMIT = 32


@dataclass(frozen=True, slots=True)
class LiveNews:
    """What happened to the connection.

    Attributes:
        event: `connected`, `lost`, or `unreachable` for every attempt that fails.
        text: A sentence.
    """

    event: str
    text: str


class LiveReader:
    """The packets of a live input, whatever happens to its connection.

    Two bounded queues, of pictures and of sound; where they are full, the oldest packets go.

    Attributes:
        counts: Packets of pictures that came (`came`), that were dropped as nobody decoded them in
            time (`behind`), that the network lost (`lost`), and connections (`connections`).
    """

    def __init__(
        self,
        place: LiveInput,
        stop: threading.Event,
        tell: Callable[[LiveNews], None],
        *,
        opened: Callable[[LiveInput], InputContainer] = open_live,
        clock: LiveClock | None = None,
    ) -> None:
        """Starts to connect.

        Args:
            place: What to read.
            stop: Set from outside to end.
            tell: Hears what happens, on the reader's thread.
            opened: Opens a container.
            clock: Of the stream.
        """
        self._place = place
        self._stop = stop
        self._tell = tell
        self._opened = opened
        self._clock = clock or LiveClock()
        self._closing = threading.Event()
        self._changed = threading.Condition()
        self._pictures: deque[LivePacket] = deque()
        self._picture_bytes = 0
        self._needs_key = False
        self._sounds: deque[LivePacket] = deque(maxlen=_SOUNDS_LIMIT)
        self._ended = False
        self._error: Exception | None = None
        self._stamp_ends: dict[int, int] = {}
        self.counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    def pictures(self) -> Iterator[LivePacket]:
        """Packets of the video in decode order, until the stream ends or is stopped.

        Raises:
            SourceError: The input cannot be reached, or no longer.
        """
        while (packet := self._next_picture()) is not None:
            yield packet

    def sounds(self) -> list[LivePacket]:
        """The packets of sound that have come since the last call; never waits."""
        with self._changed:
            found = list(self._sounds)
            self._sounds.clear()
        return found

    def close(self) -> None:
        """Ends; the thread leaves by itself when what it is waiting for has come or timed out."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    @property
    def _is_over(self) -> bool:
        return self._stop.is_set() or self._closing.is_set()

    def _next_picture(self) -> LivePacket | None:
        with self._changed:
            while not (self._pictures or self._ended or self._is_over):
                self._changed.wait(_POLL_S)
            if self._is_over:
                return None
            if self._pictures:
                found = self._pictures.popleft()
                self._picture_bytes -= found.packet.size
                return found
            if self._error is not None:
                raise self._error
            return None

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._read_on()
        except Exception as found:  # raised where the packets are taken
            error = found
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def _read_on(self) -> None:
        """Connects again and again.

        Raises:
            SourceError: It cannot be reached for longer than it may.
        """
        backoff = Backoff(_FIRST_PAUSE_S, self._place.longest_pause_s)
        gone_at_s = time.monotonic()
        while not self._is_over:
            why, is_at_end = self._one_connection(backoff)
            if is_at_end or self._is_over:
                return
            if not backoff.failures:
                gone_at_s = time.monotonic()
            self._refuse_to_wait(why, time.monotonic() - gone_at_s)
            backoff.fail()
            # Many streams of one server do not come back all at once.
            self._stop_or_close(backoff.pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret

    def _refuse_to_wait(self, why: str, waited_s: float) -> None:
        limit_s = math.inf if self._place.reconnect_s is None else self._place.reconnect_s
        if self._place.scheme == "file" or waited_s >= limit_s:
            raise SourceError(
                f"{self._place.shown}: {why}; check the address, the network and the credentials"
                + (f" (tried for {waited_s:.0f} s)" if waited_s >= 1 else "")
            )

    def _stop_or_close(self, pause_s: float) -> None:
        until_s = time.monotonic() + pause_s
        while not self._is_over and (left_s := until_s - time.monotonic()) > 0:
            self._closing.wait(min(left_s, _POLL_S))

    def _one_connection(self, backoff: Backoff) -> tuple[str, bool]:
        """Reads as long as it holds; returns why it ended, and whether that is the end."""
        try:
            container = self._opened(self._place)
        except AV_ERRORS as error:
            why = f"cannot be opened ({reason(error)})"
            self._say("unreachable", why)
            return why, False
        why = "the server ended it"
        try:
            connection = self._connection(container)
            if self.counts["connections"] == 1 or backoff.failures:
                self._say("connected", "connected")
            end_s = (container.duration or 0) / av.time_base
            last_s = self._read(container, connection, backoff)
            if self._place.scheme == "file" or (end_s and last_s >= end_s - _END_SLACK_S):
                return why, True
        except SourceError:
            if not self.counts["connections"]:
                raise
            why = _NO_VIDEO  # a source that has just started may list its sound first
        except AV_ERRORS as error:
            why = f"the connection was lost ({reason(error)})"
        finally:
            container.close()
        self._say("lost", why)
        return why, False

    def _say(self, event: str, what: str) -> None:
        if not self._is_over:  # then nobody listens any more
            self._tell(LiveNews(event, f"{self._place.shown}: {what}"))

    def _connection(self, container: InputContainer) -> Connection:
        """What a container carries.

        Raises:
            SourceError: There is no video in it.
        """
        video: Any = container.streams.best("video")
        if video is None or video.codec_context is None:
            raise SourceError(f"{self._place.shown}: {_NO_VIDEO}")
        sound = container.streams.best("audio", related=video)
        context: Any = video.codec_context
        context.thread_type = "SLICE"  # threads that take a frame each would delay all of them
        self.counts["connections"] += 1
        self._clock.connected()
        self._stamp_ends.clear()
        rates = (video.average_rate, video.guessed_rate, video.base_rate)
        low, high = _PLAUSIBLE_RATE
        return Connection(
            self.counts["connections"],
            context,
            next((rate for rate in rates if rate and low <= rate <= high), None),
            video.sample_aspect_ratio,
            sound.codec_context if sound is not None else None,
            _annexb_of(video),
        )

    def _read(self, container: InputContainer, connection: Connection, backoff: Backoff) -> float:
        """Reads to the end; returns the time of the last packet in the source, seconds."""
        video = container.streams.best("video")
        sound = container.streams.best("audio", related=video)
        wanted = [stream for stream in (video, sound) if stream is not None]
        index, last_s = video.index if video is not None else -1, 0.0
        for packet, stamp in _stamped(container.demux(*wanted)):
            if self._is_over:
                break
            last_s = float(stamp * packet.time_base)
            placed = self._placed(packet, stamp)
            self._wait_for(placed)
            self._put(LivePacket(connection, placed), is_picture=packet.stream_index == index)
            backoff.reset()
        return last_s

    def _placed(self, packet: Packet[Any], stamp: int) -> Packet[Any]:
        """A copy on the stream's clock, without ties to the connection."""
        base = packet.time_base
        units = round(stamp * base * UNITS_PER_S)
        duration = round((packet.duration or 0) * base * UNITS_PER_S)
        offset = self._clock.offset(packet.stream_index, units, duration)
        copy = packet_of(bytes(packet))
        copy.time_base = Fraction(1, UNITS_PER_S)
        copy.dts = units + offset
        shown = packet.pts if packet.pts is not None or packet.dts is not None else stamp
        if shown is not None:
            copy.pts = round(shown * base * UNITS_PER_S) + offset
        copy.duration = duration
        copy.is_keyframe = packet.is_keyframe
        return copy

    def _wait_for(self, packet: Packet[Any]) -> None:
        if self._place.waits and packet.dts is not None:
            wait_s = self._clock.wait_s(packet.dts)
            if wait_s > 0:
                self._stop_or_close(wait_s)

    def _put(self, packet: LivePacket, *, is_picture: bool) -> None:
        with self._changed:
            if not is_picture:
                self._sounds.append(packet)
                return
            self.counts["came"] += 1
            self._count_lost(packet)
            if self._needs_key and not packet.packet.is_keyframe:
                self.counts["behind"] += 1
                return
            self._needs_key = False
            self._pictures.append(packet)
            self._picture_bytes += packet.packet.size
            if len(self._pictures) > _PICTURES_LIMIT or self._picture_bytes > _PICTURE_BYTES_LIMIT:
                # What follows builds on what is dropped.
                self.counts["behind"] += len(self._pictures)
                self._pictures.clear()
                self._picture_bytes, self._needs_key = 0, True
            self._changed.notify_all()

    def _count_lost(self, packet: LivePacket) -> None:
        """Counts the pictures that are missing before this one, where the network loses any."""
        rate, at = packet.connection.rate, packet.packet.dts
        if not self._place.is_lossy or rate is None or at is None:
            return
        number = packet.connection.number
        step = UNITS_PER_S / rate
        if number in self._stamp_ends:
            self.counts["lost"] += max(0, round((at - self._stamp_ends[number]) / step))
        self._stamp_ends[number] = round(at + step)


def _annexb_of(video: Any) -> AnnexbFilter | None:
    try:
        return AnnexbFilter(video)
    except AV_ERRORS:  # FFmpeg's decoders may do without the header
        return None


def _stamped(packets: Iterable[Packet[Any]]) -> Iterator[tuple[Packet[Any], int]]:
    """Packets with their decode times.

    The first key frame of an RTSP connection may come without a time; it then waits for the next
    packet of its track, and its time is counted back from that.
    """
    waiting: dict[int, list[Packet[Any]]] = {}
    for packet in packets:
        if not packet.size or packet.time_base is None:
            continue
        stamp = packet.dts if packet.dts is not None else packet.pts
        earlier = waiting.setdefault(packet.stream_index, [])
        if stamp is None:
            if len(earlier) < _WAITING_LIMIT:
                earlier.append(packet)
            continue
        at = stamp - sum(each.duration or 0 for each in earlier)
        for each in earlier:
            yield each, at
            at += each.duration or 0
        earlier.clear()
        yield packet, stamp

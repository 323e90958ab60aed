"""Frames from a camera, a call or any other input that does not wait for us."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping

from dualface_client.errors import SourceError, StoppedError
from dualface_client.types import Frame, Nv12Image, VideoInfo
from dualface_client.video.color import hdr_note, keeps_gray_levels, spec_of, tags_of
from dualface_client.video.convert import Nv12Converter
from dualface_client.video.deinterlace import Deinterlacer, Picture, can_deinterlace
from dualface_client.video.live_decoding import DeviceDecoder, DevicePicture, LiveDecoding
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_packet import Connection
from dualface_client.video.live_reader import LiveNews, LiveReader
from dualface_client.video.live_times import TIME_BASE, UNITS_PER_S
from dualface_client.video.orientation import Orientation
from dualface_client.video.tonemap import ToneMapper

_FALLBACK_RATE = 25


class LiveSource:
    """A live input as NV12 frames of one size on one clock, whatever happens to its connection.

    The constructor waits for the first picture, whose size and colour all frames have. Later ones
    of another size are fitted into it. `close` may be called from any thread.

    Attributes:
        on_device: Frames that a device decoded.
    """

    def __init__(
        self,
        place: LiveInput,
        stop: threading.Event,
        tell: Callable[[LiveNews], None],
        *,
        reader: LiveReader | None = None,
        deinterlace: bool = True,
        device: DeviceDecoder | None = None,
    ) -> None:
        """Connects.

        Args:
            place: What to read.
            stop: Set from outside to end, also the wait for the first picture.
            tell: Hears what happens to the connection, on a thread of its own.
            reader: Of the input; None for a new one.
            deinterlace: Whether pictures flagged as interlaced are deinterlaced.
            device: Decodes instead of the CPU where it can; closed with this source.

        Raises:
            SourceError: It cannot be reached for longer than it may, or shows no picture.
            StoppedError: `stop` was set.
        """
        self._place = place
        self._stop = stop
        self._reader = reader or LiveReader(place, stop, tell)
        self._device = device
        deinterlacer = Deinterlacer() if deinterlace and can_deinterlace() else None
        self._decoding = LiveDecoding(deinterlacer, device)
        self._resized = 0
        self.on_device = 0
        self._last_pts = -1
        decoded = self._decoded()
        try:
            first = next(decoded, None)
            if first is None:
                if stop.is_set():
                    raise StoppedError(f"{place.shown}: stopped before its first picture")
                raise SourceError(f"{place.shown}: ended before its first picture")
        except BaseException:
            self.close()
            raise
        picture, connection = first
        assert isinstance(picture, Picture)  # noqa: S101 - the CPU decodes the first ones
        self._prepare(picture, connection)
        self._pictures = itertools.chain((first,), decoded)

    @property
    def info(self) -> VideoInfo:
        """What is known about the stream."""
        return self._info

    @property
    def reader(self) -> LiveReader:
        """Whose sound belongs to the frames."""
        return self._reader

    @property
    def has_sound(self) -> bool:
        """Whether the first connection has sound."""
        return self._has_sound

    @property
    def decode_errors(self) -> int:
        """Packets that could not be decoded, and pictures with damage."""
        return self._decoding.undecodable

    @property
    def is_short_to_read(self) -> bool:
        """False: it waits for the network."""
        return False

    @property
    def incomplete(self) -> str:
        """Always empty: a live input promises nothing."""
        return ""

    @property
    def dropped(self) -> Mapping[str, int]:
        """Pictures of the source that are not among the frames, by cause.

        `behind`: nobody decoded them in time. `undecodable`: damaged, or before the first key
        frame. `lost_in_network`: they never came.
        """
        read = self._reader.counts
        return {
            "behind": read["behind"],
            "undecodable": self._decoding.undecodable,
            "lost_in_network": read["lost"],
        }

    @property
    def reconnects(self) -> int:
        """How often it was connected to again."""
        return max(0, self._reader.counts["connections"] - 1)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know so far."""
        counted = (
            (self._decoding.undecodable, "pictures could not be decoded"),
            (self._resized, "frames had another size or shape and were fitted into the first's"),
        )
        notes = [f"{count} {what}" for count, what in counted if count]
        if self._device is not None and not self.on_device:
            why = self._device.why or "no key frame came after its decoder was open"
            notes.append(f"decoded on the CPU: {why}")
        return tuple(notes)

    def __iter__(self) -> Iterator[Frame]:
        """Frames in presentation order, until the input ends or is stopped; once only.

        Raises:
            SourceError: The input cannot be reached any more.
        """
        for index, (picture, _) in enumerate(self._pictures):
            # Filled in and kept rising: a camera may say nothing, or the same twice.
            wanted = self._last_pts + self._step if picture.pts is None else picture.pts
            self._last_pts = max(wanted, self._last_pts + 1)
            yield Frame(index, self._last_pts, TIME_BASE, self._image_of(picture))

    def close(self) -> None:
        """Ends the iteration and the connection; safe to call twice."""
        self._reader.close()
        if self._device is not None:
            self._device.close()

    def _image_of(self, picture: Picture | DevicePicture) -> Nv12Image:
        if isinstance(picture, DevicePicture):
            self.on_device += 1
            return picture.image
        frame = picture.frame
        shape = frame.width, frame.height, picture.sample_aspect
        self._resized += shape != self._first_shape
        return self._converter.convert(frame, self._color, picture.sample_aspect)

    def _prepare(self, picture: Picture, connection: Connection) -> None:
        first = picture.frame
        self._color, tags = spec_of(first), tags_of(first)
        self._first_shape = first.width, first.height, picture.sample_aspect
        self._step = round(UNITS_PER_S / (connection.rate or _FALLBACK_RATE))
        self._has_sound = connection.sound is not None
        codec = connection.pictures.name
        self._converter = Nv12Converter(
            (first.width, first.height),
            picture.sample_aspect,
            Orientation.of(first),
            tone_mapper=ToneMapper.of(first),
            keeps_gray_levels=keeps_gray_levels(first, codec),
        )
        width, height = self._converter.size_wh_px
        hdr = hdr_note(first.color_trc)
        self._info = VideoInfo(
            width_px=width,
            height_px=height,
            frame_rate=connection.rate,
            time_base=TIME_BASE,
            color=self._color,
            primaries=tags.primaries,
            transfer=tags.transfer,
            codec=codec,
            audio_stream_count=int(self._has_sound),
            notes=(hdr,) if hdr else (),
        )

    def _decoded(self) -> Iterator[tuple[Picture | DevicePicture, Connection]]:
        """Pictures with the connection that they came from."""
        for packet in self._reader.pictures():
            for picture in self._decoding.push(packet):
                yield picture, self._decoding.connection or packet.connection
        connection = self._decoding.connection
        # At a stop, what the decoder still holds would come all at once, too late for the output.
        if connection is not None and self._place.scheme == "file" and not self._stop.is_set():
            for picture in self._decoding.rest():
                yield picture, connection

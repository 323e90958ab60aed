"""What a live stream can be written to: files of limited length, one file, HLS, a push server."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dualface_client.errors import SinkError, UsageError
from dualface_client.settings.addresses import scheme_of, shown
from dualface_client.video.ffmpeg import AV_ERRORS, av, packet_of, reason
from dualface_client.video.formats import FORMATS
from dualface_client.video.live_encoded import KEY_FRAMES_S, Encoded, Target, Templates
from dualface_client.video.outfile import OutputFile
from dualface_client.video.push import PATIENCE_S

_BUFFER_BYTES = 1 << 18
_PLAYLIST = ".m3u8"
#: A segment of two seconds needs about this much.
_LEAST_FREE_BYTES = 1 << 20
_PUSH_MUXERS = {"rtmp": "flv", "rtmps": "flv", "rtsp": "rtsp", "rtsps": "rtsp"}
_WHIP = {"whip": "http", "whips": "https"}


class Muxing:
    """One container that is being written; its times begin at 0."""

    def __init__(self, container: Any, templates: Templates, first: Encoded) -> None:
        """Adds the streams and writes the header.

        Args:
            container: Opened for writing.
            templates: Of the encoder.
            first: The packet that will come first, a key frame.
        """
        self._container = container
        self._start_s = first.dts * first.time_base
        self._pictures = container.add_stream_from_template(templates.pictures, opaque=True)
        self._sound = None
        if templates.sound is not None:
            self._sound = container.add_stream_from_template(templates.sound, opaque=True)
        container.start_encoding()

    def write(self, packet: Encoded) -> None:
        """Muxes one packet; sound of before the first picture is left out."""
        stream = self._pictures if packet.is_picture else self._sound
        offset = round(self._start_s / packet.time_base)
        if stream is None or packet.dts + packet.duration <= offset:
            return
        copy = packet_of(packet.data)
        copy.stream, copy.time_base = stream, packet.time_base
        copy.pts, copy.dts = packet.pts - offset, packet.dts - offset
        copy.duration, copy.is_keyframe = packet.duration, packet.is_key
        self._container.mux(copy)

    def close(self) -> None:
        """Writes the trailer."""
        self._container.close()


@dataclass(slots=True)
class _File:
    """An MP4 that is being written."""

    path: Path
    file: OutputFile
    muxing: Muxing
    start_s: float

    def close(self) -> None:
        self.muxing.close()
        if self.file.error is not None:
            self.file.release()
            raise self.file.error
        self.file.publish()


@dataclass(slots=True)
class FileTarget:
    """MP4 files, one after the other, each of which is named when it begins and is whole.

    Attributes:
        name: Returns the path of a file that begins at a time, seconds since 1970.
        shown: For people.
        segment_s: A file that is as long ends at the next key frame; None for a single file.
        segment_bytes: Likewise by its size, None for any.
        overwrite: Whether an existing file is replaced.
    """

    name: Callable[[float], Path]
    shown: str
    segment_s: float | None = None
    segment_bytes: int | None = None
    overwrite: bool = False
    _open: _File | None = field(default=None, init=False)

    def write(self, packet: Encoded, templates: Templates) -> None:
        """Writes a packet, into a new file where one is due."""
        if self._open is not None and packet.is_picture and packet.is_key and self._is_due(packet):
            self.finish()
        if self._open is None:
            self._open = self._begin(packet, templates)
        self._open.muxing.write(packet)
        if self._open.file.error is not None:
            raise self._open.file.error

    def finish(self) -> None:
        """Gives the open file its final name."""
        found, self._open = self._open, None
        if found is not None:
            found.close()

    def abandon(self) -> None:
        """Leaves the open file under its partial name, playable; an empty one is removed."""
        found, self._open = self._open, None
        if found is None:
            return
        with suppress(*AV_ERRORS):  # the failure that led here has been told
            found.muxing.close()
        partial = found.file.partial_path
        if partial is not None and partial.exists() and partial.stat().st_size:
            found.file.release()
        else:
            found.file.discard()

    def _is_due(self, packet: Encoded) -> bool:
        assert self._open is not None  # noqa: S101 - checked by the caller
        too_long = self.segment_s is not None and (
            packet.time_s - self._open.start_s >= self.segment_s
        )
        size = self._open.file.tell() if self.segment_bytes is not None else 0
        return too_long or (self.segment_bytes is not None and size >= self.segment_bytes)

    def _begin(self, first: Encoded, templates: Templates) -> _File:
        path = self.name(first.unix_s)
        file = OutputFile(path, overwrite=self.overwrite, keeps_parts=True)
        form = FORMATS[path.suffix.lower()]
        try:
            container = av.open(
                file, "w", format=form.muxer, options=form.options, buffer_size=_BUFFER_BYTES
            )
            return _File(path, file, Muxing(container, templates, first), first.time_s)
        except BaseException:
            file.discard()
            raise


@dataclass(slots=True)
class HlsTarget:
    """A playlist and its segments, which FFmpeg's muxer opens itself.

    Attributes:
        path: The playlist.
        options: Returns the muxer's options for a begin, seconds since 1970.
        free_bytes: Says how much room there is: the muxer does not tell that a disk is full.
    """

    path: str
    options: Callable[[float], dict[str, str]]
    free_bytes: Callable[[], int]
    _open: Muxing | None = field(default=None, init=False)

    @property
    def shown(self) -> str:
        """For people."""
        return self.path

    def write(self, packet: Encoded, templates: Templates) -> None:
        """Writes a packet.

        Raises:
            OSError: There is no room for a further segment.
        """
        if packet.is_key and self.free_bytes() < _LEAST_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self._open is None:
            options = self.options(packet.unix_s)
            container = av.open(self.path, "w", format="hls", options=options)
            self._open = Muxing(container, templates, packet)
        self._open.write(packet)

    def finish(self) -> None:
        """Ends the playlist."""
        found, self._open = self._open, None
        if found is not None:
            found.close()

    def abandon(self) -> None:
        """Closes it as it is."""
        found, self._open = self._open, None
        if found is not None:
            with suppress(*AV_ERRORS):  # the failure that led here has been told
                found.close()


class _Push:
    """A process that sends what is written here to a server; see `push`."""

    def __init__(self, header: bytes, templates: Templates, first: Encoded) -> None:
        command = [sys.executable, "-m", "dualface_client.video.push"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert self._process.stdin is not None  # noqa: S101 - asked for
        self._pipe = self._process.stdin
        self._pipe.write(header)
        options = {"flush_packets": "1"}
        try:
            container = av.open(self._pipe, "w", format="nut", options=options, buffer_size=1024)
            self._muxing = Muxing(container, templates, first)
        except BaseException:
            self._process.kill()
            self._process.communicate()
            raise

    def write(self, packet: Encoded) -> None:
        """Writes a packet; waits for the server."""
        self._muxing.write(packet)
        self._pipe.flush()

    def close(self) -> None:
        """Sends what is left.

        Raises:
            SinkError: The server did not take all of it.
        """
        with suppress(*AV_ERRORS):  # then the process has ended, and says why
            self._muxing.close()
        if problem := self.why_ended():
            raise SinkError(problem)

    def why_ended(self) -> str:
        """Waits for the end of the process; why it failed, empty if it did not."""
        _, told = self._process.communicate()
        status = self._process.returncode
        if status == -signal.SIGALRM:
            return f"the server did not answer for {PATIENCE_S} s"
        lines = told.decode(errors="replace").split("\n")
        return "" if status == 0 else next((line for line in reversed(lines) if line), "it failed")

    def kill(self) -> None:
        """Ends it at once."""
        self._process.kill()
        with suppress(*AV_ERRORS):  # nobody reads any more
            self._muxing.close()
        self._process.communicate()


@dataclass(slots=True)
class PushTarget:
    """A connection to a server.

    Attributes:
        url: With secrets.
        shown: For people.
        muxer: FFmpeg's name.
        options: Of the muxer.
        has_sound: Whether sound goes there.
    """

    url: str = field(repr=False)
    shown: str
    muxer: str
    options: dict[str, str] = field(default_factory=dict)
    has_sound: bool = True
    _open: _Push | None = field(default=None, init=False)

    def write(self, packet: Encoded, templates: Templates) -> None:
        """Sends a packet; connects first where nothing is open.

        Raises:
            SinkError: The server refuses it, or has gone.
        """
        try:
            if self._open is None:
                wanted = {"url": self.url, "muxer": self.muxer, "options": self.options}
                sound = templates.sound if self.has_sound else None
                header = json.dumps(wanted).encode() + b"\n"
                self._open = _Push(header, Templates(templates.pictures, sound), packet)
            self._open.write(packet)
        except AV_ERRORS as error:
            why = self._open.why_ended() if self._open is not None else ""
            raise SinkError(why or reason(error)) from error

    def finish(self) -> None:
        """Says goodbye."""
        found, self._open = self._open, None
        if found is not None:
            found.close()

    def abandon(self) -> None:
        """Ends the connection as it is."""
        found, self._open = self._open, None
        if found is not None:
            found.kill()


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """How outputs of a live stream are written.

    Attributes:
        segment_s: Length of the files in a directory.
        segment_bytes: Largest size of them, None for any.
        hls_window_s: Length of an HLS playlist.
        overwrite: Whether an existing file is replaced.
    """

    segment_s: float = 600.0
    segment_bytes: int | None = None
    hls_window_s: float = 60.0
    overwrite: bool = False


def target_of(text: str, url: str, name: str, options: TargetOptions) -> Target:
    """What an output names.

    Args:
        text: A directory, a file, an HLS playlist or an address, as the user wrote it.
        url: The same with secrets.
        name: Of the stream, for files in a directory.
        options: How it is written.

    Raises:
        UsageError: Nothing can be written there.
    """
    scheme = scheme_of(text)
    if scheme:
        return _pushed(text, url, scheme)
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == _PLAYLIST:
        return _hls(path, options)
    if suffix in FORMATS and not path.is_dir() and not text.endswith("/"):
        return FileTarget(lambda unix_s: path, str(path), overwrite=options.overwrite)
    return FileTarget(
        lambda unix_s: _segment_path(path, name, unix_s),
        f"{path}/{name}_*.mp4",
        options.segment_s,
        options.segment_bytes,
    )


def _segment_path(directory: Path, name: str, unix_s: float) -> Path:
    """A new name; two segments of one second are numbered."""
    stem = f"{name}_{datetime.fromtimestamp(unix_s, UTC):%Y%m%dT%H%M%SZ}"
    path, number = directory / f"{stem}.mp4", 1
    while path.exists():
        number += 1
        path = directory / f"{stem}-{number}.mp4"
    return path


def _hls(path: Path, options: TargetOptions) -> Target:
    def at(unix_s: float) -> dict[str, str]:
        return {
            "hls_time": f"{KEY_FRAMES_S:g}",
            "hls_list_size": str(max(3, round(options.hls_window_s / KEY_FRAMES_S))),
            "hls_flags": "delete_segments+independent_segments+program_date_time+temp_file",
            # Numbers go on rising after a restart, as players expect.
            "start_number": str(int(unix_s)),
            "hls_segment_filename": str(path.with_name(f"{path.stem}_%d.ts")),
        }

    def free_bytes() -> int:
        room = os.statvfs(path.parent)
        return room.f_bavail * room.f_frsize

    return HlsTarget(str(path), at, free_bytes)


def _pushed(text: str, url: str, scheme: str) -> Target:
    if scheme in _WHIP:
        if "whip" not in av.formats_available:
            raise UsageError(f"{shown(text)}: this FFmpeg build cannot send WHIP; use rtmp or rtsp")
        place = f"{_WHIP[scheme]}:{url.partition(':')[2]}"
        return PushTarget(place, shown(text), "whip", has_sound=False)
    if scheme not in _PUSH_MUXERS:
        raise UsageError(
            f"{shown(text)}: cannot be written to; expected a directory, a file, a playlist "
            f"{_PLAYLIST}, or an address with {', '.join((*_PUSH_MUXERS, *_WHIP))}"
        )
    options = {"rtsp_transport": "tcp"} if scheme.startswith("rtsp") else {}
    return PushTarget(url, shown(text), _PUSH_MUXERS[scheme], options)


def make_directory(text: str) -> None:
    """Makes the directory of an output of files, if its parent is there.

    Raises:
        SinkError: It cannot be made.
    """
    path = Path(text)
    is_file = path.suffix.lower() in {*FORMATS, _PLAYLIST} and not text.endswith("/")
    directory = path.parent if is_file else path
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        raise SinkError(f"{directory}: cannot be created ({error.strerror})") from error

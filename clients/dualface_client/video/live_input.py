"""Where a live stream comes from, and opening it so that it begins soon and cannot hang."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dualface_client.settings.addresses import scheme_of
from dualface_client.video.ffmpeg import av, file_url
from dualface_client.video.tracks import check_file

if TYPE_CHECKING:
    from av.container import InputContainer

_GENERATE_PTS = 1  # AVFMT_FLAG_GENPTS, which PyAV sets: a guess that cannot be told from a time
#: What the demuxers of a scheme open themselves; lists cannot name anything else, such as files.
_PROTOCOLS = {
    "rtsp": "tcp,udp,rtp",
    "rtsps": "tls,tcp,udp,rtp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "http": "http,https,tls,tcp,crypto,httpproxy",
    "https": "https,tls,tcp,crypto,httpproxy",
    "srt": "srt",
}
#: Servers of these send as fast as they can, and not as the camera does.
_SENT_AHEAD = frozenset({"http", "https"})
#: Of which parts may be missing or damaged.
_BY_UDP = frozenset({"udp", "rtp", "srt"})
#: FFmpeg looks into the stream for the parameters that its description lacks; then it begins.
_LOOK = {"analyzeduration": "1000000", "fpsprobesize": "2"}


@dataclass(frozen=True, slots=True)
class LiveInput:
    """Where a live stream comes from.

    Attributes:
        shown: For people; without secrets.
        url: What is opened; with secrets, so it is never shown.
        transport: Of RTSP, `tcp` or `udp`.
        connect_timeout_s: How long connecting may take.
        read_timeout_s: How long nothing may come.
        reconnect_s: How long to go on trying; None for ever.
        longest_pause_s: Between two attempts.
        is_paced: Whether packets wait for their time, where the server sends them before it.
    """

    shown: str
    url: str = field(repr=False)
    transport: str = "tcp"
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 5.0
    reconnect_s: float | None = None
    longest_pause_s: float = 1.0
    is_paced: bool = False

    @property
    def scheme(self) -> str:
        """In lower case; `file` for a path."""
        return scheme_of(self.url) or "file"

    @property
    def waits(self) -> bool:
        """Whether its packets are given out no sooner than they are due."""
        is_regular = self.scheme == "file" and Path(self.url).is_file()
        return self.is_paced or is_regular or self.scheme in _SENT_AHEAD

    @property
    def is_lossy(self) -> bool:
        """Whether the network may lose parts of it without an error."""
        return self.scheme in {"rtsp", "rtsps"} and self.transport == "udp"

    @property
    def is_whole(self) -> bool:
        """Whether what comes is as it was sent, which TCP sees to."""
        return not self.is_lossy and self.scheme not in _BY_UDP


def open_live(place: LiveInput) -> InputContainer:
    """Connects; reading from the result raises an error when nothing comes for too long.

    Raises:
        SourceError: It is a file that cannot be read.
        av.FFmpegError: There is no connection, or nothing that FFmpeg understands.
        OSError: The same.
    """
    scheme, timeout = place.scheme, (place.connect_timeout_s, place.read_timeout_s)
    url, form, options = place.url, None, dict(_LOOK)
    if scheme == "file":
        check_file(Path(place.url), live=True)
        url = file_url(Path(place.url))
    elif scheme == "v4l2":
        url, form, options = place.url.partition(":")[2], "v4l2", {}
    else:
        options["protocol_whitelist"] = _PROTOCOLS.get(scheme, f"{scheme},tcp,udp,tls")
        if scheme in {"rtsp", "rtsps"}:
            options |= {"rtsp_transport": place.transport, "allowed_media_types": "video+audio"}
        else:  # also while it connects to what a list names
            options["rw_timeout"] = str(round(place.read_timeout_s * 1e6))
    container = av.open(
        url, "r", format=form, options=options, timeout=timeout, metadata_errors="replace"
    )
    container.flags &= ~_GENERATE_PTS
    return container

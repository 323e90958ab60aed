"""Settings of a run, with the defaults that the command line shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dualface_client.settings.addresses import INPUT_SCHEMES, OUTPUT_SCHEMES
from dualface_client.settings.cast import CastSettings
from dualface_client.settings.field import setting
from dualface_client.settings.framing import FramingSettings
from dualface_client.settings.kinds import (
    SHARE,
    Choice,
    Color,
    ExistingFile,
    Integer,
    Or,
    Real,
    Size,
    Switch,
    VariableName,
    Words,
)
from dualface_client.settings.tracking import TrackingSettings

if TYPE_CHECKING:
    from dualface_client.types import TileLayout

#: The same as `types.LayoutKind`: `types` brings NumPy, for which no help text waits.
LayoutKind = Literal["side-by-side", "stacked", "solo"]

#: Size of the canvas by layout.
DEFAULT_CANVAS_WH_PX: dict[LayoutKind, tuple[int, int]] = {
    "side-by-side": (1920, 1080),
    "stacked": (1080, 1920),
    "solo": (1920, 1080),
}
#: x264's own names, from the quickest encoding to the smallest file.
X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How frames go to the detector."""

    score_threshold: float = setting(
        0.15,
        SHARE,
        "Detections below this score are ignored. Low, because the tracker also uses uncertain "
        "ones.",
        per_stream=False,
    )
    frames_per_request: int | None = setting(
        None,
        Or("auto", Integer(1, 128)),
        "Frames of one stream in a request; `auto` is 1 on a CPU, 8 on a GPU, 16 with eight or "
        "more streams there without MPS.",
        per_stream=False,
    )
    requests_in_flight: int | None = setting(
        None,
        Or("auto", Integer(1, 64)),
        "Requests of one stream under way at a time; `auto` is 2, or 1 with eight or more streams "
        "on a GPU.",
        flag="--in-flight",
        common=True,
        per_stream=False,
    )
    every: int | None = setting(
        None,
        Or("auto", Integer(1, 16)),
        "Of so many frames of a file one goes to the detector. Those between are filled in; more "
        "are looked at around cuts and wherever people could be mixed up or move far. `auto` is "
        "one in 0.25 s, or of 8 frames, on a CPU, and every frame on a GPU. Live streams: every "
        "frame.",
        flag="--detect-every",
        common=True,
        per_stream=False,
    )
    timeout_s: float = setting(
        60.0, Real(0.1, 3600), "How long a detection may take.", per_stream=False
    )

    live_first: bool = setting(
        True,
        Switch(),
        "The server answers live streams before files.",
        per_stream=False,
    )

    @property
    def batch(self) -> int:
        """Frames in a request: as many as were asked for, else one."""
        return self.frames_per_request or 1

    @property
    def in_flight(self) -> int:
        """Requests under way at a time: as many as were asked for, else two."""
        return self.requests_in_flight or 2


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What is written."""

    canvas_wh_px: tuple[int, int] | None = setting(
        None,
        Or("auto", Size()),
        "Output size; the tiles share its width, or its height if stacked. `auto` is 1920x1080, "
        "or 1080x1920 if stacked.",
        flag="--size",
        common=True,
        key="output.size",
    )
    layout: LayoutKind = setting(
        "side-by-side",
        Choice(tuple(DEFAULT_CANVAS_WH_PX)),
        "The two tiles beside each other, above each other (`stacked`, the left one above), or "
        "always one picture (`solo`).",
        flag="--layout",
        common=True,
    )
    gap_px: int = setting(
        0, Integer(0, 1024), "Pixels between the two tiles, even.", flag="--gap", common=True
    )
    gap_color: tuple[int, int, int] = setting(
        (0, 0, 0), Color(), "Colour of the gap.", flag="--gap-color", common=True
    )
    encoder: str = setting(
        "auto",
        Choice(("auto", "nvenc", "x264", "none")),
        "`auto` is NVENC where there is one, else `x264`; `none` writes no video.",
        flag="--encoder",
        common=True,
    )
    preset: str = setting(
        "veryfast",
        Choice(X264_PRESETS),
        "x264 preset; slower ones make smaller files.",
        flag="--preset",
        common=True,
    )
    crf: int = setting(
        20, Integer(1, 51), "x264 quality; lower is better.", flag="--crf", common=True
    )
    audio: str = setting(
        "copy",
        Choice(("copy", "transcode", "drop")),
        "`copy` keeps the sound bit for bit and transcodes to AAC only what the output's container "
        "does not hold; `transcode` turns all sound into AAC; `drop` leaves it out.",
        flag="--audio",
        common=True,
    )
    overwrite: bool = setting(
        False, Switch(), "Replace an existing output.", flag="--overwrite", common=True
    )
    encoder_threads: int = setting(0, Integer(0, 128), "Threads of x264; 0 lets it choose.")
    disk_wait_s: float = setting(
        60.0,
        Real(0, 86400),
        "How long to wait for space on a full disk before the stream fails.",
        flag="--disk-wait",
        common=True,
    )

    segment_s: float = setting(
        600.0,
        Real(1, 86400),
        "Length of the files that a live stream is written into where its output is a directory; "
        "each ends at the next key frame, 2 s later at most.",
        flag="--segment-s",
        common=True,
    )
    segment_mib: int | None = setting(
        None,
        Or("any", Integer(1, 1 << 20)),
        "Largest size of such a file in MiB.",
        flag="--segment-mib",
        common=True,
    )
    hls_window_s: float = setting(
        60.0,
        Real(6, 86400),
        "How much of a live stream an HLS playlist holds; older segments are deleted.",
        flag="--hls-window-s",
        common=True,
    )
    credentials_file: Path | None = setting(
        None,
        Or("none", ExistingFile()),
        "File with `USER:PASSWORD` for the address of an output, or with what replaces `{key}` in "
        "it.",
        flag="--push-credentials",
        common=True,
    )
    schemes: tuple[str, ...] = setting(
        OUTPUT_SCHEMES,
        Words("rtmp,rtsp"),
        "Live streams are sent only to addresses that begin with one of these.",
        per_stream=False,
    )

    @property
    def tile_layout(self) -> TileLayout:
        """The canvas and its tiles.

        Raises:
            ValueError: The tiles would not have even sizes.
        """
        from dualface_client.types import TileLayout

        size = self.canvas_wh_px or DEFAULT_CANVAS_WH_PX[self.layout]
        return TileLayout(size, self.layout, self.gap_px, self.gap_color)


@dataclass(frozen=True, slots=True)
class InputSettings:
    """What is read, of a file or of a live input."""

    video_track: int | None = setting(
        None,
        Or("auto", Integer(1, 99)),
        "Number of the video track, counted from 1; `auto` is the default one of those that move, "
        "else the largest.",
        flag="--video-track",
        common=True,
    )
    live: bool = setting(
        False,
        Switch(),
        "Treat a pipe or a file as a live input, as addresses always are: frames that cannot be "
        "processed in time are dropped.",
        flag="--live",
        common=True,
    )
    realtime: bool = setting(
        False,
        Switch(),
        "Play a file at its own pace, as a live input; for tests and rehearsals.",
        flag="--realtime",
        common=True,
    )
    schemes: tuple[str, ...] = setting(
        INPUT_SCHEMES,
        Words("rtsp,https"),
        "Only addresses that begin with one of these are opened.",
        per_stream=False,
    )
    credentials_file: Path | None = setting(
        None,
        Or("none", ExistingFile()),
        "File with `USER:PASSWORD` for the address of a live input, or with what replaces `{key}` "
        "in it.",
        flag="--input-credentials",
        common=True,
    )
    credentials_variable: str | None = setting(
        None,
        Or("none", VariableName()),
        "Environment variable with the same, instead of a file.",
    )
    transport: str = setting(
        "tcp",
        Choice(("tcp", "udp")),
        "How RTSP carries pictures and sound; with `udp` some may be lost.",
        flag="--rtsp-transport",
        common=True,
    )
    connect_timeout_s: float = setting(
        10.0, Real(0.1, 3600), "How long connecting to a live input may take."
    )
    read_timeout_s: float = setting(
        5.0,
        Real(0.1, 3600),
        "A live input from which nothing comes for this long is connected to again.",
    )
    reconnect_s: float | None = setting(
        None,
        Or("forever", Real(0, 1e9)),
        "How long a live input that cannot be reached is tried again before the stream fails.",
        flag="--reconnect",
        common=True,
    )
    reconnect_pause_s: float = setting(
        1.0,
        Real(0.1, 3600),
        "Longest pause between two attempts; they begin at 0.1 s and are spread at random.",
    )


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How much may wait between the stages of one stream."""

    frames_ahead: int = setting(
        4, Integer(1, 256), "Decoded frames that may wait for detection.", per_stream=False
    )
    frames_behind: int = setting(
        4, Integer(1, 256), "Composed frames that may wait for the encoder.", per_stream=False
    )


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How one stream is processed."""

    detection: DetectionSettings = field(default_factory=DetectionSettings)
    reid_timeout_s: float = setting(
        10.0,
        Real(0.1, 3600),
        "How long a ReID answer may take; without one, motion decides.",
        per_stream=False,
        key="reid.timeout_s",
    )
    server_wait_s: float = setting(
        300.0,
        Real(0, 86400),
        "How long to wait for a server that went away; 0 fails at once.",
        per_stream=False,
        key="recovery.wait_s",
    )
    input: InputSettings = field(default_factory=InputSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    queues: QueueSettings = field(default_factory=QueueSettings)
    framing: FramingSettings = field(default_factory=FramingSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    cast: CastSettings = field(default_factory=CastSettings)

"""Settings of a run, with the defaults that the command line shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from dualface_client.settings.framing import FramingSettings
from dualface_client.settings.tracking import TrackingSettings


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """How frames go to the detector.

    Attributes:
        score_threshold: Faces below it are ignored, 0 to 1. Low on purpose: the tracker's second
            association lives on uncertain detections.
        frames_per_request: Frames of one stream in a request; `auto` is 1 on a CPU, 8 on a GPU, and
            16 there where eight streams or more run at a time (`limits.detector_batch` bounds it).
        requests_in_flight: Requests of one stream that are under way at a time; `auto` is 2, and 1
            (of 16 frames) where eight streams or more run at a time on a GPU.
        timeout_s: How long an answer may take.
    """

    score_threshold: float = 0.15
    frames_per_request: int | None = None
    requests_in_flight: int | None = None
    timeout_s: float = 60.0

    @property
    def batch(self) -> int:
        """Frames in a request: as many as were said, else one."""
        return self.frames_per_request or 1

    @property
    def in_flight(self) -> int:
        """Requests under way at a time: as many as were said, else two."""
        return self.requests_in_flight or 2


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """What is written.

    Attributes:
        canvas_wh_px: Output size; each tile has half the width.
        encoder: `auto` is NVENC where the device is cuda and has it, else `x264`; `none` writes no
            video (decode, detect and compose only).
        preset: x264 preset, from `ultrafast` to `placebo`: slower makes smaller files.
        crf: x264 quality, 1 (best) to 51; the High profile has no lossless 0.
        overwrite: Whether an existing output is replaced.
        encoder_threads: Threads of x264, 0 for its own choice.
        disk_wait_s: On a full disk an output waits for space so long before its stream fails.
    """

    canvas_wh_px: tuple[int, int] = (1920, 1080)
    encoder: str = "auto"
    preset: str = "veryfast"
    crf: int = 20
    overwrite: bool = False
    encoder_threads: int = 0
    disk_wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Bounds of what waits between the stages of one stream.

    Attributes:
        frames_ahead: Decoded frames waiting for detection.
        frames_behind: Composed frames waiting for the encoder.
    """

    frames_ahead: int = 4
    frames_behind: int = 4


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """Everything a stream's loop is told.

    Attributes:
        reid_timeout_s: How long a ReID answer may take; motion decides without it.
        server_wait_s: How long a server that went away is awaited; 0 fails at once.
    """

    detection: DetectionSettings = field(default_factory=DetectionSettings)
    tracking: TrackingSettings = field(default_factory=TrackingSettings)
    framing: FramingSettings = field(default_factory=FramingSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    queues: QueueSettings = field(default_factory=QueueSettings)
    reid_timeout_s: float = 10.0
    server_wait_s: float = 300.0

"""The output that every machine can write."""

from __future__ import annotations

from pathlib import Path

from dualface_client.settings.stream import OutputSettings
from dualface_client.types import VideoInfo
from dualface_client.video.disk_wait import DiskWait
from dualface_client.video.sink import PyavSink


def open_x264(
    path: Path, source: Path, info: VideoInfo, output: OutputSettings, disk_wait: DiskWait
) -> PyavSink:
    """Opens an output that x264 encodes.

    Args:
        path: What is written.
        source: Whose sound is used.
        info: Of the source.
        output: How it is encoded.
        disk_wait: Patience with a full disk.

    Raises:
        SinkError: It cannot be written.
        UsageError: It exists and must not be replaced.
    """
    return PyavSink(
        path,
        info,
        output.tile_layout.canvas_wh_px,
        audio_from=source,
        audio=output.audio,
        preset=output.preset,
        crf=output.crf,
        overwrite=output.overwrite,
        threads=output.encoder_threads or "auto",
        disk_wait=disk_wait,
    )

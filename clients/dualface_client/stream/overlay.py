"""The debug overlay of one stream: a second video that never harms the first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dualface_client.imaging.overlay import draw_overlay
from dualface_client.stream.job import OUTPUT_TAG, Job
from dualface_client.types import Frame, Nv12Image, SeatAssignment, TileLayout, VideoInfo, View
from dualface_client.video.sink import PyavSink

_PRESET, _CRF = "superfast", 23


def overlay_path(overlay: Path, job: Job) -> Path:
    """The file of one job's overlay.

    Args:
        overlay: What `--debug-overlay` names: a file, or a directory for several videos.
        job: Whose.
    """
    if overlay.is_dir():
        return overlay / f"{job.name}_overlay{OUTPUT_TAG}.mp4"
    return overlay


class DebugOverlay:
    """Draws and encodes; reports once what went wrong, and is then silent.

    For one thread. An existing file is replaced.

    Args:
        path: Output; its suffix selects the container.
        info: The source's.
        layout: Of the stream's canvases.
        download: A frame's picture on the host, with pixels of its own.
        warn: Gets the reason why there is no overlay.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        layout: TileLayout,
        download: Callable[[Nv12Image], Nv12Image],
        warn: Callable[[str], None],
    ) -> None:
        self._path = path
        self._layout = layout
        self._download = download
        self._warn = warn
        self._sink: PyavSink | None = None
        try:
            size = info.width_px, info.height_px
            self._sink = PyavSink(path, info, size, preset=_PRESET, crf=_CRF, overwrite=True)
        except Exception as error:  # the main output continues, whatever this is
            self._fail(error)

    def add(self, frame: Frame, assignment: SeatAssignment, views: Sequence[View]) -> None:
        """Draws one frame.

        Args:
            frame: The source's; not changed.
            assignment: What was decided about it.
            views: What its canvas shows.
        """
        if self._sink is None:
            return
        try:
            image = self._download(frame.image)
            crops = [(self._layout.side_of(view.area), view.crop) for view in views]
            draw_overlay(image, assignment, crops, frame_index=frame.index, time_s=frame.time_s)
            self._sink.write(replace(frame, image=image))
        except Exception as error:
            self._fail(error)

    def close(self, *, complete: bool) -> None:
        """Finishes the file; it stays a partial one if the stream is not complete."""
        if self._sink is None:
            return
        try:
            if complete:
                self._sink.close()
            else:
                self._sink.abort()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        self._warn(f"the debug overlay ends here, the output continues: {error}")
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.abort()
            except Exception as again:  # it has already failed: there is nothing more to save
                self._warn(f"{self._path}: {again}")

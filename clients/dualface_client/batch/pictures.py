"""What a run's report shows of its outputs."""

from __future__ import annotations

from pathlib import Path

from dualface_client.observe.html import Thumbnail
from dualface_client.observe.report import StreamReport
from dualface_client.video.thumbnails import thumbnails

_COUNT, _WIDTH_PX = 6, 320


def pictures_of(report: StreamReport) -> tuple[Thumbnail, ...]:
    """Small pictures of a stream's output, finished or not; none if there is no file."""
    path = report.partial_output or (
        report.output if report.state in ("done", "incomplete") else ""
    )
    if not path or not Path(path).is_file():
        return ()
    return tuple(Thumbnail(*found) for found in thumbnails(Path(path), _COUNT, _WIDTH_PX))

"""Logs what happens to each stream: start, progress, notes, end."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from dualface_client.background import BackgroundLoop
from dualface_client.observe.report import FINAL_STATES, StreamReport, StreamStatus
from dualface_client.observe.run_log import failure_logger, log_event

_LEVELS = {"failed": logging.ERROR, "incomplete": logging.ERROR, "stopped": logging.WARNING}


class StreamEvents(BackgroundLoop):
    """Watches the streams' reports until it is closed; a context manager.

    Closing logs what happened last.

    Args:
        statuses: One per stream.
        interval_s: Time between two checks; starts and ends are logged at most this late.
        progress_s: Between two `stream_progress` events of a stream.
    """

    def __init__(
        self,
        statuses: Sequence[StreamStatus],
        *,
        interval_s: float = 0.25,
        progress_s: float = 5.0,
    ) -> None:
        self._statuses = statuses
        self._looks_per_progress = max(1, round(progress_s / interval_s))
        self._looks = 0
        self._states: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()
        super().__init__(
            self._look,
            name="events",
            period_s=interval_s,
            once_more=True,
            failed=failure_logger("the log of the streams"),
        )

    def _look(self) -> None:
        self._looks += 1
        for status in self._statuses:
            self._tell(status.snapshot(), progress=self._looks % self._looks_per_progress == 0)

    def _tell(self, report: StreamReport, *, progress: bool) -> None:
        before = self._states.get(report.name, "waiting")
        self._states[report.name] = report.state
        if before in FINAL_STATES:
            return
        if before == "waiting" != report.state:
            _log("stream_started", f"{report.name}: started", report, input=report.input)
        self._tell_warnings(report)
        if report.state in FINAL_STATES:
            _tell_end(report)
        elif progress and report.state == "running":
            _log("stream_progress", f"{report.name}: {report.frames_out} frames", report)

    def _tell_warnings(self, report: StreamReport) -> None:
        for text in report.warnings:
            if (report.name, text) not in self._told:
                self._told.add((report.name, text))
                log_event("stream_note", text, stream=report.name, level=logging.WARNING)


def _tell_end(report: StreamReport) -> None:
    log_event(
        f"stream_{report.state}",
        f"{report.name}: {report.error or report.state}",
        stream=report.name,
        level=_LEVELS.get(report.state, logging.INFO),
        frames_in=report.frames_in,
        frames_out=report.frames_out,
        elapsed_s=round(report.elapsed_s, 3),
        fps=round(report.fps, 3),
        reid_frames=report.reid_frames,
        decode_errors=report.decode_errors,
        output=report.output,
        partial_output=report.partial_output,
        **({"trace": report.trace} if report.trace else {}),
    )


def _log(event: str, text: str, report: StreamReport, **fields: Any) -> None:
    log_event(
        event,
        text,
        stream=report.name,
        frames_out=report.frames_out,
        frames_expected=report.frames_expected,
        fps=round(report.fps, 3),
        **fields,
    )

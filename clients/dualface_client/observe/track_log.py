"""Tracks in MOTChallenge text, one row per visible person and frame."""

from __future__ import annotations

import os
from pathlib import Path

from dualface_client.atomic_file import open_for_writing
from dualface_client.closing import ClosesAtExit
from dualface_client.errors import SinkError
from dualface_client.types import Person, SeatAssignment


class TrackLog(ClosesAtExit):
    """Writes `frame,id,left,top,w,h,conf,-1,-1,-1` (MOTChallenge 2D; frames and ids 1-based).

    Args:
        path: Text file, replaced.

    Raises:
        SinkError: It cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.fdopen(open_for_writing(path, os.O_TRUNC), "w", encoding="ascii")
        except OSError as error:
            raise SinkError(f"{path}: cannot write tracks: {error.strerror}") from error

    def add(self, frame_index: int, assignment: SeatAssignment) -> None:
        """Appends the people seen in the frame, by identity.

        Args:
            frame_index: 0-based.
            assignment: Predicted and missing boxes (score 0) are left out.

        Raises:
            SinkError: The file can no longer be written.
        """
        people = sorted((assignment.left, assignment.right), key=lambda person: person.identity)
        try:
            for person in people:
                row = _row(frame_index + 1, person)
                if row:
                    self._file.write(row)
        except OSError as error:
            raise SinkError(f"{self._path}: cannot write tracks: {error.strerror}") from error

    def close(self) -> None:
        """Flushes and closes; safe to call twice.

        Raises:
            SinkError: The last rows could not be written.
        """
        try:
            self._file.close()
        except OSError as error:
            raise SinkError(f"{self._path}: cannot write tracks: {error.strerror}") from error


def _row(frame_number: int, person: Person) -> str:
    if person.identity <= 0 or person.box_xyxy_px is None or person.score <= 0:
        return ""
    x1, y1, x2, y2 = (float(value) for value in person.box_xyxy_px)
    return (
        f"{frame_number},{person.identity},{x1:.2f},{y1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
        f"{person.score:.3f},-1,-1,-1\n"
    )

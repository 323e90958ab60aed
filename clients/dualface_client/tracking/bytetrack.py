"""ByteTrack: associates detections with tracks by predicted overlap, high scores first.

Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box", ECCV 2022.
Every track, confirmed or not, lost or not, takes part in both associations, as in the PyPI package
`trackers`, with which the unit tests compare this module. Intended differences:

- the state is centre, aspect and height with noise in face heights (DeepSORT, original ByteTrack)
  instead of corners with noise in absolute pixels, so that 4K behaves like SD;
- the size of a lost track does not change;
- a lost track yields to one that was just seen if a detection fits both;
- tracks that start on the first frame of a shot are confirmed at once, as in the original;
- detections below `low_score` are ignored, as in the original;
- the second association has a threshold of its own, as in the original.
"""

from __future__ import annotations

import numpy as np

from dualface_client.settings.tracking import AssociationSettings
from dualface_client.tracking.assignment import best_pairs
from dualface_client.tracking.boxes import iou_rows
from dualface_client.tracking.kalman import REFERENCE_FPS, BoxFilter
from dualface_client.tracking.track import Track
from dualface_client.types import Box, Faces, Tracks


class ByteTracker:
    """Tracks of one stream.

    Args:
        settings: Thresholds.
    """

    def __init__(self, settings: AssociationSettings | None = None) -> None:
        self._settings = settings or AssociationSettings()
        self._tracks: list[Track] = []
        self._next_id = 1
        self._time_s: float | None = None
        self._shot_start = True

    @property
    def confirmed(self) -> list[Track]:
        """Confirmed tracks, seen or lost, by id. Valid until the next update."""
        return sorted((track for track in self._tracks if track.id), key=lambda track: track.id)

    @property
    def lost(self) -> list[Track]:
        """Confirmed tracks without a detection in this frame, with predicted boxes."""
        return [track for track in self.confirmed if track.face_row < 0]

    def cut(self) -> None:
        """Ends every track: the next frame belongs to a new shot. Ids continue."""
        self._tracks = []
        self._shot_start = True

    def update(self, faces: Faces, time_s: float) -> Tracks:
        """Takes the next frame's detections.

        Args:
            faces: Detections of the frame.
            time_s: Presentation time in seconds, not decreasing.

        Returns:
            Confirmed tracks, including lost ones with `face_rows` -1 and predicted boxes.
        """
        self._predict(time_s)
        boxes: list[Box] = [tuple(box) for box in faces.boxes_xyxy_px.tolist()]
        scores: list[float] = faces.scores.tolist()
        high, low = self._split(scores)
        settings = self._settings
        fresh = self._match(self._tracks, high, boxes, scores, settings.min_iou)
        unseen = [track for track in self._tracks if track.face_row < 0]
        self._match(unseen, low, boxes, scores, settings.min_iou_low)
        for row in fresh:
            if scores[row] >= settings.activation_score:
                self._start(row, boxes[row], scores[row])
        self._prune(time_s)
        self._shot_start = False
        return self._result()

    def hand_over(self, giver: Track, taker: Track) -> None:
        """Gives this frame's detection of one track to a lost one; the giver is then lost.

        Args:
            giver: A track seen in this frame.
            taker: A track not seen in it.
        """
        taker.filter.update(giver.box)
        taker.hits, taker.seen_s = 1, giver.seen_s
        taker.face_row, taker.box, taker.score = giver.face_row, giver.box, giver.score
        giver.hits = 0
        giver.face_row, giver.box, giver.score, giver.gap_s = -1, giver.predicted, 0.0, 0.0

    def _predict(self, time_s: float) -> None:
        elapsed_s = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        for track in self._tracks:
            missed = track.face_row < 0
            track.filter.predict(elapsed_s * REFERENCE_FPS, missed)
            if missed:
                track.hits = 0
            track.predicted = track.box = track.filter.box_xyxy_px
            track.face_row, track.score, track.gap_s = -1, 0.0, 0.0
        # A track beyond its buffer must no longer catch a detection.
        self._tracks = [track for track in self._tracks if self._within_buffer(track, time_s)]

    def _split(self, scores: list[float]) -> tuple[list[int], list[int]]:
        """Rows of high and of low score."""
        high_score, low_score = self._settings.high_score, self._settings.low_score
        high = [row for row, score in enumerate(scores) if score >= high_score]
        low = [row for row, score in enumerate(scores) if low_score <= score < high_score]
        return high, low

    def _match(
        self,
        tracks: list[Track],
        rows: list[int],
        boxes: list[Box],
        scores: list[float],
        min_iou: float,
    ) -> list[int]:
        """Associates; returns the rows that no track took."""
        overlaps = iou_rows([track.predicted for track in tracks], [boxes[row] for row in rows])
        just_lost = 1.0 - self._settings.lost_discount
        gains = [
            [overlap if track.hits else just_lost * overlap for overlap in row]
            for track, row in zip(tracks, overlaps, strict=True)
        ]
        free = set(rows)
        for index, column in best_pairs(gains):
            if overlaps[index][column] >= min_iou:
                row = rows[column]
                self._take(tracks[index], row, boxes[row], scores[row])
                free.discard(row)
        return sorted(free)

    def _take(self, track: Track, row: int, box: Box, score: float) -> None:
        now_s = self._time_s or 0.0
        if track.hits == 0:
            track.gap_s = now_s - track.seen_s
        track.filter.update(box)
        track.hits += 1
        track.seen_s, track.face_row, track.box, track.score = now_s, row, box, score
        if not track.id and track.hits >= self._settings.min_consecutive_frames:
            self._confirm(track)

    def _start(self, row: int, box: Box, score: float) -> None:
        now_s = self._time_s or 0.0
        track = Track(BoxFilter(box), now_s, now_s, face_row=row, box=box, score=score)
        track.predicted = box
        at_once = self._shot_start and self._settings.confirm_at_start
        if at_once or self._settings.min_consecutive_frames <= 1:
            self._confirm(track)
        self._tracks.append(track)

    def _confirm(self, track: Track) -> None:
        track.id = self._next_id
        self._next_id += 1

    def _within_buffer(self, track: Track, time_s: float) -> bool:
        # Half a millisecond of tolerance: time stamps are rounded to their time base.
        return time_s - track.seen_s <= self._settings.lost_buffer_s + 5e-4

    def _prune(self, time_s: float) -> None:
        """Unconfirmed tracks end with their first miss, confirmed ones with their buffer."""
        self._tracks = [
            track
            for track in self._tracks
            if track.face_row >= 0 or (track.id and self._within_buffer(track, time_s))
        ]

    def _result(self) -> Tracks:
        tracks = self.confirmed
        if not tracks:
            return Tracks.empty()
        return Tracks(
            np.array([track.id for track in tracks], np.int64),
            np.array([track.box for track in tracks], np.float32),
            np.array([track.score for track in tracks], np.float32),
            np.array([track.face_row for track in tracks], np.int64),
        )

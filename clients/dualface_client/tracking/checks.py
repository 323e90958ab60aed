"""Which tracks need ReID, why and when."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum

from dualface_client.settings.tracking import RiskSettings
from dualface_client.tracking.boxes import iou
from dualface_client.tracking.track import PairRisk, Track

_MOST_DOUBLINGS = 30


class Reason(Enum):
    """Why a face needs an embedding."""

    ENROL = "enrol"
    NEWCOMER = "newcomer"
    REACQUIRED = "reacquired"
    OVERLAP = "overlap"
    MERGED = "merged"
    SEPARATED = "separated"
    SCENE_CUT = "scene_cut"
    DOUBT = "doubt"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Check:
    """An open question about a track.

    Attributes:
        reason: Why it is asked.
        since_s: When it was first asked.
        next_s: Earliest time of the next request.
        doubtful_s: When the track may have begun to show somebody else.
        attempts: Requests that decided nothing.
        is_seen_well: Whether one of them was of a face that could be seen well, as far as its box
            and landmarks tell.
    """

    reason: Reason
    since_s: float
    next_s: float
    doubtful_s: float
    attempts: int = 0
    is_seen_well: bool = False


@dataclass(slots=True)
class _Suspicion:
    """A pair at risk.

    Attributes:
        next_s: When it may be asked about next.
        pause_s: Pause after that.
        peak: Highest risk so far.
        peak_s: When it was last that high.
        merged_s: Since when one of the two hides the other; None while both or none are seen.
        handed_s: Since when the visible face fits the motion of the hidden one better.
        merger_asked: Whether that has been asked about.
    """

    next_s: float
    pause_s: float
    peak: float = 0.0
    peak_s: float = 0.0
    merged_s: float | None = None
    handed_s: float | None = None
    merger_asked: bool = False


class CheckList:
    """Open questions of one stream.

    A pair that becomes at risk is asked about after a cool-down and, while the risk lasts, after
    pauses that double. When the risk is over, both are asked about at once, because that is when a
    swap can be seen and corrected.

    Args:
        settings: Thresholds and pauses.
    """

    def __init__(self, settings: RiskSettings | None = None) -> None:
        self._settings = settings or RiskSettings()
        self._checks: dict[int, Check] = {}
        self._suspected: dict[tuple[int, int], _Suspicion] = {}
        self._risky_until_s: dict[int, float] = {}

    def __contains__(self, track_id: int) -> bool:
        return track_id in self._checks

    def get(self, track_id: int) -> Check | None:
        """The question about a track, None if there is none."""
        return self._checks.get(track_id)

    def add(self, track_id: int, reason: Reason, time_s: float, doubtful_s: float) -> None:
        """Asks; an older question about the same track stays."""
        self._checks.setdefault(track_id, Check(reason, time_s, time_s, doubtful_s))

    def close(self, track_id: int) -> None:
        """The question is answered."""
        self._checks.pop(track_id, None)

    def is_risky(self, track_id: int, time_s: float) -> bool:
        """Whether the track is in a pair at risk, or was a moment ago."""
        return time_s <= self._risky_until_s.get(track_id, -1.0)

    def postpone(self, track_id: int, time_s: float) -> bool:
        """A request decided nothing.

        Returns:
            False where it was the last one allowed; the question is then closed. A question
            about an overlap that goes on is closed as well: the pair's cool-down repeats it. One
            about a face that nothing names stays open: it is asked for as long as it is seen.
        """
        check = self._checks.get(track_id)
        if check is None:
            return True
        if check.reason in (Reason.OVERLAP, Reason.MERGED):
            del self._checks[track_id]
            return True
        check.attempts += 1
        pause_s = self._settings.retry_s * 2.0 ** min(check.attempts, _MOST_DOUBLINGS)
        check.next_s = time_s + min(pause_s, self._settings.cooldown_limit_s)
        if check.reason is Reason.UNKNOWN or check.attempts < self._settings.retry_limit:
            return True
        del self._checks[track_id]
        return False

    def clear(self) -> None:
        """Forgets all tracks."""
        self._checks.clear()
        self._suspected.clear()
        self._risky_until_s.clear()

    def follow(self, pairs: Iterable[PairRisk], tracks: Collection[Track], time_s: float) -> None:
        """Turns the frame's risks into questions, and forgets tracks that ended."""
        values = {pair.ids: pair.value for pair in pairs}
        for ids, value in values.items():
            if value >= self._settings.threshold:
                self._enter(ids, value, time_s)
        for ids in [
            ids for ids in self._suspected if values.get(ids, 0.0) < self._settings.release
        ]:
            suspicion = self._suspected.pop(ids)
            for track_id in ids:
                self.add(track_id, Reason.SEPARATED, time_s, suspicion.peak_s)
        by_id = {track.id: track for track in tracks}
        for ids, suspicion in self._suspected.items():
            self._keep_asking(ids, suspicion, time_s)
            self._look_at_merger([by_id[key] for key in ids if key in by_id], suspicion, time_s)
        self._look_for_reacquired(tracks, time_s)
        self._keep_only({track.id for track in tracks})

    def _enter(self, ids: tuple[int, int], value: float, time_s: float) -> None:
        pause_s = self._settings.cooldown_s
        suspicion = self._suspected.setdefault(ids, _Suspicion(time_s + pause_s, pause_s))
        if value >= suspicion.peak:
            suspicion.peak, suspicion.peak_s = value, time_s

    def _keep_asking(self, ids: tuple[int, int], suspicion: _Suspicion, time_s: float) -> None:
        for track_id in ids:
            self._risky_until_s[track_id] = time_s + self._settings.cooldown_s
        if time_s >= suspicion.next_s:
            suspicion.pause_s = min(2 * suspicion.pause_s, self._settings.cooldown_limit_s)
            suspicion.next_s = time_s + suspicion.pause_s
            for track_id in ids:
                self.add(track_id, Reason.OVERLAP, time_s, suspicion.peak_s)

    def _look_at_merger(self, pair: list[Track], suspicion: _Suspicion, time_s: float) -> None:
        """If one of two faces is left, motion cannot say whose it is: asks about it once."""
        left = [track for track in pair if track.face_row >= 0]
        lost = [track for track in pair if track.face_row < 0]
        if len(left) != 1 or len(lost) != 1:
            suspicion.merged_s, suspicion.handed_s, suspicion.merger_asked = None, None, False
            return
        suspicion.merged_s = time_s if suspicion.merged_s is None else suspicion.merged_s
        if suspicion.handed_s is None and iou(left[0].box, lost[0].box) > iou(
            left[0].box, left[0].predicted
        ):
            suspicion.handed_s = time_s
        if not suspicion.merger_asked and time_s - suspicion.merged_s >= self._settings.merger_s:
            suspicion.merger_asked = True
            since_s = suspicion.merged_s if suspicion.handed_s is None else suspicion.handed_s
            self.add(left[0].id, Reason.MERGED, time_s, since_s)

    def _look_for_reacquired(self, tracks: Collection[Track], time_s: float) -> None:
        """Long gaps, and short ones soon after a risk; during a risk the pair is asked about."""
        watched = {track_id for ids in self._suspected for track_id in ids}
        for track in tracks:
            long_gap = track.gap_s >= self._settings.reacquired_s
            after_risk = self.is_risky(track.id, time_s) and track.id not in watched
            if long_gap or (track.gap_s > 0 and after_risk):
                self.add(track.id, Reason.REACQUIRED, time_s, time_s)

    def _keep_only(self, alive: set[int]) -> None:
        for track_id in [key for key in self._checks if key not in alive]:
            del self._checks[track_id]
        for track_id in [key for key in self._risky_until_s if key not in alive]:
            del self._risky_until_s[track_id]

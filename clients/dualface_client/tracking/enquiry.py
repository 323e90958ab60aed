"""Which faces of a frame need ReID."""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.settings.tracking import IdentitySettings, TrackingSettings
from dualface_client.tracking.checks import CheckList, Reason
from dualface_client.tracking.identity import IdentityBook
from dualface_client.tracking.links import LinkBook
from dualface_client.tracking.quality import face_quality
from dualface_client.tracking.track import Track
from dualface_client.types import Faces

_MAX_REQUEST = 4  # faces of one request; the largest ones
_JOIN_ENROL_SHARE = 0.5  # an enrolment also enrols others that are due within this share of a pause


class Enquiry:
    """Chooses the faces of a request from open questions and due enrolments.

    Args:
        settings: Policy and times.
        checks: Open questions.
        people: Everyone known.
        links: Who is who.
        picture_wh_px: Width and height of the frames.
    """

    def __init__(
        self,
        settings: TrackingSettings,
        checks: CheckList,
        people: IdentityBook,
        links: LinkBook,
        picture_wh_px: tuple[int, int],
    ) -> None:
        self._policy = settings.reid
        self._settings: IdentitySettings = settings.identity
        self._checks = checks
        self._people = people
        self._links = links
        self._picture_wh_px = picture_wh_px
        #: Whether everybody is enrolled once, not only those who hold a side.
        self.everybody = False

    def choose(self, seen: Sequence[Track], faces: Faces, time_s: float) -> list[Track]:
        """The tracks to ask about, largest first; none on quiet frames.

        Args:
            seen: Confirmed tracks with a detection in this frame.
            faces: The frame's detections.
            time_s: Presentation time in seconds.
        """
        if self._policy == "never":
            return []
        if self._policy == "always":
            asked = list(seen)
        else:
            asked = self._to_check(seen, faces, time_s) or self._to_enrol(seen, faces, time_s)
        asked.sort(key=lambda track: track.box[1] - track.box[3])
        for track in asked[:_MAX_REQUEST]:
            if (check := self._checks.get(track.id)) is not None:
                check.is_seen_well |= self._is_seen_well(track, faces)
        return asked[:_MAX_REQUEST]

    def reason(self, track: Track) -> Reason:
        """Why a chosen face is asked about."""
        check = self._checks.get(track.id)
        return check.reason if check else Reason.ENROL

    def enrolment_is_due(
        self, track: Track, faces: Faces, time_s: float, share: float = _JOIN_ENROL_SHARE
    ) -> bool:
        """Whether a face may go into its person's gallery now: holders', or everybody's once.

        Args:
            track: A seen track.
            faces: The frame's detections.
            time_s: Presentation time in seconds.
            share: This much of the pause before an enrolment may still be missing.
        """
        identity = self._links.of(track.id)
        if not identity:
            return False
        person = self._people.people[identity]
        if not self._links.holds(track) and (len(person.gallery) or not self.everybody):
            return False
        if time_s < person.enrol_s - share * person.enrol_pause_s:
            return False
        if track.id in self._checks or self._checks.is_risky(track.id, time_s):
            return False
        return self._is_seen_well(track, faces)

    def _to_check(self, seen: Sequence[Track], faces: Faces, time_s: float) -> list[Track]:
        """With a question that is due, also the holders' faces: one says little about a swap."""
        if not self._people.knows_faces:
            return []
        if any(self._is_due(track, faces, time_s) for track in seen):
            return [track for track in seen if track.id in self._checks or self._links.holds(track)]
        return []

    def _is_due(self, track: Track, faces: Faces, time_s: float) -> bool:
        check = self._checks.get(track.id)
        if check is None:
            return False
        if time_s < check.next_s:  # unless it can be seen well for the first time
            was_asked_blindly = check.attempts > 0 and not check.is_seen_well
            return was_asked_blindly and self._is_seen_well(track, faces)
        if check.reason is not Reason.UNKNOWN:
            waited = time_s - check.since_s >= self._settings.patience_s / 2
            if check.reason is Reason.SCENE_CUT or waited:
                return True
        return self._is_seen_well(track, faces)

    def _is_seen_well(self, track: Track, faces: Faces) -> bool:
        quality = face_quality(faces, track.face_row, self._picture_wh_px)
        return quality >= self._settings.min_quality

    def _to_enrol(self, seen: Sequence[Track], faces: Faces, time_s: float) -> list[Track]:
        if not any(self.enrolment_is_due(track, faces, time_s, share=0.0) for track in seen):
            return []
        return [track for track in seen if self.enrolment_is_due(track, faces, time_s)]

"""Who each track is: what embeddings say about it, and what motion can know without them."""

from __future__ import annotations

from collections.abc import Sequence

from dualface_client.settings.tracking import IdentitySettings
from dualface_client.tracking.bytetrack import ByteTracker
from dualface_client.tracking.checks import CheckList, Reason
from dualface_client.tracking.identity import IdentityBook, Verdict
from dualface_client.tracking.links import LinkBook
from dualface_client.tracking.track import Track
from dualface_client.types import FloatArray


class Naming:
    """Sets the links of one stream.

    An unknown face stays unknown, as a person of its own, until an embedding says who it is. While
    somebody enrolled is missing such a person counts as not proven: the face is asked about again
    as soon as it can be seen well. A stranger is asked about again then, too, but seldom.

    Args:
        settings: Patience and quality.
        tracker: The tracks.
        checks: Open questions.
        book: Everyone known.
        links: Who is who.
    """

    def __init__(
        self,
        settings: IdentitySettings,
        tracker: ByteTracker,
        checks: CheckList,
        book: IdentityBook,
        links: LinkBook,
    ) -> None:
        self._settings = settings
        self._tracker = tracker
        self._checks = checks
        self._book = book
        self._links = links
        #: Links that embeddings changed from one person to another.
        self.corrections = 0

    def meet(self, tracks: Sequence[Track], time_s: float, *, shot_starts: bool) -> None:
        """Asks about tracks without a person if somebody they could be is missing, else new.

        While both holders are in sight nobody else matters: passers-by cost no ReID.
        """
        for track in self._links.unnamed(tracks):
            if self._links.missed(tracks):
                reason = Reason.SCENE_CUT if shot_starts else Reason.NEWCOMER
                self._checks.add(track.id, reason, time_s, track.started_s)
            else:
                self._links.create(track, time_s)
        if self._links.missed_holders(tracks):
            for track in tracks:
                if track.face_row >= 0 and self._may_be_known(track, time_s):
                    self._checks.add(track.id, Reason.UNKNOWN, time_s, track.started_s)

    def _may_be_known(self, track: Track, time_s: float) -> bool:
        """Whether an embedding could tell that a face with a name is that of somebody known."""
        if not self._book.knows_faces:
            return False  # a question that nothing answers would keep the face from being enrolled
        return self._links.is_unproven(track) or self._links.was_asked_long_ago(track, time_s)

    def go_by_motion(self, time_s: float, *, at_once: bool) -> None:
        """Names faces that no embedding could name in time."""
        for track in self._links.unnamed(self._tracker.confirmed):
            check = self._checks.get(track.id)
            patience_s = 0.0 if at_once else self._settings.patience_s
            if check is None or time_s - check.since_s >= patience_s:
                self._links.guess(track, time_s)

    def learn(
        self,
        asked: Sequence[Track],
        embeddings: FloatArray,
        qualities: Sequence[float],
        time_s: float,
    ) -> list[Verdict]:
        """Takes embeddings in.

        Args:
            asked: The tracks whose faces were embedded.
            embeddings: Shape `(k, d)`, float32, L2-normalised, one row per track.
            qualities: Of the same faces, 0 to 1.
            time_s: Presentation time in seconds.

        Returns:
            What the embeddings say, one per track.
        """
        links = [0 if self._links.is_unproven(t) else self._links.of(t.id) for t in asked]
        verdicts = self._book.judge(embeddings, links)
        claimed = {verdict.identity for verdict in verdicts if verdict.changes}
        for track, verdict, link, quality in zip(asked, verdicts, links, qualities, strict=True):
            if link and verdict.changes and not verdict.identity and link not in claimed:
                self._doubt(track, quality, time_s)
            else:
                self._apply(track, verdict, link, quality, time_s)
            person = self._book.people.get(self._links.of(track.id))
            if person is not None and verdict.decided and self._is_good(quality):
                person.asked_s, person.asked_times = time_s, person.asked_times + 1
        return verdicts

    def do_without(self, asked: Sequence[Track], time_s: float) -> None:
        """No embeddings came: asks again later, less and less often."""
        for track in asked:
            if track.id in self._checks:
                self._checks.postpone(track.id, time_s)
            elif self._links.of(track.id):
                self._book.skip(self._book.people[self._links.of(track.id)], time_s)

    def _apply(
        self, track: Track, verdict: Verdict, link: int, quality: float, time_s: float
    ) -> None:
        check = self._checks.get(track.id)
        since_s = check.doubtful_s if check else time_s
        # Everybody looks like a stranger in the dark or from the side.
        is_sure = verdict.decided and (verdict.identity > 0 or self._is_good(quality))
        if is_sure:
            self._checks.close(track.id)
        elif self._checks.postpone(track.id, time_s):
            return
        if check and check.reason is Reason.MERGED and self._hand_over(track, verdict, since_s):
            return
        if verdict.changes or not link:
            self._relink(track, verdict, link, since_s, time_s, is_sure=is_sure)

    def _relink(
        self,
        track: Track,
        verdict: Verdict,
        link: int,
        since_s: float,
        time_s: float,
        *,
        is_sure: bool,
    ) -> None:
        self._correct(link)
        own = self._links.of(track.id) if self._links.is_unproven(track) else 0
        if verdict.identity:
            self._links.link(track, verdict.identity, since_s)
            self._links.drop(own, verdict.identity, time_s)
        elif own:
            self._book.people[own].is_proven = is_sure
        else:
            self._links.adopt(track, since_s, time_s, is_proven=is_sure)

    def _hand_over(self, track: Track, verdict: Verdict, since_s: float) -> bool:
        """Gives a face to the lost track of the person it shows; False if there is none.

        The links stay: each track continues with the motion of its own person.
        """
        for taker in self._tracker.lost:
            if verdict.changes and self._links.of(taker.id) == verdict.identity != 0:
                self._correct(verdict.identity)
                self._tracker.hand_over(track, taker)
                self._links.note_handover(track, taker, since_s)
                return True
        return False

    def _doubt(self, track: Track, quality: float, time_s: float) -> None:
        """A face looks like a stranger: believed only if it still does at the last try, well seen.

        A hand, a turned head or the other person's shoulder can also spoil an embedding.
        """
        self._checks.add(track.id, Reason.DOUBT, time_s, time_s)
        if self._checks.postpone(track.id, time_s):
            return
        if self._is_good(quality):
            self._correct(self._links.of(track.id))
            self._links.adopt(track, time_s, time_s, is_proven=True)

    def _is_good(self, quality: float) -> bool:
        return quality >= self._settings.min_quality

    def _correct(self, link: int) -> None:
        self.corrections += int(link > 0)

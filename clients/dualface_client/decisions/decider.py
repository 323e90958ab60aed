"""One stream's decisions, frame by frame, without pixels: in this process or in another one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from dualface_client.decisions.commands import ChangeLayout, Command, HoldSide, SwapSides
from dualface_client.decisions.window import MAX_LOOKAHEAD_FRAMES, Decided, Lookahead
from dualface_client.framing.studio import Plan, Studio
from dualface_client.observe.stage_clock import StageClock
from dualface_client.observe.timeline import Timeline, TimelineRecorder
from dualface_client.picture.analysis import PictureAnalysis
from dualface_client.settings.stream import StreamSettings
from dualface_client.tracking.director import Director
from dualface_client.tracking.gallery import Member
from dualface_client.tracking.pins import Pin
from dualface_client.types import (
    ByteArray,
    Embeddings,
    Faces,
    FloatArray,
    IntArray,
    LayoutKind,
    PictureFacts,
    SeatAssignment,
)


@dataclass(frozen=True, slots=True)
class Brief:
    """What a stream's decisions start from.

    Attributes:
        settings: How to track and frame.
        source_wh_px: Width and height of the source.
        most_waiting: Most frames that may wait to be framed.
        pins: Faces that belong to a side.
        cast: Who the video is about, if that is known.
        join_s: How long others must be visible to take a side; 0 for the usual time.
    """

    settings: StreamSettings
    source_wh_px: tuple[int, int]
    most_waiting: int = MAX_LOOKAHEAD_FRAMES
    pins: tuple[Pin, ...] = ()
    cast: tuple[Member, ...] = ()
    join_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a frame when it has been detected.

    Attributes:
        time_s: Presentation time in seconds.
        faces: What was detected.
        thumbnail: Shape `(36, 64, 3)`, uint8 Y, Cb, Cr.
        preview: Makes the luma at most 320 px a side, uint8; only called if it is needed.
    """

    time_s: float
    faces: Faces
    thumbnail: ByteArray
    preview: Callable[[], ByteArray]


@dataclass(frozen=True, slots=True)
class CloserLook:
    """What ReID says about some faces of a frame.

    Attributes:
        embeddings: One row per face; None if the server could not provide them.
        sharpness: Shape `(k,)`, float32, of the same faces.
    """

    embeddings: Embeddings | None
    sharpness: FloatArray


@dataclass(frozen=True, slots=True)
class Decision:
    """What is final about a frame: no later one can change it any more.

    Attributes:
        plan: What the canvas shows.
        scene_cut: True on the first frame of a new shot.
        identities: Who holds the left and the right side, 0 for nobody.
        in_full: Reads who sits where, which few ask for.
    """

    plan: Plan
    scene_cut: bool
    identities: tuple[int, int]
    in_full: Callable[[], SeatAssignment]

    @classmethod
    def of(cls, assignment: SeatAssignment, plan: Plan) -> Decision:
        """A decision in the process that made it."""
        identities = assignment.left.identity, assignment.right.identity
        return cls(plan, assignment.scene_cut, identities, lambda: assignment)

    @property
    def assignment(self) -> SeatAssignment:
        """Who sits where, in full."""
        return self.in_full()


@dataclass(frozen=True, slots=True)
class Account:
    """What there is to tell of a stream besides its pictures.

    Attributes:
        timeline: Who sat where so far.
        notes: For the user.
    """

    timeline: Timeline = field(default_factory=Timeline)
    notes: tuple[str, ...] = ()


#: Yields the rows of faces that need a closer look, gets it sent, and returns the frames that are
#: final by then, in order.
Steps = Generator[IntArray, CloserLook, list[Decision]]


class Decider:
    """Decides one stream.

    Args:
        brief: What it starts from.
        clock: Gets the time of tracking and framing ("track") and of the look at the picture.
    """

    def __init__(self, brief: Brief, clock: StageClock) -> None:
        settings = brief.settings
        self._clock = clock
        self._director = Director(
            settings.tracking, brief.source_wh_px, brief.pins, brief.cast, brief.join_s
        )
        self._picture = PictureAnalysis(brief.source_wh_px)
        self._brief, self._layout = brief, settings.output.tile_layout
        self._studio = Studio(self._layout, brief.source_wh_px, settings.framing)
        self._waiting = Lookahead(settings.framing.lookahead_s, brief.most_waiting)
        self._earlier_notes: tuple[str, ...] = ()
        self._timeline = TimelineRecorder()

    def take(self, seen: Seen) -> Steps:
        """Takes the next frame, in steps."""
        with self._clock.stage("track"):
            rows = self._director.observe(seen.faces, seen.thumbnail, seen.time_s).face_rows
            assignment = None if len(rows) else self._director.decide(None, "")
        if assignment is None:
            look = yield rows
            with self._clock.stage("track"):
                assignment = self._decided(look)
        with self._clock.stage("picture"):
            facts = self._facts(seen, assignment.scene_cut)
        decided = Decided(
            seen.time_s, assignment, facts, self._director.relinks, self._director.seats
        )
        return [self._framed(window) for window in self._waiting.add(decided)]

    def _decided(self, look: CloserLook) -> SeatAssignment:
        found = look.embeddings
        if found is None:
            return self._director.decide(None, "", look.sharpness)
        return self._director.decide(found.vectors, found.model_version, look.sharpness)

    def obey(self, command: Command) -> str:
        """Carries out what somebody wants, before the next frame.

        Returns:
            Why it cannot be done, empty for done.
        """
        try:
            match command:
                case SwapSides():
                    self._director.swap()
                case HoldSide(side, identity):
                    self._director.hold(side, identity)
                case ChangeLayout(kind, gap_px):
                    self._change_layout(kind, gap_px)
        except ValueError as error:
            return str(error)
        return ""

    def _change_layout(self, kind: LayoutKind, gap_px: int | None) -> None:
        """Divides the same canvas in another way; the cameras begin anew, as after a cut."""
        gap_px = self._layout.gap_px if gap_px is None else gap_px
        layout = replace(self._layout, kind=kind, gap_px=gap_px)
        self._earlier_notes += self._studio.notes
        self._studio = Studio(layout, self._brief.source_wh_px, self._brief.settings.framing)
        self._layout = layout

    def finish(self) -> list[Decision]:
        """The frames that still wait, at the end of the stream."""
        return [self._framed(window) for window in self._waiting.rest()]

    def account(self) -> Account:
        """What there is to tell so far."""
        notes = (*self._director.notes, *self._earlier_notes, *self._studio.notes)
        return Account(self._timeline.timeline(), tuple(dict.fromkeys(notes)))

    def _facts(self, seen: Seen, scene_cut: bool) -> PictureFacts:
        """What is known of the picture besides its faces."""
        if not self._picture.wants(seen.time_s, scene_cut):
            return self._picture.unchanged
        return self._picture.update(seen.preview(), seen.faces, seen.time_s, scene_cut)

    def _framed(self, window: Sequence[Decided]) -> Decision:
        first = window[0]
        with self._clock.stage("track"):
            plan = self._studio.update([entry.moment for entry in window])
        self._timeline.add(first.time_s, first.assignment, plan.layout.value)
        return Decision.of(first.assignment, plan)


def stepped(steps: Steps, look: Callable[[IntArray], CloserLook]) -> list[Decision]:
    """Takes all steps of a frame, with a function that looks closer."""
    try:
        rows = next(steps)
        while True:
            rows = steps.send(look(rows))
    except StopIteration as end:
        decisions: list[Decision] = end.value
        return decisions


class Deciding(Protocol):
    """A stream's decisions, wherever they are made."""

    def decide(
        self, seen: Sequence[Seen], look: Callable[[int, IntArray], CloserLook]
    ) -> Iterator[Decision]:
        """Takes the next frames and yields those that are final, in order.

        Args:
            seen: Consecutive frames.
            look: Looks closer at faces of one of them: its index in `seen`, and the rows.
        """

    def obey(self, command: Command) -> str:
        """Carries out what somebody wants, before the next frame.

        Returns:
            Why it cannot be done, empty for done.
        """

    def finish(self) -> Sequence[Decision]:
        """The frames that still wait, at the end of the stream."""

    def account(self) -> Account:
        """What there is to tell so far; nothing, if a process that knew it does not answer."""

    def close(self) -> None:
        """Releases everything; safe to call twice."""


class Inline:
    """Decides on the calling thread, which never waits."""

    def __init__(
        self, brief: Brief, clock: StageClock, check: Callable[[], None] = lambda: None
    ) -> None:
        del check
        self._decider = Decider(brief, clock)

    def decide(
        self, seen: Sequence[Seen], look: Callable[[int, IntArray], CloserLook]
    ) -> Iterator[Decision]:
        """See `Deciding`."""
        for index, each in enumerate(seen):
            yield from stepped(self._decider.take(each), partial(look, index))

    def obey(self, command: Command) -> str:
        """See `Deciding`."""
        return self._decider.obey(command)

    def finish(self) -> Sequence[Decision]:
        """See `Deciding`."""
        return self._decider.finish()

    def account(self) -> Account:
        """See `Deciding`."""
        return self._decider.account()

    def close(self) -> None:
        """Nothing is open."""

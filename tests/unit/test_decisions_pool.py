"""Decisions in another process are those of this one, and nothing is left of it."""

from __future__ import annotations

import gc
import os
import resource
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from dualface_client.decisions.commands import ChangeLayout, Command, HoldSide, SwapSides
from dualface_client.decisions.decider import (
    Account,
    Brief,
    CloserLook,
    Deciding,
    Decision,
    Inline,
    Seen,
)
from dualface_client.decisions.pool import Deciders
from dualface_client.errors import DeciderLostError, PlatformError, StoppedError
from dualface_client.observe.stage_clock import StageClock
from dualface_client.settings.stream import StreamSettings
from dualface_client.types import ByteArray, Embeddings, Faces, IntArray, Side
from tests.processes import wait_until

SOURCE_WH = (640, 360)
BRIEF = Brief(StreamSettings(), SOURCE_WH)


def faces_at(*centres: tuple[float, float]) -> Faces:
    boxes = np.array([(x - 30, y - 40, x + 30, y + 40) for x, y in centres], np.float32)
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)
    landmarks = boxes[:, None, :2] + points * (boxes[:, 2:] - boxes[:, :2])[:, None, :]
    return Faces(boxes, np.full(len(centres), 0.9, np.float32), landmarks)


def crossing(frames: int = 90) -> list[Seen]:
    """Two people pass each other before a camera that shakes; a cut in the middle."""
    rng = np.random.default_rng(5)
    thumbnails = rng.integers(0, 256, (2, 36, 64, 3), np.uint8)
    walls = rng.integers(0, 256, (2, 50, 80), np.uint8)
    walls = np.stack([cv2.resize(wall, (400, 200)) for wall in walls])

    def preview(n: int) -> ByteArray:
        left, wall = round(12 + 10 * np.sin(n)), walls[int(n >= frames // 2)]
        return np.ascontiguousarray(wall[10:190, left : left + 320])

    return [
        Seen(
            n / 25,
            faces_at((150 + 4 * n, 180), (490 - 4 * n, 190)),
            thumbnails[int(n >= frames // 2)],
            partial(preview, n),
        )
        for n in range(frames)
    ]


def look_of(seen: Sequence[Seen]) -> Callable[[int, IntArray], CloserLook]:
    """ReID that knows who is who by height."""

    def look(index: int, rows: IntArray) -> CloserLook:
        vectors = np.zeros((len(rows), 128), np.float32)
        for vector, box in zip(vectors, seen[index].faces.boxes_xyxy_px[rows], strict=True):
            vector[int(box[1] > 145)] = 1.0
        return CloserLook(Embeddings(vectors, "t/1"), np.ones(len(rows), np.float32))

    return look


def decided(deciding: Deciding, seen: Sequence[Seen], batch: int) -> list[Decision]:
    found = to_the_end(deciding, seen, batch)
    deciding.close()
    return found


def to_the_end(deciding: Deciding, seen: Sequence[Seen], batch: int) -> list[Decision]:
    found: list[Decision] = []
    for first in range(0, len(seen), batch):
        part = seen[first : first + batch]
        found += deciding.decide(part, look_of(part))
    return [*found, *deciding.finish()]


@pytest.fixture(name="pool")
def running_pool() -> Iterator[Deciders]:
    with Deciders(2) as pool:
        yield pool


def has_begun(process: psutil.Process) -> bool:
    return bool(process.cmdline()) or process.status() == psutil.STATUS_ZOMBIE


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    # For a moment after a start a process has no command line yet.
    for each in found:
        wait_until(partial(has_begun, each), what="a command line")
    return [each for each in found if "dualface_client.decisions.process" in each.cmdline()]


@pytest.mark.parametrize("batch", [1, 7, 40])
def test_another_process_decides_the_same(pool: Deciders, batch: int) -> None:
    seen = crossing()
    inline, here = Inline(BRIEF, StageClock()), StageClock()
    expected = to_the_end(inline, seen, 1)
    elsewhere = pool.open(BRIEF, here)
    got = to_the_end(elsewhere, seen, batch)
    assert len(got) == len(expected) == len(seen)
    for one, other in zip(got, expected, strict=True):
        assert one.plan == other.plan
        assert one.scene_cut == other.scene_cut
        assert one.identities == other.identities
        full = one.assignment
        assert (full.left.identity, full.right.identity) == one.identities
        assert (full.scene_cut, full.reid_ran) == (one.scene_cut, other.assignment.reid_ran)
        for side in Side:
            theirs = other.assignment.of(side).box_xyxy_px
            np.testing.assert_array_equal(full.of(side).box_xyxy_px, theirs)
    assert elsewhere.account() == inline.account()
    assert any(each.assignment.scene_cut for each in got)
    assert sum(each.assignment.reid_ran for each in got) > 2
    stages = here.totals()
    closer = sum(each.assignment.reid_ran for each in got)
    assert stages["track"].calls == 2 * len(seen) + closer
    assert stages["picture"].calls == len(seen)


def test_processes_start_before_the_streams_that_will_want_them() -> None:
    with Deciders(3) as pool:
        pool.expect(2)
        started = {process.pid for process in children()}
        opened = [pool.open(BRIEF, StageClock()) for _ in range(2)]
        assert {process.pid for process in children()} == started
        assert len(started) == 2
        pool.expect(4)
        assert len(children()) == 3
        for each in opened:
            each.close()
    assert children() == []


def test_a_stream_that_has_ended_leaves_nothing_for_the_garbage_collector(pool: Deciders) -> None:
    """What a loop has, such as a GPU's memory, is free when it ends."""

    class Loop:
        def __init__(self) -> None:
            self.decisions = pool.open(BRIEF, StageClock(), self.check)

        def check(self) -> None:
            """Nobody wants to stop."""

    gc.disable()
    try:
        loop = Loop()
        gone = weakref.ref(loop)
        loop.decisions.close()
        del loop
        assert gone() is None
    finally:
        gc.enable()


def test_streams_share_as_many_processes_as_there_may_be(pool: Deciders) -> None:
    opened = [pool.open(BRIEF, StageClock()) for _ in range(5)]
    assert len(children()) == 2
    for each in opened:
        assert len(decided(each, crossing(20), 16)) == 20


def test_without_descriptors_a_stream_is_refused_and_nothing_leaks(pool: Deciders) -> None:
    pool.open(BRIEF, StageClock()).close()
    gc.collect()  # what other tests left may hold files
    open_now = len(os.listdir("/proc/self/fd")) - 1  # without the listing's own
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(3):  # none, or too few for what comes next
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + spare, hard))
        try:
            with pytest.raises(PlatformError, match=r"cannot be connected .*`ulimit -n`"):
                pool.open(BRIEF, StageClock())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) - 1 == open_now
    assert len(decided(pool.open(BRIEF, StageClock()), crossing(20), 16)) == 20


def test_without_descriptors_for_its_first_process_nothing_leaks() -> None:
    with Deciders(1) as pool:
        gc.collect()
        open_now = len(os.listdir("/proc/self/fd")) - 1
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for spare in range(4):  # none, or too few for what comes next
            resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + spare, hard))
            try:
                with pytest.raises(PlatformError, match="cannot be connected"):
                    pool.open(BRIEF, StageClock())
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert len(os.listdir("/proc/self/fd")) - 1 == open_now


def test_nothing_is_left_of_a_pool() -> None:
    files = len(os.listdir("/proc/self/fd"))
    with Deciders(1) as pool:
        for _ in range(20):
            decided(pool.open(BRIEF, StageClock()), crossing(3), 3)
        (process,) = children()
        assert process.num_fds() < 12  # streams that have ended hold nothing there
    assert not process.is_running()
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_process_that_dies_is_named_and_replaced(pool: Deciders) -> None:
    stream = pool.open(BRIEF, StageClock())
    (process,) = children()
    process.send_signal(signal.SIGKILL)
    seen = crossing(3)
    with pytest.raises(DeciderLostError, match=r"is gone \(exit status -9\)"):
        decided(stream, seen, 3)
    stream.close()
    assert len(decided(pool.open(BRIEF, StageClock()), seen, 3)) == 3


def test_a_process_that_hangs_can_be_left() -> None:
    def asked() -> None:
        raise StoppedError("the user has seen enough")

    with Deciders(1) as pool:
        stream = pool.open(BRIEF, StageClock(), asked)
        (process,) = children()
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoppedError, match="seen enough"):
            decided(stream, crossing(3), 3)
        assert stream.account() == Account()  # it is not waited for again
        stream.close()
        process.send_signal(signal.SIGCONT)


class FailedLookError(Exception):
    """What a look at a face ran into."""


def at(
    place: int, look: Callable[[int, IntArray], CloserLook], index: int, rows: IntArray
) -> CloserLook:
    """A look at the only frame of a batch, by its place in the stream."""
    return look(place + index, rows)


def fail_to_look(deciding: Deciding) -> None:
    """Half of a stream, whose server fails at a look at a face."""
    seen = crossing()

    def look(index: int, rows: IntArray) -> CloserLook:
        if seen[index].time_s > 1.0:
            raise FailedLookError
        return look_of(seen)(index, rows)

    def all_of_it() -> None:
        for index in range(len(seen)):
            list(deciding.decide([seen[index]], partial(at, index, look)))

    with pytest.raises(FailedLookError):
        all_of_it()


def test_what_is_known_of_a_stream_that_fails_is_told(pool: Deciders) -> None:
    inline, clock = Inline(BRIEF, StageClock()), StageClock()
    elsewhere = pool.open(BRIEF, clock)
    for each in (inline, elsewhere):
        fail_to_look(each)
    told = elsewhere.account()
    elsewhere.close()
    assert told == inline.account()
    assert told.timeline.seatings
    assert clock.totals()["track"].calls > 25


def test_nothing_waits_for_the_collector_of_a_stream_that_ends_in_the_middle_of_a_look() -> None:
    def maps(pid: int) -> int:
        return Path(f"/proc/{pid}/maps").read_text().count("memfd:dualface-decisions")

    with Deciders(1) as pool:
        stream = pool.open(BRIEF, StageClock())
        (process,) = children()
        fail_to_look(stream)
        assert maps(process.pid) == 1
        stream.close()
        wait_until(lambda: maps(process.pid) == 0, what="its memory is free")


def test_an_error_while_deciding_fails_its_own_stream_only(pool: Deciders) -> None:
    good, bad = (pool.open(BRIEF, StageClock()) for _ in range(2))
    seen = crossing(2)
    thumbnail = np.zeros((5, 5, 3), np.uint8)  # no whole number of blocks
    with pytest.raises(RuntimeError, match="while deciding\nTraceback"):
        decided(bad, [replace(seen[0], thumbnail=thumbnail)], 1)
    assert len(decided(good, seen, 2)) == 2


def test_no_process_means_this_thread(tmp_path: Path) -> None:
    with Deciders(0) as pool:
        assert len(decided(pool.open(BRIEF, StageClock()), crossing(5), 2)) == 5
        assert not children()


def test_what_somebody_wants_is_done_elsewhere_too(pool: Deciders) -> None:
    seen = crossing()
    wishes: dict[int, Command] = {
        20: SwapSides(),
        50: ChangeLayout("stacked"),
        70: HoldSide(Side.LEFT, 9),
    }
    found: list[list[Decision]] = []
    for deciding in (Inline(BRIEF, StageClock()), pool.open(BRIEF, StageClock())):
        decisions, answers = list[Decision](), list[str]()
        for index, each in enumerate(seen):
            if index in wishes:
                answers.append(deciding.obey(wishes[index]))
            decisions += deciding.decide([each], look_of([each]))
        decisions += deciding.finish()
        deciding.close()
        assert answers == ["", "", "person 9: is not known; known are 1, 2"]
        found.append(decisions)
    here, elsewhere = found
    assert [d.plan for d in here] == [d.plan for d in elsewhere]
    last = here[-1].assignment
    assert (last.left.identity, last.right.identity) == (2, 1)

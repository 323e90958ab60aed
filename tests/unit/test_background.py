from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from dualface_client.background import BackgroundLoop

NEVER_S = 3600.0


class Counter:
    """A step that counts its calls and can be waited for."""

    def __init__(self, answer: Callable[[int], bool | None] = lambda calls: None) -> None:
        self.calls = 0
        self.thread = threading.current_thread()
        self._answer = answer
        self._called = threading.Condition()

    def __call__(self) -> bool | None:
        with self._called:
            self.calls += 1
            self.thread = threading.current_thread()
            self._called.notify_all()
        return self._answer(self.calls)

    def wait_for(self, calls: int) -> None:
        with self._called:
            assert self._called.wait_for(lambda: self.calls >= calls, 10.0)


@pytest.mark.parametrize(
    ("at_once", "once_more", "calls"), [(False, False, 0), (False, True, 1), (True, True, 2)]
)
def test_first_and_last_call(at_once: bool, once_more: bool, calls: int) -> None:
    step = Counter()
    with BackgroundLoop(step, name="x", period_s=NEVER_S, at_once=at_once, once_more=once_more):
        pass
    assert step.calls == calls


def test_the_first_call_at_once_does_not_wait_for_a_period() -> None:
    step = Counter()
    with BackgroundLoop(step, name="x", period_s=NEVER_S, at_once=True):
        step.wait_for(1)
    assert step.calls == 1


def test_it_goes_on_until_it_is_closed_on_a_named_daemon_thread() -> None:
    step = Counter()
    with BackgroundLoop(step, name="counter", period_s=0.001) as loop:
        step.wait_for(5)
        assert not loop.ended
    assert loop.ended
    assert (step.thread.name, step.thread.daemon) == ("counter", True)
    loop.close()


def test_a_step_changes_the_period() -> None:
    def slow_down(calls: int) -> None:
        if calls == 3:
            loops[0].period_s = NEVER_S

    step = Counter(slow_down)
    loops: list[BackgroundLoop] = []
    release = threading.Event()

    def first_release_then_step() -> bool | None:
        assert release.wait(10.0)
        return step()

    with BackgroundLoop(first_release_then_step, name="x", period_s=0.0) as loop:
        loops.append(loop)
        release.set()
        step.wait_for(3)
    assert step.calls == 3


def test_a_step_that_returns_false_ends_it_without_another_call() -> None:
    ended = threading.Event()
    step = Counter(lambda calls: calls < 2)
    with BackgroundLoop(step, name="x", period_s=0.0, once_more=True, at_end=ended.set):
        assert ended.wait(10.0)
    assert step.calls == 2


def fail(calls: int) -> None:
    raise KeyError(calls)


def test_what_a_step_raises_ends_the_loop_and_comes_out_of_close_once() -> None:
    ended = threading.Event()
    step = Counter(fail)
    loop = BackgroundLoop(step, name="x", period_s=0.0, once_more=True, at_end=ended.set)
    assert ended.wait(10.0)
    with pytest.raises(KeyError):
        loop.close()
    loop.close()
    assert step.calls == 1


def test_what_a_step_raises_goes_to_whoever_was_named() -> None:
    told: list[Exception] = []
    with BackgroundLoop(Counter(fail), name="x", period_s=0.0, at_once=True, failed=told.append):
        pass
    assert [repr(error) for error in told] == ["KeyError(1)"]


def test_a_failure_at_the_end_is_not_lost_either() -> None:
    loop = BackgroundLoop(Counter(), name="x", period_s=NEVER_S, at_end=lambda: fail(0))
    with pytest.raises(KeyError):
        loop.close()


def test_close_waits_no_longer_than_its_limit_for_a_step_that_hangs() -> None:
    entered, release = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        release.wait(10.0)

    loop = BackgroundLoop(hang, name="x", period_s=0.0, join_limit_s=0.0)
    assert entered.wait(10.0)
    loop.close()
    assert not loop.ended
    release.set()

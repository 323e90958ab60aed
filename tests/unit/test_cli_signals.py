"""A signal may come at any moment, also while the main thread holds what it would wait for."""

from __future__ import annotations

import signal
import threading

import pytest

from dualface_client.cli.signals import set_on_hangup, stop_on_signal


@pytest.mark.timeout(30)
def test_a_signal_that_comes_while_its_event_is_in_use_is_heard() -> None:
    told: list[str] = []
    with stop_on_signal(told.append, lambda: None) as stop:
        with stop.event._cond:  # type: ignore[attr-defined]  # as within `wait`
            signal.raise_signal(signal.SIGTERM)
        assert stop.event.wait(20)
    assert (stop.signal_number, stop.exit_code) == (signal.SIGTERM, 143)
    assert len(told) == 1
    assert "signals" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.timeout(30)
def test_so_is_a_hangup_that_asks_for_a_reload_and_is_no_stop() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with stop_on_signal(lambda text: None, lambda: None) as stop, set_on_hangup() as reload:
        with reload._cond:  # type: ignore[attr-defined]  # as within `wait`
            signal.raise_signal(signal.SIGHUP)
        assert reload.wait(20)
        assert not stop.is_asked
    assert signal.getsignal(signal.SIGHUP) is before

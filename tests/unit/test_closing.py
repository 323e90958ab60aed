from __future__ import annotations

import pytest

from dualface_client.closing import ClosesAtExit


class Door(ClosesAtExit):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


def test_the_end_of_the_body_closes_once() -> None:
    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1


def test_an_error_in_the_body_closes_too_and_is_not_swallowed() -> None:
    door = Door()
    with pytest.raises(KeyError), door:
        raise KeyError
    assert door.closed == 1


def test_a_class_that_forgets_to_close_cannot_be_made() -> None:
    class Forgetful(ClosesAtExit):
        pass

    with pytest.raises(TypeError, match="close"):
        Forgetful()  # type: ignore[abstract] # that is the point

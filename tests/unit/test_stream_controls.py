"""Wishes for a running stream: taken between frames, and each of them answered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dualface_client.decisions.commands import ChangeLayout, Command, HoldSide, SwapSides
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.controls import Controls
from dualface_client.types import Frame, Side
from tests.unit.test_stream_loop import FakeImaging, FakeSource, Stage


def test_a_wish_is_taken_once_and_answered_by_the_end_at_the_latest() -> None:
    controls, answers = Controls(), list[str]()
    controls.ask(SwapSides(), answers.append)
    (asked,) = controls.take()
    assert (asked.command, controls.take()) == (SwapSides(), [])
    asked.answer("")
    controls.ask(SwapSides(), answers.append)
    controls.close()
    controls.ask(SwapSides(), answers.append)
    assert answers == ["", "the stream has ended", "the stream has ended"]


def test_wishes_that_come_with_one_that_fails_are_answered_too() -> None:
    controls, answers = Controls(), list[str]()
    for _ in range(3):
        controls.ask(SwapSides(), answers.append)
    obeyed = iter([""])
    with pytest.raises(StopIteration):
        controls.obey_all(lambda command: next(obeyed))
    assert answers == ["", *2 * ["the stream failed before it could be done"]]


@dataclass
class Wishful(FakeSource):
    """Asks for something before a frame."""

    wishes: dict[int, Command] = field(default_factory=dict)
    controls: Controls = field(default_factory=Controls)
    answers: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[Frame]:
        for frame in super().__iter__():
            if frame.index in self.wishes:
                self.controls.ask(self.wishes[frame.index], self.answers.append)
            yield frame


def played(wishes: dict[int, Command], count: int = 120) -> tuple[Stage, list[str]]:
    source = Wishful(count, wishes=wishes)
    stage = Stage(source, controls=source.controls, imaging=Areas())
    stage.run(StreamSettings(framing=replace(StreamSettings().framing, alone="tile")))
    assert len(stage.sink.frames) == count
    return stage, source.answers


class Areas(FakeImaging):
    """Remembers where each canvas had its first view."""

    def __init__(self) -> None:
        super().__init__()
        self.areas: list[tuple[int, ...]] = []

    def compose(self, images: Any, views: Any, canvas: Any) -> Any:
        self.areas += [(each[0].area.width_px, each[0].area.height_px) for each in views]
        return super().compose(images, views, canvas)


def test_the_two_change_tiles_while_the_stream_runs() -> None:
    stage, answers = played({80: SwapSides()})
    assert answers == [""]
    assert stage.status.snapshot().sides == {2: "left", 1: "right"}


def test_a_person_gets_a_tile_by_hand() -> None:
    stage, answers = played({80: HoldSide(Side.LEFT, 2), 90: HoldSide(Side.LEFT, 9)})
    assert answers[0] == ""
    assert answers[1] == "person 9: is not known; known are 1, 2"
    assert stage.status.snapshot().sides == {2: "left", 1: "right"}


def test_the_canvas_is_divided_in_another_way_and_keeps_its_size() -> None:
    stage, answers = played({60: ChangeLayout("stacked"), 90: ChangeLayout("solo")})
    assert answers == ["", ""]
    imaging = stage.imaging
    assert isinstance(imaging, Areas)
    assert list(dict.fromkeys(imaging.areas)) == [(960, 1080), (1920, 540), (1920, 1080)]


def test_a_gap_comes_with_the_layout_that_has_one() -> None:
    stage, answers = played({40: ChangeLayout("stacked", 40), 80: ChangeLayout("side-by-side")})
    assert answers == ["", ""]
    imaging = stage.imaging
    assert isinstance(imaging, Areas)
    assert list(dict.fromkeys(imaging.areas)) == [(960, 1080), (1920, 520), (940, 1080)]


def test_a_layout_that_the_canvas_does_not_allow_is_refused_and_changes_nothing() -> None:
    settings = StreamSettings()
    odd = replace(settings, output=replace(settings.output, canvas_wh_px=(640, 362)))
    source = Wishful(30, wishes={5: ChangeLayout("stacked")})
    stage = Stage(source, controls=source.controls)
    stage.run(odd)
    assert "expected an even gap and even tiles" in source.answers[0]
    assert len(stage.sink.frames) == 30

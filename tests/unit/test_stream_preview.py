"""Live pictures: only while somebody looks, bounded, and never a reason for a stream to fail."""

from __future__ import annotations

import cv2
import numpy as np

from dualface_client.imaging.jpeg import small_jpeg
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.preview import Preview, PreviewTap
from dualface_client.types import ByteArray, Nv12Image, Person, SeatAssignment, Side, TrackView
from tests.unit.test_stream_loop import FakeSource, Stage, picture


def decoded(jpeg: bytes) -> ByteArray:
    found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(found, np.uint8)


def test_a_picture_becomes_a_small_jpeg_of_the_same_colours() -> None:
    luma = np.full((1080, 1920), 81, np.uint8)
    chroma = np.full((540, 960, 2), (90, 240), np.uint8)  # red, in BT.601
    found = decoded(small_jpeg(Nv12Image(luma, chroma), 480))
    assert found.shape == (270, 480, 3)
    blue, green, red = found.reshape(-1, 3).mean(axis=0)
    assert red > 220
    assert max(blue, green) < 40
    assert decoded(small_jpeg(picture(3), 640)).shape == (180, 320, 3)  # never enlarged


def test_pictures_come_while_somebody_looks_and_at_most_five_a_second() -> None:
    now_s, sent = 100.0, list[Preview]()
    tap = PreviewTap(sent.append, lambda: now_s)
    assert not tap.is_due
    tap.watch(2.0)
    assert tap.is_due
    person = TrackView(3, 1, np.array([32, 18, 160, 90], np.float32), 0.9)
    stranger = TrackView(4, 0, np.array([0, 0, 32, 18], np.float32), 0.9)
    assignment = SeatAssignment(Person(0), Person(1), tracks=(person, stranger))
    tap.show(picture(1), picture(2), assignment)
    assert not tap.is_due
    now_s += 0.21
    assert tap.is_due
    now_s += 2.0
    assert not tap.is_due
    (shown,) = sent
    assert [(each.person, each.side) for each in shown.people] == [(1, Side.RIGHT.value), (0, "")]
    assert np.allclose(shown.people[0].box_xyxy, (0.1, 0.1, 0.5, 0.5))
    tap.watch(1.0)
    assert tap.is_due


def test_nobody_can_look_where_pictures_go_nowhere() -> None:
    tap = PreviewTap()
    tap.watch(10.0)
    assert not tap.is_due


def test_a_stream_shows_itself_and_goes_on_if_that_fails() -> None:
    for broken in (False, True):
        sent = list[Preview]()

        def send(preview: Preview, sent: list[Preview] = sent, broken: bool = broken) -> None:
            sent.append(preview)
            if broken:
                raise OSError("the wall fell")

        stage = Stage(FakeSource(40), tap=PreviewTap(send))
        stage.tap.watch(1000.0)
        stage.run(StreamSettings())
        assert len(stage.sink.frames) == 40
        assert sent
        notes = stage.status.snapshot().warnings
        assert any("the live picture failed: the wall fell" in note for note in notes) is broken

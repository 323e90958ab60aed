"""What streams hold and ask for, as memory is planned from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dualface_client.settings.cast import CastSettings
from dualface_client.settings.stream import DetectionSettings, StreamSettings
from dualface_client.settings.tracking import TrackingSettings
from dualface_client.stream.load import demands, slot_groups
from dualface_client.triton.batch_sizes import Demand

EIGHT = StreamSettings(
    detection=DetectionSettings(frames_per_request=8, requests_in_flight=2, every=1)
)


@pytest.mark.parametrize(("streams", "slots"), [(1, 3), (3, 7), (4, 10), (8, 19)])
def test_streams_share_their_spare_slots(streams: int, slots: int) -> None:
    """One for up to three, one more for each further four."""
    assert slot_groups(EIGHT, streams)["face_detect"].count == slots


@pytest.mark.parametrize(
    ("files", "live", "expected"),
    [
        (1, 0, Demand(8, 16, has_single=True)),
        (16, 0, Demand(8, 256, has_single=True)),
        (0, 3, Demand(1, 3)),
        (2, 3, Demand(1, 35, has_single=True)),
    ],
)
def test_the_detector_is_asked_by_files_in_requests_and_by_live_streams_frame_by_frame(
    files: int, live: int, expected: Demand
) -> None:
    assert demands(EIGHT, files, live)["face_detect"] == expected


def test_single_frames_come_from_the_look_and_from_between_detections() -> None:
    plain = replace(EIGHT, cast=CastSettings(enabled=False))
    assert not demands(plain, 4, 0)["face_detect"].has_single
    assert demands(plain, 4, 0, [EIGHT])["face_detect"].has_single
    never = replace(EIGHT, tracking=replace(TrackingSettings(), reid="never"))
    assert not demands(never, 4, 0)["face_detect"].has_single
    sparse = replace(plain, detection=replace(EIGHT.detection, every=4))
    assert demands(sparse, 4, 0)["face_detect"].has_single


def test_reid_is_seldom_asked_unless_it_always_is() -> None:
    assert demands(EIGHT, 6, 2)["face_reid"] == Demand(4, 4)
    always = replace(EIGHT, tracking=replace(TrackingSettings(), reid="always"))
    assert demands(always, 6, 2)["face_reid"] == Demand(4, 32)
    assert demands(EIGHT, 6, 2, [always])["face_reid"] == Demand(4, 32)

"""Photos of people are looked at once for each version of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from dualface_client.errors import UsageError
from dualface_client.settings.tracking import IdentitySettings, SideSettings, TrackingSettings
from dualface_client.stream.pins import PinnedPhotos
from dualface_client.types import Faces, Nv12Image, Side
from tests.unit.test_stream_loop import (
    FakeDetector,
    FakeEmbedder,
    FakeImaging,
    FakePending,
    two_faces,
)


@dataclass
class Portraits(FakeDetector):
    """One face in each picture."""

    def submit(self, images: Sequence[Nv12Image], imaging: object) -> FakePending:
        super().submit(images, imaging)
        found = two_faces()
        one = Faces(found.boxes_xyxy_px[:1], found.scores[:1], found.landmarks_px[:1])
        return FakePending([one], None)


@pytest.fixture
def settings(tmp_path: Path) -> TrackingSettings:
    photo = tmp_path / "ann.png"
    cv2.imwrite(str(photo), np.full((180, 320, 3), 120, np.uint8))
    return TrackingSettings(
        identity=IdentitySettings(min_quality=0.0), sides=SideSettings(pin_right=str(photo))
    )


def test_a_photo_is_embedded_once_and_again_for_another_model(settings: TrackingSettings) -> None:
    photos, imaging, detector, embedder = PinnedPhotos(), FakeImaging(), Portraits(), FakeEmbedder()
    pins = [photos.pins(settings, imaging, detector, embedder) for _ in range(3)]
    assert [(pin.side, pin.model_version) for pin in pins[2]] == [(Side.RIGHT, "fake/1")]
    assert embedder.calls == 1
    embedder.model_version = "fake/2"
    assert photos.pins(settings, imaging, detector, embedder)[0].model_version == "fake/2"
    assert embedder.calls == 2


def test_a_photo_of_two_people_is_refused(settings: TrackingSettings) -> None:
    with pytest.raises(UsageError, match="exactly one usable face, found 2"):
        PinnedPhotos().pins(settings, FakeImaging(), FakeDetector(), FakeEmbedder())

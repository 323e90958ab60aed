"""The check of the soak benchmark that an output is as long as its source."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak.lengths import length_faults
from tests import media
from tests.media import Audio, Clip


@pytest.mark.parametrize(("frames", "faults"), [(50, 0), (49, 0), (46, 2), (54, 2)])
def test_more_than_a_frame_is_a_fault(tmp_path: Path, frames: int, faults: int) -> None:
    source = media.make(tmp_path / "in.mp4", Clip(frames=50))
    output = media.make(tmp_path / "out.mp4", Clip(frames=frames))
    assert len(length_faults(source, output)) == faults


def test_any_track_of_the_source_may_be_the_one(tmp_path: Path) -> None:
    parts = [media.make(tmp_path / f"{n}.mp4", Clip(frames=n)) for n in (20, 50)]
    source = media.beside(tmp_path / "two.mkv", parts)
    assert length_faults(source, media.make(tmp_path / "out.mkv", Clip(frames=50))) == []


def test_pictures_that_are_missing_behind_the_sound_are_a_fault(tmp_path: Path) -> None:
    source = media.make(tmp_path / "in.mkv", Clip(frames=50, audio=[Audio(seconds=2)]))
    output = media.make(tmp_path / "out.mkv", Clip(frames=40, audio=[Audio(seconds=2)]))
    (fault,) = length_faults(source, output)
    assert fault.startswith("1.56 s of pictures")

"""Single pictures from anywhere in a file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from dualface_client.errors import SourceError
from dualface_client.video.glimpses import Glimpses
from dualface_client.video.source import PyavSource
from tests import media
from tests.media import Clip

LONG = Clip(frames=40, options={"g": "10", "sc_threshold": "0", "preset": "veryfast"})


@pytest.fixture(params=["mp4", "mkv", "ts"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return media.make(tmp_path / f"clip.{request.param}", LONG)


def test_a_picture_is_that_of_its_time(path: Path) -> None:
    frames = list(PyavSource(path, threads=1))
    start_s = frames[0].time_s
    glimpses = Glimpses(path)
    for time_s in (0.0, 0.82, 0.4, 0.9, 0.0, 1.1):
        found = glimpses.at(time_s)
        assert found is not None
        # Pictures that others do not need are left out, and without an index a seek is coarse.
        slack_s = 0.21 if glimpses.key_times_s else 0.5
        assert abs(found.time_s - start_s - time_s) <= slack_s
        (same,) = [frame for frame in frames if frame.pts == found.pts]
        assert media.luma_of(found.image.y) == pytest.approx(media.luma_of(same.image.y), abs=0.5)
        assert found.image.y.shape == same.image.y.shape
    glimpses.close()


def test_key_frames_are_known_where_the_file_has_an_index(tmp_path: Path) -> None:
    glimpses = Glimpses(media.make(tmp_path / "clip.mp4", LONG))
    assert glimpses.key_times_s == pytest.approx((0.0, 0.4, 0.8, 1.2))
    for key_s in glimpses.key_times_s:
        found = glimpses.at(key_s)
        assert found is not None
        assert found.time_s == pytest.approx(key_s)
    glimpses.close()


def test_after_the_end_there_is_nothing_and_before_it_there_is_again(path: Path) -> None:
    glimpses = Glimpses(path)
    last = glimpses.at(100.0)
    assert last is None or last.time_s > 1.0
    first = glimpses.at(0.0)
    assert first is not None
    assert first.index == (0 if last is None else 1)


def test_a_turned_video_is_turned_like_in_a_run(tmp_path: Path) -> None:
    path = media.make(tmp_path / "a.mp4", Clip(frames=20, sample_aspect=Fraction(2)))
    (source,) = [PyavSource(path, threads=1)]
    glimpses = Glimpses(path)
    found = glimpses.at(0.3)
    assert found is not None
    assert found.image.width_px == source.info.width_px == 128
    source.close()
    glimpses.close()


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(SourceError, match="text"):
        Glimpses(tmp_path / "text.mp4")

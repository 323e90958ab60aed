"""Single pictures from anywhere in a file."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dualface_client.errors import SourceError
from dualface_client.video.glimpses import Glimpses
from dualface_client.video.source import PyavSource
from tests import media
from tests.media import Clip

LONG = Clip(frames=40, options={"g": "10", "sc_threshold": "0", "preset": "veryfast"})


HDR = replace(LONG, color=(9, 1, 9, 16))


@pytest.fixture(params=["mp4", "mkv", "ts", "hdr.mkv"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name = f"clip.{request.param}"
    return media.make(tmp_path / name, HDR if "hdr" in name else LONG)


def test_a_picture_is_that_of_its_time(path: Path) -> None:
    frames = list(PyavSource(path, threads=1))
    glimpses = Glimpses(path)
    for time_s in (0.0, 0.82, 0.4, 0.9, 0.0, 1.1):
        found = glimpses.at(time_s)
        assert found is not None
        # Pictures that others do not need are left out, and without an index a seek is coarse.
        assert found.time_s == pytest.approx(time_s, abs=0.5 if path.suffix == ".ts" else 0.21)
        (same,) = [frame for frame in frames if frame.pts - frames[0].pts == found.pts]
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


@pytest.mark.parametrize("container", ["ts", "flv"])
def test_an_index_of_the_first_part_only_is_not_trusted(tmp_path: Path, container: str) -> None:
    """FFmpeg lists the key frames that it has read so far; a seek finds the others all the same."""
    options = {"g": "25", "sc_threshold": "0"}
    glimpses = Glimpses(media.make(tmp_path / f"a.{container}", Clip(frames=500, options=options)))
    moments_s = [0.5 + second for second in range(0, 19, 2)]
    for time_s in moments_s:
        found = glimpses.at(time_s)
        assert found is not None
        assert found.time_s == pytest.approx(time_s, abs=1.0)
    assert glimpses.key_times_s == ()
    assert glimpses.decoded <= 2 * len(moments_s)
    glimpses.close()


@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_a_file_with_a_single_key_frame_is_seen_everywhere(tmp_path: Path, container: str) -> None:
    path = media.make(tmp_path / f"a.{container}", Clip(frames=100, options={"g": "250"}))
    glimpses = Glimpses(path)
    for time_s in (0.0, 1.0, 2.0, 3.0, 0.5, 2.5):
        found = glimpses.at(time_s)
        assert found is not None
        assert found.time_s == pytest.approx(time_s, abs=0.2)
    glimpses.close()


def test_a_picture_that_cannot_be_decoded_is_told_without_a_word_about_the_look(
    tmp_path: Path,
) -> None:
    whole = media.make(tmp_path / "whole.mp4", LONG)
    path = media.damage(tmp_path / "bad.mp4", whole, range(15, 40), skip=0)
    glimpses = Glimpses(path)
    with pytest.raises(SourceError, match=r"check that it is a complete video file$"):
        glimpses.at(1.0)
    glimpses.close()


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
def test_a_far_place_is_found_without_decoding_all_before_it(
    tmp_path: Path, container: str
) -> None:
    options = {"g": "50", "sc_threshold": "0", "preset": "ultrafast"}
    path = media.make(tmp_path / f"long.{container}", Clip(frames=1000, options=options))
    glimpses = Glimpses(path)
    for time_s in (0.0, 30.0, 39.0, 8.0):
        found = glimpses.at(time_s)
        assert found is not None
        assert found.time_s == pytest.approx(time_s, abs=0.25)
    glimpses.close()


def test_after_the_end_there_is_nothing_and_before_it_there_is_again(path: Path) -> None:
    glimpses = Glimpses(path)
    last = glimpses.at(100.0)
    assert last is None or last.time_s > 1.0
    first = glimpses.at(0.0)
    assert first is not None
    assert first.index == (0 if last is None else 1)


@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(2)])
def test_pictures_have_the_shape_that_a_run_sees(tmp_path: Path, aspect: Fraction) -> None:
    path = media.make(tmp_path / "a.mp4", Clip(frames=20, sample_aspect=aspect))
    frames = list(PyavSource(path, threads=1))
    glimpses = Glimpses(path)
    found = glimpses.at(0.3)
    assert found is not None
    assert found.image.width_px == glimpses.info.width_px == 64 * aspect
    (same,) = [frame for frame in frames if frame.pts - frames[0].pts == found.pts]
    assert np.abs(found.image.y.astype(int) - same.image.y).max() == 0
    glimpses.close()


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(SourceError, match="text"):
        Glimpses(tmp_path / "text.mp4")


def test_the_track_is_that_of_the_run(tmp_path: Path) -> None:
    small = media.make(tmp_path / "small.mp4", Clip(frames=20))
    large = media.make(tmp_path / "large.mp4", Clip(frames=20, size_wh_px=(128, 96)))
    path = media.beside(tmp_path / "two.mkv", [small, large])
    for track in (None, 1, 2):
        source, glimpses = PyavSource(path, video_track=track), Glimpses(path, track)
        found = glimpses.at(0.2)
        assert found is not None
        assert found.image.width_px == source.info.width_px
        source.close()
        glimpses.close()

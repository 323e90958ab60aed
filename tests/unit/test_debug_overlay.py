"""The debug overlay: what is drawn, and that its failure is nobody else's."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dualface_client.batch.outputs import check_per_video, overlay_files
from dualface_client.errors import UsageError
from dualface_client.imaging.overlay import draw_overlay
from dualface_client.stream.job import Job
from dualface_client.stream.overlay import DebugOverlay, overlay_path
from dualface_client.types import (
    Crop,
    Frame,
    Nv12Image,
    Person,
    SeatAssignment,
    Side,
    TileLayout,
    TrackView,
    VideoInfo,
    View,
)

WH = (640, 360)
CROPS = ((Side.LEFT, Crop(20, 40, 240, 270)), (Side.RIGHT, Crop(340, 40, 240, 270)))
LEFT_BOX = np.array([80, 120, 160, 220], np.float32)
STRANGER_BOX = np.array([280, 200, 320, 250], np.float32)


def grey() -> Nv12Image:
    width, height = WH
    return Nv12Image(
        np.full((height, width), 100, np.uint8),
        np.full((height // 2, width // 2, 2), 128, np.uint8),
    )


def decided(risk: float = 0.0, score: float = 0.9) -> SeatAssignment:
    tracks = (TrackView(1, 1, LEFT_BOX, score), TrackView(2, 0, STRANGER_BOX, 0.8))
    return SeatAssignment(
        Person(1, LEFT_BOX, score),
        Person(),
        risk=risk,
        risk_parts=(("overlap", 0.4),) if risk else (),
        tracks=tracks,
    )


def drawn(
    assignment: SeatAssignment, crops: Sequence[tuple[Side | None, Crop]] = CROPS
) -> Nv12Image:
    image = grey()
    draw_overlay(image, assignment, crops, frame_index=3, time_s=0.12)
    return image


def chroma_at(image: Nv12Image, x: int, y: int) -> tuple[int, int]:
    cb, cr = image.uv[y // 2, x // 2]
    return int(cb), int(cr)


def test_a_face_has_its_sides_colour_and_a_stranger_none() -> None:
    image = drawn(decided())
    left_frame, right_frame = chroma_at(image, 24, 150), chroma_at(image, 344, 150)
    assert left_frame != right_frame
    assert chroma_at(image, 80, 170) == left_frame
    assert chroma_at(image, 280, 230) == (128, 128)
    assert image.y[230, 280] != 100
    # What is not drawn on is the source's.
    assert (image.y[150:200, 100:140] == 100).all()


def test_what_the_whole_canvas_shows_is_neither_sides() -> None:
    tiles, one = drawn(decided()), drawn(decided(), [(None, Crop(20, 40, 600, 300))])
    places = [chroma_at(tiles, 24, 150), chroma_at(tiles, 344, 150), chroma_at(one, 24, 150)]
    assert len({*places, (128, 128)}) == 4
    solo = TileLayout(kind="solo")
    assert [solo.side_of(solo.whole), LAYOUT.side_of(LAYOUT.whole)] == [None, None]
    assert [LAYOUT.side_of(view.area) for view in VIEWS] == [Side.LEFT, Side.RIGHT]


def test_a_predicted_box_has_corners_alone() -> None:
    seen, predicted = drawn(decided()), drawn(decided(score=0.0))
    middle = (slice(160, 180), slice(78, 84))
    assert (seen.y[middle] != 100).any()
    assert (predicted.y[middle] == 100).all()
    assert predicted.y[122, 80] == seen.y[122, 80] != 100


def test_risk_is_drawn_in_another_colour_with_its_parts() -> None:
    calm, risky = drawn(decided()), drawn(decided(risk=0.7))
    rows = slice(0, 60)
    assert (calm.uv[rows] != risky.uv[rows]).any()
    # A longer line: the part's name stands behind the number.
    dark = [(image.y[rows] == 16).sum() for image in (calm, risky)]
    assert dark[1] > 1.3 * dark[0]


@pytest.mark.parametrize("wh", [(2, 2), (16, 16), (160, 90)])
def test_small_pictures_and_places_outside_are_no_trouble(wh: tuple[int, int]) -> None:
    image = Nv12Image(
        np.zeros((wh[1], wh[0]), np.uint8), np.zeros((wh[1] // 2, wh[0] // 2, 2), np.uint8)
    )
    far = [(Side.LEFT, Crop(-900, -900, 10, 10)), (None, Crop(5000, 5000, 90, 90))]
    draw_overlay(image, decided(0.9, 0.0), far, frame_index=10**9, time_s=1e6)


def frame(index: int) -> Frame:
    return Frame(index, index, Fraction(1, 25), grey())


INFO = VideoInfo(*WH, Fraction(25), Fraction(1, 25))
LAYOUT = TileLayout()
VIEWS = [View(crop, LAYOUT.area(side)) for side, crop in CROPS]


def copied(image: Nv12Image) -> Nv12Image:
    return Nv12Image(image.y.copy(), image.uv.copy(), image.color)


def test_the_file_has_the_sources_size_times_and_frames(tmp_path: Path) -> None:
    notes: list[str] = []
    overlay = DebugOverlay(tmp_path / "o.mp4", INFO, LAYOUT, copied, notes.append)
    first = frame(0)
    for one in (first, *map(frame, (1, 4, 5))):
        overlay.add(one, decided(), VIEWS)
    overlay.close(complete=True)
    assert (first.image.y == 100).all()  # the source's picture goes on to the tiles
    with av.open(str(tmp_path / "o.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [(f.width, f.height) for f in frames] == [WH] * 4
    assert [round(float(f.time or 0.0) * 25) for f in frames] == [0, 1, 4, 5]
    assert not notes


def test_a_failure_is_said_once_and_goes_no_further(tmp_path: Path) -> None:
    notes: list[str] = []

    def broken(image: Nv12Image) -> Nv12Image:
        raise MemoryError("no picture today")

    overlay = DebugOverlay(tmp_path / "o.mp4", INFO, LAYOUT, broken, notes.append)
    for index in range(3):
        overlay.add(frame(index), decided(), VIEWS)
    overlay.close(complete=True)
    assert notes == ["the debug overlay ends here, the output continues: no picture today"]
    nowhere = DebugOverlay(tmp_path / "no" / "o.mp4", INFO, LAYOUT, copied, notes.append)
    nowhere.add(frame(0), decided(), VIEWS)
    nowhere.close(complete=False)
    assert len(notes) == 2
    assert list(tmp_path.iterdir()) == []


def test_several_videos_have_a_file_each_that_no_later_run_takes_for_a_video(
    tmp_path: Path,
) -> None:
    jobs = [Job(name, tmp_path / f"{name}.mp4", None) for name in ("a", "b")]
    files = overlay_files(tmp_path, jobs, may_replace=False)
    assert [file.path.name for file in files] == [
        "a_overlay_dualface.mp4",
        "b_overlay_dualface.mp4",
    ]
    assert overlay_path(tmp_path / "one.mkv", jobs[0]) == tmp_path / "one.mkv"
    assert overlay_files(None, jobs, may_replace=False) == []
    with pytest.raises(UsageError, match=r"one\.mkv: there are 2 videos"):
        check_per_video("--debug-overlay", tmp_path / "one.mkv", len(jobs))
    with pytest.raises(UsageError, match=r"--debug-overlay .*one\.txt: expected a name that ends"):
        overlay_files(tmp_path / "one.txt", jobs[:1], may_replace=False)

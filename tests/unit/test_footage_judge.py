"""The judge of real footage: what it finds in a canvas, its figures, its sheets, its detector."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.footage import gap_of, judge
from dualface_client.errors import UsageError
from dualface_client.settings.paths import clips_dir, home_dir
from dualface_client.types import Box, ByteArray
from scripts.clips.writing import write_clip
from scripts.judge.canvas import CanvasLook, TileLook, look, split
from scripts.judge.detector import LIBRARY, SeenFace, YuNet
from scripts.judge.figures import COLUMNS, Tally, cells, markdown
from scripts.judge.sheets import CELL_WH, Moment, moments, sheet, spread

TILE_WH = (480, 540)


def face(box: Box) -> SeenFace:
    left, top, right, bottom = box
    places = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
    points = [(left + x * (right - left), top + y * (bottom - top)) for x, y in places]
    return SeenFace(box, np.array(points, np.float32), 0.9)


@dataclass
class Told:
    """Finds, picture by picture, the faces that it is told; boxes are of the whole picture."""

    pictures: Sequence[Sequence[Box]]
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def find(self, bgr: ByteArray) -> list[SeenFace]:
        boxes = self.pictures[len(self.seen)]
        self.seen.append(bgr.shape)
        halves = [tuple(value / 2 for value in box) for box in boxes]
        return [face((a, b, c, d)) for a, b, c, d in halves]


def noise(width: int, height: int, seed: int = 0, level: int = 120) -> ByteArray:
    """A picture of low contrast whose columns resemble their neighbours."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(level, 20, (height // 20 + 1, width // 20 + 1, 3)).clip(0, 255)
    return np.asarray(cv2.resize(coarse.astype(np.uint8), (width, height)), np.uint8)


def two_tiles(gap_px: int = 0) -> ByteArray:
    left, right = noise(*TILE_WH, seed=1), noise(*TILE_WH, seed=2, level=190)
    canvas = np.hstack([left, right])
    if gap_px:
        middle = TILE_WH[0]
        canvas[:, middle - gap_px // 2 : middle + gap_px // 2] = 30
    return canvas


MIDDLE: Box = (160, 150, 320, 350)


def test_a_canvas_of_two_tiles_is_split_where_they_meet() -> None:
    tiles = split(two_tiles())
    assert tiles is not None
    assert [tile.shape for tile in tiles] == [(540, 480, 3), (540, 480, 3)]
    assert split(noise(960, 540)) is None


def test_a_gap_belongs_to_no_tile() -> None:
    tiles = split(two_tiles(gap_px=16), gap_px=16)
    assert tiles is not None
    assert [tile.shape[1] for tile in tiles] == [472, 472]
    assert split(noise(960, 540), gap_px=16) is None


def test_the_gap_is_that_of_the_run() -> None:
    assert gap_of(["--layout", "stacked", "--gap", "16", "--gap-color", "white"]) == 16
    assert gap_of(["--gap=8"]) == 8
    assert gap_of(["--layout", "stacked"]) == 0


def test_tiles_above_each_other_are_split_across() -> None:
    canvas = np.ascontiguousarray(two_tiles().transpose(1, 0, 2))
    tiles = split(canvas)
    assert tiles is not None
    np.testing.assert_array_equal(tiles[0], canvas[:480])
    np.testing.assert_array_equal(tiles[1], canvas[480:])


def test_a_clean_pair_has_no_findings() -> None:
    seen = look(two_tiles(), Told([[MIDDLE], [(150, 140, 330, 360)]]))
    assert seen.findings == ()
    assert [tile.faces for tile in seen.tiles] == [1, 1]
    assert seen.tiles[0].face_share == pytest.approx(200 / 540)
    assert seen.tiles[0].eye_share == pytest.approx((150 + 0.4 * 200) / 540)
    assert seen.pair_ratio == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("left", "finding"),
    [
        ([(-10, 150, 140, 350)], "cut"),
        ([(340, 150, 477, 350)], "cut"),
        ([MIDDLE, (360, 200, 430, 290)], "crowded"),
    ],
)
def test_what_an_editor_would_not_show_is_found(left: list[Box], finding: str) -> None:
    assert look(two_tiles(), Told([left, [MIDDLE]])).findings == (finding,)


def test_a_small_face_at_the_side_does_not_crowd() -> None:
    assert look(two_tiles(), Told([[MIDDLE, (360, 200, 400, 279)], [MIDDLE]])).findings == ()


def test_the_smallest_faces_are_not_looked_at() -> None:
    seen = look(two_tiles(), Told([[(0, 100, 15, 120)], [MIDDLE]]))
    assert [tile.faces for tile in seen.tiles] == [0, 1]
    assert seen.findings == ()


def test_bars_are_found_at_any_edge() -> None:
    for edge in (np.s_[:12], np.s_[-12:], np.s_[:, :12], np.s_[:, 948:]):
        canvas = two_tiles()
        canvas[edge] = 16
        assert look(canvas, Told([[MIDDLE], [MIDDLE]])).findings == ("bars",)


def test_the_same_face_in_both_tiles_is_found() -> None:
    canvas = two_tiles()
    tile = noise(*TILE_WH, seed=5)
    canvas[:, :480], canvas[:, 480:] = tile, np.clip(tile.astype(int) + 60, 0, 255)
    assert look(canvas, Told([[MIDDLE], [MIDDLE]])).findings == ("twice",)
    assert look(two_tiles(), Told([[MIDDLE], [MIDDLE]])).findings == ()


def test_one_picture_is_looked_at_for_information_only() -> None:
    seen = look(noise(960, 540), Told([[(-20, 100, 180, 350)]]))
    assert seen.tiles == ()
    assert seen.findings == ()
    assert seen.picture is not None
    assert seen.picture.cut


GOOD = CanvasLook((TileLook(1, face_share=0.3, eye_share=0.4), TileLook(1, face_share=0.36)))
CUT = CanvasLook((TileLook(1, cut=True, face_share=0.6), TileLook(0)))
WORSE = CanvasLook((TileLook(2, cut=True, crowded=True, face_share=0.6), TileLook(0)), twice=True)
ONE = CanvasLook((), TileLook(1, cut=True, face_share=0.5))


def test_figures_are_shares_of_the_frames_they_name() -> None:
    tally = Tally()
    for index, seen in enumerate((GOOD, GOOD, ONE, CUT)):
        tally.add(2 * index, seen)
    figures = tally.figures()
    assert (figures["looked_at"], figures["bad"], figures["one_picture"]) == (4, 0.25, 0.25)
    assert figures["layout_changes"] == 2
    assert figures["left"]["cut"] == pytest.approx(1 / 3, abs=1e-3)
    assert figures["right"]["empty"] == pytest.approx(1 / 3, abs=1e-3)
    assert figures["left"]["h"][1] == pytest.approx(0.3)
    assert figures["pair"] == {"within": 1.0, "ratio": [1.2, 1.2, 1.2]}
    assert figures["picture"] == {"cut": 1.0, "h": [0.5, 0.5, 0.5]}


def test_figures_of_nothing_are_none_and_still_a_row() -> None:
    figures = Tally().figures() | {"scene_cuts": None}
    assert figures["bad"] is None
    assert len(cells("none", figures)) == len(COLUMNS)
    assert "| none | 0 | - |" in markdown({"none": figures})


def test_the_worst_frames_are_apart_and_bad() -> None:
    tally = Tally()
    for index, seen in enumerate((GOOD, CUT, CUT, GOOD, WORSE, CUT)):
        tally.add(index, seen)
    assert tally.worst(count=2, apart=3) == [1, 4]
    assert tally.worst(count=9, apart=1) == [1, 2, 4, 5]


def test_moments_are_spread_from_the_first_to_the_last() -> None:
    assert spread(range(0, 100, 2), 3) == [0, 48, 98]
    assert spread([4, 6], 12) == [4, 6]


def test_a_sheet_shows_source_above_output_and_frames_findings_in_red() -> None:
    width, height = CELL_WH
    source, canvas = np.full((height, width, 3), 50), np.full((height, width, 3), 200)
    good = Moment("1.00 s", source.astype(np.uint8), canvas.astype(np.uint8), bad=False)
    bad = Moment("2.00 s cut", good.source, good.canvas, bad=True)
    drawn = sheet([good, bad, good, bad, bad])
    rows, columns = drawn.shape[0] // 2, drawn.shape[1] // 4
    assert drawn[rows // 3, columns // 2].tolist() == [50, 50, 50]
    assert drawn[rows - 20, columns // 2].tolist() == [200, 200, 200]
    assert drawn[1, 1].tolist() == [110, 110, 110]
    assert drawn[1, columns + 1].tolist() == [40, 40, 230]
    assert drawn[rows + 10, -10].tolist() == [255, 255, 255]


def test_an_output_is_judged_frame_by_frame_and_shown_beside_its_source(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mp4", tmp_path / "a_tiles.mp4"
    write_clip(source, [np.full((180, 320, 3), 90, np.uint8)] * 5, (320, 180), Fraction(10), 0.5)
    write_clip(output, [two_tiles()] * 5, (960, 540), Fraction(10), 0.5)
    tally = judge(output, Told([[MIDDLE], [MIDDLE]] * 2 + [[(0, 150, 140, 350)], [MIDDLE]]))
    assert tally.indices == [0, 2, 4]
    assert [seen.findings for seen in tally.looks] == [(), (), ("cut",)]
    looks = dict(zip(tally.indices, tally.looks, strict=True))
    found = moments("a", source, output, {index: looks[index] for index in (0, 4)})
    assert found[0].caption == "a 0.00 s"
    assert found[4].caption == "a 0.40 s cut"
    assert abs(int(found[4].source.mean()) - 90) < 5
    assert found[4].bad


def test_the_detector_finds_a_real_face_and_its_points() -> None:
    library = home_dir() / LIBRARY
    assert library.is_file(), "run `make judge`"
    photo = np.asarray(cv2.imread(str(clips_dir() / "SeanConnery.jpg")), np.uint8)
    (found,) = YuNet(library).find(photo)
    left, top, right, bottom = found.box_xyxy_px
    assert found.score >= 0.6
    assert 0.2 < found.height_px / photo.shape[0] < 0.9
    x, y = found.points_px.T
    assert left < x[0] < x[2] < x[1] < right
    assert top < y[:2].max() < y[2] < y[3:].min() < bottom
    assert YuNet(library).find(np.full((200, 300, 3), 128, np.uint8)) == []


def test_a_library_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("no library")
    with pytest.raises(UsageError, match=r"x\.so cannot be loaded"):
        YuNet(tmp_path / "x.so")

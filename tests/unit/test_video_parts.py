"""The small parts below source and sink: time stamps, colour tags, container sizes."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualface_client.types import ColorMatrix
from dualface_client.video import integrity
from dualface_client.video.annexb import AnnexbFilter, SizeWatch, sequence_sets
from dualface_client.video.color import ColorTags, hdr_note, matrix_of
from dualface_client.video.timeline import Timeline
from tests import media
from tests.media import Clip

MS = Fraction(1, 1000)


@given(st.lists(st.one_of(st.none(), st.integers(-(10**9), 10**9)), min_size=1))
def test_placed_stamps_always_increase(stamps: list[int | None]) -> None:
    timeline = Timeline(MS, 40)
    placed = [timeline.place(stamp) for stamp in stamps]
    assert all(a < b for a, b in pairwise(placed))


@given(st.lists(st.integers(-1000, 10**9), min_size=1, unique=True).map(sorted))
def test_increasing_stamps_are_not_touched(stamps: list[int]) -> None:
    timeline = Timeline(MS, 40)
    assert [timeline.place(stamp) for stamp in stamps] == stamps
    assert (timeline.filled, timeline.bumped, timeline.jumps) == (0, 0, 0)


@pytest.mark.parametrize(
    ("stamps", "expected", "counts"),
    [
        ([0, 40, None, 120], [0, 40, 80, 120], (1, 0, 0)),
        ([None, None], [0, 40], (2, 0, 0)),
        ([0, 40, 40, 120], [0, 40, 41, 120], (0, 1, 0)),
        ([0, 80, 40, 120], [0, 80, 81, 120], (0, 1, 0)),
        ([5000, 5040, 0, 40], [5000, 5040, 5080, 5120], (0, 0, 1)),
        ([0, 9000], [0, 9000], (0, 0, 0)),
    ],
)
def test_stamps_move_as_little_as_possible(
    stamps: list[int | None], expected: list[int], counts: tuple[int, int, int]
) -> None:
    timeline = Timeline(MS, 40)
    assert [timeline.place(stamp) for stamp in stamps] == expected
    assert (timeline.filled, timeline.bumped, timeline.jumps) == counts


def test_long_pauses_are_counted_and_kept() -> None:
    timeline = Timeline(MS, 40)
    stamps = [0, 40, 59_000, 119_000, 119_040, 1_119_040]
    assert [timeline.place(stamp) for stamp in stamps] == stamps
    assert (timeline.pauses, timeline.longest_pause_s) == (2, Fraction(1000))


def test_packets_shorter_than_a_unit_do_not_drift() -> None:
    """TrueHD packets last 0.83 ms, and Matroska counts in 1 ms: some share their stamp."""
    stamps = [round(index * 5 / 6) for index in range(1000)]
    timeline = Timeline(MS, 1, may_repeat=True)
    assert [timeline.place(stamp, 1) for stamp in stamps] == stamps
    assert timeline.bumped == 0


def test_a_known_duration_beats_the_step() -> None:
    timeline = Timeline(MS, 40)
    timeline.place(0, duration=500)
    assert timeline.place(None) == 500


@pytest.mark.parametrize(
    ("code", "height", "matrix"),
    [
        (1, 100, ColorMatrix.BT709),
        (6, 2160, ColorMatrix.BT601),
        (9, 100, ColorMatrix.BT2020),
        (2, 719, ColorMatrix.BT601),
        (2, 720, ColorMatrix.BT709),
        (0, 1080, ColorMatrix.BT709),
        (99, 480, ColorMatrix.BT601),
    ],
)
def test_matrix_by_tag_else_by_height(code: int, height: int, matrix: ColorMatrix) -> None:
    assert matrix_of(code, height) is matrix


def test_tags_are_implied_only_where_unspecified() -> None:
    assert ColorTags().filled(ColorMatrix.BT709) == ColorTags(1, 1)
    assert ColorTags(9, 16).filled(ColorMatrix.BT709) == ColorTags(9, 16)
    assert ColorTags().filled(ColorMatrix.BT601) == ColorTags(2, 2)


def test_hdr_is_named() -> None:
    assert "PQ" in (hdr_note(16) or "")
    assert "HLG" in (hdr_note(18) or "")
    assert hdr_note(1) is None


def test_boxes_with_long_and_open_ended_sizes() -> None:
    data = (
        b"\0\0\0\x0cftypisom"
        + b"\0\0\0\x01mdat"
        + (20).to_bytes(8, "big")
        + b"1234"
        + b"\0\0\0\0free12"
    )
    ends = integrity.mp4_boxes(io.BytesIO(data), len(data))
    assert ends == [("ftyp", 12), ("mdat", 32), ("free", len(data))]


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts", ".nut"])
def test_whole_files_are_not_called_cut(tmp_path: Path, suffix: str) -> None:
    path = media.make(tmp_path / f"a{suffix}", Clip(codec="mpeg4"))
    assert integrity.truncation(path) is None
    assert not integrity.lacks_index(path)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts"])
def test_cut_files_are_called_cut(tmp_path: Path, suffix: str) -> None:
    whole = media.make(tmp_path / f"a{suffix}", Clip(codec="mpeg4"))
    data = whole.read_bytes()
    whole.write_bytes(data[:-100])
    assert integrity.truncation(whole) is not None


def recorded(path: Path) -> bytes:
    """A Matroska file whose writer never said how long it is."""
    made = media.make(path / "made.mkv", Clip(frames=30, codec="mpeg4"))
    pipe = io.BytesIO()
    with av.open(str(made)) as source, av.open(pipe, "w", "webm", {"live": "1"}) as output:
        stream = output.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in source.decode(video=0):
            frame.pict_type = 0
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return pipe.getvalue()


def test_what_a_browser_recorded_to_its_end_is_not_called_cut(tmp_path: Path) -> None:
    data = recorded(tmp_path)
    path = tmp_path / "a.webm"
    path.write_bytes(data)
    assert b"\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff" in data  # of unknown size
    assert integrity.truncation(path) is None
    path.write_bytes(data[:-5])
    assert integrity.truncation(path) == "its last element ends 5 bytes after the file"


def test_a_writer_that_never_came_back_for_its_index_did_not_finish(tmp_path: Path) -> None:
    killed = io.BytesIO()
    path = tmp_path / "a.mkv"
    with av.open(killed, "w", "matroska") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.start_encoding()
        path.write_bytes(killed.getvalue())
    assert integrity.truncation(path) == "its writer did not finish it"


@pytest.mark.parametrize("size", [0, 1, 7, 11, 40])
def test_scraps_are_read_without_an_error(tmp_path: Path, size: int) -> None:
    for head in (b"\x1a\x45\xdf\xa3\x9f", b"\0\0\0\x20ftypisom", b"RIFF", b"G@\0"):
        path = tmp_path / "scrap"
        path.write_bytes((head + b"\xff" * 40)[:size])
        integrity.truncation(path)
        integrity.lacks_index(path)


def test_our_own_outputs_are_walked_whole_however_many_fragments() -> None:
    box = (8).to_bytes(4, "big") + b"moof"
    stream, size = io.BytesIO(box * 12_000), 8 * 12_000
    assert len(integrity.mp4_boxes(stream, size)) == 10_000
    assert integrity.mp4_boxes(stream, size, limit=None)[-1] == ("moof", size)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("libx265", "hevc")])
@pytest.mark.parametrize("second_wh", [(320, 160), (160, 120), None])
def test_a_new_picture_size_is_found_at_its_first_packet(
    tmp_path: Path, codec: str, name: str, second_wh: tuple[int, int] | None
) -> None:
    first_wh = Clip().size_wh_px
    clips = (
        Clip(frames=12, codec=codec),
        Clip(frames=12, codec=codec, size_wh_px=second_wh or first_wh),
    )
    parts = [media.make(tmp_path / f"{n}.ts", clip) for n, clip in enumerate(clips)]
    found: list[tuple[int, int] | None] = []
    with av.open(str(media.join(tmp_path / "both.ts", parts))) as container:
        stream = container.streams.video[0]
        annexb, watch = AnnexbFilter(stream), SizeWatch(name, first_wh)
        for packet in container.demux(stream):
            if packet.size:
                found += [watch.changed(part) for part in annexb.push(packet)]
    assert len(found) == 24
    assert [size for size in found if size] == ([second_wh] if second_wh else [])
    if second_wh:
        assert found.index(second_wh) == 12


def test_only_sequence_sets_at_the_start_of_a_packet_count() -> None:
    sets = b"\x67\x42\x00\x1e"
    assert sequence_sets(b"\0\0\0\1\x09\x10\0\0\0\1" + sets + b"\0\0\1\x68\xce", "h264") == sets
    assert sequence_sets(b"\0\0\1\x65\x88\x84", "h264") == b""
    assert sequence_sets(b"\0\0\1\x42\x01\x01", "hevc") == b"\x42\x01\x01"

"""Chapters, metadata, timecode and subtitles go along where the container can hold them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from dualface_client.video.formats import FORMATS
from dualface_client.video.metadata import held_keys
from dualface_client.video.sink import PyavSink
from dualface_client.video.source import PyavSource
from tests import media
from tests.media import Audio, Clip

ALL = (".mp4", ".mov", ".mkv")
CREATED = "2021-02-03T04:05:06.000000Z"
CHAPTERS = [("One", Fraction(0), Fraction(1)), ("Zwei ä", Fraction(1), Fraction(2))]


def tagged(
    path: Path, metadata: dict[str, str], *, chapters: bool = False, subtitles: str = ""
) -> Path:
    """A copy of an ordinary clip that says something about itself."""
    plain = media.make(path.with_name("plain.mp4"), Clip(frames=50, audio=[Audio(seconds=2.0)]))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        copies = {s.index: output.add_stream_from_template(s) for s in source.streams}
        output.metadata.update(metadata)
        if chapters:
            output.set_chapters(
                [
                    {
                        "id": index + 1,
                        "start": int(start * 1000),
                        "end": int(end * 1000),
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": title},
                    }
                    for index, (title, start, end) in enumerate(CHAPTERS)
                ]
            )
        text = output.add_mux_stream(subtitles) if subtitles else None
        if text is not None:
            text.time_base = Fraction(1, 1000)
            text.metadata["language"] = "eng"
        output.start_encoding()
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)
        if text is not None:
            for start_ms in (0, 500):
                said = av.Packet(b"\x00\x05hallo" if subtitles == "mov_text" else b"hallo")
                said.stream, said.time_base = text, Fraction(1, 1000)
                said.pts = said.dts = start_ms
                said.duration = 400
                output.mux(said)
    return path


def through(source_path: Path, out: Path) -> tuple[str, ...]:
    source = PyavSource(source_path, threads=1)
    wh = source.info.width_px, source.info.height_px
    sink = PyavSink(out, source.info, wh, audio_from=source_path, threads=1, preset="ultrafast")
    for frame in source:
        sink.write(frame)
    sink.close()
    assert len(media.times_of(out)) == 50
    return sink.warnings


def metadata_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {key.lower(): value for key, value in container.metadata.items()}


def chapters_of(path: Path) -> list[tuple[str, Fraction, Fraction]]:
    with av.open(str(path)) as container:
        return [
            (c["metadata"]["title"], c["start"] * unit_s, c["end"] * unit_s)
            for c in container.chapters()
            if (unit_s := Fraction(c["time_base"] or 0))
        ]


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("container", [".mp4", ".mkv"])
def test_title_dates_and_chapters_are_carried_over(
    tmp_path: Path, container: str, suffix: str
) -> None:
    told = {"title": "Folge 1 ä", "comment": "Küche", "creation_time": CREATED, "date": "2021"}
    source = tagged(tmp_path / f"in{container}", told, chapters=True)
    out = tmp_path / f"out{suffix}"
    assert through(source, out) == ()
    assert told.items() <= metadata_of(out).items()
    assert chapters_of(out) == CHAPTERS
    with av.open(str(out)) as written:
        assert [stream.type for stream in written.streams][:2] == ["video", "audio"]
        assert len(written.streams.subtitles) == 0


def test_what_the_container_does_not_hold_is_said(tmp_path: Path) -> None:
    source = tagged(tmp_path / "in.mkv", {"title": "A", "shoe_size": "43", "make": "Cam"})
    assert through(source, tmp_path / "out.mp4") == (
        ".mp4 does not hold this metadata: MAKE, SHOE_SIZE",
    )
    assert through(source, tmp_path / "out.mkv") == ()
    assert metadata_of(tmp_path / "out.mkv")["shoe_size"] == "43"


def test_what_describes_the_source_file_does_not_describe_the_output(tmp_path: Path) -> None:
    source = tagged(tmp_path / "in.mp4", {"encoder": "a camera"})
    assert through(source, tmp_path / "out.mkv") == ()
    found = metadata_of(tmp_path / "out.mkv")
    assert found["encoder"].startswith("Lavf")
    assert "major_brand" not in found


def test_names_of_apple_become_common_ones(tmp_path: Path) -> None:
    told = {
        "com.apple.quicktime.location.ISO6709": "+48.2082+016.3738/",
        "com.apple.quicktime.creationdate": "2021-02-03T05:05:06+0100",
        "com.apple.quicktime.make": "Apple",
    }
    source = tagged(tmp_path / "in.mkv", told)
    assert through(source, tmp_path / "out.mov") == ()
    found = metadata_of(tmp_path / "out.mov")
    assert found["location"].startswith("+48.2082+016.3738")
    assert (found["make"], found["date"]) == ("Apple", "2021-02-03T05:05:06+0100")


@pytest.mark.parametrize("suffix", ALL)
def test_a_timecode_is_carried_over(tmp_path: Path, suffix: str) -> None:
    source = tagged(tmp_path / "in.mov", {"timecode": "10:20:30:05"})
    out = tmp_path / f"out{suffix}"
    assert through(source, out) == ()
    with av.open(str(out)) as written:
        places = [written.metadata, *(stream.metadata for stream in written.streams)]
    found = {v for place in places for k, v in place.items() if k.lower() == "timecode"}
    assert found == {"10:20:30:05"}


def test_chapters_win_over_a_timecode_where_only_one_can_be(tmp_path: Path) -> None:
    source = tagged(tmp_path / "in.mkv", {"timecode": "10:20:30:05"}, chapters=True)
    (note,) = through(source, tmp_path / "out.mp4")
    assert "timecode 10:20:30:05: left out" in note
    assert chapters_of(tmp_path / "out.mp4") == CHAPTERS
    assert through(source, tmp_path / "out.mkv") == ()
    assert metadata_of(tmp_path / "out.mkv")["timecode"] == "10:20:30:05"


@pytest.mark.parametrize(
    ("container", "codec", "suffix"),
    [(".mkv", "subrip", ".mkv"), (".mp4", "mov_text", ".mp4"), (".mp4", "mov_text", ".mov")],
)
def test_subtitles_are_copied_where_they_can_be(
    tmp_path: Path, container: str, codec: str, suffix: str
) -> None:
    source = tagged(tmp_path / f"in{container}", {}, subtitles=codec)
    out = tmp_path / f"out{suffix}"
    assert through(source, out) == ()
    assert subtitles_of(out) == subtitles_of(source)
    assert [round(float(time), 1) for time, _ in subtitles_of(out)] == [0.0, 0.5]
    with av.open(str(out)) as written:
        assert written.streams.subtitles[0].language == "eng"


def subtitles_of(path: Path) -> list[tuple[Fraction, bytes]]:
    """Texts with their times; MP4 also has empty ones between them."""
    with av.open(str(path)) as container:
        return [
            (Fraction(p.pts or 0) * p.time_base, bytes(p))
            for p in container.demux(subtitles=0)
            if p.size and bytes(p) != b"\x00\x00"
        ]


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_subtitles_that_cannot_be_copied_are_said(tmp_path: Path, suffix: str) -> None:
    source = tagged(tmp_path / "in.mkv", {}, subtitles="subrip")
    (note,) = through(source, tmp_path / f"out{suffix}")
    assert "subtitle stream 2" in note
    assert f"left out: {suffix} does not hold it; name the output .mkv" in note


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_container_holds_a_title(suffix: str) -> None:
    assert "title" in held_keys(suffix, {"title": "x"})

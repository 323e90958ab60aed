"""Every kind of sound that recorders write: the video is made, and the sound is where it was."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.errors import SourceError
from dualface_client.video.audio import AudioCopy
from dualface_client.video.formats import FORMATS
from dualface_client.video.sink import PyavSink
from dualface_client.video.source import PyavSource
from dualface_client.video.transcode import TranscodedAudio
from tests import media
from tests.media import Audio, Clip

RATE_HZ = 16_000


@dataclass(frozen=True, slots=True)
class Kind:
    """Sound in a container.

    Attributes:
        container: Suffix of the input.
        audio: What is in it.
        kept_by: Suffixes of outputs that hold it bit for bit.
        video: Encoder of the pictures.
        options: Of the muxer.
    """

    container: str
    audio: Audio
    kept_by: tuple[str, ...]
    video: str = "libx264"
    options: dict[str, str] = field(default_factory=dict)


def sweep(codec: str, **values: Any) -> Audio:
    return Audio(codec, seconds=2.0, is_sweep=True, **values)


ALL = (".mp4", ".mov", ".mkv")
KINDS = {
    "aac": Kind(".mp4", sweep("aac"), ALL),
    "aac_in_ts": Kind(".ts", sweep("aac"), ALL),
    "latm": Kind(".ts", sweep("aac"), (), options={"mpegts_flags": "latm"}),
    "wma": Kind(".wmv", sweep("wmav2", layout="stereo"), (), "wmv2"),
    "mulaw": Kind(".mov", sweep("pcm_mulaw", rate_hz=8000), (".mov",)),
    "alaw": Kind(".avi", sweep("pcm_alaw", rate_hz=8000), (".mov",)),
    "adpcm": Kind(".avi", sweep("adpcm_ms"), ()),
    "pcm_16": Kind(".mkv", sweep("pcm_s16le"), ALL),
    "pcm_16_be": Kind(".mov", sweep("pcm_s16be"), (".mov", ".mkv")),
    "pcm_24": Kind(".mkv", sweep("pcm_s24le"), (".mov", ".mkv")),
    "pcm_8": Kind(".avi", sweep("pcm_u8"), (".mov", ".mkv")),
    "pcm_float": Kind(".mkv", sweep("pcm_f32le"), (".mov", ".mkv")),
    "pcm_192k": Kind(".mkv", sweep("pcm_s24le", rate_hz=192_000), (".mov", ".mkv")),
    "pcm_five_one": Kind(".mkv", sweep("pcm_s24le", layout="5.1"), (".mov", ".mkv")),
    "pcm_seven_one": Kind(".mkv", sweep("pcm_s24le", layout="7.1"), (".mov", ".mkv")),
    "wavpack": Kind(".mkv", sweep("wavpack"), (".mkv",)),
    "flac": Kind(".mkv", sweep("flac"), (".mp4", ".mkv")),
    "opus": Kind(".mkv", sweep("libopus"), (".mp4", ".mkv")),
    "mp3": Kind(".avi", sweep("libmp3lame"), ALL),
    "mp2": Kind(".mpg", sweep("mp2", layout="stereo"), ALL, "mpeg2video"),
    "ac3": Kind(".ts", sweep("ac3", layout="5.1"), ALL),
    "eac3": Kind(".ts", sweep("eac3", layout="stereo"), ALL),
    "amr": Kind(".3gp", sweep("libopencore_amrnb", rate_hz=8000), (".mov",), "mpeg4"),
}


def through(source_path: Path, out: Path, mode: str = "copy") -> PyavSink:
    """Sends a whole video through source and sink."""
    source = PyavSource(source_path, threads=1)
    wh = source.info.width_px, source.info.height_px
    sink = PyavSink(
        out, source.info, wh, audio_from=source_path, audio=mode, threads=1, preset="ultrafast"
    )
    for frame in source:
        sink.write(frame)
    sink.close()
    return sink


def of_kind(path: Path, kind: Kind) -> Path:
    clip = Clip(frames=50, codec=kind.video, audio=[kind.audio], container=kind.options)
    return media.make(path / f"in{kind.container}", clip)


def codecs_of(path: Path) -> list[str]:
    with av.open(str(path)) as container:
        return [stream.codec_context.name for stream in container.streams.audio]


def times_from_start(path: Path) -> list[float]:
    times = media.times_of(path)
    return [float(time - times[0]) for time in times]


def lag_to_picture_s(source: Path, out: Path) -> float:
    """By how much the output's sound is later than in the source, against the pictures.

    Returns:
        The largest deviation of beginning, middle and end.
    """
    shift_s = float(media.times_of(out)[0] - media.times_of(source)[0])
    before, after = media.sound_of(source), media.sound_of(out)
    first = int(np.flatnonzero(np.abs(before) > 0.05)[0])
    lags = []
    for start_s in (0.05, 0.75, 1.4):
        start = first + int(start_s * RATE_HZ)
        part = np.zeros_like(before)
        part[start : start + RATE_HZ // 2] = before[start : start + RATE_HZ // 2]
        lags.append(media.sound_lag_s(part, after, RATE_HZ) - shift_s)
    return max(lags, key=abs)


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("name", KINDS)
def test_sound_is_copied_or_transcoded_in_its_place(tmp_path: Path, name: str, suffix: str) -> None:
    kind = KINDS[name]
    source, out = of_kind(tmp_path, kind), tmp_path / f"out{suffix}"
    notes = [note for note in through(source, out).warnings if "audio stream" in note]
    assert times_from_start(out) == pytest.approx(times_from_start(source), abs=1.1e-3)
    if suffix in kind.kept_by:
        packets = [media.packets_of(path, "audio") for path in (source, out)]
        assert notes == []
        if name != "aac_in_ts":  # whose packets lose the decoder's settings that each repeats
            assert [data for _, data in packets[0]] == [data for _, data in packets[1]]
    else:
        assert codecs_of(out) == ["aac"]
        assert len(notes) == 1
        assert "transcoded to AAC" in notes[0]
        assert all((other in notes[0]) == (other in kind.kept_by) for other in set(ALL) - {suffix})
    assert abs(lag_to_picture_s(source, out)) < 2e-3
    before, after = media.sound_of(source), media.sound_of(out)
    assert abs(len(before) - len(after)) / RATE_HZ < 0.1
    assert np.abs(after).max() == pytest.approx(np.abs(before).max(), rel=0.25)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if len(kind.kept_by) < 3])
def test_the_remedy_that_a_note_names_works(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    source = of_kind(tmp_path, kind)
    for suffix in kind.kept_by:
        out = tmp_path / f"kept{suffix}"
        assert through(source, out).warnings == ()
        before, after = (media.packets_of(path, "audio") for path in (source, out))
        assert [data for _, data in after] == [data for _, data in before]
    for suffix in set(ALL) - set(kind.kept_by):
        notes = through(source, tmp_path / f"other{suffix}").warnings
        assert sum("transcoded" in note for note in notes) == 1


@pytest.mark.parametrize("suffix", ALL)
@pytest.mark.parametrize("language", ["deu", "fre", "swe", "eng"])
def test_languages_are_carried_over(tmp_path: Path, language: str, suffix: str) -> None:
    """Swedish is `sve` in MOV, and each language has one of its two codes there."""
    audio = [sweep("aac", language=language), sweep("pcm_u8", language=language)]
    source = media.make(tmp_path / "in.mkv", Clip(frames=50, audio=audio))
    out = tmp_path / f"out{suffix}"
    through(source, out)
    known = {"deu": {"deu", "ger"}, "fre": {"fre", "fra"}, "swe": {"swe", "sve"}}
    with av.open(str(out)) as container:
        found = {stream.language for stream in container.streams.audio}
    assert found <= known.get(language, {language})
    assert len(found) == 1


def test_transcode_turns_even_aac_into_aac(tmp_path: Path) -> None:
    source, out = of_kind(tmp_path, KINDS["mp3"]), tmp_path / "out.mp4"
    assert through(source, out, "transcode").warnings == ()
    assert codecs_of(out) == ["aac"]
    assert abs(lag_to_picture_s(source, out)) < 2e-3


def test_drop_leaves_the_sound_out(tmp_path: Path) -> None:
    source, out = of_kind(tmp_path, KINDS["wma"]), tmp_path / "out.mp4"
    assert through(source, out, "drop").warnings == ()
    assert codecs_of(out) == []
    assert len(media.times_of(out)) == 50


def transport_stream(path: Path, *, keep: slice) -> Path:
    """Two audio PIDs, of which the second one has only some of its transport packets."""
    clip = Clip(frames=50, audio=[sweep("aac"), Audio("aac", seconds=2.0)])
    data = media.make(path / "whole.ts", clip).read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    second = [i for i, p in enumerate(packets) if (p[1] & 31) << 8 | p[2] == 0x102]
    gone = set(second) - set(second[keep])
    source = path / "in.ts"
    source.write_bytes(b"".join(p for i, p in enumerate(packets) if i not in gone))
    return source


@pytest.mark.parametrize("suffix", ALL)
def test_a_stream_without_packets_is_left_out(tmp_path: Path, suffix: str) -> None:
    source = transport_stream(tmp_path, keep=slice(0))
    out = tmp_path / f"out{suffix}"
    notes = through(source, out).warnings
    assert any("audio stream 2 (aac) has no packets: left out" in note for note in notes)
    assert codecs_of(out) == ["aac"]
    assert len(media.packets_of(out, "audio")) == len(media.packets_of(source, "audio"))
    assert len(media.times_of(out)) == 50


def test_a_stream_that_begins_late_is_transcoded(tmp_path: Path) -> None:
    """FFmpeg looks at the first 5 MB; what begins later has no rate and no channels there."""
    late = replace(sweep("aac"), start_s=30.0)
    filled = {"b": "3000k", "maxrate": "3000k", "bufsize": "500k", "x264-params": "nal-hrd=cbr"}
    source = media.make(tmp_path / "in.ts", Clip(frames=800, audio=[late], options=filled))
    with av.open(str(source)) as container:
        assert container.streams.audio[0].codec_context.sample_rate == 0
    out = tmp_path / "out.mp4"
    notes = through(source, out).warnings
    assert any(
        "transcoded to AAC, because its format is known only after the header" in note
        for note in notes
    )
    assert abs(lag_to_picture_s(source, out)) < 2e-3


def renamed(path: Path, source: Path, old: bytes, new: bytes) -> Path:
    """Copies a Matroska file with another codec's name in it."""
    assert len(old) == len(new)
    data = source.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    return path


@pytest.mark.parametrize("suffix", ALL)
def test_an_unknown_codec_is_left_out(tmp_path: Path, suffix: str) -> None:
    clip = Clip(frames=50, audio=[sweep("wavpack"), sweep("flac")])
    made = media.make(tmp_path / "made.mkv", clip)
    source = renamed(tmp_path / "in.mkv", made, b"A_WAVPACK4", b"A_NOBODYS4")
    out = tmp_path / f"out{suffix}"
    notes = through(source, out).warnings
    assert any("audio stream 1" in note and "left out" in note for note in notes)
    assert len(codecs_of(out)) == 1
    assert len(media.times_of(out)) == 50


def test_what_can_be_neither_copied_nor_decoded_is_left_out(tmp_path: Path) -> None:
    made = media.make(tmp_path / "made.mkv", Clip(frames=50, audio=[sweep("pcm_s16le")]))
    source = renamed(tmp_path / "in.mkv", made, b"A_PCM/INT/LIT", b"A_REAL/COOK\0\0")
    out = tmp_path / "out.mp4"
    notes = through(source, out).warnings
    assert any("cook) can be neither copied into .mp4 nor decoded" in note for note in notes)
    assert codecs_of(out) == []
    assert len(media.times_of(out)) == 50


def test_a_gap_in_transcoded_sound_stays_a_gap(tmp_path: Path) -> None:
    late = Audio(seconds=0.5, start_s=1.7, tone_hz=900.0)
    sound = replace(sweep("pcm_u8", later=[late]), seconds=1.0)
    source = media.make(tmp_path / "in.mkv", Clip(frames=60, audio=[sound]))
    out = tmp_path / "out.mp4"
    through(source, out)
    assert codecs_of(out) == ["aac"]
    before, after = media.sound_of(source), media.sound_of(out)
    assert abs(media.sound_lag_s(before, after, RATE_HZ)) < 2e-3
    tail = slice(int(1.75 * RATE_HZ), int(2.15 * RATE_HZ))
    assert np.abs(after[tail]).mean() == pytest.approx(np.abs(before[tail]).mean(), rel=0.1)
    silent = after[int(1.1 * RATE_HZ) : int(1.6 * RATE_HZ)]
    assert np.abs(silent).max() < 0.01


def test_of_overlapping_sound_the_earlier_is_used(tmp_path: Path) -> None:
    """As where parts of a recording overlap; the second half begins 0.1 s too early."""
    source = media.make(tmp_path / "in.mkv", Clip(frames=50, audio=[sweep("pcm_u8")]))
    out = tmp_path / "out.mkv"
    with av.open(str(source)) as container, av.open(str(out), "w") as output:
        track = TranscodedAudio(output, 48_000, 1)
        output.start_encoding()
        for packet in container.demux(audio=0):
            if packet.size:
                assert packet.pts is not None
                packet.pts -= 100 if packet.pts >= 1000 else 0
                output.mux(track.push(packet))
        output.mux(track.end(container.streams.audio[0]))
    before, after = media.sound_of(source), media.sound_of(out)
    assert (len(before) - len(after)) / RATE_HZ == pytest.approx(0.1, abs=0.03)
    half = RATE_HZ * 9 // 10
    assert abs(media.sound_lag_s(before[:half], after[:half], RATE_HZ)) < 2e-3
    late = before[RATE_HZ * 13 // 10 : RATE_HZ * 18 // 10]
    assert media.sound_lag_s(late, after, RATE_HZ) == pytest.approx(1.2, abs=0.03)


def test_the_reader_says_that_a_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no\.mp4"):
        AudioCopy(tmp_path / "no.mp4")


def test_every_container_has_options_of_its_muxer() -> None:
    assert {form.muxer for form in FORMATS.values()} == {"mp4", "mov", "matroska"}

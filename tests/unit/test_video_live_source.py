"""A live input whose connections a test opens, ends and breaks; no server and no network."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dualface_client.errors import SourceError, StoppedError
from dualface_client.video.live_input import LiveInput
from dualface_client.video.live_packet import LivePacket
from dualface_client.video.live_reader import LiveReader
from dualface_client.video.live_sound import RATE_HZ, LiveSound
from dualface_client.video.live_source import LiveSource
from dualface_client.video.live_times import UNITS_PER_S
from dualface_client.video.source import PyavSource
from tests.connections import (
    CAMERA,
    SMALL,
    SOUND,
    Broken,
    Connections,
    Tones,
    refused,
    taken,
)
from tests.media import Audio, luma_of, make, make_audio_only


def test_frames_go_on_over_connections_of_other_size_rate_and_codec(tmp_path: Path) -> None:
    first = make(tmp_path / "first.mp4", SMALL)
    larger = replace(SMALL, size_wh_px=(160, 48), codec="mpeg4", rate=Fraction(20))
    second = make(tmp_path / "second.mp4", larger)
    connections = Connections(
        lambda: Broken(first, 10_000), refused, refused, lambda: Broken(second, 10_000)
    )
    source = connections.source()
    assert (source.info.width_px, source.info.height_px) == (64, 48)
    assert source.has_sound
    frames = taken(source, connections, 50)
    assert len(frames) == 50
    assert {frame.image.y.shape for frame in frames} == {(48, 64)}
    stamps = [frame.pts for frame in frames]
    assert stamps == sorted(set(stamps))
    assert [frame.index for frame in frames] == list(range(50))
    assert source.reconnects == 1
    assert source.dropped == {"behind": 0, "undecodable": 0, "lost_in_network": 0}
    assert "25 frames had another size" in source.warnings[0]
    events = [news.event for news in connections.told]
    assert events[:6] == ["connected", "lost", "unreachable", "unreachable", "connected", "lost"]
    assert not any("pw" in news.text for news in connections.told)


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_becomes_what_it_becomes_from_a_file(tmp_path: Path, transfer: int, name: str) -> None:
    clip = replace(SMALL, codec="libx265", pix_fmt="yuv420p10le", audio=())
    path = make(
        tmp_path / "hdr.mp4",
        replace(clip, color=(9, 1, 9, transfer), options={"tune": "zerolatency"}),
    )
    file = PyavSource(path)
    expected = [frame.image for frame in file]
    connections = Connections(lambda: Broken(path, 10_000))
    source = connections.source()
    found = [frame.image for frame in taken(source, connections, len(expected))]
    assert len(found) == len(expected)
    for image, other in zip(found, expected, strict=True):
        assert np.array_equal(image.y, other.y)
        assert np.array_equal(image.uv, other.uv)
    assert (source.info.color, source.info.transfer) == (file.info.color, file.info.transfer)
    assert source.info.notes == (f"HDR ({name}): tone-mapped to BT.709 SDR",)


def test_a_connection_that_shows_only_sound_is_tried_again(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", SMALL)
    sound = make_audio_only(tmp_path / "sound.m4a")
    connections = Connections(
        lambda: Broken(path, 10_000), lambda: Broken(sound, 10_000), lambda: Broken(path, 10_000)
    )
    source = connections.source()
    assert len(taken(source, connections, 50)) == 50
    assert "has no video that can be decoded" in [news.text for news in connections.told][2]


def test_a_connection_that_breaks_in_the_middle_loses_only_what_did_not_come(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a.mp4", replace(SMALL, audio=(), options={"g": "5", "bf": "0"}))
    connections = Connections(lambda: Broken(path, 12), lambda: Broken(path, 10_000))
    source = connections.source()
    frames = taken(source, connections, 37)
    assert len(frames) == 37
    assert "the connection was lost" in connections.told[1].text


def test_what_comes_before_a_key_frame_is_counted_and_not_shown(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", replace(SMALL, audio=(), options={"g": "10", "bf": "0"}))

    class Joined(Broken):
        def demux(self, *streams: Any) -> Iterator[Any]:
            packets = super().demux(*streams)
            for _ in range(3):
                next(packets)
            yield from packets

    connections = Connections(lambda: Joined(path, 10_000))
    source = connections.source()
    frames = taken(source, connections, 15)
    assert (len(frames), source.dropped["undecodable"], source.decode_errors) == (15, 7, 7)


def test_sound_keeps_in_sync_over_a_lost_connection_and_has_no_holes(tmp_path: Path) -> None:
    beep = replace(SOUND, beeps_s=(0.4,))
    path = make(tmp_path / "a.mp4", replace(SMALL, audio=(beep,), flashes_s=(0.4,)))
    connections = Connections(lambda: Broken(path, 10_000), lambda: Broken(path, 10_000))
    source = connections.source()
    sound = LiveSound(source.reader.sounds)
    blocks: list[Any] = []
    frames = []
    for frame in source:
        frames.append(frame)
        blocks += sound.until(frame.time_s, patience_s=5.0)
        if len(frames) == 50:
            connections.drained.set()
    blocks += sound.until(frames[-1].time_s, patience_s=0.0)
    ends = [block.pts + block.samples for block in blocks]
    assert [block.pts for block in blocks][1:] == ends[:-1]
    assert abs(sound.drift_s) <= 0.02
    white = [frame.time_s for frame in frames if luma_of(frame.image.y) > 128]
    samples = np.abs(np.concatenate([block.to_ndarray()[0] for block in blocks]))
    loud_s = (blocks[0].pts + np.flatnonzero(samples > 0.1)) / RATE_HZ
    flashes, beeps = starts(white), starts(loud_s.tolist())
    assert len(flashes) == len(beeps) == 2
    assert flashes[1] - flashes[0] > 0.9
    assert np.abs(np.subtract(flashes, beeps)).max() < 0.04


def test_sound_that_is_cut_or_filled_is_counted_and_leaves_nothing_of_the_difference(
    tmp_path: Path,
) -> None:
    path = make(tmp_path / "a.mp4", SMALL)
    connections = Connections(lambda: Broken(path, 10_000))
    source = connections.source()
    sound = LiveSound(lambda: moved)
    moved: list[LivePacket] = []
    taken(source, connections, 25)
    packets = source.reader.sounds()
    blocks: list[Any] = []
    for index, packet in enumerate(packets):
        late_s = 0.0 if index < 10 else 0.1 if index < 20 else -0.1
        packet.packet.pts = (packet.packet.pts or 0) + round(late_s * UNITS_PER_S)
        moved[:] = [packet]
        blocks += sound.until(2.0, patience_s=5.0)
    assert 0.15 < sound.filled_s + sound.cut_s < 0.4
    assert sound.cut_s > 0.08
    assert abs(sound.drift_s) <= 0.02
    ends = [block.pts + block.samples for block in blocks]
    assert [block.pts for block in blocks][1:] == ends[:-1]


def test_sound_waits_for_its_picture_and_only_so_much_of_it() -> None:
    tones = Tones()
    sound = LiveSound(lambda: tones.up_to(60.0))
    list(sound.until(1.0, patience_s=1.0))
    early = tones.decoded
    # A minute is more than may wait; what is beyond that is written early, and not lost.
    assert early == 60 * RATE_HZ // tones.samples + 1 - 2000
    list(sound.until(20.0, patience_s=1.0))
    assert tones.decoded == 20 * RATE_HZ // tones.samples + 1
    (*_, last) = sound.rest()
    assert last.pts + last.samples >= 60 * RATE_HZ
    assert (sound.filled_s, sound.cut_s, sound.damaged) == (0.0, 0.0, 0)


def test_sound_that_makes_no_sense_is_counted_and_ends_like_any() -> None:
    class Nonsense(Tones):
        def decode(self, packet: Any) -> list[av.AudioFrame]:
            (frame,) = super().decode(packet)
            frame.sample_rate = 0
            return [frame]

    tones = Nonsense()
    sound = LiveSound(lambda: tones.up_to(1.0))
    assert list(sound.rest()) == []
    assert sound.damaged >= tones.decoded > 40


def test_sound_that_begins_far_behind_its_pictures_is_silent_before() -> None:
    tones = Tones()
    found = [tones.up_to(8.0)[150:]]  # from 3.2 s on
    sound = LiveSound(lambda: found.pop() if found else [])
    assert list(sound.until(0.5, patience_s=1.0)) == []
    blocks = [*sound.until(1.0, 1.0), *sound.until(2.5, 1.0)]
    assert sum(block.samples for block in blocks) == 1.5 * RATE_HZ
    blocks += sound.until(5.0, 1.0)
    assert sound.filled_s == pytest.approx(3.2, abs=0.001)
    ends = [block.pts + block.samples for block in blocks]
    assert [block.pts for block in blocks] == [0, *ends[:-1]]
    assert ends[-1] == pytest.approx(5.0 * RATE_HZ, abs=tones.samples)


@pytest.mark.parametrize(
    "other", [Audio(layout="mono"), Audio(layout="5.1"), Audio(layout="stereo", rate_hz=44_100)]
)
def test_sound_goes_on_where_its_format_changes_within_a_connection(
    tmp_path: Path, other: Audio
) -> None:
    parts = [replace(SMALL, audio=(audio,)) for audio in (Audio(layout="stereo"), other)]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(make(tmp_path / "part.ts", part).read_bytes() for part in parts))
    connections = Connections(lambda: Broken(path, 10_000))
    source = connections.source()
    taken(source, connections, 50)
    sound = LiveSound(source.reader.sounds)
    blocks = list(sound.until(10.0, patience_s=20.0))
    assert sound.damaged == 0
    starts_s = np.array([block.pts / RATE_HZ for block in blocks])
    loudest = np.array([np.abs(block.to_ndarray()).max() for block in blocks])
    ends = [block.pts + block.samples for block in blocks]
    assert [block.pts for block in blocks][1:] == ends[:-1]
    assert ends[-1] > 1.9 * RATE_HZ
    assert loudest[(starts_s > 1.2) & (starts_s < 1.8)].min() > 0.05


def starts(times_s: list[float]) -> list[float]:
    """The first of each run of times."""
    pairs = zip([-1.0, *times_s], times_s, strict=False)
    return [time_s for before_s, time_s in pairs if time_s - before_s > 0.2]


def test_an_input_that_stays_away_fails_after_its_time_and_tells_no_secret() -> None:
    connections = Connections(*[refused] * 50)
    with pytest.raises(SourceError, match=r"rtsp://camera/door: cannot be opened \(Connection"):
        connections.source(replace(CAMERA, reconnect_s=0.0))
    assert all("pw" not in news.text for news in connections.told)
    assert "pw" not in repr(CAMERA)


def test_a_stop_ends_the_wait_for_a_first_picture() -> None:
    connections = Connections(refused)
    connections.drained.set()
    with pytest.raises(StoppedError):
        connections.source()


def test_an_input_without_video_is_tried_again_and_says_why(tmp_path: Path) -> None:
    path = make_audio_only(tmp_path / "a.mp4")
    connections = Connections(lambda: Broken(path, 10))
    with pytest.raises(SourceError, match="has no video"):
        connections.source(replace(CAMERA, reconnect_s=0.0))


def test_a_header_that_makes_no_sense_matters_to_nobody_where_the_stream_has_its_own(
    tmp_path: Path,
) -> None:
    options = {"x265-params": "keyint=5:bframes=0:repeat-headers=1:log-level=none"}
    clip = replace(SMALL, frames=10, codec="libx265", audio=(), options=options)
    path = make(tmp_path / "a.mkv", clip)
    with av.open(str(path)) as container:
        header = bytes(container.streams.video[0].codec_context.extradata or b"")
    damaged = header[:23] + bytes(len(header) - 23)
    path.write_bytes(path.read_bytes().replace(header, damaged))
    place = LiveInput(str(path), str(path))
    source = LiveSource(place, threading.Event(), lambda news: None)
    assert len(list(source)) == 10


def test_a_file_is_played_at_its_own_pace_and_ends(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", replace(SMALL, frames=10))
    stop = threading.Event()
    place = LiveInput(str(path), str(path))
    assert place.waits
    source = LiveSource(place, stop, lambda news: None)
    assert len(list(source)) == 10


def test_pictures_that_nobody_takes_are_dropped_up_to_a_key_frame(tmp_path: Path) -> None:
    clip = replace(SMALL, frames=300, audio=(), options={"g": "10", "bf": "0"})
    path = make(tmp_path / "a.mp4", clip)
    stop = threading.Event()
    ended = threading.Event()

    def opened(place: LiveInput) -> Any:
        if not ended.is_set():
            ended.set()
            return Broken(path, 10_000)
        raise OSError(111, "Connection refused")

    told = threading.Event()
    reader = LiveReader(
        replace(CAMERA, reconnect_s=0.0),
        stop,
        lambda news: told.set() if news.event == "lost" else None,
        opened=opened,
    )
    assert told.wait(10)
    left: list[LivePacket] = []
    with pytest.raises(SourceError):
        left.extend(reader.pictures())
    assert left[0].packet.is_keyframe
    assert len(left) + reader.counts["behind"] == reader.counts["came"] == 300
    assert reader.counts["behind"] > 256

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.video.live_times import UNITS_PER_S, LiveClock

FRAME = UNITS_PER_S // 25
VIDEO, SOUND = 0, 1


@dataclass
class Wall:
    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


def placed(clock: LiveClock, track: int, at: int) -> int:
    return at + clock.offset(track, at, FRAME)


def test_the_clock_starts_with_the_first_packet_and_keeps_tracks_in_sync() -> None:
    clock = LiveClock(Wall())
    begin = 7_000_000
    assert placed(clock, VIDEO, begin) == 0
    assert placed(clock, SOUND, begin - 500) == -500
    assert placed(clock, VIDEO, begin + FRAME) == FRAME
    assert clock.parts == 1


def test_a_later_connection_goes_on_where_the_wall_clock_is() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    placed(clock, VIDEO, 0)
    wall.now_s += 5
    clock.connected()
    # Sound of the new connection is ahead of its picture by 300 units, before and after.
    assert placed(clock, VIDEO, 90) == 5 * UNITS_PER_S
    assert placed(clock, SOUND, 390) == 5 * UNITS_PER_S + 300


def test_a_connection_never_goes_back_behind_what_was_there() -> None:
    clock = LiveClock(Wall())
    for number in range(50):  # two seconds came at once
        placed(clock, VIDEO, number * FRAME)
    clock.connected()
    assert placed(clock, VIDEO, 0) == 50 * FRAME


def test_a_jump_moves_all_tracks_by_the_same_offset() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    placed(clock, VIDEO, 0)
    placed(clock, SOUND, 0)
    wall.now_s += 1
    hour = 3600 * UNITS_PER_S
    video = placed(clock, VIDEO, hour + 900)
    sound = placed(clock, SOUND, hour)
    assert video == UNITS_PER_S
    assert sound == video - 900
    assert clock.parts == 2
    assert placed(clock, VIDEO, hour + 900 + FRAME) == video + FRAME


def camera(clock: LiveClock, wall: Wall, sound_late: int) -> None:
    """Two seconds of one whose sound comes later than its picture."""
    for number in range(50):
        wall.now_s += 0.04
        clock.offset(VIDEO, number * FRAME, FRAME)
        if number * FRAME >= sound_late:
            clock.offset(SOUND, number * FRAME - sound_late, FRAME)


def test_picture_and_sound_that_both_jump_ahead_are_moved_by_the_same_offset() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    camera(clock, wall, sound_late=6 * FRAME)
    for gap_s in (5, 3.5):  # the camera goes on, or its clock was set
        wall.now_s += 5
        begin = round((52 + gap_s) * UNITS_PER_S)
        video = clock.offset(VIDEO, begin, FRAME)
        assert clock.offset(SOUND, begin - 6 * FRAME, FRAME) == video
    assert clock.parts == 3


def test_sound_that_pauses_alone_stays_in_sync() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    camera(clock, wall, sound_late=6 * FRAME)
    for number in range(50, 160):  # a muted microphone sends nothing
        wall.now_s += 0.04
        clock.offset(VIDEO, number * FRAME, FRAME)
    assert clock.offset(SOUND, 154 * FRAME, FRAME) == clock.offset(VIDEO, 160 * FRAME, FRAME)
    assert clock.parts == 1


def test_disorder_and_short_gaps_are_no_jumps() -> None:
    clock = LiveClock(Wall())
    assert placed(clock, VIDEO, 0) == 0
    assert placed(clock, VIDEO, 2 * UNITS_PER_S) == 2 * UNITS_PER_S
    assert placed(clock, VIDEO, 2 * UNITS_PER_S - FRAME) == 2 * UNITS_PER_S - FRAME
    assert clock.parts == 1


def test_packets_are_due_by_the_wall_clock() -> None:
    wall = Wall()
    clock = LiveClock(wall)
    assert clock.wait_s(0) == 0.0
    placed(clock, VIDEO, 0)
    assert clock.wait_s(UNITS_PER_S) == 1.0
    wall.now_s += 1.5
    assert clock.wait_s(UNITS_PER_S) == -0.5

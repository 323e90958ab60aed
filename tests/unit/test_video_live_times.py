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

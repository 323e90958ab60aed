"""Where to look in a video before its first frame."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from dualface_client.settings.cast import CastSettings

#: Closer moments than this show the same.
_LEAST_GAP_S = 0.4
#: Up to this many moments are looked at from first to last, which spares seeks. More are looked at
#: coarsely first, so that a look that runs out of time has seen the whole video.
_ONE_PASS = 32


def moments_to_look_at(
    duration_s: float, frame_count: int, key_times_s: Sequence[float], settings: CastSettings
) -> list[float]:
    """Times of the pictures to look at, in the order in which to look.

    Key frames come first, as they can be decoded by themselves and encoders put them at cuts: the
    way to any other picture may take ten times as long. What gaps they leave is filled, the longest
    ones first.

    Args:
        duration_s: Length of the video, seconds; 0 if unknown.
        frame_count: Its frames, 0 if unknown.
        key_times_s: Where key frames are, ascending.
        settings: How many moments.

    Returns:
        Seconds from the start of the video.
    """
    wanted = frame_count // settings.frames_per_moment
    wanted = min(max(wanted, settings.least_moments), settings.most_moments)
    end_s = max(duration_s, key_times_s[-1] if key_times_s else 0.0)
    keys = _spread(key_times_s, wanted) or [0.0]
    times = list(keys)
    while len(times) < wanted:
        gap_s, after = max(
            (later - time, -index)
            for index, (time, later) in enumerate(zip(times, [*times[1:], end_s], strict=True))
        )
        if gap_s < 2 * _LEAST_GAP_S:
            break
        times.insert(1 - after, times[-after] + gap_s / 2)
    if len(times) <= _ONE_PASS:
        return times
    between = sorted(set(times).difference(keys))
    return [*_coarsely(keys), *_coarsely(between)]


def _coarsely(times_s: Sequence[float]) -> list[float]:
    """Every fourth time first, then those in the middle between two, then the rest."""
    return [*times_s[0::4], *times_s[2::4], *times_s[1::2]]


def _spread(times_s: Sequence[float], wanted: int) -> list[float]:
    """At most so many of the times, evenly over the video, none too close to the one before."""
    apart: list[float] = []
    for time_s in times_s:
        if not apart or time_s - apart[-1] >= _LEAST_GAP_S:
            apart.append(time_s)
    if len(apart) <= wanted:
        return apart
    return [apart[index * len(apart) // wanted] for index in range(wanted)]


def stretches_s(times_s: Sequence[float], duration_s: float) -> list[float]:
    """How much of the video each moment stands for: half the way to its neighbours.

    Args:
        times_s: Moments looked at, ascending.
        duration_s: Length of the video, seconds; 0 if unknown.
    """
    if not times_s:
        return []
    middles = [(one + other) / 2 for one, other in pairwise(times_s)]
    edges = [0.0, *middles, max(duration_s, times_s[-1])]
    return [max(end - start, 1e-3) for start, end in pairwise(edges)]

"""Settings of `framing`: the virtual camera of a tile.

Lengths are shares of the crop, rates are per second of presentation time.
"""

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.settings.field import setting
from dualface_client.settings.kinds import RATE, SECONDS, SHARE, Choice, Real, Switch


@dataclass(frozen=True, slots=True)
class FramingSettings:
    """How a virtual camera frames and moves."""

    face_share: float = setting(
        1 / 3, Real(0.05, 1), "Height of a face as a share of its crop's height."
    )
    centre_y: float = setting(
        0.42,
        SHARE,
        "Where a face's centre lies, as a share of the crop's height from its top; 0.42 puts the "
        "eyes near the upper third.",
    )
    rest_zone: float = setting(
        0.1,
        SHARE,
        "How far a face may stray from a resting camera's aim before the camera follows, as a "
        "share of the crop.",
    )
    dead_zone: float = setting(0.02, SHARE, "The same while the camera follows.")
    rest_after_s: float = setting(
        0.5, SECONDS, "A camera rests once its aim has stayed within the dead zone for this long."
    )
    recentre_s: float = setting(
        6.0,
        Real(0.01, 1e9),
        "Time constant with which a resting camera's aim drifts to the face.",
    )
    zoom_dead_zone: float = setting(
        0.13, SHARE, "By what share the size of a face may change before the zoom follows."
    )
    size_smoothing_s: float = setting(0.4, SECONDS, "Time constant that smooths a face's size.")
    pan_rate: float = setting(
        9.0,
        RATE,
        "Natural frequency of pan and tilt, critically damped, in rad/s; a face moving at `v` "
        "leads by `2 v / pan_rate`.",
    )
    zoom_rate: float = setting(4.0, RATE, "The same for the zoom, on a logarithmic scale.")
    ease_rate: float = setting(3.0, RATE, "The same while easing to a wide or distant crop.")
    max_speed: float = setting(
        1.5, RATE, "Fastest pan or tilt, in crop widths or heights per second."
    )
    max_zoom_speed: float = setting(
        0.8, RATE, "Fastest zoom, as the natural logarithm of the scale per second."
    )
    max_upscale: float = setting(2.5, Real(1, 100), "How far source pixels may be enlarged.")
    missing: str = setting(
        "wide",
        Choice(("wide", "hold", "freeze", "placeholder")),
        "What a tile shows once its face is missing for `hold_s`: a `wide` crop, the last crop "
        "(`hold`), the last picture (`freeze`) or a `placeholder`.",
        flag="--missing-face",
        common=True,
    )
    hold_s: float = setting(1.0, SECONDS, "How long the crop of a missing face is held.")
    lookahead_s: float = setting(
        0.2,
        Real(0, 5),
        "Cameras aim at where a face will be after this time; about `2 / pan_rate` cancels the "
        "lag. 0 for live sources.",
    )
    jump_window_s: float = setting(
        1.0, SECONDS, "Within this time after the start or a cut, a camera jumps to a first face."
    )
    jump_distance: float = setting(
        1.0, RATE, "A camera jumps to a face that is suddenly this many crop widths away."
    )
    two_shot: bool = setting(
        False,
        Switch(),
        "Both tiles glide to one common shot while the two faces touch.",
        flag="--two-shot",
        common=True,
    )
    two_shot_after_s: float = setting(0.6, SECONDS, "How long they must touch to begin it.")
    two_shot_release_s: float = setting(1.5, SECONDS, "How long they must be apart to end it.")

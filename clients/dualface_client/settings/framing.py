"""Settings of `framing`: the virtual camera of a tile.

Lengths are shares of the crop, rates are per second of presentation time.
"""

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.settings.field import setting
from dualface_client.settings.kinds import RATE, SECONDS, SHARE, Choice, Real


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
    largest_share: float = setting(
        0.62,
        Real(0.05, 1),
        "How large a face may become, as a share of its tile's height, where the picture has no "
        "more around it; well beyond that the tile has a blurred surround.",
    )
    window_share: float = setting(
        0.42, Real(0.05, 1), "The same for a face in a window of a call or a split screen."
    )
    max_upscale: float = setting(
        10.0, Real(1, 100), "How far source pixels may be enlarged; a face of 36 px fits with 10."
    )
    alone: str = setting(
        "solo",
        Choice(("solo", "tile")),
        "While one of the two is alone, the canvas is one picture of that person (`solo`), or "
        "the other one's tile stays (`tile`, see `missing`).",
        flag="--alone",
        common=True,
    )
    missing: str = setting(
        "wide",
        Choice(("wide", "hold", "freeze", "placeholder")),
        "With `--alone tile`, what the tile of a missing face shows after `hold_s`: a `wide` crop, "
        "the last crop (`hold`), the last picture (`freeze`) or a `placeholder`.",
        flag="--missing-face",
        common=True,
    )
    hold_s: float = setting(1.0, SECONDS, "How long the crop of a missing face is held.")
    lookahead_s: float = setting(
        0.5,
        Real(0, 5),
        "How long frames wait, so that a layout changes on the cut and cameras see ahead; 0 for "
        "live sources.",
    )
    lead_s: float = setting(
        0.2,
        Real(0, 5),
        "Cameras aim at where a face will be after this time, within `lookahead_s`; about "
        "`2 / pan_rate` cancels the lag.",
    )
    least_layout_s: float = setting(1.0, SECONDS, "No layout stays for less than this.")
    layout_ease_s: float = setting(
        0.3, SECONDS, "How long a change of layout takes where there is no cut."
    )
    jump_window_s: float = setting(
        1.0, SECONDS, "Within this time after the start or a cut, a camera jumps to a first face."
    )
    jump_distance: float = setting(
        1.0, RATE, "A camera jumps to a face that is suddenly this many crop widths away."
    )

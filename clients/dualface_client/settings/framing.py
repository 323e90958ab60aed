"""Settings of `framing`: the virtual camera of a tile.

Lengths are shares of the crop, rates are per second of presentation time.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FramingSettings:
    """How a virtual camera frames and moves.

    Attributes:
        face_share: Height of the face box as a share of the crop's height.
        centre_y: Where the centre of the face box lies, from the crop's top, as a share of its
            height. 0.42 puts the eyes at 0.39, near the upper third, with head room.
        rest_zone: While the camera rests, the face may wander so far from its aim, as a share of
            the crop's width (and height), before the camera follows.
        dead_zone: The same while the camera follows.
        rest_after_s: A camera rests again once its aim has stayed within the dead zone for so long.
        recentre_s: Time constant with which the aim of a resting camera drifts to the face.
        zoom_dead_zone: The face's smoothed size may differ by this share before the zoom follows.
        size_smoothing_s: Time constant of the face size.
        pan_rate: Natural frequency of the critically damped pan and tilt, in rad/s. A face that
            moves at `v` runs ahead of the camera by `2 v / pan_rate`.
        zoom_rate: The same for the zoom, on a logarithmic scale.
        ease_rate: The same for pan, tilt and zoom while easing to a wide or a far crop.
        max_speed: Largest pan or tilt speed, in crop widths (heights) per second.
        max_zoom_speed: Largest zoom speed, as natural logarithm of the scale per second.
        max_upscale: Source pixels are enlarged at most so much, where the source allows it.
        missing: What a tile shows once its face is missing for longer than `hold_s`: `wide` (eases
            to a wide crop), `hold` (the crop stays where it is), `freeze` (the last picture with
            the face in it) or `placeholder` (a dark tile with the outline of a person).
        hold_s: A missing face's crop is held for so long.
        lookahead_s: Cameras aim at where a face will be after this time; frames of a file wait so
            long to be composed. About `2 / pan_rate` cancels the lag. 0 for live sources.
        jump_window_s: A first face within this time after the start or a cut is jumped to.
        jump_distance: A face whose centre is suddenly farther than so many crop widths from the
            camera's aim is jumped to instead of crossing the picture.
        two_shot: Whether both tiles glide to one common shot while the two faces touch.
        two_shot_after_s: They must have touched for so long.
        two_shot_release_s: They must have been apart for so long to end it.
    """

    face_share: float = 1 / 3
    centre_y: float = 0.42
    rest_zone: float = 0.1
    dead_zone: float = 0.02
    rest_after_s: float = 0.5
    recentre_s: float = 6.0
    zoom_dead_zone: float = 0.13
    size_smoothing_s: float = 0.4
    pan_rate: float = 9.0
    zoom_rate: float = 4.0
    ease_rate: float = 3.0
    max_speed: float = 1.5
    max_zoom_speed: float = 0.8
    max_upscale: float = 2.5
    missing: str = "wide"
    hold_s: float = 1.0
    lookahead_s: float = 0.2
    jump_window_s: float = 1.0
    jump_distance: float = 1.0
    two_shot: bool = False
    two_shot_after_s: float = 0.6
    two_shot_release_s: float = 1.5

"""Settings of `tracking`: association, swap risk, identities and sides.

All times are seconds of presentation time, all lengths shares of a face or of the picture, so that
one set of numbers fits every resolution and frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AssociationSettings:
    """ByteTrack's thresholds (Zhang et al. 2022) with the lost buffer in seconds.

    Attributes:
        high_score: Detections from here on take part in the first association.
        low_score: Detections below are ignored altogether.
        activation_score: An unmatched detection from here on starts a track.
        min_iou: Smallest overlap of prediction and detection in the first association.
        min_iou_low: The same in the second association, among low scores.
        lost_discount: A lost track's overlap counts so much less when detections are given out, 0
            to 1: of two tracks that one detection fits, the one that was just seen gets it.
        min_consecutive_frames: Sightings in a row after which a track is confirmed.
        confirm_at_start: Tracks that start on the first frame of a shot are confirmed at once.
        lost_buffer_s: A confirmed track without detection lives on for so long.
    """

    high_score: float = 0.5
    low_score: float = 0.15
    activation_score: float = 0.5
    min_iou: float = 0.1
    min_iou_low: float = 0.2
    lost_discount: float = 0.25
    min_consecutive_frames: int = 2
    confirm_at_start: bool = True
    lost_buffer_s: float = 1.0


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """Swap risk and when it makes ReID run.

    Attributes:
        threshold: A pair at or above counts as at risk; 0.5 is reached when predicted boxes cover
            about 15 % of the smaller face, or when each prediction overlaps the other's detection
            about half as much as its own.
        release: A pair at risk is released below this value (hysteresis).
        lookahead_s: Boxes are extrapolated so far to see an approach.
        near_heights: Two faces whose gap is below so many face heights can be mixed up at all.
        reacquired_s: A track found again after so long counts as re-acquired.
        cooldown_s: Pause between two ReID requests for a pair that stays at risk; doubles with
            each request up to `cooldown_limit_s`.
        cooldown_limit_s: Longest such pause.
        merger_s: Where one face hides the other of a pair at risk for so long, it is asked whose
            the visible one is.
        retry_s: Pause before a request is repeated whose answer decided nothing; doubles.
        retry_limit: Requests for one event before motion has the last word.
    """

    threshold: float = 0.5
    release: float = 0.25
    lookahead_s: float = 0.15
    near_heights: float = 1.5
    reacquired_s: float = 0.5
    cooldown_s: float = 1.0
    cooldown_limit_s: float = 8.0
    merger_s: float = 0.08
    retry_s: float = 0.1
    retry_limit: int = 5


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Scene-cut detection on `(18, 32)` thumbnails.

    Attributes:
        min_difference: Smallest mean absolute difference, in grey levels after the mean brightness
            is removed, that can be a cut. Plain borders that stay as they are do not count.
        min_contrast_share: The same as a share of the picture's contrast (standard deviation); the
            smaller of the two holds, so that dark pictures have cuts too.
        min_ratio: A cut differs at least so many times as much as the frames before it did.
        max_correlation: A cut correlates at most so much with the frame before.
        memory_s: Time constant of "the frames before".
        flash_step: Brightness change in grey levels, all over the picture and in one direction,
            that may be a flash or a dropped light: the verdict waits for one more frame.
    """

    min_difference: float = 7.0
    min_contrast_share: float = 0.45
    min_ratio: float = 3.0
    max_correlation: float = 0.92
    memory_s: float = 0.5
    flash_step: float = 25.0


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Gallery and matching of embeddings.

    Attributes:
        gallery_size: Embeddings kept per identity.
        match_cosine: A stranger at or above is taken for the identity.
        reject_cosine: A face below it against its own identity looks like a stranger; believed
            at once where somebody else claims the identity, else only after several looks.
        margin: By so much the best one-to-one assignment must beat the present one to replace it,
            summed over the faces.
        duplicate_cosine: An embedding so close to one in the gallery adds nothing new.
        min_quality: Faces below are not enrolled (see `tracking.quality.face_quality`).
        enrol_interval_s: Pause after the first enrolment; it triples with each.
        enrol_limit_s: Longest such pause. An enrolment also looks whether everybody is still who
            they were: a swap that nothing gave away lasts at most about so long.
        patience_s: A new face of too little quality is looked at anyway after this time, and a
            face that no embedding could name is named by motion.
        identity_limit: Identities remembered; the least established absent ones are dropped.
    """

    gallery_size: int = 4
    match_cosine: float = 0.91
    reject_cosine: float = 0.87
    margin: float = 0.03
    duplicate_cosine: float = 0.99
    min_quality: float = 0.35
    enrol_interval_s: float = 3.0
    enrol_limit_s: float = 5.0
    patience_s: float = 0.5
    identity_limit: int = 16


@dataclass(frozen=True, slots=True)
class SideSettings:
    """Who gets which tile.

    Attributes:
        policy: `identity`: a person keeps the side wherever the person goes; `position`: the sides
            follow where the two people are, smoothed and with hysteresis.
        ema_alpha: Weight of a new position at 30 frames per second; rescaled to real time.
        hysteresis: Share of the picture's width by which positions must differ to turn a
            tentative decision, or the sides under the policy `position`.
        settle_s: Sides stay tentative for so long after the first person is seen.
        join_s: A later person must be visible for so long to take a free side.
        forget_s: The side of a person who was away for longer than this falls free. A person is
            established, and waited for so long, once visible for `forget_s / forget_ratio`.
        forget_ratio: Who was visible for less in all is waited for this many times as long as
            that: a passer-by on a free side loses it sooner.
        forget_least_s: Everybody is waited for at least so long.
        predict_s: A lost face is reported at its predicted place for so long.
        pin_left: Photo (JPEG, PNG) of the person who gets the left side, `--pin left=PHOTO`: who is
            most like it, with a cosine of at least `tracking.identity.match_cosine`.
        pin_right: The same for the right side.
    """

    policy: str = "identity"
    ema_alpha: float = 0.3
    hysteresis: float = 0.04
    settle_s: float = 0.5
    join_s: float = 0.3
    forget_s: float = 10.0
    forget_ratio: float = 2.0
    forget_least_s: float = 2.0
    predict_s: float = 0.4
    pin_left: Path | None = None
    pin_right: Path | None = None


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Everything that `tracking.director.Director` needs.

    Attributes:
        association: Detections to tracks.
        risk: When tracks may have been mixed up.
        scene: When a new shot begins.
        identity: Tracks to people.
        sides: People to tiles.
        reid: When faces are compared with the gallery: `conditional` (above the risk threshold),
            `always` (every face of every frame) or `never` (motion alone).
    """

    association: AssociationSettings = field(default_factory=AssociationSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)
    scene: SceneSettings = field(default_factory=SceneSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    sides: SideSettings = field(default_factory=SideSettings)
    reid: str = "conditional"

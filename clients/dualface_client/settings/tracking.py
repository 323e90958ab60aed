"""Settings of `tracking`: association, swap risk, identities and sides.

All times are seconds of presentation time, all lengths shares of a face or of the picture, so that
one set of numbers fits every resolution and frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dualface_client.settings.field import setting
from dualface_client.settings.kinds import (
    SECONDS,
    SHARE,
    Choice,
    Integer,
    Or,
    PhotoOrNumber,
    Real,
    Switch,
)


@dataclass(frozen=True, slots=True)
class AssociationSettings:
    """ByteTrack's thresholds (Zhang et al. 2022) with the lost buffer in seconds."""

    high_score: float = setting(
        0.5, SHARE, "Detections with at least this score are associated first."
    )
    low_score: float = setting(0.15, SHARE, "Detections below this score are ignored.")
    activation_score: float = setting(
        0.5, SHARE, "An unmatched detection with at least this score starts a track."
    )
    min_iou: float = setting(
        0.1, SHARE, "Least overlap of prediction and detection in the first association."
    )
    min_iou_low: float = setting(0.2, SHARE, "The same in the second association, of low scores.")
    lost_discount: float = setting(
        0.25,
        SHARE,
        "By how much a lost track's overlap is discounted, so that a track that was just seen "
        "wins.",
    )
    min_consecutive_frames: int = setting(
        2, Integer(1, 1000), "Sightings in a row that confirm a track."
    )
    confirm_at_start: bool = setting(
        True, Switch(), "Tracks that start on the first frame of a shot are confirmed at once."
    )
    lost_buffer_s: float = setting(
        1.0, SECONDS, "How long a confirmed track lives without a detection."
    )


@dataclass(frozen=True, slots=True)
class RiskSettings:
    """Swap risk and when it makes ReID run."""

    threshold: float = setting(
        0.5,
        SHARE,
        "Swap risk at which ReID is asked; 0.5 is reached when predicted boxes cover about 15 % of"
        " the smaller face.",
    )
    release: float = setting(0.25, SHARE, "Swap risk below which a pair is no longer at risk.")
    lookahead_s: float = setting(
        0.15, Real(0, 5), "How far boxes are extrapolated to see an approach."
    )
    near_heights: float = setting(
        1.5, Real(0, 100), "Faces with a gap of fewer face heights can be mixed up."
    )
    reacquired_s: float = setting(
        0.5, SECONDS, "A track found again after this long counts as re-acquired."
    )
    cooldown_s: float = setting(
        1.0,
        SECONDS,
        "Pause between two ReID requests for a pair at risk; doubles up to `cooldown_limit_s`.",
    )
    cooldown_limit_s: float = setting(8.0, SECONDS, "Longest such pause.")
    merger_s: float = setting(
        0.08,
        SECONDS,
        "Once one face of a pair at risk has hidden the other for this long, ReID is asked whose "
        "face is visible.",
    )
    retry_s: float = setting(
        0.1, SECONDS, "Pause before an undecided request is repeated; doubles."
    )
    retry_limit: int = setting(5, Integer(0, 1000), "Requests for one event before motion decides.")


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Scene-cut detection on `(36, 64, 3)` thumbnails; docs/quality.md has the measurements."""

    min_new_share: float = setting(
        0.64,
        SHARE,
        "A new shot begins where at least this share of a picture's detail cannot be explained by "
        "the frames before, moved and lit otherwise.",
    )
    min_shot_s: float = setting(0.2, SECONDS, "No shot is shorter; a transition is one cut.")
    min_detail: float = setting(
        2.0,
        Real(0, 255),
        "Mean detail, in grey levels, below which a frame is black or plain and belongs to no "
        "shot.",
    )


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Gallery and matching of embeddings.

    The cosines are for the bundled network and come from `benchmarks/faces.py`: 147 faces of 21
    people, against themselves and made worse down to 32 px (`docs/quality.md`). One person's lie
    above 0.42 in 99 % of the pairs of every condition (medians 0.66 to 0.90), different people's
    below 0.37 in 99 % (median 0.04), at most at 0.516.

    - `match_cosine` 0.52 is above all of the latter, in every group of people.
    - `reject_cosine` 0.36: the own person falls below it in 0.1 % of the pairs where the face moves
      fast, else never. A track is doubted `margin` below it, where 97 % of strangers lie.
    - `duplicate_cosine` 0.95: neighbouring frames of a head that rests.
    """

    gallery_size: int = setting(4, Integer(1, 256), "Embeddings kept per person.")
    match_cosine: float = setting(
        0.52, Real(-1, 1), "Cosine from which an unknown face is taken for a person."
    )
    reject_cosine: float = setting(
        0.36, Real(-1, 1), "Cosine below which a face no longer looks like its own person."
    )
    margin: float = setting(
        0.05,
        Real(0, 2),
        "By how much the best assignment of faces to people must beat the present one to replace "
        "it.",
    )
    duplicate_cosine: float = setting(
        0.95, Real(-1, 1), "An embedding this close to a known one adds nothing."
    )
    min_quality: float = setting(0.35, SHARE, "Faces of lower quality are not enrolled.")
    enrol_interval_s: float = setting(
        3.0, SECONDS, "Pause after the first enrolment; triples each time."
    )
    enrol_limit_s: float = setting(
        5.0, SECONDS, "Longest such pause; an unnoticed swap lasts about this long at most."
    )
    patience_s: float = setting(
        0.5, SECONDS, "How long a new face of low quality waits before it is looked at anyway."
    )
    ask_again_s: float = setting(
        4.0,
        SECONDS,
        "Pause after which a face is asked about again while one of the two is missing, a fifth "
        "of it for a stranger; triples each time.",
    )
    motion_gap_s: float = setting(
        1.5,
        SECONDS,
        "How long a face may be away and still be named by its place, within one shot; after that "
        "only an embedding names it.",
    )
    motion_heights: float = setting(
        1.0,
        Real(0, 100),
        "How many face heights from where its person was last seen such a face may be.",
    )
    identity_limit: int = setting(
        16, Integer(2, 4096), "People remembered; the least established absent ones are dropped."
    )


@dataclass(frozen=True, slots=True)
class SideSettings:
    """Who gets which tile."""

    policy: str = setting(
        "identity",
        Choice(("identity", "position")),
        "`identity` keeps each person on one side; `position` lets the sides follow where the two "
        "are.",
        flag="--sides",
        common=True,
    )
    swap: bool = setting(
        False,
        Switch(),
        "Exchange the tiles that follow from the places: the person on the left gets the right "
        "tile. A pinned person keeps the pinned tile.",
        flag="--swap",
        common=True,
    )
    ema_alpha: float = setting(
        0.3, SHARE, "Weight of a new position at 30 frames per second; rescaled to real time."
    )
    hysteresis: float = setting(
        0.04, SHARE, "By what share of the picture's width positions must differ to change a side."
    )
    above_ratio: float = setting(
        1.25,
        Real(0.1, 100),
        "Two faces whose vertical distance is this many times the horizontal one are above each "
        "other: the upper one is left.",
    )
    still_s: float = setting(
        2.0,
        SECONDS,
        "A face that has not moved for this long since it was first seen is a picture, and takes "
        "no side until it moves.",
    )
    still_share: float = setting(
        0.0012,
        SHARE,
        "How far the points of a face may move against each other, as a share of its height, and "
        "still not count as a movement.",
    )
    crowd: int = setting(
        5,
        Integer(3, 1000),
        "In a picture with this many faces only people who are clearly larger than the others "
        "take a free side.",
    )
    crowd_ratio: float = setting(
        1.3, Real(1, 100), "How many times as high as the third largest face is clearly larger."
    )
    settle_s: float = setting(
        0.5, SECONDS, "How long sides stay tentative after the first person is seen."
    )
    join_s: float = setting(
        0.3, SECONDS, "How long a later person must be visible to take a free side."
    )
    forget_s: float = setting(
        10.0, SECONDS, "How long an established person who is away keeps a side."
    )
    forget_ratio: float = setting(
        2.0,
        Real(0.01, 1000),
        "Someone seen only briefly keeps a side this many times as long as they were visible.",
    )
    forget_least_s: float = setting(2.0, SECONDS, "Everybody keeps a side at least this long.")
    predict_s: float = setting(
        0.4, SECONDS, "How long a lost face is reported at its predicted place."
    )
    pin_left: str | None = setting(
        None,
        Or("nobody", PhotoOrNumber()),
        "Photo (JPEG, PNG) of the person for the left side, or that person's number in the cast, "
        "as `--pin left=PHOTO` or `--pin left=cast:2`.",
    )
    pin_right: str | None = setting(
        None, Or("nobody", PhotoOrNumber()), "The same for the right side."
    )


@dataclass(frozen=True, slots=True)
class TrackingSettings:
    """Everything that `tracking.director.Director` needs.

    Attributes:
        association: Detections to tracks.
        risk: When tracks may have been mixed up.
        scene: When a new shot begins.
        identity: Tracks to people.
        sides: People to tiles.
    """

    reid: str = setting(
        "conditional",
        Choice(("conditional", "always", "never")),
        "When faces are compared with known ones: `conditional` (when a swap threatens), `always` "
        "or `never` (motion alone).",
        flag="--reid",
        common=True,
    )
    association: AssociationSettings = field(default_factory=AssociationSettings)
    risk: RiskSettings = field(default_factory=RiskSettings)
    scene: SceneSettings = field(default_factory=SceneSettings)
    identity: IdentitySettings = field(default_factory=IdentitySettings)
    sides: SideSettings = field(default_factory=SideSettings)

"""Settings of the look through a file before its first frame."""

from __future__ import annotations

from dataclasses import dataclass

from dualface_client.settings.field import setting
from dualface_client.settings.kinds import SHARE, Integer, Switch


@dataclass(frozen=True, slots=True)
class CastSettings:
    """The look for the people whom a file is about."""

    enabled: bool = setting(
        True,
        Switch(),
        "Look through a file before its first frame for the two people it is about; nobody else "
        "then gets a tile.",
        flag="--cast",
        common=True,
    )
    run_share: float = setting(
        0.05,
        SHARE,
        "Largest share of the run's time that the look may take, estimated from its own "
        "detections; the first twelve pictures, all of a file of 12 s, are looked at in any case.",
    )
    frames_per_moment: int = setting(
        25,
        Integer(1, 100000),
        "One picture is looked at for this many frames of the file.",
    )
    least_moments: int = setting(
        5, Integer(1, 1000), "Pictures that are looked at even in a short file."
    )
    most_moments: int = setting(
        400, Integer(1, 4000), "Pictures that are looked at even in a long file."
    )
    least_share: float = setting(
        0.05, SHARE, "Somebody who is on screen for a smaller share of the file gets no tile."
    )
    least_weight: float = setting(
        0.1,
        SHARE,
        "Somebody who matters less than this share of the first person (time on screen, size of "
        "the face, speaking) gets no tile.",
    )

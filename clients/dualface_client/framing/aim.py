"""What a camera is aimed at: lets it rest while a face only sways, and keeps up with a walk."""

from __future__ import annotations

from math import exp

from dualface_client.settings.framing import FramingSettings


class Aim:
    """A point of the source that follows a face with a dead zone.

    Args:
        settings: `rest_zone`, `dead_zone`, `rest_after_s`, `recentre_s`.

    Attributes:
        at: The point, x and y in source pixels.
    """

    def __init__(self, settings: FramingSettings) -> None:
        self._settings = settings
        self.at = (0.0, 0.0)
        self._resting = True
        self._still_since_s = 0.0
        self._still_at = self.at

    def rest(self) -> None:
        """The camera has just been placed: it rests until the face goes away from here."""
        self._resting = True

    def follow(
        self, face: tuple[float, float], size: tuple[float, float], time_s: float, dt_s: float
    ) -> None:
        """Lets a resting camera rest, and a following one keep up.

        Args:
            face: Centre of the face, source pixels.
            size: Width and height of the crop.
            time_s: Presentation time in seconds, not decreasing.
            dt_s: Seconds since the last call.
        """
        settings, (x_px, y_px), (width, height) = self._settings, face, size
        away = max(abs(x_px - self.at[0]) / width, abs(y_px - self.at[1]) / height)
        if self._resting and away <= settings.rest_zone:
            drift = 1.0 - exp(-dt_s / settings.recentre_s)
            self.at = (
                self.at[0] + drift * (x_px - self.at[0]),
                self.at[1] + drift * (y_px - self.at[1]),
            )
            return
        if self._resting:
            self._resting, self._still_since_s, self._still_at = False, time_s, self.at
        slack = settings.dead_zone * height
        self.at = (
            drag(self.at[0], x_px, settings.dead_zone * width),
            drag(self.at[1], y_px, slack),
        )
        moved = max(abs(self.at[0] - self._still_at[0]), abs(self.at[1] - self._still_at[1]))
        if moved > slack:
            self._still_since_s, self._still_at = time_s, self.at
        elif time_s - self._still_since_s >= settings.rest_after_s:
            self._resting = True


def drag(aim: float, wanted: float, slack: float) -> float:
    """Moves `aim` only as far as needed to be within `slack` of `wanted`."""
    return min(max(aim, wanted - slack), wanted + slack)

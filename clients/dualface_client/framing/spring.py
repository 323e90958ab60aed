"""A critically damped spring in closed form."""

from __future__ import annotations

from math import exp


class Spring:
    """Follows a target without overshoot, for any time step.

    Between two calls the target counts as constant, and the exact solution of
    `x'' = rate^2 (target - x) - 2 rate x'` is used, so steps of 10 ms and of 100 ms end at the same
    place (Euler steps would not).

    Attributes:
        value: Present value.
        speed: Present change per second.
    """

    __slots__ = ("speed", "value")

    def __init__(self, value: float) -> None:
        self.value = value
        self.speed = 0.0

    def jump(self, value: float) -> None:
        """Goes to `value` at once and stands still."""
        self.value = value
        self.speed = 0.0

    def step(self, target: float, dt_s: float, rate: float, max_speed: float) -> float:
        """Moves on by `dt_s`.

        Args:
            target: Where to go.
            dt_s: Seconds since the last step, not negative.
            rate: Natural frequency in rad/s.
            max_speed: Largest change per second, as an absolute value.

        Returns:
            The new value.
        """
        error = self.value - target
        slope = self.speed + rate * error
        decay = exp(-rate * dt_s)
        value = target + (error + slope * dt_s) * decay
        speed = (self.speed - rate * slope * dt_s) * decay
        reach = max_speed * dt_s
        self.value = min(max(value, self.value - reach), self.value + reach)
        self.speed = min(max(speed, -max_speed), max_speed)
        return self.value

    def clamp(self, low: float, high: float) -> float:
        """Limits the value; a speed into the limit is lost."""
        if self.value < low:
            self.value, self.speed = low, max(self.speed, 0.0)
        elif self.value > high:
            self.value, self.speed = high, min(self.speed, 0.0)
        return self.value

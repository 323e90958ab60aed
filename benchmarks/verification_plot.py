"""Draws the curves of `face_verification.py` as one SVG: the ROC, and both errors by threshold.

python benchmarks/verification_plot.py [--json FILE] [--svg FILE]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

RESULT = Path(__file__).parent / "results" / "face_verification.json"
_PANEL_W, _PANEL_H, _LEFT, _TOP, _GAP = 300, 200, 60, 30, 100
#: After Okabe and Ito (2008).
_BLUE, _RED, _GREEN = "#0072b2", "#d55e00", "#009e73"
_LEAST_RATE = 1e-4


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Attributes:
        left_px: Left edge.
        x_range: Values at the left and the right end.
        y_range: Values at the bottom and the top.
        log_x: Whether x is logarithmic.
    """

    left_px: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]
    log_x: bool = False

    def x(self, value: float) -> float:
        """Pixel of a value, within the panel."""
        low, high = self.x_range
        if self.log_x:
            low, high, value = math.log(low), math.log(high), math.log(max(value, low))
        return self.left_px + min(max((value - low) / (high - low), 0), 1) * _PANEL_W

    def y(self, value: float) -> float:
        """Pixel of a value, within the panel."""
        low, high = self.y_range
        return _TOP + (1 - min(max((value - low) / (high - low), 0), 1)) * _PANEL_H

    def axes(
        self, title: str, x_ticks: Sequence[float], y_ticks: Sequence[float], x_name: str
    ) -> Iterator[str]:
        """Title, grid and numbers."""
        bottom = _TOP + _PANEL_H
        yield _text(self.left_px + _PANEL_W / 2, _TOP - 12, title, "middle")
        yield _text(self.left_px + _PANEL_W / 2, bottom + 36, x_name, "middle")
        for tick in y_ticks:
            y = self.y(tick)
            yield _line([(self.left_px, y), (self.left_px + _PANEL_W, y)], "#d0d7de", 1)
            yield _text(self.left_px - 6, y + 4, f"{100 * tick:g} %", "end")
        for tick in x_ticks:
            label = f"{100 * tick:g} %" if self.log_x else f"{tick:g}"
            yield _text(self.x(tick), bottom + 18, label, "middle")

    def curve(self, points: Sequence[tuple[float, float]], color: str, dash: str = "") -> str:
        """A line through values."""
        return _line([(self.x(x), self.y(y)) for x, y in points], color, 2, dash)


def draw(result: dict[str, object], match_cosine: float) -> str:
    """The SVG.

    Args:
        result: What `face_verification.py` wrote.
        match_cosine: The program's threshold, marked.
    """
    body: list[str] = []
    roc = Panel(_LEFT, (_LEAST_RATE, 1.0), (0.9, 1.0), log_x=True)
    rates = (_LEAST_RATE, 1e-3, 1e-2, 1e-1, 1.0)
    body += roc.axes(
        "ROC: same person accepted", rates, (0.9, 0.95, 1.0), "different people accepted"
    )
    errors = Panel(_LEFT + _PANEL_W + _GAP, (0.72, 1.0), (0.0, 1.0))
    ticks = (0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
    body += errors.axes("Errors by threshold", ticks, (0.0, 0.5, 1.0), "cosine threshold")
    for name, dash in (("fp32", ""), ("fp16", "3 4")):
        rows = _curve_of(result, name)
        body.append(roc.curve([(far, 1 - frr) for _, far, frr in rows], _GREEN, dash))
        body.append(errors.curve([(at, far) for at, far, _ in rows], _RED, dash))
        body.append(errors.curve([(at, frr) for at, _, frr in rows], _BLUE, dash))
    body.append(errors.curve([(match_cosine, 0.0), (match_cosine, 1.0)], "#5f6b7a", "6 4"))
    low = _TOP + 0.8 * _PANEL_H
    body.append(_text(errors.x(0.723), low, "different people accepted", "start", _RED))
    body.append(_text(errors.x(0.723), low + 18, "same person refused", "start", _BLUE))
    body.append(
        _text(errors.x(match_cosine) - 4, _TOP + 14, f"match_cosine {match_cosine:g}", "end")
    )
    width, height = _LEFT + 2 * _PANEL_W + _GAP + 20, _TOP + _PANEL_H + 48
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{width}" height="{height}" fill="#fff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _curve_of(result: dict[str, object], name: str) -> list[tuple[float, float, float]]:
    """Threshold, false accepts, false rejects; shares."""
    verification = result[name]
    assert isinstance(verification, dict)  # noqa: S101 - its own format
    return [(at, far, frr) for at, far, frr in verification["curve"]]


def _text(x: float, y: float, text: str, anchor: str, color: str = "#24292f") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{text}</text>'


def _line(points: Sequence[tuple[float, float]], color: str, width: int, dash: str = "") -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"{dashes}/>'
    )


def main() -> int:
    """Runs the command line and returns its exit status."""
    from dualface_client.settings.tracking import IdentitySettings

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, default=RESULT, help="what face_verification.py wrote")
    parser.add_argument("--svg", type=Path, help="the plot; beside the JSON where not given")
    options = parser.parse_args()
    svg = options.svg or options.json.with_suffix(".svg")
    result = json.loads(options.json.read_text(encoding="utf-8"))
    svg.write_text(draw(result, IdentitySettings().match_cosine), encoding="utf-8")
    print(svg)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

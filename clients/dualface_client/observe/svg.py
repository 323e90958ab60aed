"""Small plots as inline SVG: lines over time, and who sits where over time. No scripts."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from dualface_client.observe.timeline import Timeline

#: Told apart in grey and by colour-blind readers too: after Okabe and Ito (2008).
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#5f6b7a")

_WIDTH, _HEIGHT = 560, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 66, 10, 14, 34
_STRIP_HEIGHT = 116
_LANE_PX = 24


@dataclass(frozen=True, slots=True)
class Line:
    """One curve.

    Attributes:
        name: What it is, for the legend and as tooltip.
        color: A CSS colour.
        points: x and y, x ascending.
        dashed: Drawn as dashes.
    """

    name: str
    color: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


def color_of(index: int) -> str:
    """The index-th colour, from the beginning again after the last."""
    return COLORS[index % len(COLORS)]


def nice_ticks(highest: float, count: int = 4) -> list[float]:
    """Round numbers from 0 to the first one at or above `highest`.

    >>> nice_ticks(87)
    [0.0, 25.0, 50.0, 75.0, 100.0]
    """
    if not highest > 0 or not math.isfinite(highest):
        return [0.0, 1.0]
    rough = highest / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= rough * (1 - 1e-9))
    return [round(step * i, 12) for i in range(math.ceil(highest / step - 1e-9) + 1)]


def line_plot(lines: Sequence[Line], *, label: str, x_end_s: float) -> str:
    """Curves over the run's time.

    Args:
        lines: At least one point between them makes a plot.
        label: What is drawn, with its unit; read by screen readers.
        x_end_s: Right end of the time axis, seconds.
    """
    values = [y for line in lines for _, y in line.points]
    if not values:
        return '<p class="empty">Nothing was measured: the run was too short.</p>'
    ticks = nice_ticks(max(values))
    plot = _Axes(max(x_end_s, 1e-3), ticks[-1])
    body = [*plot.grid(ticks), *plot.time_axis(_HEIGHT - _BOTTOM)]
    body += [plot.curve(line) for line in lines if line.points]
    return _svg(_HEIGHT, label, body)


def seating_strip(timeline: Timeline) -> str:
    """Who sat left and right, and when ReID ran, over the source's time."""
    plot = _Axes(max(timeline.end_s - timeline.start_s, 1e-3), 1.0)
    body = []
    for lane, side in enumerate(("left", "right")):
        y = _TOP + lane * (_LANE_PX + 4)
        body.append(_row_name(side, y + 16))
        body += _lane(timeline, plot, side, y)
    y = _TOP + 2 * (_LANE_PX + 4)
    body.append(_row_name("ReID", y + 10))
    body += _reid_marks(timeline, plot, y)
    body += plot.time_axis(_STRIP_HEIGHT - 26)
    return _svg(_STRIP_HEIGHT, "Sides and ReID over time", body)


def _row_name(text: str, y: float) -> str:
    return f'<text class="tick" x="{_LEFT - 6}" y="{y}" text-anchor="end">{text}</text>'


def _lane(timeline: Timeline, plot: _Axes, side: str, y: float) -> Iterator[str]:
    ends = [*(s.start_s for s in timeline.seatings[1:]), timeline.end_s]
    for seating, end_s in zip(timeline.seatings, ends, strict=False):
        identity: int = getattr(seating, side)
        x1 = plot.x(seating.start_s - timeline.start_s)
        x2 = max(plot.x(end_s - timeline.start_s), x1 + 0.5)
        color = color_of(identity - 1) if identity else "#e6e9ee"
        who = f"person {identity}" if identity else "nobody yet"
        yield (
            f'<rect x="{x1:.1f}" y="{y}" width="{x2 - x1:.1f}" height="{_LANE_PX}" rx="2" '
            f'fill="{color}"><title>{side}: {who}, {seating.start_s:.2f} s to {end_s:.2f} s'
            "</title></rect>"
        )
        if x2 - x1 > 60:
            ink = "#fff" if identity else "#5f6b7a"
            yield f'<text x="{x1 + 6:.1f}" y="{y + 16}" class="name" fill="{ink}">{who}</text>'


def _reid_marks(timeline: Timeline, plot: _Axes, y: float) -> Iterator[str]:
    for index, count in enumerate(timeline.reid_frames):
        if count:
            x = plot.x(min(index * timeline.bin_s, plot.x_end))
            width = max(1.5, plot.x(timeline.bin_s) - plot.x(0) - 0.5)
            yield (
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="11" fill="#333c4a">'
                f"<title>{count} frames with ReID from {index * timeline.bin_s:.2f} s</title>"
                "</rect>"
            )


@dataclass(frozen=True, slots=True)
class _Axes:
    x_end: float
    y_end: float

    def x(self, value: float) -> float:
        return _LEFT + value / self.x_end * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - value / self.y_end * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self, ticks: Sequence[float]) -> Iterator[str]:
        for tick in ticks:
            y = self.y(tick)
            yield (
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{_number(tick)}</text>"
            )

    def time_axis(self, y: float) -> Iterator[str]:
        for tick in nice_ticks(self.x_end, 6):
            if tick <= self.x_end * 1.001:
                x = self.x(tick)
                anchor = "end" if x > _WIDTH - _RIGHT - 14 else "middle"
                yield (
                    f'<text class="tick" x="{x:.1f}" y="{y + 18:.1f}" text-anchor="{anchor}">'
                    f"{_number(tick)} s</text>"
                )

    def curve(self, line: Line) -> str:
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in line.points)
        dashes = ' stroke-dasharray="5 4"' if line.dashed else ""
        return (
            f'<polyline points="{path}" fill="none" stroke="{line.color}" stroke-width="2" '
            f'stroke-linejoin="round"{dashes}><title>{escape(line.name)}</title></polyline>'
        )


def _svg(height: float, label: str, body: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(body)}</svg>"
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"

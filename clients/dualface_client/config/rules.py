"""Rules between settings whose values are valid alone but not together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualface_client.config.table import settings_table
from dualface_client.config.values import LAYERS, Given, Problem
from dualface_client.settings.kinds import cast_number
from dualface_client.settings.stream import DEFAULT_CANVAS_WH_PX, LayoutKind


@dataclass(frozen=True, slots=True)
class AtMost:
    """One setting must not exceed another.

    Attributes:
        lower: Key of the one.
        upper: Key of the other.
        why: What would go wrong.
        strict: Whether they must differ.
    """

    lower: str
    upper: str
    why: str
    strict: bool = False


#: Narrowest tile, along the axis that the two tiles share.
_LEAST_TILE_PX = 8
_HYSTERESIS = "what begins at the upper value ends below the lower one"
_ASSOCIATION = "tracking.association"
_IDENTITY = "tracking.identity"

ORDERED = (
    AtMost(
        "detection.frames_per_request",
        "limits.detector_batch",
        "the detector's engine takes no larger batch",
    ),
    AtMost(
        "detection.score_threshold",
        f"{_ASSOCIATION}.high_score",
        "no face would ever start a track",
    ),
    AtMost(f"{_ASSOCIATION}.low_score", f"{_ASSOCIATION}.high_score", "none lies between them"),
    AtMost("tracking.risk.release", "tracking.risk.threshold", _HYSTERESIS, strict=True),
    AtMost("tracking.risk.cooldown_s", "tracking.risk.cooldown_limit_s", "the pause grows to it"),
    AtMost(
        f"{_IDENTITY}.reject_cosine",
        f"{_IDENTITY}.match_cosine",
        "a face could match an identity and still be a stranger to it",
    ),
    AtMost(
        f"{_IDENTITY}.match_cosine",
        f"{_IDENTITY}.duplicate_cosine",
        "the gallery would never take a second view",
    ),
    AtMost(
        "tracking.sides.forget_least_s",
        "tracking.sides.forget_s",
        "a passer-by would keep a side longer than a participant",
    ),
    AtMost("monitor.gpu_memory_low", "monitor.gpu_memory_high", _HYSTERESIS, strict=True),
    AtMost("monitor.temperature_low_c", "monitor.temperature_high_c", _HYSTERESIS, strict=True),
    AtMost("monitor.host_memory_low", "monitor.host_memory_high", _HYSTERESIS, strict=True),
    AtMost("monitor.files_low", "monitor.files_high", _HYSTERESIS, strict=True),
)


def broken_rules(values: Mapping[str, Given]) -> list[Problem]:
    """What contradicts each other.

    Args:
        values: Every setting.
    """
    found = [problem for rule in ORDERED if (problem := _out_of_order(rule, values))]
    return [*found, *_layout(values), *_nvenc(values), *_own_models(values), *_pins(values)]


def _out_of_order(rule: AtMost, values: Mapping[str, Given]) -> Problem | None:
    low, high = values[rule.lower].value, values[rule.upper].value
    if low is None or high is None or low < high or (low == high and not rule.strict):
        return None
    word = "less than" if rule.strict else "at most"
    if _rank(values[rule.lower]) >= _rank(values[rule.upper]):
        blamed, other, side = rule.lower, rule.upper, word
    else:
        blamed, other, side = rule.upper, rule.lower, "more than" if rule.strict else "at least"
    return _problem(values, blamed, f"expected {side} {_named(values, other)}: {rule.why}")


def _layout(values: Mapping[str, Given]) -> list[Problem]:
    """Canvas, layout and gap leave two tiles of even sizes."""
    layout, gap, size = (values[f"output.{name}"] for name in ("layout", "gap_px", "size"))
    kind: LayoutKind = layout.value
    if kind == "solo":
        text = f"has no effect with {_named(values, 'output.layout')}; remove one of them"
        return [_problem(values, "output.gap_px", text)] if gap.value else []
    width, height = size.value or DEFAULT_CANVAS_WH_PX[kind]
    along, word = (width, "width") if kind == "side-by-side" else (height, "height")
    blamed = "output.gap_px" if gap.value else "output.size"
    room = along - gap.value
    if gap.value % 2:
        text = f"expected an even number; nearest: {gap.value - 1} and {gap.value + 1}"
    elif room < 2 * _LEAST_TILE_PX:
        text = f"expected at most {along - 2 * _LEAST_TILE_PX}: the {word} is {along}"
    elif room % 4:
        use = (
            f"gap of {gap.value - 2} or {gap.value + 2}" if gap.value else f"{word} of {along - 2}"
        )
        side = "wide" if word == "width" else "high"
        text = f"each tile would be {room // 2} px {side}, expected an even number; use a {use}"
    else:
        return []
    return [_problem(values, blamed, text)]


def _nvenc(values: Mapping[str, Given]) -> list[Problem]:
    sessions, streams = values["limits.nvenc_sessions"].value, values["run.streams"].value
    if values["output.encoder"].value != "nvenc" or sessions is None:
        return []
    limit = _named(values, "limits.nvenc_sessions")
    if sessions == 0:
        text = f"this GPU has no NVENC ({limit}); use x264 or auto"
        return [_problem(values, "output.encoder", text)]
    if streams is not None and streams > sessions:
        text = f"expected at most {limit}, with output.encoder nvenc: each stream needs a session"
        return [_problem(values, "run.streams", f"{text}; fewer streams, or encoder auto or x264")]
    return []


def _own_models(values: Mapping[str, Given]) -> list[Problem]:
    """Models of your own are for the embedded server; another server has its own."""
    address = values["server.address"]
    if address.value is None:
        return []
    text = f"has no effect on the server of {_named(values, 'server.address')}; remove one of them"
    keys = ("server.detector_onnx", "server.reid_onnx")
    return [_problem(values, key, text) for key in keys if values[key].value is not None]


def _pins(values: Mapping[str, Given]) -> list[Problem]:
    """A pin needs comparisons, a number a look at the video, and each side a person of its own."""
    keys = ("tracking.sides.pin_left", "tracking.sides.pin_right")
    pinned = [key for key in keys if values[key].value is not None]
    if values["tracking.reid"].value == "never":
        text = f"needs ReID, but there is {_named(values, 'tracking.reid')}; remove one of them"
        return [_problem(values, key, text) for key in pinned]
    if values["cast.enabled"].value:
        return _pinned_twice(values, pinned)
    text = f"needs the cast, but there is {_named(values, 'cast.enabled')}; remove one of them"
    return [_problem(values, key, text) for key in pinned if cast_number(values[key].value)]


def _pinned_twice(values: Mapping[str, Given], pinned: Sequence[str]) -> list[Problem]:
    """One number for both sides."""
    numbers = {cast_number(values[key].value) for key in pinned}
    if len(pinned) < 2 or len(numbers) > 1 or None in numbers:
        return []
    other, blamed = sorted(pinned, key=lambda key: _rank(values[key]))
    text = f"expected another person than in {_named(values, other)}: nobody has both sides"
    return [_problem(values, blamed, text)]


def _problem(values: Mapping[str, Given], key: str, text: str) -> Problem:
    return Problem(values[key].origin, f"{key}: {_shown(values, key)}: {text}")


def _named(values: Mapping[str, Given], key: str) -> str:
    return f"{key}, {_shown(values, key)} ({values[key].origin})"


def _shown(values: Mapping[str, Given], key: str) -> str:
    value: Any = values[key].value
    return settings_table()[key].kind.show(value)


def _rank(given: Given) -> int:
    """Of two values that contradict each other, the one given later is named."""
    return LAYERS.index(given.origin.layer) if given.origin.layer in LAYERS else len(LAYERS)

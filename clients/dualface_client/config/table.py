"""The one table of settings.

A row gives a setting its key in YAML files; its environment variable and its command line option
follow from the key. Default and description are those of the dataclass field that the row fills, so
nothing is said twice. Files, environment, command line and `docs/configuration.md` are made of it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from dualface_client.config.kinds import (
    Address,
    Choice,
    ExistingFile,
    Host,
    Integer,
    Kind,
    Or,
    Real,
    Size,
    Switch,
)
from dualface_client.settings.program import ProgramSettings

ENV_PREFIX = "DUALFACE_"
#: x264's own names.
#: From the quickest encoding to the smallest file.
X264_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
_SHARE = Real(0, 1)
_SECONDS = Real(0, 3600)
_RATE = Real(0.01, 1000)


@dataclass(frozen=True, slots=True)
class Row:
    """What the table says of one setting.

    Attributes:
        kind: What it may hold.
        flag: Its command line option, where that is not the key's.
        common: Whether `--help` lists it; `--help-all` lists every one.
        per_stream: Whether one stream may have its own value.
        field: Name of the dataclass field, where that is not the key's.
    """

    kind: Kind
    flag: str = ""
    common: bool = False
    per_stream: bool = True
    field: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: Dotted name in YAML files.
        path: Where it goes in `ProgramSettings`.
        kind: What it may hold.
        default: Without any layer.
        flag: Command line option.
        common: Whether `--help` lists it.
        per_stream: Whether one stream may have its own value.
        description: From the dataclass's docstring.
    """

    key: str
    path: tuple[str, ...]
    kind: Kind
    default: Any
    flag: str
    common: bool
    per_stream: bool
    description: str

    @property
    def env(self) -> str:
        """Environment variable."""
        return ENV_PREFIX + self.key.upper().replace(".", "_")


def _global(kind: Kind, flag: str = "", *, common: bool = False) -> Row:
    return Row(kind, flag, common, per_stream=False)


#: Sections by their key in YAML files; the path in `ProgramSettings` follows after a colon.
_SECTIONS: Mapping[str, Mapping[str, Row]] = {
    "run": {
        "device": _global(Choice(("auto", "cpu", "cuda")), "--device", common=True),
        "streams": _global(Or("auto", Integer(1, 1024)), "--streams", common=True),
        "workers": _global(Or("auto", Integer(1, 64)), "--workers", common=True),
        "vram_limit": _global(Real(0.01, 1), "--vram-limit", common=True),
        "on_oom": _global(Choice(("refuse", "queue")), "--on-oom", common=True),
    },
    "server": {
        "address": _global(Or("embedded", Address()), "--server", common=True),
        "detector_onnx": _global(Or("exported", ExistingFile()), "--detector-onnx", common=True),
        "reid_onnx": _global(Or("exported", ExistingFile()), "--reid-onnx", common=True),
        "model_threads": _global(Integer(0, 1024), "--model-threads", common=True),
        "detector_instances": _global(Or("auto", Integer(1, 64))),
        "cuda_pool_mib": _global(Or("auto", Integer(1, 1 << 20))),
    },
    "detection:stream.detection": {
        "score_threshold": _global(_SHARE),
        "frames_per_request": _global(Or("auto", Integer(1, 128))),
        "requests_in_flight": _global(Or("auto", Integer(1, 64)), "--in-flight", common=True),
        "timeout_s": _global(Real(0.1, 3600)),
    },
    "reid:stream": {
        "timeout_s": Row(Real(0.1, 3600), per_stream=False, field="reid_timeout_s"),
    },
    "recovery:stream": {
        "wait_s": Row(Real(0, 86400), per_stream=False, field="server_wait_s"),
    },
    "output:stream.output": {
        "size": Row(Size(), "--size", common=True, field="canvas_wh_px"),
        "encoder": Row(Choice(("auto", "nvenc", "x264", "none")), "--encoder", common=True),
        "preset": Row(Choice(X264_PRESETS), "--preset", common=True),
        "crf": Row(Integer(1, 51), "--crf", common=True),
        "overwrite": Row(Switch(), "--overwrite", common=True),
        "encoder_threads": Row(Integer(0, 128)),
        "disk_wait_s": Row(Real(0, 86_400), "--disk-wait", common=True),
    },
    "queues:stream.queues": {
        "frames_ahead": _global(Integer(1, 256)),
        "frames_behind": _global(Integer(1, 256)),
    },
    "framing:stream.framing": {
        "face_share": Row(Real(0.05, 1)),
        "centre_y": Row(_SHARE),
        "rest_zone": Row(_SHARE),
        "dead_zone": Row(_SHARE),
        "rest_after_s": Row(_SECONDS),
        "recentre_s": Row(Real(0.01, 1e9)),
        "zoom_dead_zone": Row(_SHARE),
        "size_smoothing_s": Row(_SECONDS),
        "pan_rate": Row(_RATE),
        "zoom_rate": Row(_RATE),
        "ease_rate": Row(_RATE),
        "max_speed": Row(_RATE),
        "max_zoom_speed": Row(_RATE),
        "max_upscale": Row(Real(1, 100)),
        "missing": Row(
            Choice(("wide", "hold", "freeze", "placeholder")), "--missing-face", common=True
        ),
        "hold_s": Row(_SECONDS),
        "lookahead_s": Row(Real(0, 5)),
        "jump_window_s": Row(_SECONDS),
        "jump_distance": Row(_RATE),
        "two_shot": Row(Switch(), "--two-shot", common=True),
        "two_shot_after_s": Row(_SECONDS),
        "two_shot_release_s": Row(_SECONDS),
    },
    "tracking:stream.tracking": {
        "reid": Row(Choice(("conditional", "always", "never")), "--reid", common=True),
    },
    "tracking.association:stream.tracking.association": {
        "high_score": Row(_SHARE),
        "low_score": Row(_SHARE),
        "activation_score": Row(_SHARE),
        "min_iou": Row(_SHARE),
        "min_iou_low": Row(_SHARE),
        "lost_discount": Row(_SHARE),
        "min_consecutive_frames": Row(Integer(1, 1000)),
        "confirm_at_start": Row(Switch()),
        "lost_buffer_s": Row(_SECONDS),
    },
    "tracking.risk:stream.tracking.risk": {
        "threshold": Row(_SHARE),
        "release": Row(_SHARE),
        "lookahead_s": Row(Real(0, 5)),
        "near_heights": Row(Real(0, 100)),
        "reacquired_s": Row(_SECONDS),
        "cooldown_s": Row(_SECONDS),
        "cooldown_limit_s": Row(_SECONDS),
        "merger_s": Row(_SECONDS),
        "retry_s": Row(_SECONDS),
        "retry_limit": Row(Integer(0, 1000)),
    },
    "tracking.scene:stream.tracking.scene": {
        "min_difference": Row(Real(0, 255)),
        "min_contrast_share": Row(Real(0, 10)),
        "min_ratio": Row(Real(1, 1000)),
        "max_correlation": Row(Real(-1, 1)),
        "memory_s": Row(_SECONDS),
        "flash_step": Row(Real(0, 255)),
    },
    "tracking.identity:stream.tracking.identity": {
        "gallery_size": Row(Integer(1, 256)),
        "match_cosine": Row(Real(-1, 1)),
        "reject_cosine": Row(Real(-1, 1)),
        "margin": Row(Real(0, 2)),
        "duplicate_cosine": Row(Real(-1, 1)),
        "min_quality": Row(_SHARE),
        "enrol_interval_s": Row(_SECONDS),
        "enrol_limit_s": Row(_SECONDS),
        "patience_s": Row(_SECONDS),
        "identity_limit": Row(Integer(2, 4096)),
    },
    "tracking.sides:stream.tracking.sides": {
        "policy": Row(Choice(("identity", "position")), "--sides", common=True),
        "ema_alpha": Row(_SHARE),
        "hysteresis": Row(_SHARE),
        "settle_s": Row(_SECONDS),
        "join_s": Row(_SECONDS),
        "forget_s": Row(_SECONDS),
        "forget_ratio": Row(Real(0.01, 1000)),
        "forget_least_s": Row(_SECONDS),
        "predict_s": Row(_SECONDS),
        "pin_left": Row(Or("nobody", ExistingFile())),
        "pin_right": Row(Or("nobody", ExistingFile())),
    },
    "record": {
        "log_format": _global(Choice(("text", "json")), "--log-format", common=True),
        "health_port": _global(Or("off", Integer(0, 65535)), "--health-port", common=True),
        "health_host": _global(Host(), "--health-host", common=True),
    },
    "monitor": {
        "interval_s": _global(Real(0, 3600)),
        "gpu_memory_high": _global(_SHARE),
        "gpu_memory_low": _global(_SHARE),
        "temperature_high_c": _global(Real(0, 150)),
        "temperature_low_c": _global(Real(0, 150)),
        "host_memory_high": _global(_SHARE),
        "host_memory_low": _global(_SHARE),
        "files_high": _global(_SHARE),
        "files_low": _global(_SHARE),
    },
    "limits": {
        "nvenc_sessions": _global(Or("unknown", Integer(0, 1024))),
        "detector_batch": _global(Integer(1, 4096)),
    },
}


@cache
def settings_table() -> Mapping[str, Setting]:
    """Every setting by its key, in the order of files and pages."""
    table = {}
    for name, rows in _SECTIONS.items():
        section, _, path = name.partition(":")
        path_parts = tuple((path or section).split("."))
        owner = _at(ProgramSettings(), path_parts)
        for short, row in rows.items():
            path_of = (*path_parts, row.field or short)
            table[f"{section}.{short}"] = _setting(f"{section}.{short}", path_of, row, owner)
    return table


def _setting(key: str, path: tuple[str, ...], row: Row, owner: object) -> Setting:
    return Setting(
        key,
        path,
        row.kind,
        getattr(owner, path[-1]),
        row.flag or "--" + re.sub(r"[._]", "-", key),
        row.common,
        row.per_stream,
        attribute_descriptions(type(owner)).get(path[-1], ""),
    )


def _at(root: object, path: tuple[str, ...]) -> object:
    for part in path:
        root = getattr(root, part)
    return root


def attribute_descriptions(cls: type) -> dict[str, str]:
    """The `Attributes:` section of a class's docstring, one line of text for each name."""
    lines = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if match := re.fullmatch(r"    (\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif name and line.startswith("        "):
            found[name] += " " + line.strip()
        else:
            break
    return found

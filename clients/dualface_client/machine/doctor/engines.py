"""TensorRT engines of a model repository: are they for these GPUs?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dualface_client.machine.doctor.finding import FAIL, NOTE, OK, Finding
from dualface_client.triton.description import MODELS, engine_filename

_BUILD = "make build-engines on a machine with this GPU"


def engine_findings(repository: Path | None, capabilities: Sequence[str]) -> Iterator[Finding]:
    """Whether every model has an engine for every GPU.

    A repository without any engine is not set up for TensorRT, which only the `gpu` profile needs:
    that is a finding only if the user named the repository.

    Args:
        repository: Named by the user, or None for `./model_repository` if it exists.
        capabilities: Of the GPUs here, such as `9.0`.
    """
    place = repository or Path("model_repository")
    if not place.is_dir():
        if repository is not None:
            yield Finding(FAIL, "engines", f"{place}: no such directory", "check --repository")
        return
    engines = {spec.name: sorted((place / spec.name).glob("*/*.plan")) for spec in MODELS}
    if not any(engines.values()):
        if repository is not None:
            text = f"{place} has no engines: the gpu profile needs them"
            yield Finding(NOTE, "engines", text, _BUILD)
        return
    for name, found in engines.items():
        yield _model(name, found, sorted(set(capabilities)))


def _model(name: str, engines: Sequence[Path], capabilities: Sequence[str]) -> Finding:
    title = f"engine of {name}"
    have = sorted({_capability(engine) for engine in engines})
    missing = [text for text in capabilities if engine_of(text) not in {p.name for p in engines}]
    if not engines:
        return Finding(FAIL, title, "there is none", _BUILD)
    if missing:
        text = f"built for capability {', '.join(have)}, here is {', '.join(missing)}"
        return Finding(FAIL, title, text, _BUILD)
    unknown = [engine for engine in engines if not _tensorrt(engine)]
    if unknown:
        text = f"{unknown[0]}: built by an unknown TensorRT (no manifest beside it)"
        return Finding(NOTE, title, text, _BUILD)
    versions = sorted({_tensorrt(engine) for engine in engines})
    where = "" if capabilities else "; no GPU here to compare with"
    text = f"for capability {', '.join(have)}, by TensorRT {', '.join(versions)}{where}"
    return Finding(OK, title, text)


def engine_of(capability: str) -> str:
    """File name of the engine for a compute capability such as `9.0`."""
    major, _, minor = capability.partition(".")
    return engine_filename((int(major), int(minor or 0)))


def _capability(engine: Path) -> str:
    match = re.fullmatch(r"model\.sm(\d+)(\d)\.plan", engine.name)
    return f"{match[1]}.{match[2]}" if match else engine.name


def _tensorrt(engine: Path) -> str:
    try:
        return str(json.loads(engine.with_suffix(".json").read_text())["tensorrt"])
    except (OSError, ValueError, KeyError, TypeError):  # no manifest: the caller says so
        return ""

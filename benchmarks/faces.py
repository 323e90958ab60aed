"""Does face ReID tell people apart, also on poor pictures? On aligned faces whose people are known.

    python benchmarks/faces.py FILE.npz [--model FILE.onnx] [--json FILE]

FILE.npz holds faces aligned as the program aligns them (112 x 112, `FACE_CHIP_TEMPLATE_PX`): `data`
(JPEG files, one after the other), `length` (bytes of each), `person` and `group` (a number or name
for each face). `face_chips.py` makes one of the fetched clips and photos.

Every face is compared with every other one, as it is and made worse: smaller, blurred, compressed,
badly aligned. False accepts are counted over all pairs of different people, and over those within
each group, which are the harder ones. Times are not measured here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from dualface_client.errors import AssetError, DualfaceError
from dualface_client.settings.paths import models_dir
from dualface_client.settings.tracking import IdentitySettings
from dualface_client.triton.description import FACE_REID
from dualface_client.types import FACE_CHIP_PX, FACE_CHIP_TEMPLATE_PX, ByteArray, FloatArray

BoolArray = npt.NDArray[np.bool_]
Worsen = Callable[[ByteArray, np.random.Generator], ByteArray]


@dataclass(frozen=True, slots=True)
class Faces:
    """Aligned faces.

    Attributes:
        chips: Shape `(n, 112, 112, 3)`, RGB.
        person: Shape `(n,)`, who it is.
        group: Shape `(n,)`, what kind of people it belongs to.
    """

    chips: ByteArray
    person: npt.NDArray[Any]
    group: npt.NDArray[Any]


def read(path: Path) -> Faces:
    """Reads an archive of faces.

    Raises:
        AssetError: It is missing, or not such an archive.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            ends = np.cumsum(stored["length"])
            files = np.split(stored["data"], ends[:-1])
            bgr = [cv2.imdecode(file, cv2.IMREAD_COLOR) for file in files]
            chips = np.stack([cv2.cvtColor(np.asarray(face), cv2.COLOR_BGR2RGB) for face in bgr])
            return Faces(np.asarray(chips, np.uint8), stored["person"], stored["group"])
    except (OSError, ValueError, KeyError, cv2.error) as error:
        raise AssetError(
            f"{path}: {error}; expected an .npz with data, length, person and group "
            "(python -m benchmarks.face_chips makes one)"
        ) from error


def _as_it_is(chip: ByteArray, _: np.random.Generator) -> ByteArray:
    return chip


def _small(height_px: int) -> Worsen:
    """Of a face that was this high in the video."""

    def worsen(chip: ByteArray, _: np.random.Generator) -> ByteArray:
        size = (height_px, height_px)
        small = cv2.resize(chip, size, interpolation=cv2.INTER_AREA)
        whole = (FACE_CHIP_PX, FACE_CHIP_PX)
        return np.asarray(cv2.resize(small, whole, interpolation=cv2.INTER_LINEAR), np.uint8)

    return worsen


def _blurred(sigma_px: float) -> Worsen:
    return lambda chip, _: np.asarray(cv2.GaussianBlur(chip, (0, 0), sigma_px), np.uint8)


def _smeared(chip: ByteArray, rng: np.random.Generator) -> ByteArray:
    """Moved by 9 px in some direction while it was exposed."""
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((11, 11), np.float32)
    end = (round(5 + 4.5 * np.cos(angle)), round(5 + 4.5 * np.sin(angle)))
    cv2.line(kernel, (10 - end[0], 10 - end[1]), end, 1.0)
    return np.asarray(cv2.filter2D(chip, -1, kernel / kernel.sum()), np.uint8)


def _compressed(quality: int) -> Worsen:
    def worsen(chip: ByteArray, _rng: np.random.Generator) -> ByteArray:
        _, file = cv2.imencode(".jpg", chip, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR), np.uint8)

    return worsen


def _misaligned(sigma_px: float) -> Worsen:
    """Aligned by landmarks that are off: turned, scaled and moved."""
    template = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32)

    def worsen(chip: ByteArray, rng: np.random.Generator) -> ByteArray:
        seen = template + rng.normal(0, sigma_px, template.shape).astype(np.float32)
        matrix, _ = cv2.estimateAffinePartial2D(seen, template, method=cv2.LMEDS)
        size = (FACE_CHIP_PX, FACE_CHIP_PX)
        return np.asarray(
            cv2.warpAffine(chip, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    return worsen


def _turned(degrees: float) -> Worsen:
    def worsen(chip: ByteArray, rng: np.random.Generator) -> ByteArray:
        middle = (FACE_CHIP_PX / 2, FACE_CHIP_PX / 2)
        matrix = cv2.getRotationMatrix2D(middle, degrees * rng.choice((-1, 1)), 1.0)
        size = (FACE_CHIP_PX, FACE_CHIP_PX)
        return np.asarray(
            cv2.warpAffine(chip, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
        )

    return worsen


def _dark(chip: ByteArray, rng: np.random.Generator) -> ByteArray:
    """A quarter of the light, with the noise of that."""
    noisy = chip / 4 + rng.normal(0, 4, chip.shape)
    return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def _several(*parts: Worsen) -> Worsen:
    def worsen(chip: ByteArray, rng: np.random.Generator) -> ByteArray:
        for part in parts:
            chip = part(chip, rng)
        return chip

    return worsen


#: How faces are made worse, by its name in the table.
CONDITIONS: dict[str, Worsen] = {
    "as it is": _as_it_is,
    "60 px high": _small(60),
    "40 px high": _small(40),
    "32 px high": _small(32),
    "24 px high": _small(24),
    "blurred by 2 px": _blurred(2.0),
    "moving by 9 px": _smeared,
    "JPEG quality 20": _compressed(20),
    "landmarks off by 2 px": _misaligned(2.0),
    "turned by 12 degrees": _turned(12.0),
    "dark and noisy": _dark,
    "40 px, blurred, landmarks off, JPEG 40": _several(
        _misaligned(2.0), _blurred(1.0), _small(40), _compressed(40)
    ),
}


def open_model(path: Path) -> onnxruntime.InferenceSession:
    """A ReID model on two threads.

    Raises:
        AssetError: It is missing.
    """
    if not path.is_file():
        raise AssetError(f"{path} is missing; run: dualface-client setup")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def embed(session: onnxruntime.InferenceSession, chips: ByteArray) -> FloatArray:
    """Embeddings, shape `(n, 128)`."""
    name, size = session.get_inputs()[0].name, FACE_REID.max_batch_size
    parts = [session.run(None, {name: chips[i : i + size]})[0] for i in range(0, len(chips), size)]
    return np.asarray(np.concatenate(parts), np.float32)


def equal_error_rate(cosine: FloatArray, same: BoolArray) -> float:
    """Where as many of the same person are refused as others are accepted; a share."""
    order = np.argsort(-cosine, kind="stable")
    refused = 1 - np.cumsum(same[order]) / same.sum()
    accepted = np.cumsum(~same[order]) / (~same).sum()
    at = int(np.argmin(np.abs(refused - accepted)))
    return float((refused[at] + accepted[at]) / 2)


def compared(faces: Faces, known: FloatArray, seen: FloatArray) -> dict[str, Any]:
    """Figures of one set of faces against another, without each face's own pair.

    Args:
        faces: Whose they are.
        known: Shape `(n, d)`, what the program has kept of each face.
        seen: Shape `(n, d)`, how each face is met again.
    """
    settings = IdentitySettings()
    cosine = known @ seen.T
    same = faces.person[:, None] == faces.person[None]
    pair = ~np.eye(len(cosine), dtype=bool)
    own, others = cosine[same & pair], cosine[~same]
    groups = {}
    for group in np.unique(faces.group):
        belongs = faces.group == group
        values = cosine[~same & belongs[:, None] & belongs[None]]
        if values.size:
            groups[str(group)] = {
                "pairs": int(values.size),
                "max": float(values.max()),
                "accepted": float((values >= settings.match_cosine).mean()),
            }
    return {
        "same": spread(own),
        "different": spread(others),
        "equal_error_rate": equal_error_rate(cosine[pair], same[pair]),
        "same_refused": float((own < settings.match_cosine).mean()),
        "same_rejected": float((own < settings.reject_cosine).mean()),
        "accepted": float((others >= settings.match_cosine).mean()),
        "worst_group_accepted": max(group["accepted"] for group in groups.values()),
        "groups": groups,
    }


def spread(values: FloatArray) -> dict[str, float]:
    """Count, extremes and percentiles."""
    points = {"p0.1": 0.1, "p1": 1, "median": 50, "p99": 99, "p99.9": 99.9}
    found = {name: float(np.percentile(values, point)) for name, point in points.items()}
    ends = {"min": float(values.min()), "max": float(values.max())}
    return {"count": int(values.size), **found, **ends}


def measure(faces: Faces, session: onnxruntime.InferenceSession) -> dict[str, Any]:
    """Every condition against the faces as they are, and against itself."""
    clean = embed(session, faces.chips)
    result: dict[str, Any] = {}
    for name, worsen in CONDITIONS.items():
        rng = np.random.default_rng(1)
        worse = embed(session, np.stack([worsen(chip, rng) for chip in faces.chips]))
        result[name] = {
            "against_good": compared(faces, clean, worse),
            "against_itself": compared(faces, worse, worse),
        }
    return result


#: Columns of the table: title, part of the figures, figure.
COSINES = (
    ("same p0.1", "same", "p0.1"),
    ("p1", "same", "p1"),
    ("median", "same", "median"),
    ("others median", "different", "median"),
    ("p99", "different", "p99"),
    ("p99.9", "different", "p99.9"),
    ("max", "different", "max"),
)
SHARES = ("equal_error_rate", "same_refused", "same_rejected", "accepted", "worst_group_accepted")


def show(result: dict[str, Any]) -> None:
    """Prints the table: cosines, then shares in percent."""
    titles = [title for title, *_ in COSINES] + [name.replace("_", " ") for name in SHARES]
    widths = [max(len(title), len("0.000 %")) + 2 for title in titles]
    print(f"{'':40}" + "".join(map(str.rjust, titles, widths)))
    for name, ways in result.items():
        for label, row in zip((name, "   against itself"), ways.values(), strict=True):
            cells = [f"{row[part][figure]:.3f}" for _, part, figure in COSINES]
            cells += [f"{100 * row[share]:.3f} %" for share in SHARES]
            print(f"{label:40}" + "".join(map(str.rjust, cells, widths)))


def main() -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="archive of aligned faces (.npz)")
    default = models_dir() / f"{FACE_REID.name}.onnx"
    parser.add_argument("--model", type=Path, default=default, help="ONNX file of the network")
    parser.add_argument("--json", type=Path, help="where the figures go")
    options = parser.parse_args()
    try:
        result = measure(read(options.faces), open_model(options.model))
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

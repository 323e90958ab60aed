"""The rendered configs say what the description says, to Triton's own parser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from dualface_client.errors import AssetError, UsageError
from dualface_client.triton.description import (
    FACE_DETECT,
    MODELS,
    PRIORITY_FILE,
    PRIORITY_LIVE,
    ModelSpec,
    engine_filename,
)
from scripts.check_engines import CAPABILITIES as CHECKED
from scripts.engines.configs import (
    CAPABILITIES,
    onnxruntime_config,
    tensorrt_config,
)
from scripts.engines.profiles import parse_capability
from scripts.render_repository import CONFIG, REPOSITORY, main, outdated, render_tensorrt

BOTH = pytest.mark.parametrize("spec", MODELS, ids=lambda spec: spec.name)


def parse(text: str) -> Any:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def assert_contract(config: Any, spec: ModelSpec) -> None:
    assert config.name == spec.name
    assert config.max_batch_size == spec.max_batch_size
    for tensors, expected in ((config.input, spec.input), (config.output, spec.output)):
        (tensor,) = tensors
        assert tensor.name == expected.name
        assert tuple(tensor.dims) == expected.dims
        name = model_config_pb2.DataType.Name(tensor.data_type)
        assert name == f"TYPE_{expected.datatype}"


@BOTH
def test_committed_config_is_what_the_renderer_writes(spec: ModelSpec) -> None:
    assert (REPOSITORY / spec.name / CONFIG).read_text() == tensorrt_config(spec)
    assert outdated() == []


@BOTH
def test_tensorrt_config_field_by_field(spec: ModelSpec) -> None:
    config = parse(tensorrt_config(spec))
    assert_contract(config, spec)
    assert (config.platform, config.backend) == ("tensorrt_plan", "")
    assert dict(config.cc_model_filenames) == {
        f"{a}.{b}": engine_filename((a, b)) for a, b in CAPABILITIES
    }
    assert config.version_policy.latest.num_versions == 1
    (group,) = config.instance_group
    assert group.kind == model_config_pb2.ModelInstanceGroup.KIND_GPU
    assert group.count == (2 if spec is FACE_DETECT else 1)
    assert config.optimization.cuda.graphs is False  # a capture meets the other model's load
    assert config.optimization.cuda.output_copy_stream is False
    assert config.optimization.eager_batching is False
    assert config.optimization.gather_kernel_buffer_threshold == 0


@BOTH
def test_batching_follows_the_description(spec: ModelSpec) -> None:
    batching = parse(tensorrt_config(spec)).dynamic_batching
    assert tuple(batching.preferred_batch_size) == spec.preferred_batch_sizes
    assert batching.max_queue_delay_microseconds == spec.max_queue_delay_us
    assert (batching.priority_levels, batching.default_priority_level) == (2, PRIORITY_FILE)
    live, file = (batching.priority_queue_policy[n] for n in (PRIORITY_LIVE, PRIORITY_FILE))
    for policy in (live, file):
        assert policy.timeout_action == model_config_pb2.ModelQueuePolicy.REJECT
        assert policy.allow_timeout_override
    assert 0 < live.default_timeout_microseconds < file.default_timeout_microseconds
    assert 0 < live.max_queue_size < file.max_queue_size


@BOTH
def test_every_usual_batch_is_warmed_with_the_right_tensor(spec: ModelSpec) -> None:
    warmups = parse(tensorrt_config(spec)).model_warmup
    assert [w.batch_size for w in warmups] == [1, *spec.preferred_batch_sizes]
    assert max(w.batch_size for w in warmups) <= spec.max_batch_size
    for warmup in warmups:
        tensor = warmup.inputs[spec.input.name]
        assert tuple(tensor.dims) == spec.input.dims
        assert tensor.zero_data


@BOTH
def test_each_choice_has_its_reason_beside_it(spec: ModelSpec) -> None:
    lines = tensorrt_config(spec).splitlines()
    for field in ("cc_model_filenames", "version_policy", "instance_group", "dynamic_batching"):
        at = next(n for n, line in enumerate(lines) if line.startswith(field))
        assert lines[at - 1].startswith("# "), field
    assert max(map(len, lines)) <= 100


@BOTH
@pytest.mark.parametrize("gpu", [False, True])
def test_onnxruntime_config(spec: ModelSpec, gpu: bool) -> None:
    config = parse(onnxruntime_config(spec, gpu=gpu))
    assert_contract(config, spec)
    assert (config.backend, config.platform) == ("onnxruntime", "")
    assert config.default_model_filename == "model.onnx"
    kind = model_config_pb2.ModelInstanceGroup.Kind.Name(config.instance_group[0].kind)
    assert kind == ("KIND_GPU" if gpu else "KIND_CPU")
    search = config.parameters["cudnn_conv_algo_search"].string_value if gpu else ""
    assert search == ("1" if gpu else "")
    assert len(config.model_warmup) == (3 if gpu else 0)


def test_every_checked_capability_has_an_engine_name() -> None:
    assert {parse_capability(text) for text in CHECKED} <= set(CAPABILITIES)
    assert engine_filename((12, 0)) == "model.sm120.plan"


def test_outdated_config_is_named_and_renewed(tmp_path: Path) -> None:
    assert len(render_tensorrt(tmp_path)) == len(MODELS)
    path = tmp_path / "face_reid" / CONFIG
    path.write_text(path.read_text().replace("max_batch_size: 32", "max_batch_size: 64"))
    assert outdated(tmp_path) == [path]
    assert render_tensorrt(tmp_path) == [path]
    assert outdated(tmp_path) == []


def test_complete_repository_holds_its_models(tmp_path: Path) -> None:
    out = tmp_path / "repository"
    assert main(["--profile", "onnxruntime-cpu", "--out", str(out)]) == 0
    for spec in MODELS:
        assert_contract(parse((out / spec.name / CONFIG).read_text()), spec)
        assert (out / spec.name / "1" / "model.onnx").stat().st_size > 1_000_000


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--profile", "python"], UsageError, "--profile python needs --out DIR"),
        (["--profile", "python", "--out", "."], UsageError, "the directory is not empty"),
        (
            ["--profile", "python", "--out", "new", "--models", "none"],
            AssetError,
            "none/face_detect.onnx is missing; run: make models",
        ),
    ],
)
def test_mistakes_name_their_remedy(
    arguments: list[str],
    error: type[UsageError | AssetError],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(arguments) == error.exit_code
    assert words in capsys.readouterr().err

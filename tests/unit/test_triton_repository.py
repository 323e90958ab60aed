"""The rendered `config.pbtxt` parses back to what the description says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import json_format, text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from dualface_client.triton.batch_sizes import Demand, batch_sizes
from dualface_client.triton.description import FACE_DETECT, MODELS, ModelSpec, with_detector_size
from dualface_client.triton.model_config import config_text
from dualface_client.triton.repository import (
    PythonModel,
    Serving,
    python_serving,
    served_config,
    write_python_model,
)

PB = model_config_pb2


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, PB.ModelConfig())


@pytest.mark.parametrize("spec", [*MODELS, with_detector_size(FACE_DETECT, 960, 544)])
def test_the_python_config_reads_back(spec: ModelSpec) -> None:
    model = PythonModel(spec, Path("/models/a b.onnx"), 2, 3, "cpu", (Path("/x"), Path("/y")))
    expected = PB.ModelConfig(
        name=spec.name,
        backend="python",
        max_batch_size=spec.max_batch_size,
        input=[PB.ModelInput(name=spec.input.name, data_type=PB.TYPE_UINT8, dims=spec.input.dims)],
        output=[
            PB.ModelOutput(name=spec.output.name, data_type=PB.TYPE_FP32, dims=spec.output.dims)
        ],
        instance_group=[PB.ModelInstanceGroup(kind=PB.ModelInstanceGroup.KIND_CPU, count=3)],
        dynamic_batching=PB.ModelDynamicBatching(
            preferred_batch_size=[1], priority_levels=2, default_priority_level=2
        ),
        parameters={
            "onnx_path": PB.ModelParameter(string_value="/models/a b.onnx"),
            "python_path": PB.ModelParameter(string_value="/x:/y"),
            "intra_op_threads": PB.ModelParameter(string_value="2"),
            "device": PB.ModelParameter(string_value="cpu"),
        },
    )
    assert parsed(served_config(spec, python_serving(model))) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_files_alone_are_served_without_priorities(device: str) -> None:
    model = PythonModel(FACE_DETECT, Path("/models/a.onnx"), 2, device=device, has_priorities=False)
    batching = parsed(served_config(FACE_DETECT, python_serving(model))).dynamic_batching
    assert (batching.priority_levels, batching.default_priority_level) == (0, 0)


def test_other_backends_come_from_the_same_code() -> None:
    serving = Serving(
        "tensorrt",
        instance_kind="KIND_GPU",
        instance_count=2,
        preferred_batch_sizes=FACE_DETECT.preferred_batch_sizes,
        max_queue_delay_us=FACE_DETECT.max_queue_delay_us,
    )
    config = parsed(served_config(FACE_DETECT, serving))
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.instance_group[0].kind == PB.ModelInstanceGroup.KIND_GPU
    assert not config.parameters


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text: str) -> None:
    assert parsed(config_text({"name": text})).name == text


def test_enums_are_named_and_a_field_that_is_none_is_refused() -> None:
    config = parsed(
        config_text(
            {
                "optimization": {"eager_batching": True, "priority": "PRIORITY_MAX"},
                "version_policy": {"specific": {"versions": [1, 2]}},
            }
        )
    )
    assert config.optimization.eager_batching
    assert config.optimization.priority == PB.ModelOptimizationPolicy.PRIORITY_MAX
    assert list(config.version_policy.specific.versions) == [1, 2]
    with pytest.raises(json_format.ParseError, match="instances"):
        config_text({"instances": 2})


def test_a_model_directory_is_complete(tmp_path: Path) -> None:
    write_python_model(tmp_path, PythonModel(FACE_DETECT, Path("/m.onnx"), 1))
    config = (tmp_path / "face_detect" / "config.pbtxt").read_text()
    assert parsed(config).name == "face_detect"
    code = (tmp_path / "face_detect" / "1" / "model.py").read_text()
    assert "class TritonPythonModel" in code


def test_a_gpu_model_keeps_inputs_on_the_device_and_runs_few_batch_sizes() -> None:
    model = PythonModel(FACE_DETECT, Path("/m.onnx"), 2, 2, "cuda")
    config = parsed(served_config(FACE_DETECT, python_serving(model)))
    (group,) = config.instance_group
    assert (group.kind, group.count, list(group.gpus)) == (PB.ModelInstanceGroup.KIND_GPU, 2, [0])
    assert config.parameters["FORCE_CPU_ONLY_INPUT_TENSORS"].string_value == "no"
    assert config.parameters["batches"].string_value == "1,4,8,16"
    assert config.dynamic_batching.preferred_batch_size == [8, 16]


def test_a_gpu_model_prepares_only_the_batches_that_it_is_going_to_get() -> None:
    model = PythonModel(FACE_DETECT, Path("/m.onnx"), 2, 1, "cuda", demand=Demand(8, 128))
    assert python_serving(model).parameters["batches"] == "8,16"
    assert python_serving(model).parameters["small_stacks"] == "no"
    known = replace(model, is_known=True)
    assert python_serving(known).parameters["small_stacks"] == "yes"


@pytest.mark.parametrize(
    ("demand", "limit", "expected"),
    [
        (None, 16, (1, 4, 8, 16)),
        (None, 6, (1, 4)),
        (Demand(1, 128), 16, (1, 4, 8, 16)),
        (Demand(1, 1), 16, (1,)),  # one live stream
        (Demand(1, 3), 16, (1, 4)),  # up to three frames at a time
        (Demand(3, 12), 16, (4, 8, 16)),  # requests of three are padded
        (Demand(16, 256), 16, (16,)),
        (Demand(32, 32), 16, (16,)),  # larger ones are split
        (Demand(8, 8), 4, (4,)),
        (Demand(8, 128, has_single=True), 16, (1, 8, 16)),
        (Demand(1, 16, has_single=True), 16, (1, 4, 8, 16)),
    ],
)
def test_batches_that_never_come_are_not_prepared(
    demand: Demand | None, limit: int, expected: tuple[int, ...]
) -> None:
    assert batch_sizes(limit, demand) == expected


@given(st.integers(1, 16), st.integers(1, 64), st.integers(1, 16))
def test_each_batch_fits_into_a_prepared_one_that_wastes_no_more_than_with_all_sizes(
    least: int, more: int, limit: int
) -> None:
    sizes = batch_sizes(limit, Demand(least, least + more))
    every = batch_sizes(limit, None)
    assert set(sizes) <= set(every)
    for count in range(least, min(least + more, every[-1]) + 1):
        fits = [next((size for size in each if size >= count), None) for each in (sizes, every)]
        assert fits[0] == fits[1]


def test_no_batch_beyond_the_models_limit_is_prepared() -> None:
    small = replace(FACE_DETECT, max_batch_size=6)
    model = PythonModel(small, Path("/m.onnx"), 2, 1, "cuda")
    assert python_serving(model).parameters["batches"] == "1,4"

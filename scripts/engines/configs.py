"""Renders the configs of the production server, each choice with its reason beside it.

The TensorRT configs are committed; ONNX Runtime's are written on request. Figures in the comments
were measured on one H200 with an older TensorRT (8.6): a lead, not the final word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dualface_client.triton.description import (
    FACE_DETECT,
    PRIORITY_FILE,
    PRIORITY_LIVE,
    ModelSpec,
    engine_filename,
)
from dualface_client.triton.model_config import config_text, string_parameters, tensor_fields

#: A live frame that waited longer is too late for its stream.
LIVE_TIMEOUT_US = 200_000
#: A file's client has given up by then.
FILE_TIMEOUT_US = 30_000_000
LIVE_QUEUE_SIZE = 128
FILE_QUEUE_SIZE = 1024
#: What an engine can be built for: NVIDIA's compute capabilities from 7.5, the oldest that the
#: pinned Triton serves.
CAPABILITIES: tuple[tuple[int, int], ...] = (
    (7, 5),
    (8, 0),
    (8, 6),
    (8, 7),
    (8, 9),
    (9, 0),
    (10, 0),
    (10, 3),
    (12, 0),
    (12, 1),
)

_HEADER = (
    "Rendered by scripts/render_repository.py from clients/dualface_client/triton/description.py.",
    "Edit scripts/engines/configs.py and run `make render`; a test compares.",
)


@dataclass(frozen=True, slots=True)
class Section:
    """A few fields and why they have their values.

    Attributes:
        reason: Lines of a comment.
        fields: Fields of `ModelConfig`.
    """

    reason: tuple[str, ...]
    fields: Mapping[str, Any]


def tensorrt_config(spec: ModelSpec) -> str:
    """The committed `config.pbtxt`: TensorRT engines, one per kind of GPU.

    Args:
        spec: Description of the model.

    Returns:
        Protobuf text of a `ModelConfig` with comments.
    """
    return _text(
        [
            _contract(spec, {"platform": "tensorrt_plan"}),
            _engines(),
            _versions(),
            _instances(spec),
            _batching(spec),
            _optimization(),
            _warmup(spec),
        ]
    )


def onnxruntime_config(spec: ModelSpec, *, gpu: bool) -> str:
    """A `config.pbtxt` for the ONNX Runtime backend of the container.

    Args:
        spec: Description of the model.
        gpu: For the CUDA execution provider and not the CPU.

    Returns:
        Protobuf text of a `ModelConfig` with comments.
    """
    contract = _contract(spec, {"backend": "onnxruntime", "default_model_filename": "model.onnx"})
    if not gpu:
        return _text([contract, _versions(), *_on_cpu()])
    return _text(
        [contract, _versions(), _instances(spec), _batching(spec), _no_search(), _warmup(spec)]
    )


def _text(sections: Sequence[Section]) -> str:
    header = "".join(f"# {line}\n" for line in _HEADER)
    return header + "".join(
        "\n" + "".join(f"# {line}\n" for line in section.reason) + config_text(section.fields)
        for section in sections
    )


def _contract(spec: ModelSpec, first: Mapping[str, Any]) -> Section:
    return Section(
        ("What the client checks before it sends anything.",),
        {
            "name": spec.name,
            **first,
            "max_batch_size": spec.max_batch_size,
            "input": [tensor_fields(spec.input)],
            "output": [tensor_fields(spec.output)],
        },
    )


def _engines() -> Section:
    names = {f"{a}.{b}": engine_filename((a, b)) for a, b in CAPABILITIES}
    return Section(
        (
            "An engine runs on the compute capability it was built for. Triton opens the file of",
            "its own GPU only; `make build-engines` writes that one.",
        ),
        {"cc_model_filenames": names},
    )


def _versions() -> Section:
    return Section(
        (
            "One version: on a load Triton then makes the new one and leaves the one that serves",
            "alone until the new one is ready. With two it makes the serving one anew as well, and",
            "under load that crashed the server at the second swap (TensorRT 8.6).",
        ),
        {"version_policy": {"latest": {"num_versions": 1}}},
    )


def _instances(spec: ModelSpec) -> Section:
    if spec.name == FACE_DETECT.name:
        reason: tuple[str, ...] = (
            "Copies into one instance overlap with the other's run: 5634 / 6091 / 5984 images/s",
            "with 1 / 2 / 3 instances (H200, TensorRT 8.6), at 530 MiB for each.",
        )
        count = 2
    else:
        reason = (
            "One instance: chips are asked for only where identities are in doubt.",
            "Two: not measured.",
        )
        count = 1
    return Section(reason, {"instance_group": [{"kind": "KIND_GPU", "count": count}]})


def _batching(spec: ModelSpec) -> Section:
    batching = {
        "preferred_batch_size": list(spec.preferred_batch_sizes),
        "max_queue_delay_microseconds": spec.max_queue_delay_us,
        "priority_levels": 2,
        "default_priority_level": PRIORITY_FILE,
        "priority_queue_policy": {
            str(PRIORITY_LIVE): _queue(LIVE_TIMEOUT_US, LIVE_QUEUE_SIZE),
            str(PRIORITY_FILE): _queue(FILE_TIMEOUT_US, FILE_QUEUE_SIZE),
        },
    }
    return Section(
        (
            "Queue delay 0 / 500 / 2000 us: 5703 / 6091 / 6081 images/s at 8 x 8 in flight (H200,",
            "TensorRT 8.6, face_detect); where only single requests come, 2000 was steadier.",
            "Priority 1 is a live source, whose late frames are worthless; 2 a file, whose frames",
            "are all wanted: its limits only stop a client that nobody is waiting for. A full",
            "queue refuses at once. Responses need no order: the client matches them by request.",
        ),
        {"dynamic_batching": batching},
    )


def _queue(timeout_us: int, size: int) -> dict[str, Any]:
    return {
        "timeout_action": "REJECT",
        "default_timeout_microseconds": timeout_us,
        "allow_timeout_override": True,
        "max_queue_size": size,
    }


def _optimization() -> Section:
    return Section(
        (
            "CUDA graphs off: while one model captures its graphs, the other one loads, and CUDA",
            "refuses that (2 of 12 starts died). They gained nothing behind Triton: 6810 images/s",
            "without, 6091 with them (H200, TensorRT 8.6, face_detect).",
            "output_copy_stream crashed the server at its first requests (TensorRT 8.6).",
            "eager_batching gained nothing: 6161 against 6091 images/s.",
            "gather_kernel_buffer_threshold stays 0: the gather kernel was not measured.",
            "response_cache is left out: it takes no inputs in GPU memory.",
        ),
        {
            "optimization": {
                "cuda": {"graphs": False, "output_copy_stream": False},
                "eager_batching": False,
            }
        },
    )


def _warmup(spec: ModelSpec) -> Section:
    sizes = (1, *spec.preferred_batch_sizes)
    return Section(
        ("The first request of each usual batch size finds memory and kernels in place.",),
        {"model_warmup": [_warmup_batch(spec, size) for size in sizes]},
    )


def _warmup_batch(spec: ModelSpec, batch: int) -> dict[str, Any]:
    tensor = {
        "data_type": f"TYPE_{spec.input.datatype}",
        "dims": list(spec.input.dims),
        "zero_data": True,
    }
    return {
        "name": f"batch_{batch}",
        "batch_size": batch,
        "inputs": {spec.input.name: tensor},
    }


def _on_cpu() -> list[Section]:
    return [
        Section(
            ("One run uses every core already; a batch is what queued up meanwhile.",),
            {
                "instance_group": [{"kind": "KIND_CPU", "count": 1}],
                "dynamic_batching": {"max_queue_delay_microseconds": 0},
            },
        )
    ]


def _no_search() -> Section:
    return Section(
        (
            "1 is heuristic: an exhaustive search anew for each unseen batch size brought the",
            "server down to 9 images/s (H200, ONNX Runtime 1.31).",
        ),
        {"parameters": string_parameters({"cudnn_conv_algo_search": "1"})},
    )

"""The one description of the models that the bundle serves.

Every `config.pbtxt`, the ONNX export, the engine profiles and the client's contract check derive
from these values.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

import numpy as np

#: Triton's datatype names to NumPy's.
NUMPY_DTYPE: dict[str, np.dtype[np.generic]] = {
    "UINT8": np.dtype(np.uint8),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
}


#: Priority of a request from a live source; lower is served first.
PRIORITY_LIVE = 1
#: Priority of a request from a file, and of a request that names none.
PRIORITY_FILE = 2


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: Tensor name, the same in ONNX, Triton and client.
        datatype: Triton's name for the element type, a key of `NUMPY_DTYPE`.
        dims: Shape without the batch dimension.
    """

    name: str
    datatype: str
    dims: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """NumPy element type."""
        return NUMPY_DTYPE[self.datatype]

    @property
    def byte_size(self) -> int:
        """Bytes of one batch item."""
        return prod(self.dims) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model.

    Attributes:
        name: Directory name in the model repository.
        input: The single input tensor.
        output: The single output tensor.
        max_batch_size: Largest batch a request or the dynamic batcher may form.
        preferred_batch_sizes: Batches the dynamic batcher aims for, also the sizes that are warmed
            up.
        max_queue_delay_us: How long the dynamic batcher waits to fill a batch.
    """

    name: str
    input: TensorSpec
    output: TensorSpec
    max_batch_size: int
    preferred_batch_sizes: tuple[int, ...]
    max_queue_delay_us: int


#: Rows of the detector's table: the K best peaks of a frame.
DETECTOR_TOP_K = 64
#: x1, y1, x2, y2, score, then x and y of five landmarks; in letterboxed pixels, best score first.
DETECTOR_COLUMNS = 15

FACE_DETECT = ModelSpec(
    name="face_detect",
    input=TensorSpec("image", "UINT8", (640, 640, 3)),  # letterboxed RGB, NHWC
    output=TensorSpec("faces", "FP32", (DETECTOR_TOP_K, DETECTOR_COLUMNS)),
    max_batch_size=16,
    preferred_batch_sizes=(8, 16),
    max_queue_delay_us=500,
)

FACE_REID = ModelSpec(
    name="face_reid",
    input=TensorSpec("chip", "UINT8", (112, 112, 3)),  # aligned face, RGB, NHWC
    output=TensorSpec("embedding", "FP32", (128,)),  # L2-normalised
    max_batch_size=32,
    preferred_batch_sizes=(8, 32),
    max_queue_delay_us=500,
)

MODELS: tuple[ModelSpec, ...] = (FACE_DETECT, FACE_REID)


def with_detector_size(spec: ModelSpec, width_px: int, height_px: int) -> ModelSpec:
    """The detector for another input size.

    Args:
        spec: A detector description.
        width_px: Input width, a multiple of 32 (the network's deepest stride).
        height_px: Input height, a multiple of 32.

    Raises:
        ValueError: A size is not a positive multiple of 32.
    """
    for label, value in (("width", width_px), ("height", height_px)):
        if value <= 0 or value % 32:
            raise ValueError(f"detector {label} {value}: expected a positive multiple of 32")
    return replace(spec, input=replace(spec.input, dims=(height_px, width_px, 3)))


def engine_filename(capability: tuple[int, int]) -> str:
    """Name of a model's TensorRT engine for GPUs of one compute capability.

    Args:
        capability: Major and minor number, such as `(8, 9)`.
    """
    return f"model.sm{capability[0]}{capability[1]}.plan"

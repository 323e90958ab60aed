"""A small writer of ONNX graphs: named nodes, deduplicated constants, stable bytes.

The body of a network may be half precision while its head stays FP32; `GraphWriter.cast` marks the
border. The same calls always give the same bytes, so a file's checksum names its content.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from dualface_client.triton.description import ModelSpec, TensorSpec

#: Operator set: ONNX Runtime 1.20+ and TensorRT 10+ read it.
OPSET = 17
#: File format version that goes with operator set 17.
IR_VERSION = 8
#: Name of the dynamic batch dimension in both models.
BATCH = "batch"

ELEMENT_TYPE: dict[str, int] = {
    "UINT8": TensorProto.UINT8,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
}


class GraphWriter:
    """Collects nodes and constants of one model."""

    def __init__(self, spec: ModelSpec, body_dtype: npt.DTypeLike) -> None:
        """Starts empty.

        Args:
            spec: Names, types and sizes of the model's input and output.
            body_dtype: float32, or float16 for a half precision body.
        """
        self.spec = spec
        self.body_dtype = np.dtype(body_dtype)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def add(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Appends one node named after its output, and returns the output's name."""
        node = helper.make_node(op, inputs, [output], name=output, **attributes)
        node.attribute.sort(key=lambda attribute: attribute.name)
        self._nodes.append(node)
        return output

    def add_pair(self, op: str, inputs: list[str], outputs: tuple[str, str], *, axis: int) -> None:
        """Appends one node with two outputs, named after the first."""
        self.append(helper.make_node(op, inputs, list(outputs), name=outputs[0], axis=axis))

    def split(self, source: str, outputs: tuple[str, ...], sizes: tuple[int, ...]) -> None:
        """Cuts axis 1 into parts of the given sizes."""
        parts = self.constant(f"{source}.parts", sizes, np.int64)
        self.append(
            helper.make_node("Split", [source, parts], outputs, name=f"{source}.split", axis=1)
        )

    def constant(self, name: str, value: npt.ArrayLike, dtype: npt.DTypeLike) -> str:
        """Stores an array once under a name, in the given type, and returns the name."""
        array = np.ascontiguousarray(np.asarray(value).astype(dtype))
        # ascontiguousarray makes a scalar one-dimensional; keep its shape.
        array = array.reshape(np.shape(value))
        self._constants.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def weight(self, name: str, value: npt.ArrayLike) -> str:
        """Stores an array in the body's precision."""
        return self.constant(name, value, self.body_dtype)

    def cast(self, source: str, output: str, dtype: npt.DTypeLike) -> str:
        """Converts a tensor to another element type."""
        return self.add(
            "Cast", [source], output, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )

    def conv(
        self,
        source: str,
        output: str,
        kernel: npt.NDArray[np.float32],
        bias: npt.NDArray[np.float32],
        *,
        stride: int = 1,
        pads: tuple[int, int] = (0, 0),
        group: int = 1,
    ) -> str:
        """Appends a convolution.

        Args:
            source: What it reads.
            output: Its name.
            kernel: Shape `(out, in / group, height, width)`.
            bias: Shape `(out,)`.
            stride: Both ways.
            pads: Zeros before and after, both ways.
            group: Parts of the channels that do not see each other.
        """
        return self.add(
            "Conv",
            [source, self.weight(f"{output}.kernel", kernel), self.weight(f"{output}.bias", bias)],
            output,
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride, stride],
            pads=[pads[0], pads[0], pads[1], pads[1]],
            group=group,
        )

    def append(self, node: onnx.NodeProto) -> None:
        """Appends a node made elsewhere."""
        self._nodes.append(node)

    def model(self, doc: str) -> onnx.ModelProto:
        """The finished model, checked in full and with all shapes inferred.

        Args:
            doc: Where the weights come from, with version and licence.

        Raises:
            onnx.checker.ValidationError: The graph breaks a rule of the format.
            onnx.shape_inference.InferenceError: Shapes or types do not fit.
        """
        graph = helper.make_graph(
            self._nodes,
            self.spec.name,
            [_value_info(self.spec.input)],
            [_value_info(self.spec.output)],
            initializer=list(self._constants.values()),
            doc_string=doc,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dualface",
            doc_string=doc,
        )
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        onnx.checker.check_model(model, full_check=True)
        return model


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The model's file content; equal models give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))


def _value_info(tensor: TensorSpec) -> onnx.ValueInfoProto:
    shape: list[str | int | None] = [BATCH, *tensor.dims]
    return helper.make_tensor_value_info(tensor.name, ELEMENT_TYPE[tensor.datatype], shape)

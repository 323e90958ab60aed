"""Reads the operators and weights of a TFLite file, as far as `face_reid` needs them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

_KINDS: dict[int, str] = {
    number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)
}
#: Kinds of convolutions, and what describes each.
CONVOLUTIONS = {"CONV_2D": tflite.Conv2DOptions, "DEPTHWISE_CONV_2D": tflite.DepthwiseConv2DOptions}


@dataclass(frozen=True, slots=True)
class Operator:
    """One step of the network; tensors are numbers.

    Attributes:
        kind: As the format names it, such as `CONV_2D`.
        inputs: What it reads, constants included.
        output: What it writes.
        stride: Of a convolution, both ways; 1 for others.
        same_padding: Whether a convolution's output has the size of its input over the stride.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    stride: int = 1
    same_padding: bool = False


class TfliteFile:
    """The one graph of a TFLite file.

    Args:
        content: The file's bytes.

    Raises:
        ValueError: An operator is fused with an activation, or a convolution's strides differ.
    """

    def __init__(self, content: bytes) -> None:
        self._model = tflite.Model.GetRootAs(content, 0)
        self._graph = self._model.Subgraphs(0)
        self.operators = tuple(self._read())
        self.input: int = self._graph.Inputs(0)
        self.output: int = self._graph.Outputs(0)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Shape of a tensor, batch first, channels last."""
        return tuple(self._graph.Tensors(tensor).ShapeAsNumpy().tolist())

    def constant(self, tensor: int) -> npt.NDArray[np.float32]:
        """Value of a tensor of weights.

        Raises:
            ValueError: It is computed, or of another type than float32.
        """
        found = self._graph.Tensors(tensor)
        buffer = self._model.Buffers(found.Buffer())
        if not buffer.DataLength() or found.Type() != tflite.TensorType.FLOAT32:
            raise ValueError(f"tensor {tensor} of the TFLite file holds no float32 weights")
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), np.float32)
        return values.reshape(self.shape(tensor))

    def _read(self) -> Iterator[Operator]:
        for index in range(self._graph.OperatorsLength()):
            found = self._graph.Operators(index)
            code = self._model.OperatorCodes(found.OpcodeIndex())
            # Files from before 2020 have the number in the older of the two fields.
            kind = _KINDS[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())]
            inputs = tuple(found.InputsAsNumpy().tolist())
            stride, same = 1, False
            if kind in CONVOLUTIONS:
                stride, same = _strides(found, kind)
            yield Operator(kind, inputs, found.Outputs(0), stride, same)


def _strides(found: Any, kind: str) -> tuple[int, bool]:
    """Stride of a convolution, and whether it pads."""
    options = CONVOLUTIONS[kind]()
    table = found.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    activation = options.FusedActivationFunction()
    if activation != tflite.ActivationFunctionType.NONE:
        raise ValueError(f"{kind} is fused with activation {activation}, expected none")
    across, down = options.StrideW(), options.StrideH()
    if across != down:
        raise ValueError(f"{kind} has strides {across} and {down}, expected equal ones")
    return down, options.Padding() == tflite.Padding.SAME

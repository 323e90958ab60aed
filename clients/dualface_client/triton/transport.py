"""How a request's pixels get to the server, and its answer back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

import numpy as np
import tritonclient.grpc as triton_grpc

from dualface_client.errors import ContractError, StaleOutputError
from dualface_client.memory.slots import Hold, Lease
from dualface_client.triton.answers import AnswerPlace, Answers, AnswersInSlots
from dualface_client.triton.description import ModelSpec
from dualface_client.triton.pending import Output

#: `shm`: both lie in registered regions, and messages carry names and offsets. `bytes`: both travel
#: in messages, also to another host. `gzip`: in compressed messages.
TransportKind = Literal["shm", "bytes", "gzip"]


@dataclass(frozen=True, slots=True)
class SlotLayout:
    """Where a request's tensors lie in its slot: the input first, then the output.

    Attributes:
        input_bytes: Bytes of the input.
        output_at_byte: First byte of the output.
        output_bytes: Bytes of the output.
    """

    input_bytes: int
    output_at_byte: int
    output_bytes: int

    @classmethod
    def of(cls, spec: ModelSpec, batch: int) -> SlotLayout:
        """The layout for one batch size."""
        input_bytes = batch * spec.input.byte_size
        # 64: a cache line, and a multiple of every element size.
        return cls(input_bytes, -(-input_bytes // 64) * 64, batch * spec.output.byte_size)

    @property
    def byte_size(self) -> int:
        """Bytes of a slot that holds both."""
        return self.output_at_byte + self.output_bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """A request that is ready to be sent.

    Attributes:
        arguments: For gRPC's client.
        read: Takes the answer out of gRPC's result, as a copy; the second argument names the
            request in messages. Raises `StaleOutputError` where there is none.
    """

    arguments: dict[str, Any]
    read: Callable[[Any, str], Output]


class Transport(Protocol):
    """Packs requests."""

    @property
    def server_writes_slots(self) -> bool:
        """Whether the server may still write into the slot of a request without an answer."""

    def pack(self, spec: ModelSpec, lease: Lease, hold: Hold, batch: int) -> Parcel:
        """Makes a request of a filled slot.

        Args:
            spec: The model.
            lease: The slot.
            hold: The request's claim on it.
            batch: Items in it.
        """


class SharedMemory:
    """Names and offsets in messages; pixels and answers in regions that are registered.

    Args:
        answers: Where answers go; None puts them behind the input in the slot.
    """

    server_writes_slots = True

    def __init__(self, answers: Answers | None = None) -> None:
        self._answers = answers or AnswersInSlots()

    def pack(self, spec: ModelSpec, lease: Lease, hold: Hold, batch: int) -> Parcel:
        """See `Transport`."""
        layout, shape = SlotLayout.of(spec, batch), (batch, *spec.output.dims)
        place = self._answers.place(lease, hold, layout.output_at_byte, shape, spec.output.dtype)
        place.poison()
        pixels = _pixels(spec, batch)
        pixels.set_shared_memory(lease.region_name, layout.input_bytes, lease.offset)
        rows = triton_grpc.InferRequestedOutput(spec.output.name)
        rows.set_shared_memory(place.region_name, layout.output_bytes, place.offset)
        return Parcel(_arguments(spec, pixels, rows), partial(_read_place, spec, place))


class Bytes:
    """Everything in messages. What travels is the model's input, never a whole frame.

    Args:
        compression: `gzip`, or None for none.
    """

    server_writes_slots = False

    def __init__(self, compression: str | None = None) -> None:
        self._compression = compression

    def pack(self, spec: ModelSpec, lease: Lease, hold: Hold, batch: int) -> Parcel:
        """See `Transport`; the slot's bytes are copied here."""
        del lease
        pixels = _pixels(spec, batch)
        pixels.set_data_from_numpy(hold.array((batch, *spec.input.dims), spec.input.dtype, 0))
        rows = triton_grpc.InferRequestedOutput(spec.output.name)
        arguments = _arguments(spec, pixels, rows)
        arguments["compression_algorithm"] = self._compression
        return Parcel(arguments, partial(_read_message, spec, batch))


def _pixels(spec: ModelSpec, batch: int) -> Any:
    return triton_grpc.InferInput(spec.input.name, [batch, *spec.input.dims], spec.input.datatype)


def _arguments(spec: ModelSpec, pixels: Any, rows: Any) -> dict[str, Any]:
    return {"model_name": spec.name, "inputs": [pixels], "outputs": [rows]}


def _read_place(spec: ModelSpec, place: AnswerPlace, result: Any, what: str) -> Output:
    _refuse_other(spec, len(place.array), result)
    return place.take(what)


def _read_message(spec: ModelSpec, batch: int, result: Any, what: str) -> Output:
    _refuse_other(spec, batch, result)
    rows = result.as_numpy(spec.output.name)
    if rows is None:
        raise StaleOutputError(
            f"{what}: the server reported success, and its message has no values of "
            f"{spec.output.name!r}"
        )
    return np.array(rows)  # a view of the message is read-only


def _refuse_other(spec: ModelSpec, batch: int, result: Any) -> None:
    tensor = result.get_output(spec.output.name)
    got = None if tensor is None else (tensor.datatype, tuple(tensor.shape))
    expected = spec.output.datatype, (batch, *spec.output.dims)
    if got != expected:
        raise ContractError(
            f"{spec.name}: output {spec.output.name!r} came as {got}, expected {expected}"
        )

"""Asynchronous inference on leased slots."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dualface_client.errors import (
    DualfaceError,
    InferenceFailedError,
    InferenceTimeoutError,
    ServerUnreachableError,
)
from dualface_client.histogram import Histogram, HistogramMeter
from dualface_client.memory.slots import Hold, Lease
from dualface_client.triton.connection import Connection, status_of, translate
from dualface_client.triton.description import ModelSpec
from dualface_client.triton.pending import Output, PendingInference
from dualface_client.triton.transport import Parcel, SharedMemory, SlotLayout, Transport

# Without one of these the server may still be using the slot.
_NO_ANSWER = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "UNKNOWN"})
_CLOSE_WAIT_S = 2.0


class InferenceClient:
    """Sends requests on leased slots; thread-safe, one per worker."""

    def __init__(
        self,
        connection: Connection,
        request_timeout_s: float = 30.0,
        transport: Transport | None = None,
    ) -> None:
        """Uses a connection, which stays the caller's.

        Args:
            connection: To the server with which the leases' region is registered.
            request_timeout_s: Limit of every request, seconds.
            transport: How pixels and answers travel; None for shared memory, with answers behind
                the input in the slot.
        """
        self._connection = connection
        self._transport = transport or SharedMemory()
        self._timeout_s = request_timeout_s
        self._idle = threading.Condition()
        self._in_flight: dict[PendingInference, Any] = {}
        self._held_back = False
        self._closed = False
        self._epoch = self._answered = 0
        self._times: dict[str, HistogramMeter] = {}

    def infer_async(
        self,
        spec: ModelSpec,
        lease: Lease,
        batch: int = 1,
        timeout_s: float | None = None,
        priority: int = 0,
    ) -> PendingInference:
        """Starts one request whose input lies at the beginning of the slot.

        The caller may release the lease at once: the request holds the slot itself.

        Args:
            spec: The model, as the contract check returned it.
            lease: Slot of at least `SlotLayout.of(spec, batch).byte_size` bytes. Writes to it
                (also those of a GPU stream) are complete.
            batch: Items in the slot, 1 to `spec.max_batch_size`.
            timeout_s: Limit of this request, seconds; None for the client's.
            priority: Of the model's configuration, the highest is 1; 0 for its default.

        Raises:
            ValueError: The batch or the slot has the wrong size.
            ServerUnreachableError: The client is closed.
        """
        layout = SlotLayout.of(spec, batch)
        if not 1 <= batch <= spec.max_batch_size:
            raise ValueError(f"batch {batch} for {spec.name}: expected 1..{spec.max_batch_size}")
        if layout.byte_size > lease.byte_size:
            raise ValueError(
                f"{spec.name} with batch {batch} needs a slot of {layout.byte_size} bytes, "
                f"slot class {lease.size_class!r} has {lease.byte_size}"
            )
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        what = f"{spec.name} with batch {batch}"
        hold = lease.hold()
        pending: PendingInference | None = None
        try:
            pending = self._admit(f"{what} at {self._connection.address}", limit_s)
            parcel = self._transport.pack(spec, lease, hold, batch)
            call = self._connection.send(
                what,
                callback=self._on_answer(pending, hold, spec, parcel),
                client_timeout=limit_s,
                priority=priority,
                **parcel.arguments,
            )
        except BaseException:
            hold.release()  # nothing was sent
            if pending is not None:
                self._leave(pending)
            raise
        self._remember(pending, call)
        return pending

    def _on_answer(
        self, pending: PendingInference, hold: Hold, spec: ModelSpec, parcel: Parcel
    ) -> Any:
        sent_s = time.monotonic()

        def on_answer(result: Any, error: Exception | None) -> None:
            version = ""
            try:
                if error is None:
                    what = f"{spec.name} at {self._connection.address}"
                    outcome: Output | Exception = parcel.read(result, what)
                    version = result.get_response().model_version
                else:
                    outcome = translate(error, self._connection.address, spec.name)
            except DualfaceError as failure:
                outcome = failure
            except Exception as failure:  # gRPC's thread would swallow it
                outcome = InferenceFailedError(f"{spec.name}: answer cannot be read: {failure}")
            # A server of an earlier epoch is gone and touches nothing.
            if (
                error is not None
                and self._transport.server_writes_slots
                and status_of(error) in _NO_ANSWER
                and pending.epoch == self._epoch
            ):
                hold.quarantine()
            else:
                hold.release()
            self._leave(pending, answered=not isinstance(outcome, Exception))
            self._time_of(spec.name).add(time.monotonic() - sent_s)
            pending.finish(outcome, version)

        return on_answer

    def _time_of(self, model: str) -> HistogramMeter:
        with self._idle:
            return self._times.setdefault(model, HistogramMeter())

    def request_times(self) -> dict[str, Histogram]:
        """How long answers and errors took to come so far, by model."""
        with self._idle:
            meters = dict(self._times)
        return {model: meter.histogram() for model, meter in meters.items()}

    def _admit(self, what: str, limit_s: float) -> PendingInference:
        with self._idle:
            if not self._idle.wait_for(lambda: not self._held_back or self._closed, limit_s):
                raise InferenceTimeoutError(f"{what}: not sent in {limit_s:g} s")
            if self._closed:
                raise ServerUnreachableError("the inference client is closed")
            pending = PendingInference(what, limit_s, self._epoch)
            self._in_flight[pending] = None
            return pending

    def _remember(self, pending: PendingInference, call: Any) -> None:
        with self._idle:
            if pending in self._in_flight:
                self._in_flight[pending] = call
            late = self._closed
        if late:
            call.cancel()

    def _leave(self, pending: PendingInference, *, answered: bool = False) -> None:
        with self._idle:
            self._answered += answered  # gRPC's threads call this concurrently
            self._in_flight.pop(pending, None)
            self._idle.notify_all()

    @property
    def epoch(self) -> int:
        """Counts the servers that knew our regions; a request belongs to the one it was sent to."""
        return self._epoch

    @property
    def answered(self) -> int:
        """Requests answered with success so far."""
        return self._answered

    def begin_epoch(self) -> None:
        """The server that knew our regions is gone and another one knows them."""
        self._epoch += 1

    @contextmanager
    def quiet(self, wait_s: float) -> Iterator[bool]:
        """Holds new requests back while the body runs.

        Args:
            wait_s: How long to wait for those in flight, seconds.

        Yields:
            Whether none is in flight.
        """
        with self._idle:
            self._held_back = True
            is_quiet = self._idle.wait_for(lambda: not self._in_flight, wait_s)
        try:
            yield is_quiet
        finally:
            with self._idle:
                self._held_back = False
                self._idle.notify_all()

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet."""
        with self._idle:
            return len(self._in_flight)

    def wait_idle(self, wait_s: float) -> bool:
        """Waits until every request has its answer.

        Args:
            wait_s: Longest wait, seconds.

        Returns:
            Whether none is left.
        """
        with self._idle:
            return self._idle.wait_for(lambda: not self._in_flight, wait_s)

    def close(self, wait_s: float = _CLOSE_WAIT_S) -> None:
        """Takes no more requests, cancels those in flight and waits for them; safe to call twice.

        Args:
            wait_s: Longest wait, seconds. What has not ended by then fails at once.
        """
        with self._idle:
            self._closed = True
            self._idle.notify_all()
            calls = [call for call in self._in_flight.values() if call is not None]
        for call in calls:
            call.cancel()
        with self._idle:
            self._idle.wait_for(lambda: not self._in_flight, wait_s)
            left = list(self._in_flight)
        for pending in left:
            pending.finish(InferenceFailedError("cancelled: the client was closed"))

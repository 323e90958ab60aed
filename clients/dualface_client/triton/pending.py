"""A request that the server is working on, as its caller sees it."""

from __future__ import annotations

import time
from concurrent.futures import CancelledError, Future, InvalidStateError, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy.typing as npt

from dualface_client.errors import InferenceTimeoutError
from dualface_client.fibers import give_way, notify

Output = npt.NDArray[Any]


class PendingInference:
    """A request under way. The slot stays held until the server has answered."""

    def __init__(self, what: str, limit_s: float, epoch: int) -> None:
        """Made by `InferenceClient.infer_async` only."""
        self.epoch = epoch
        self._model_version = ""
        self._what = what
        self._limit_s = limit_s
        self._since_s = time.monotonic()
        self._future: Future[Output] = Future()

    @property
    def model_version(self) -> str:
        """Version of the model that answered; empty before the answer."""
        return self._model_version

    def done(self) -> bool:
        """Whether an answer or an error is there."""
        return self._future.done()

    def wait(self, timeout_s: float) -> bool:
        """Waits for a while for an answer or an error; returns whether one is there."""
        is_done = give_way(self.done, timeout_s)
        return bool(wait([self._future], timeout_s).done) if is_done is None else is_done

    def refuse_overdue(self) -> None:
        """For a wait in parts: raises if even the request's own limit did not end it.

        Raises:
            InferenceTimeoutError: Neither an answer nor an error came in time.
        """
        # gRPC ends the request at its own limit: the extra second lets that error arrive.
        if time.monotonic() > self._since_s + self._limit_s + 1.0 and not self.done():
            raise self._timeout(self._limit_s)

    def result(self, timeout_s: float | None = None) -> Output:
        """Waits for the answer.

        Args:
            timeout_s: Longest wait, seconds; None for the request's own limit. A wait that ends
                early leaves the request running and its slot held.

        Returns:
            The output, shape `(batch, *dims)`; a copy, valid after the slot's release.

        Raises:
            InferenceTimeoutError: No answer in time.
            ServerError: The request failed.
        """
        limit_s = self._limit_s + 1.0 if timeout_s is None else timeout_s
        try:
            return self._future.result(limit_s)
        except (FutureTimeoutError, CancelledError) as error:
            if self._future.done():
                raise
            raise self._timeout(limit_s) from error

    def _timeout(self, limit_s: float) -> InferenceTimeoutError:
        return InferenceTimeoutError(
            f"{self._what}: no answer in {limit_s:g} s; the server is overloaded or hangs"
        )

    def finish(self, outcome: Output | Exception, model_version: str = "") -> None:
        """Ends the wait, for `InferenceClient`; does nothing the second time.

        Args:
            outcome: The answer, or why there is none.
            model_version: Of the model that answered.
        """
        if not self.done():
            self._model_version = model_version
        # `close` and the answer may race; the first one counts.
        try:
            if isinstance(outcome, Exception):
                self._future.set_exception(outcome)
            else:
                self._future.set_result(outcome)
        except InvalidStateError:  # the other one was first
            return
        notify()

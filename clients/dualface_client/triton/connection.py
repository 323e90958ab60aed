"""One gRPC connection, and the one place where its errors become ours."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import grpc
import tritonclient.grpc as triton_grpc
from tritonclient.utils import InferenceServerException

from dualface_client.closing import ClosesAtExit
from dualface_client.errors import (
    AccessDeniedError,
    ContractError,
    DualfaceError,
    InferenceFailedError,
    InferenceTimeoutError,
    ModelDiedError,
    RegionRefusedError,
    RegionUnknownError,
    ServerError,
    ServerUnreachableError,
)
from dualface_client.request_headers import request_headers
from dualface_client.triton.access import Access, read_access

#: Limit of calls that are not inference, seconds.
CALL_TIMEOUT_S = 5.0
_READY_POLL_S = 0.05
_LOCAL = ("unix:", "127.", "localhost", "[::1]")
_CHANNEL_ARGS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Otherwise a client that polls a starting server waits a whole second between attempts. (The
    # minimum stays: it is also the limit of one attempt to connect.)
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Workers of one process share nothing, not even a socket.
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection(ClosesAtExit):
    """A thread-safe connection to one Triton server."""

    def __init__(self, address: str, access: Access | None = None) -> None:
        """Prepares the channel; the first call connects.

        Args:
            address: `HOST:PORT` of the gRPC endpoint, or `unix:PATH`.
            access: Key and certificates; None for those that the environment names.

        Raises:
            UsageError: The environment names a file that cannot be read.
        """
        self.address = address
        #: Limit of calls without one of their own, seconds.
        self.call_timeout_s = CALL_TIMEOUT_S
        arguments = list(_CHANNEL_ARGS)
        if address.startswith(_LOCAL):
            arguments.append(("grpc.enable_http_proxy", 0))
        access = read_access() if access is None else access
        with translated(address, "connect"):
            self._client = triton_grpc.InferenceServerClient(
                address, channel_args=arguments, **access.tls
            )
            access.apply(self._client)
        # async_infer passes the call through an attribute of the client: two threads in it at the
        # same time would get each other's call (tritonclient 2.73).
        self._sending = threading.Lock()

    def call(self, what: str, method: str, *arguments: Any, **options: Any) -> Any:
        """One call of tritonclient, with a time limit.

        Args:
            what: What is tried, for the message.
            method: Name of the client's method.
            *arguments: Its arguments.
            **options: Its keyword arguments; `client_timeout` has a default.

        Raises:
            ServerError: Nobody answers in time, or the answer is an error.
            RegionRefusedError: The server does not take shared memory of clients.
        """
        options.setdefault("client_timeout", self.call_timeout_s)
        with translated(self.address, what):
            return getattr(self._client, method)(*arguments, **options)

    def send(self, what: str, **request: Any) -> Any:
        """Starts one asynchronous inference, with the headers of `request_headers`.

        Args:
            what: What is tried, for the message.
            **request: Arguments of tritonclient's `async_infer`.

        Returns:
            The call's context; `cancel()` ends it.
        """
        with translated(self.address, what), self._sending:
            return self._client.async_infer(headers=request_headers(), **request)

    def wait_ready(
        self,
        models: Iterable[str],
        timeout_s: float,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Waits until the server and its models are ready.

        Args:
            models: Names of the models.
            timeout_s: Longest wait, seconds.
            check: Called before every poll; raises to end the wait early.

        Raises:
            ServerUnreachableError: Not ready in time; the message says what is missing.
            ContractError: The server is ready and does not know a model.
        """
        end_s = time.monotonic() + timeout_s
        names = list(models)
        while True:
            check()
            missing = self._missing(names)
            if missing is None:
                return
            if time.monotonic() >= end_s:
                raise ServerUnreachableError(
                    f"server {self.address} is not ready after {timeout_s:g} s: {missing}. "
                    "Start it (`dualface-client serve`), or correct --server"
                )
            time.sleep(_READY_POLL_S)

    def _missing(self, models: list[str]) -> str | None:
        try:
            if not self.call("readiness", "is_server_ready", client_timeout=1.0):
                return "it answers, but is not ready"
            for name in models:
                if not self.call("readiness", "is_model_ready", name, client_timeout=1.0):
                    self.call(f"looking for {name}", "get_model_metadata", name)
                    return f"model {name!r} is not ready"
        except ContractError:
            raise  # waiting does not bring a model that the server does not know
        except ServerUnreachableError as error:  # without its remedy, which the caller gives
            return f"no server answers ({_message(error.__cause__ or error)})"
        except ServerError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Closes the channel and cancels what is in flight; safe to call twice."""
        # A channel that is already broken or closed is as good as closed.
        with contextlib.suppress(InferenceServerException, grpc.RpcError, ValueError):
            self._client.close()


@contextlib.contextmanager
def translated(address: str, what: str) -> Iterator[None]:
    """Turns every exception of tritonclient and grpc into one of ours.

    Args:
        address: The server, for the message.
        what: What was tried, for the message.
    """
    try:
        yield
    except (InferenceServerException, grpc.RpcError, grpc.FutureCancelledError) as error:
        raise translate(error, address, what) from error
    except ValueError as error:
        # grpc's way of saying that the channel is closed.
        if "closed channel" not in str(error):
            raise
        raise ServerUnreachableError(f"{what}: the connection to {address} was closed") from error


def translate(error: Exception, address: str, what: str) -> DualfaceError:
    """Our error that says the same.

    Args:
        error: From tritonclient or grpc.
        address: The server.
        what: What was tried.
    """
    status, message = status_of(error), _message(error)
    where = f"{what} at {address}"
    if "shared memory is disabled" in message:
        return RegionRefusedError(
            f"{where}: {message}. Start the server with --allow-client-shm=true (Triton 26.04 and "
            "later refuse clients' shared memory otherwise)"
        )
    if "Stub process" in message and "not healthy" in message:
        return ModelDiedError(
            f"{where}: the server's Python process for this model died ({message}). It does not "
            "come back by itself: restart the server; its log says why the process died"
        )
    if "has no available versions" in message:
        return ServerUnreachableError(
            f"{where}: {message}. Load it: `dualface-client models load {what} --server ...`"
        )
    if "protocol is restricted" in message:
        return AccessDeniedError(
            f"{where}: {message}. Name the file that holds the server's key in "
            "DUALFACE_SERVER_KEY_FILE"
        )
    if "Unable to find shared memory region" in message:
        return RegionUnknownError(
            f"{where}: {message}. The server was restarted, or somebody unregistered the region"
        )
    return _by_status(status, where, message)


def status_of(error: Exception) -> str:
    """The gRPC status name, such as `UNAVAILABLE`; `UNKNOWN` if there is none."""
    if isinstance(error, InferenceServerException):
        return str(error.status() or "UNKNOWN").removeprefix("StatusCode.")
    if isinstance(error, grpc.FutureCancelledError):
        return "CANCELLED"
    code = getattr(error, "code", None)
    return str(code().name) if callable(code) else "UNKNOWN"


def _by_status(status: str, where: str, message: str) -> DualfaceError:
    if status == "UNAVAILABLE":
        return ServerUnreachableError(
            f"{where}: no server answers, or it is stopping ({message}). Start it "
            "(`dualface-client serve`), or correct --server"
        )
    if status == "DEADLINE_EXCEEDED":
        return InferenceTimeoutError(
            f"{where}: no answer in time. The server is overloaded or hangs: run fewer streams, or "
            "see its log"
        )
    if "unknown model" in message and "is not found" in message:
        return ContractError(f"{where}: {message}. Serve the models of this bundle")
    if status == "CANCELLED":
        return InferenceFailedError(f"{where}: cancelled because the client was closed")
    return InferenceFailedError(f"{where}: {status}: {message}")


def _message(error: BaseException) -> str:
    if isinstance(error, InferenceServerException):
        return str(error.message() or "")
    details = getattr(error, "details", None)
    return str(details() if callable(details) else error)

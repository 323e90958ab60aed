"""Every error a caller can meet, drawn as a tree.

    DualfaceError (exit 1)
    |-- UsageError (exit 2)              the request itself is wrong: fix it and run again
    |   `-- ConfigError                  settings are wrong; every one of them is listed
    |-- AssetError (exit 2)              a model or clip file is missing or has the wrong checksum
    |-- PlatformError (exit 2)           this machine lacks something the chosen mode needs
    |-- StoppedError (exit 130)          the caller asked to stop before anything was processed
    |-- SourceError (exit 1)             one input cannot be read
    |-- SinkError (exit 1)               one output cannot be written
    |   |-- DiskFullError
    |   `-- EncoderError
    |-- DeciderLostError (exit 1)        a process that decides for streams died
    |-- MemoryRegionError (exit 1)       shared memory cannot be made, mapped or registered
    |   |-- LeaseTimeoutError            no slot came free in time
    |   `-- RegionRefusedError (exit 3)  the server does not take our memory
    `-- ServerError (exit 3)             the inference server
        |-- ServerUnreachableError       nobody answers, or it is not ready in time
        |-- ServerStartError             the embedded server died or hung while starting
        |-- ContractError                its tensors differ from those of this client
        |-- AccessDeniedError            it wants a key that this client does not send
        |-- InferenceTimeoutError        a request got no answer in time
        |-- InferenceFailedError         a request was answered with an error
        |   |-- RegionUnknownError       the server does not know our memory: it was restarted
        |   `-- ModelDiedError           the server's process for the model died
        `-- StaleOutputError             a request was answered, but its output was not written

A class tells the caller what to do next; the message names the value, what was expected and the
remedy. Errors of lower libraries (grpc, av, OSError) are mapped where they occur.
"""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Text for a terminal or a log: characters that move the cursor or end the line are escaped.

    File names may hold line breaks, terminal codes and bytes that are not UTF-8.

    >>> printable("a\nb\x1b[31m\udcff.mp4")
    'a\\nb\\x1b[31m\\udcff.mp4'
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class DualfaceError(Exception):
    """Root of the tree. `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(DualfaceError):
    """The request is wrong as it stands: an option, a path, a combination."""

    exit_code = 2


class ConfigError(UsageError):
    """Settings are wrong: a file, a variable or an option; the message has a line for each."""


class AssetError(DualfaceError):
    """A model, clip or server binary is missing, unreachable or fails its checksum."""

    exit_code = 2


class PlatformError(DualfaceError):
    """The machine lacks what the chosen mode needs (operating system, libc, GPU, library)."""

    exit_code = 2


class StoppedError(DualfaceError):
    """A stop was asked for while waiting for the server; nothing of what was started is left."""

    exit_code = 130  # as after Ctrl-C; the command line knows which signal it was


class SourceError(DualfaceError):
    """One input cannot be opened or decoded. Other streams go on."""


class SinkError(DualfaceError):
    """One output cannot be created or written. Other streams go on."""


class DiskFullError(SinkError):
    """The output's file system is full or its size limit is reached."""


class EncoderError(SinkError):
    """The encoder failed, not the file; another encoder may work."""


class DeciderLostError(DualfaceError):
    """A process that decides for streams has died."""


class MemoryRegionError(DualfaceError):
    """Shared memory cannot be created, mapped, registered or released."""


class LeaseTimeoutError(MemoryRegionError, TimeoutError):
    """No slot of the region came free within the time limit."""


class RegionRefusedError(MemoryRegionError):
    """The server does not register our memory: forbidden, not visible to it, or name taken."""

    exit_code = 3


class ServerError(DualfaceError):
    """The inference server is the cause."""

    exit_code = 3


class ServerUnreachableError(ServerError):
    """Nobody answers at the address, or the server or a model is not ready in time."""


class ServerStartError(ServerError):
    """The embedded server died or hung while starting; the message ends with its last log lines."""


class ContractError(ServerError):
    """The server's model differs from the description in the tensor that the message names."""


class AccessDeniedError(ServerError):
    """The server allows the request only to clients with its key."""


class InferenceTimeoutError(ServerError, TimeoutError):
    """A request got no answer within its time limit."""


class InferenceFailedError(ServerError):
    """The server answered a request with an error."""


class RegionUnknownError(InferenceFailedError):
    """The server does not know the request's memory region, as after a restart."""


class ModelDiedError(InferenceFailedError):
    """The server's Python process for the model died; only a restart brings it back."""


class StaleOutputError(ServerError):
    """The server reported success without having written the output; nothing of it is used."""


def relayed(text: str, exit_code: int) -> DualfaceError:
    """An error that another process of ours met and told; of what kind says its exit code.

    Args:
        text: Of the error.
        exit_code: Of the error.
    """
    kinds: dict[int, type[DualfaceError]] = {2: UsageError, 3: ServerError}
    return kinds.get(exit_code, DualfaceError)(text)

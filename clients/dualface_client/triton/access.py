"""What a connection needs for access: the server's key, certificates.

They come from files named in the environment, so that no secret is on a command line:
`DUALFACE_SERVER_KEY_FILE` (the key of restricted protocols), `DUALFACE_SERVER_CA_FILE` (turns TLS
on), `DUALFACE_CLIENT_CERT_FILE` and `DUALFACE_CLIENT_CERT_KEY_FILE` (mutual TLS).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tritonclient.grpc import InferenceServerClientPlugin

from dualface_client.errors import UsageError

#: gRPC header of the key: Triton's prefix, then the name given to the server's
#: `--grpc-restricted-protocol`.
KEY_HEADER = "triton-grpc-protocol-dualface-key"
_KEY_FILE = "DUALFACE_SERVER_KEY_FILE"
_CA_FILE = "DUALFACE_SERVER_CA_FILE"
_CERT_FILE = "DUALFACE_CLIENT_CERT_FILE"
_CERT_KEY_FILE = "DUALFACE_CLIENT_CERT_KEY_FILE"
_SECRETS = (_KEY_FILE, _CERT_KEY_FILE)


@dataclass(frozen=True, slots=True)
class Access:
    """How to get access.

    Attributes:
        key: Key of restricted protocols, empty for none.
        tls: Keyword arguments of `InferenceServerClient`, empty for plain text.
    """

    key: str
    tls: Mapping[str, Any]

    def apply(self, client: Any) -> None:
        """Makes a client of tritonclient send the key with every call.

        Args:
            client: `tritonclient.grpc.InferenceServerClient`.
        """
        if self.key:
            client.register_plugin(_KeyPlugin(self.key))


#: For a server without keys and certificates, such as the embedded one.
OPEN_ACCESS = Access("", MappingProxyType({}))


class _KeyPlugin(InferenceServerClientPlugin):  # type: ignore[misc] # tritonclient has no types
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: Any) -> None:
        request.headers[KEY_HEADER] = self._key


def open_to(path: Path) -> str:
    """Who else may do what with a secret file: `write`, `read`, or empty.

    Others cannot read a file in a directory that they cannot enter.
    """
    mode = path.stat().st_mode
    if mode & 0o022:
        return "write"
    is_within_reach = all(parent.stat().st_mode & 0o011 for parent in path.absolute().parents)
    return "read" if mode & 0o044 and is_within_reach else ""


def secret_files(environ: Mapping[str, str] | None = None) -> tuple[tuple[str, Path], ...]:
    """The variables that name a secret file, and the file, which may not exist."""
    env = os.environ if environ is None else environ
    return tuple((name, Path(env[name])) for name in _SECRETS if env.get(name))


def read_access(environ: Mapping[str, str] | None = None) -> Access:
    """Reads the files that the environment names; empty values count as unset.

    Args:
        environ: Environment variables; None reads this process's.

    Raises:
        UsageError: A named file cannot be read, others may write the key's, or certificate and key
            are not both given.
    """
    env = os.environ if environ is None else environ
    return Access(_read(env, _KEY_FILE).strip(), _tls(env))


def _tls(env: Mapping[str, str]) -> dict[str, Any]:
    ca, cert, key = (env.get(name) for name in (_CA_FILE, _CERT_FILE, _CERT_KEY_FILE))
    if bool(cert) != bool(key) or (cert and not ca):
        raise UsageError(
            f"{_CERT_FILE} needs {_CERT_KEY_FILE} and {_CA_FILE} too: mutual TLS takes all"
        )
    if not ca:
        return {}
    for name in (_CA_FILE, _CERT_FILE, _CERT_KEY_FILE):
        _read(env, name)
    return {
        "ssl": True,
        "root_certificates": ca,
        "certificate_chain": cert or None,
        "private_key": key or None,
    }


def _read(env: Mapping[str, str], name: str) -> str:
    path = env.get(name)
    if not path:
        return ""
    try:
        if name in _SECRETS and open_to(Path(path)) == "write":
            raise UsageError(f"{name} names {path}, which other users may write: chmod 600 {path}")
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{name} names {path}, which cannot be read: {error}") from error

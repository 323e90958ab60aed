"""The secret that every request must bring."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path

from dualface_client.errors import UsageError

_LEAST_CHARACTERS = 16
_BYTES_LIMIT = 4096


class Token:
    """A shared secret and what a browser gets instead of it.

    Args:
        text: The secret.
    """

    def __init__(self, text: str) -> None:
        self._secret = text.encode()
        self._cookie = hmac.new(self._secret, b"dualface page", hashlib.sha256).hexdigest().encode()

    def is_right(self, text: str) -> bool:
        """Whether a request's secret is this one; takes as long for a wrong one."""
        return hmac.compare_digest(text.encode(errors="replace"), self._secret)

    def is_cookie(self, text: str) -> bool:
        """The same for a cookie, from which the secret cannot be worked out."""
        return hmac.compare_digest(text.encode(errors="replace"), self._cookie)

    @property
    def cookie(self) -> str:
        """For browsers; valid as long as the secret is."""
        return self._cookie.decode()


def token_at(path: Path) -> Token:
    """Reads the secret, and makes one if there is none.

    Raises:
        UsageError: It cannot be read or made, others may read it, or it is too short.
    """
    try:
        _make(path)
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_BYTES_LIMIT).decode(errors="replace").strip()
    except OSError as error:
        raise UsageError(f"{path}: the token cannot be read: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(
            f"{path}: has mode {stat.S_IMODE(mode):o}, so others could read the token; expected "
            f"600: `chmod 600 {path}`"
        )
    if len(text) < _LEAST_CHARACTERS:
        raise UsageError(
            f"{path}: a token of {len(text)} characters; expected {_LEAST_CHARACTERS} or more; "
            "remove the file, and a new one is made"
        )
    return Token(text)


def _make(path: Path) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:  # made at an earlier start, or by hand
        return
    with os.fdopen(fd, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")

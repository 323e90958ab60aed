"""Objects in a store, by way of fsspec: found, fetched, published whole.

A store shows an object only when its upload has ended, so an output is there as a whole or not at
all. What fails for a while (no connection, 503, a connection that breaks off) is tried again.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from dualface_client.backoff import Backoff
from dualface_client.errors import DualfaceError, SinkError, SourceError, StoppedError
from dualface_client.extras import OBJECTS, STORE_PACKAGES, require
from dualface_client.settings.addresses import scheme_of

Result = TypeVar("Result")
#: Opens the file system of an address, as `open_store`.
OpenStore = Callable[[str], Any]

#: Uploads of more than two parts are sent in parts, which the store puts together at the end.
PART_BYTES = 16 << 20
#: S3 takes so many.
PARTS_LIMIT = 10_000
#: With pauses of 16 s between them; each store's library tries by itself, too.
TRIES = 6
_PAUSE_S, _PAUSE_LIMIT_S = 0.5, 10.0
#: Trying again does not help.
_FINAL = (FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError)
_MD5 = re.compile(r"[0-9a-f]{32}(-\d+)?")
#: Where stores say when an object was last written.
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object.

    Attributes:
        url: Its address.
        size_bytes: Its length.
        etag: What the store says of its content, without quotes; empty if it says nothing.
        modified_unix_s: When it was written, 0 if the store does not say.
    """

    url: str
    size_bytes: int
    etag: str = ""
    modified_unix_s: float = 0.0


def open_store(url: str) -> Any:
    """The file system of an address.

    The store's own environment variables, such as `AWS_PROFILE` and `AWS_ENDPOINT_URL`, say where
    it is and who may use it.

    Raises:
        PlatformError: The package for this kind of store is not installed.
    """
    require(*OBJECTS, STORE_PACKAGES[scheme_of(url)])
    from fsspec.core import url_to_fs

    # Each call has a list of its own: one that is kept would hide what others have written since.
    store, _ = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
    return store


class ObjectStore:
    """Finds, fetches and publishes objects; every store that an address names.

    Args:
        opened: Opens a store; for the tests.
        stop: Set from elsewhere to give up.
        pause_s: Before the second try; grows with each.
    """

    def __init__(
        self,
        opened: OpenStore = open_store,
        stop: threading.Event | None = None,
        pause_s: float = _PAUSE_S,
    ) -> None:
        self._opened = opened
        self._stores: dict[str, Any] = {}
        self._stop = stop or threading.Event()
        self._pause_s = pause_s

    def _open(self, url: str) -> tuple[Any, str]:
        """The file system of an address, opened once for each bucket, and the path in it."""
        bucket = _bucket(url)
        if bucket not in self._stores:
            self._stores[bucket] = self._opened(url)
        store = self._stores[bucket]
        return store, store._strip_protocol(url)

    def find(self, url: str) -> list[StoredObject]:
        """The object of an address, those directly below it, or those of a pattern, by name.

        Args:
            url: An object, the beginning of names up to a `/`, or a pattern.

        Raises:
            SourceError: The store cannot be reached, or there is no such object or beginning.
        """
        store, path = self._open(url)

        def look() -> list[StoredObject]:
            if any(letter in path for letter in "*?["):
                found = list(store.glob(path, detail=True).values())
            elif not url.endswith("/") and store.isfile(path):
                found = [store.info(path)]
            else:
                found = store.ls(path.rstrip("/"), detail=True)
            files = (entry for entry in found if entry["type"] == "file" and entry["size"])
            return sorted(
                (_object(store, entry, url) for entry in files), key=lambda found: found.url
            )

        return self._patiently(look, f"{url}: cannot be listed", SourceError)

    def look_at(self, url: str) -> StoredObject | None:
        """One object, None if there is none.

        Raises:
            SourceError: The store cannot be reached.
        """
        store, path = self._open(url)

        def look() -> StoredObject | None:
            try:
                return _object(store, store.info(path), url)
            except FileNotFoundError:  # the docstring's None
                return None

        return self._patiently(look, f"{url}: cannot be examined", SourceError)

    def fetch(self, url: str, path: Path) -> None:
        """Copies an object to a file; verified by its length, and that it is still the same one.

        Args:
            url: Of the object.
            path: File to write.

        Raises:
            SourceError: It cannot be read, or keeps changing.
            StoppedError: A stop was asked for.
        """
        store, inner = self._open(url)

        def fetch() -> None:
            before = _object(store, store.info(inner), url)
            store.get_file(inner, str(path), callback=self._stoppable())
            after = _object(store, store.info(inner), url)
            size_bytes = path.stat().st_size
            if size_bytes != before.size_bytes or after != before:
                raise OSError(f"{size_bytes} of {before.size_bytes} bytes came, or it changed")

        self._patiently(fetch, f"{url}: cannot be fetched", SourceError)

    def publish(self, path: Path, url: str, *, replace: bool) -> StoredObject:
        """Copies a file to an object, which is there as a whole or not at all.

        Args:
            path: A complete file.
            url: Of the object.
            replace: Whether an object that exists is replaced.

        Returns:
            The object, verified by its length, and by its content where the store tells of it.

        Raises:
            SinkError: It cannot be written, or it exists and `replace` is false.
            StoppedError: A stop was asked for.
        """
        store, inner = self._open(url)
        in_s3 = scheme_of(url) in ("s3", "s3a")
        options = {"chunksize": _part_bytes(path.stat().st_size)} if in_s3 else {}

        def verify() -> StoredObject:
            found = _object(store, store.info(inner), url)
            if problem := difference(path, found, encrypts=lambda: _has_own_etags(store, inner)):
                if not replace:  # ours alone, and --resume would count it as finished
                    with suppress(Exception):  # perhaps it may not be deleted: the problem is said
                        store.rm_file(inner)
                raise OSError(problem)
            return found

        def publish() -> StoredObject:
            mode = "overwrite" if replace else "create"
            try:
                store.put_file(str(path), inner, mode=mode, callback=self._stoppable(), **options)
            except FileExistsError:
                # Perhaps it was this very upload, whose answer was lost.
                if difference(path, _object(store, store.info(inner), url)):
                    raise
            return verify()

        return self._patiently(publish, f"{url}: cannot be published", SinkError)

    def _stoppable(self) -> Any:
        """A progress callback that ends a transfer when a stop was asked for."""
        from fsspec.callbacks import Callback

        stop = self._stop

        class Stoppable(Callback):  # type: ignore[misc]  # fsspec has no types
            def relative_update(self, inc: int = 1) -> None:
                if stop.is_set():
                    raise StoppedError("stopped while an object was copied")

        return Stoppable()

    def _patiently(
        self, action: Callable[[], Result], problem: str, kind: type[DualfaceError]
    ) -> Result:
        """Does something, again if it fails for a reason that may pass."""
        backoff = Backoff(self._pause_s, _PAUSE_LIMIT_S)
        while True:
            if self._stop.is_set():
                raise StoppedError(f"{problem}: stopped")
            try:
                return action()
            except DualfaceError:
                raise
            except Exception as error:  # each library of a store has errors of its own
                backoff.fail()
                if _is_final(error):
                    raise kind(f"{problem}: {_reason(error)}") from error
                if backoff.failures >= TRIES:
                    raise kind(f"{problem}, tried {TRIES} times: {_reason(error)}") from error
            self._stop.wait(backoff.pause_s)


def difference(
    path: Path, found: StoredObject, encrypts: Callable[[], bool] = lambda: False
) -> str:
    """How an object differs from the file that it is to be, empty if it does not.

    Args:
        path: The file.
        found: The object.
        encrypts: Asked where the store's word on the content is not ours: whether it encrypts with
            a key, and so has other words.
    """
    size_bytes = path.stat().st_size
    if found.size_bytes != size_bytes:
        return f"it has {found.size_bytes} bytes in the store, the file has {size_bytes}"
    if not _MD5.fullmatch(found.etag) or found.etag == etag_of(path):
        return ""
    return "" if encrypts() else f"the store has other content (ETag {found.etag})"


def etag_of(path: Path) -> str:
    """What S3 calls the content: its MD5, or that of its parts' MD5s and their number."""
    size_bytes = path.stat().st_size
    part_bytes = _part_bytes(size_bytes)
    whole = size_bytes < 2 * part_bytes
    digests = [
        hashlib.md5(part, usedforsecurity=False).digest()
        for part in _parts(path, -1 if whole else part_bytes)
    ]
    if whole:
        return digests[0].hex()
    return f"{hashlib.md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"


def _part_bytes(size_bytes: int) -> int:
    return max(PART_BYTES, -(-size_bytes // PARTS_LIMIT))


def _parts(path: Path, size_bytes: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield file.read(size_bytes)
        while size_bytes > 0 and (part := file.read(size_bytes)):
            yield part


def _has_own_etags(store: Any, path: str) -> bool:
    """Whether an S3 store encrypts with a key of its user's: then an ETag is no MD5."""
    ask = getattr(store, "call_s3", None)
    if ask is None:
        return True  # not known of others
    bucket, key, _ = store.split_path(path)
    head = ask("head_object", Bucket=bucket, Key=key)
    return "kms" in str(head.get("ServerSideEncryption", "")) or "SSECustomerAlgorithm" in head


def _bucket(url: str) -> str:
    """The beginning of an address that names its bucket, and with Azure perhaps the account."""
    return "/".join(url.split("/", 3)[:3])


def _object(store: Any, entry: dict[str, Any], url: str) -> StoredObject:
    """What a store tells of an object, whose address begins as the one that was asked for.

    The libraries know a store by several names (`az` and `abfs`) and would give their own.
    """
    bucket = _bucket(url)
    place: str = store._strip_protocol(bucket)
    written = next((entry[name] for name in _TIMES if entry.get(name)), None)
    return StoredObject(
        bucket + entry["name"].removeprefix(place),
        int(entry["size"]),
        str(entry.get("ETag") or entry.get("etag") or "").strip('"'),
        _unix_s(written),
    )


def _unix_s(written: Any) -> float:
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    return written.timestamp() if isinstance(written, datetime) else float(written or 0)


def _is_final(error: Exception) -> bool:
    return isinstance(error, _FINAL) or _lacks_credentials(error)


def _lacks_credentials(error: Exception) -> bool:
    """Each library has a class of its own: `NoCredentialsError`, `DefaultCredentialsError`, ..."""
    return "Credential" in type(error).__name__


def _reason(error: Exception) -> str:
    """What went wrong, in the words of the store's library."""
    if isinstance(error, FileNotFoundError):
        return "there is no such object or bucket; check the address"
    if isinstance(error, FileExistsError):
        return "it exists, or appeared meanwhile; choose another name or allow --overwrite"
    if isinstance(error, PermissionError):
        return f"not permitted ({error}); check the store's credentials"
    if _lacks_credentials(error):
        return (
            f"no credentials ({error}); give them as the store's own tools take them, for example "
            "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for s3, "
            "GOOGLE_APPLICATION_CREDENTIALS for gs, AZURE_STORAGE_CONNECTION_STRING for az"
        )
    return f"{type(error).__name__}: {error}".strip(": ")

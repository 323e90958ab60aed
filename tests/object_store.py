"""An S3 server as a process of its own, and a proxy before it that fails as networks do."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from dualface_client.objects.store import ObjectStore, open_store
from tests.processes import wait_until

BUCKET = "talks"
_SLOW_S = 0.05
#: Headers that are between two ends of one connection.
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host", "expect"}


@dataclass
class Faults:
    """What goes wrong with the next requests of a method: `503`, `cut`, `lost`, `slow`.

    Attributes:
        due: By method, in order; `cut` ends an answer in its middle, `lost` carries the request out
            and ends the connection without an answer.
        happened: What went wrong so far.
    """

    due: dict[str, list[str]] = field(default_factory=dict)
    happened: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, method: str) -> str:
        with self.lock:
            waiting = self.due.get(method, [])
            if not waiting:
                return ""
            self.happened.append(waiting[0])
            return waiting.pop(0)


@dataclass(frozen=True)
class FakeS3:
    """A store with one bucket.

    Attributes:
        client: Of the server itself, not through the proxy.
        environment: Variables that lead clients to it through the proxy.
        faults: Of the proxy.
    """

    client: Any
    environment: dict[str, str]
    faults: Faults

    def put(self, key: str, path: Path) -> None:
        self.client.upload_file(str(path), BUCKET, key)

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def keys(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def uploads(self) -> list[str]:
        """Uploads that were begun and neither ended nor given up."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return [upload["Key"] for upload in found]

    def clear(self) -> None:
        for key in self.keys():
            self.client.delete_object(Bucket=BUCKET, Key=key)
        for upload in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
            key, number = upload["Key"], upload["UploadId"]
            self.client.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=number)
        self.faults.due.clear()
        self.faults.happened.clear()


@contextmanager
def fake_s3(directory: Path) -> Iterator[FakeS3]:
    """Starts server and proxy, which end with the block."""
    with _server(directory) as address, _proxy(address) as (port, faults):
        environment = {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_MAX_ATTEMPTS": "1",
        }
        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - nobody checks it
            region_name="us-east-1",
        )
        found = FakeS3(client, environment, faults)
        client.create_bucket(Bucket=BUCKET)
        yield found


@contextmanager
def _server(directory: Path) -> Iterator[str]:
    log = directory / "moto.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        pattern = re.compile(r"Running on (http://127\.0\.0\.1:\d+)")
        wait_until(lambda: pattern.search(log.read_text()), 60.0, "the S3 server's address")
        found = pattern.search(log.read_text())
        assert found is not None
        yield found[1]
    finally:
        process.kill()
        process.wait()


class _ProxyServer(ThreadingHTTPServer):
    def __init__(self, host: str, faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Proxy)
        self.host, self.faults = host, faults


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _ProxyServer

    def _handle(self) -> None:
        fault = self.server.faults.take(self.command)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b"".join(self._chunks())
        if fault == "503":
            self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
            return
        with closing(http.client.HTTPConnection(self.server.host)) as store:
            kept = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            store.request(self.command, self.path, body or None, kept)
            answer = store.getresponse()
            content = answer.read()
        if fault == "slow":
            time.sleep(_SLOW_S)  # that is the fault
        if fault in ("lost", "cut"):
            if fault == "cut":
                self._head(answer.status, answer.getheaders(), len(content))
                self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
        else:
            self._answer(answer.status, answer.getheaders(), content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle  # noqa: N815 - the library's names

    def _chunks(self) -> Iterator[bytes]:
        while "chunked" in self.headers.get("Transfer-Encoding", ""):
            size = int(self.rfile.readline().split(b";")[0], 16)
            data = self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return
            yield data

    def _head(self, status: int, headers: list[tuple[str, str]], length: int) -> None:
        self.send_response_only(status)
        said = {name.lower(): value for name, value in headers}
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        if self.command == "HEAD":
            length = int(said.get("content-length", length))
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self._head(status, headers, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def _proxy(address: str) -> Iterator[tuple[int, Faults]]:
    server = _ProxyServer(address.removeprefix("http://"), Faults())
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], server.faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def store_of(s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """A store that tries again at once; its library finds the proxy by its variables."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)

    def opened(url: str) -> Any:
        store = open_store(url)
        store.retries = 1  # of the library itself, with pauses
        return store

    return ObjectStore(opened, pause_s=0.01)

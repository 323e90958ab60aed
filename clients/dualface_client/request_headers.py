"""Headers that go with a request to the server, from whoever knows its reason to whoever sends it.

Between the two lie models and sessions, which this is no matter of. It holds for the thread that
sends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_HEADERS: ContextVar[Mapping[str, str] | None] = ContextVar("request_headers", default=None)


def request_headers() -> dict[str, str] | None:
    """Those of a request that is sent now, None for none."""
    found = _HEADERS.get()
    return dict(found) if found else None


@contextmanager
def requests_with(headers: Mapping[str, str]) -> Iterator[None]:
    """Requests that are sent in the body carry these.

    Args:
        headers: By name; empty for none.
    """
    before = _HEADERS.set(headers)
    try:
        yield
    finally:
        _HEADERS.reset(before)

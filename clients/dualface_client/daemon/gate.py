"""Who may come in, and what they may bring: requests with the token and a small body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from dualface_client.daemon.token import Token

BODY_LIMIT_BYTES = 64 << 10
COOKIE = "dualface"
LOGIN = "/v1/login"
#: Answered without the token: they tell nothing.
_OPEN_PATHS = frozenset({"/healthz", "/", LOGIN})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """Lets only requests through that have the token and a small body.

    Args:
        app: Answers the others.
        token: The secret.
    """

    def __init__(self, app: App, token: Token) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 401 or 413, or passes the request on."""
        if scope["type"] != "http":
            return
        if scope["path"] not in _OPEN_PATHS and not self._may_enter(scope):
            await plain_answer(401)(scope, receive, send)
            return
        length = _headers(scope).get("content-length", "0")
        if not length.isdigit() or int(length) > BODY_LIMIT_BYTES:
            await plain_answer(413)(scope, receive, send)
            return
        await self._app(scope, _limited(receive), send)

    def _may_enter(self, scope: Scope) -> bool:
        headers = _headers(scope)
        kind, _, secret = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._token.is_right(secret.strip())
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        if cookie is None or not self._token.is_cookie(cookie.value):
            return False
        # Pages of other ports of this host count as the same site, and get the cookie sent.
        origin = urlsplit(headers.get("origin", "")).netloc
        return scope["method"] == "GET" or origin == headers.get("host", "")


def _limited(receive: Receive) -> Receive:
    so_far = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal so_far
        message = await receive()
        so_far += len(message.get("body", b""))
        if so_far > BODY_LIMIT_BYTES:
            raise HTTPException(413)  # a body without a length has grown too large
        return message

    return limited


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


_WORDS = {
    401: "the token is missing or wrong",
    404: "there is nothing here",
    405: "this is not done here by this method",
    413: f"the request is larger than {BODY_LIMIT_BYTES >> 10} KiB",
}


def plain_answer(status: int) -> JSONResponse:
    """What is said where nothing may be told, or nothing is known."""
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"error": _WORDS.get(status, "it failed")}, status, headers)

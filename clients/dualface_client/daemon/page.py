"""The page: one file, without anything from elsewhere, and the headers that hold it to that."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response


def page_text() -> str:
    """The page as it is sent."""
    return resources.files("dualface_client.daemon").joinpath("page.html").read_text("utf-8")


def policy_of(text: str) -> str:
    """The content security policy of a page: its own script and style, pictures of this host.

    Args:
        text: The page, with one `script` and one `style`.
    """
    (script,), (style,) = (
        re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("script", "style")
    )
    return (
        f"default-src 'none'; script-src {_hash_of(script)}; style-src {_hash_of(style)}; "
        "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _hash_of(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


async def serve_page(request: Request) -> Response:
    """The page's frame, which tells nothing: what it shows it asks the API for."""
    del request
    text = page_text()
    headers = {
        "Content-Security-Policy": policy_of(text),
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return HTMLResponse(text, headers=headers)

"""A headless Chromium over its debugging pipe: a page that a test clicks, reads and photographs.

Debian's `chromium` is enough: no driver, no package. As a program it takes a screenshot of the
daemon's page: `python -m tests.chromium URL TOKEN FILE.png 1280x900`.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from dualface_client.closing import ClosesAtExit
from tests.processes import wait_until

CHROMIUM = shutil.which("chromium") or ""
_PHONE_PX = 600
_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
    *("--no-first-run", "--remote-debugging-pipe", "--disable-background-networking"),
)


class Page(ClosesAtExit):
    """One page of a browser of its own; a context manager.

    Args:
        url: What to open.
        profile: An empty directory for the browser.
        wh_px: Size of the window; a narrow one is a phone's.

    Attributes:
        complaints: What the browser objected to: exceptions, and whatever the policy refuses.
    """

    def __init__(self, url: str, profile: Path, wh_px: tuple[int, int] = (1280, 900)) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # The browser reads from descriptor 3 and writes to 4.
        line = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self.complaints: list[str] = []
        target = self._ask("Target.createTarget", url="about:blank")["targetId"]
        attached = self._ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=wh_px[0],
            height=wh_px[1],
            deviceScaleFactor=1,
            mobile=wh_px[0] < _PHONE_PX,
        )
        self._ask("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        said = self._ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def wait(self, script: str, timeout_s: float = 150.0) -> None:
        """Waits until an expression is true."""
        wait_until(lambda: self.run(script), timeout_s, script)

    def click(self, selector: str) -> None:
        """Clicks in the middle of an element, as a finger or a mouse does."""
        place = self.run(
            f"(() => {{ const each = document.querySelector({json.dumps(selector)}); "
            "each.scrollIntoView({block: 'center'}); const box = each.getBoundingClientRect(); "
            "return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self._ask(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                clickCount=1,
            )

    def write(self, selector: str, text: str) -> None:
        """Types into a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        self._ask("Input.insertText", text=text)

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"])

    def close(self) -> None:
        """Ends the browser; safe to call twice."""
        self._process.kill()
        self._process.wait()
        self._in.close()
        self._out.close()

    def _ask(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._out.write(json.dumps(message).encode() + b"\0")
        self._out.flush()
        while True:
            said = self._read()
            if said.get("id") == number:
                assert "error" not in said, (method, said)
                result: dict[str, Any] = said["result"]
                return result
            self._note(said)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._in.fileno(), 1 << 16)
            assert more, "the browser has gone"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        said: dict[str, Any] = json.loads(line)
        return said

    def _note(self, said: dict[str, Any]) -> None:
        if said.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(said["params"]["exceptionDetails"]))
        elif said.get("method") == "Log.entryAdded":
            entry = said["params"]["entry"]
            if entry["source"] != "network":  # 401 before the login, 404 without a picture
                self.complaints.append(entry["text"])


def log_in(page: Page, token: str) -> None:
    """Gives the daemon's page its token."""
    page.wait("!document.getElementById('login').hidden")
    page.write("#token", token)
    page.click("#login button")
    page.wait("!document.getElementById('inside').hidden")


if __name__ == "__main__":
    import tempfile

    url, token, file, size = sys.argv[1:]
    width, _, height = size.partition("x")
    with (
        tempfile.TemporaryDirectory() as folder,
        Page(url, Path(folder), (int(width), int(height))) as shown,
    ):
        log_in(shown, token)
        shown.wait("[...document.images].every((each) => each.naturalWidth && !each.hidden)")
        Path(file).write_bytes(shown.picture())

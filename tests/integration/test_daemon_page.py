"""The daemon's page in a real browser against real streams."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.soak.churn import start
from tests.chromium import CHROMIUM, Page, log_in
from tests.daemons import DaemonProcess

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed (Debian: chromium)")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonProcess]:
    with start(tmp_path_factory.mktemp("daemon"), seconds=1800, residents=1) as found:
        yield found


@pytest.mark.parametrize("wh_px", [(1280, 900), (390, 844)])
def test_streams_are_seen_steered_added_and_removed_by_clicks(
    daemon: DaemonProcess, tmp_path: Path, wh_px: tuple[int, int]
) -> None:
    said = "document.getElementById('said').textContent"
    with Page(daemon.url, tmp_path / "profile", wh_px) as page:
        page.wait("!document.getElementById('login').hidden")
        page.write("#token", "wrong")
        page.click("#login button")
        page.wait(f"{said} === 'the token is missing or wrong'")
        page.run("document.getElementById('token').value = ''")
        log_in(page, daemon.token)
        page.wait("document.querySelector('article h2')?.textContent === 'one'")
        page.wait("document.querySelector('article .picture img').naturalWidth === 160")
        page.wait("document.querySelector('article .source').offsetWidth > 40")
        page.wait("document.querySelector('article .source').naturalWidth === 160")
        assert page.run("document.documentElement.scrollWidth <= window.innerWidth")
        page.click("[data-do=swap]")
        page.wait(f"{said}.startsWith('one: the two have changed tiles')")
        page.run(
            "(() => { const each = document.querySelector('article select'); each.value = "
            "'stacked'; each.dispatchEvent(new Event('change')); })()"
        )
        page.wait(f"{said}.startsWith('one: the layout is stacked')")
        page.click("[data-do=look]")
        page.wait("!document.querySelector('.people').hidden")
        page.wait("document.querySelector('article .source').offsetWidth === 0")
        page.click("details summary")
        for field, text in (
            ("name", "<b>x"),
            ("input", "file:///etc/passwd"),
        ):
            page.write(f"#add [name={field}]", text)
        # The pattern of the name keeps the form back, so it is sent as somebody else would.
        page.run("document.getElementById('add').noValidate = true")
        page.click("#add button")
        page.wait(f"{said}.includes('name')")
        page.run("document.querySelector('#add [name=name]').value = 'guest'")
        page.click("#add button")
        page.wait(f"{said}.includes('is not below daemon.input_directory')")
        page.run(
            f"document.querySelector('#add [name=input]').value = '{daemon.folder / 'short.mp4'}'"
        )
        page.click("#add button")
        page.wait("document.querySelectorAll('article').length === 2")
        page.click("article:nth-of-type(2) [data-do=remove]")
        page.click("article:nth-of-type(2) [data-do=remove]")
        page.wait("document.querySelectorAll('article').length === 1")
        assert page.complaints == []
        assert page.run("document.cookie") == ""  # the script cannot read it
    assert daemon.stream("one")["restarts"] == 0

from __future__ import annotations

import doctest

import pytest

from dualface_client.settings import addresses
from dualface_client.settings.addresses import INPUT_SCHEMES, problem_of, shown, with_secret


def test_the_examples_hold() -> None:
    assert doctest.testmod(addresses).attempted > 3
    assert doctest.testmod(addresses).failed == 0


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://ann:s3cret@camera/door",
        "rtsp://s3cret@camera/door",
        "https://camera/live.m3u8?token=s3cret",
        "https://camera/live.m3u8#s3cret",
        "rtsp://ann:s3cret@[::1/door",
        "RTMP://ann:p@s3cret@camera:1935/live",
    ],
)
def test_nothing_that_may_be_secret_is_shown(text: str) -> None:
    assert "s3cret" not in shown(text)
    assert "s3cret" not in problem_of(text, INPUT_SCHEMES, "input")
    assert "s3cret" not in problem_of(text, (), "input")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file:///etc/passwd", "file:///etc/passwd: file: is not allowed; expected one of rtsp"),
        ("concat:/a|/b", "concat: is not allowed"),
        ("rtsp://ann:x@camera/door", "holds a user or password"),
        ("rtsp://camera/door@home", ""),
        ("v4l2:/dev/video0", ""),
    ],
)
def test_addresses_that_are_refused(text: str, problem: str) -> None:
    found = problem_of(text, INPUT_SCHEMES, "input")
    assert problem in found
    assert bool(found) == bool(problem)


def test_a_secret_goes_where_the_address_says() -> None:
    assert with_secret("rtmp://a/live/{key}", "k:1") == "rtmp://a/live/k:1"
    assert with_secret("rtsp://camera/a", "ann:p:w/d") == "rtsp://ann:p%3Aw%2Fd@camera/a"
    assert with_secret("rtsp://camera/a", "") == "rtsp://camera/a"

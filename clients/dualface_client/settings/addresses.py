"""Addresses of live inputs and outputs: which are allowed, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import quote, urlsplit, urlunsplit

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
#: Where the text of a secret goes in an address, such as the key of a stream.
KEY_PLACE = "{key}"
#: Addresses that may be read unless a setting says otherwise: no scheme of local files, lists of
#: them, or FFmpeg's own generators.
INPUT_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "http", "https", "v4l2")
#: Addresses that outputs may be sent to.
OUTPUT_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "whip", "whips")

#: Addresses of objects in stores that show an object only once all of it has been uploaded.
OBJECT_SCHEMES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")


def is_object_url(text: str) -> bool:
    """Whether a text is the address of an object in a store, or of several.

    >>> is_object_url("s3://talks/day1/"), is_object_url("rtsp://camera"), is_object_url("s3")
    (True, False, False)
    """
    return scheme_of(text) in OBJECT_SCHEMES


def scheme_of(text: str) -> str:
    """The scheme of an address in lower case, empty for a path.

    >>> scheme_of("RTSP://camera/door"), scheme_of("v4l2:/dev/video0"), scheme_of("a:b.mp4")
    ('rtsp', 'v4l2', '')
    """
    match = _ADDRESS.match(text)
    return match[1].lower() if match else ""


def shown(text: str) -> str:
    """A path as it is; an address without what may be secret in it.

    >>> shown("rtsp://ann:s3cret@camera/door"), shown("https://a/live.m3u8?token=1")
    ('rtsp://camera/door', 'https://a/live.m3u8?...')
    """
    if not scheme_of(text):
        return text
    try:
        parts = urlsplit(text)
    except ValueError:  # no address at all, and perhaps a secret
        return f"{scheme_of(text)}://..."
    host = parts.netloc.rpartition("@")[2]
    hidden = "..." if parts.query or parts.fragment else ""
    return urlunsplit((parts.scheme, host, parts.path, hidden, ""))


def has_credentials(text: str) -> bool:
    """Whether an address holds a user or a password.

    >>> has_credentials("rtsp://ann:s3cret@camera/door"), has_credentials("rtsp://camera/a@b")
    (True, False)
    """
    return "@" in text.partition("://")[2].partition("/")[0]


def problem_of(text: str, schemes: Collection[str], setting: str) -> str:
    """Why an address is refused, empty if it may be opened.

    Args:
        text: The address.
        schemes: Those that are allowed.
        setting: Key of the setting that names a file for user and password, without its suffix.
    """
    scheme = scheme_of(text)
    if scheme not in schemes:
        return f"{shown(text)}: {scheme}: is not allowed; expected one of {', '.join(schemes)}"
    if has_credentials(text):
        return (
            f"{shown(text)}: holds a user or password, which other users of this machine can read "
            f"in its list of processes; leave them out and name a file with USER:PASSWORD by "
            f"{setting}.credentials_file"
        )
    return ""


def with_secret(text: str, secret: str) -> str:
    """An address with a secret in it, to be opened and never shown.

    Args:
        text: An address without a secret.
        secret: What replaces `{key}`; in an address without that, `USER:PASSWORD`.

    >>> with_secret("rtsp://camera/door", "ann:p@ss"), with_secret("rtmp://a/live/{key}", "k1")
    ('rtsp://ann:p%40ss@camera/door', 'rtmp://a/live/k1')
    """
    if KEY_PLACE in text:
        return text.replace(KEY_PLACE, secret)
    if not secret or "://" not in text:
        return text
    user, _, password = secret.partition(":")
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@{rest}"


def name_of(text: str) -> str:
    """A short name for the stream of an address: host and path.

    >>> name_of("rtsp://camera.lan:554/door/main?x=1"), name_of("v4l2:/dev/video0")
    ('camera.lan_554_door_main', 'dev_video0')
    """
    place = shown(text).partition(":")[2].partition("?")[0]
    return re.sub(r"[^A-Za-z0-9.-]+", "_", place).strip("_.")[:60] or scheme_of(text)

"""Sends a stream to a server, in a process of its own: `python -m dualface_client.video.push`.

PyAV keeps Python's lock while it connects, and FFmpeg waits for ever for a server that accepts a
connection and says nothing. Here that stops nobody else, and the system ends it: an alarm needs no
lock. What is sent comes by standard input: a line of JSON with `url`, `muxer` and `options`, then
the streams as NUT, which needs no seeking and waits for no later packet.
"""

from __future__ import annotations

import json
import signal
import sys
from io import FileIO
from typing import Any

from dualface_client.video.ffmpeg import AV_ERRORS, av, reason

#: Longest that a server may take to answer, or to take a packet.
PATIENCE_S = 20
#: All that is to be known stands at the beginning: nothing is decoded to find it out.
_AT_ONCE = {"probesize": "32", "analyzeduration": "1", "fpsprobesize": "0"}


def send(source: FileIO) -> None:
    """Sends what comes, until it ends.

    Args:
        source: As the module says.

    Raises:
        Exception: Of PyAV and the system, where the server refuses it or goes away.
    """
    wanted = json.loads(source.readline())
    with av.open(source, "r", format="nut", options=_AT_ONCE) as given:
        signal.alarm(PATIENCE_S)
        target = av.open(wanted["url"], "w", format=wanted["muxer"], options=wanted["options"])
        copies: dict[int, Any] = {}
        for stream in given.streams:
            copies[stream.index] = target.add_stream_from_template(stream, opaque=True)
        target.start_encoding()
        signal.alarm(0)
        for packet in given.demux():
            if packet.size:
                packet.stream = copies[packet.stream_index]
                signal.alarm(PATIENCE_S)
                target.mux(packet)
                signal.alarm(0)  # the camera may send nothing for as long as it likes
        signal.alarm(PATIENCE_S)
        target.close()


def main() -> int:
    """Runs the program; its last line says why it has failed."""
    # Ctrl-C reaches it, too: it ends with what it is sent.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        send(FileIO(0, "rb"))
    except AV_ERRORS as error:
        sys.stderr.write(f"{reason(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

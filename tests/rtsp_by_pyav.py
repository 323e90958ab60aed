"""An RTSP server of a few lines, for machines without GStreamer: its packets are FFmpeg's.

    python -m tests.rtsp_by_pyav PORT CLIP

Sends the video of a clip in its own time to one client after the other, over the TCP connection of
the session (RFC 2326, section 10.12), from the beginning, and then closes it.
"""

from __future__ import annotations

import socket
import sys
import time
from io import BufferedRWPair
from pathlib import Path

import av
from av.bitstream import BitStreamFilterContext

_CODECS = {"h264": "H264", "hevc": "H265"}
#: A packet's payload type, and how many bytes it may have.
_TYPE, _LARGEST = 96, 1400
_RTCP = range(192, 224)


class _Interleaved:
    """A file of FFmpeg's RTP muxer, which writes a packet at a time."""

    def __init__(self, connection: BufferedRWPair) -> None:
        self._connection = connection

    def write(self, packet: bytes) -> int:
        channel = 1 if packet[1] in _RTCP else 0
        head = bytes([0x24, channel]) + len(packet).to_bytes(2, "big")
        self._connection.write(head + bytes(packet))
        self._connection.flush()
        return len(packet)


def _described(clip: Path) -> str:
    with av.open(str(clip)) as source:
        codec = _CODECS[source.streams.video[0].codec_context.name]
    return (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=clip\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=video 0 RTP/AVP {_TYPE}\r\na=rtpmap:{_TYPE} {codec}/90000\r\na=control:video\r\n"
    )


def _send(connection: BufferedRWPair, clip: Path) -> None:
    options = {"payload_type": str(_TYPE), "packetsize": str(_LARGEST)}
    target = av.open(_Interleaved(connection), "w", format="rtp", options=options)
    with av.open(str(clip)) as source:
        video = source.streams.video[0]
        out = target.add_stream_from_template(video)
        # Parameter sets before each key frame: the description has none.
        annexb = BitStreamFilterContext(f"{video.codec_context.name}_mp4toannexb", video, out)
        began_s = time.monotonic()
        for packet in source.demux(video):
            for each in annexb.filter(packet) if packet.size else ():
                due_s = began_s + float((each.dts or 0) * each.time_base)
                time.sleep(max(0.0, due_s - time.monotonic()))
                each.stream = out
                target.mux(each)


def _answer(connection: BufferedRWPair, clip: Path) -> None:
    """One client's session, until it has the clip or ends."""
    while line := connection.readline():
        method = line.split(b" ")[0].decode()
        heads = dict(head.split(b": ", 1) for head in iter(connection.readline, b"\r\n"))
        more, body = "", ""
        if method == "OPTIONS":
            more = "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = _described(clip)
            more = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
        number = heads[b"CSeq"].strip().decode()
        given = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\nSession: 1\r\n{more}\r\n{body}"
        connection.write(given.encode())
        connection.flush()
        if method == "PLAY":
            _send(connection, clip)
            return


def main() -> None:
    """Serves until it is killed."""
    port, clip = int(sys.argv[1]), Path(sys.argv[2])
    with socket.create_server(("127.0.0.1", port)) as listener:
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        while True:
            connected, _ = listener.accept()
            with connected, connected.makefile("rwb") as connection:
                try:
                    _answer(connection, clip)
                except OSError as error:
                    sys.stderr.write(f"client gone: {error}\n")


if __name__ == "__main__":
    main()

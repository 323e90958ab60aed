"""Servers of live streams on loopback, as processes that a test can kill, pause and restart."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Sends a file as a camera would, packet for packet in its own time, to whoever connects first.
_CAMERA = """
import socket, sys, time, av
port, clip = sys.argv[1:]
listener = socket.create_server(("127.0.0.1", int(port)))
print("listening", flush=True)
client, _ = listener.accept()
client = client.makefile("wb", buffering=0)
target = av.open(client, "w", format="mpegts", options={"flush_packets": "1"})
source = av.open(clip)
streams = {s.index: target.add_stream_from_template(s, opaque=True) for s in source.streams}
began_s = time.monotonic()
for packet in source.demux():
    if packet.size:
        stamp = packet.dts if packet.dts is not None else packet.pts
        time.sleep(max(0, began_s + float(stamp * packet.time_base) - time.monotonic()))
        packet.stream = streams[packet.stream.index]
        target.mux(packet)
target.close()
"""
#: The same through GStreamer's RTSP server, which serves many clients and starts for each one anew.
_RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
port, clip, login = sys.argv[1:]
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(
    f"( filesrc location={clip} ! qtdemux name=d "
    "d.video_0 ! queue ! h264parse ! rtph264pay name=pay0 pt=96 config-interval=-1 "
    "d.audio_0 ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97 )"
)
server = GstRtspServer.RTSPServer()
server.set_service(port)
if login:
    user, password = login.split(":")
    auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    permissions.add_permission_for_role("viewer", "media.factory.access", True)
    permissions.add_permission_for_role("viewer", "media.factory.construct", True)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/camera", factory)
server.attach(None)
print("listening", flush=True)
GLib.MainLoop().run()
"""
#: Debian's Python, for which its GStreamer is built.
_SYSTEM_PYTHON = "/usr/bin/python3"


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tcp_camera(port: int, clip: Path) -> Iterator[subprocess.Popen[str]]:
    """A camera for one client, `tcp://127.0.0.1:PORT`: a transport stream over TCP.

    Args:
        port: Of 127.0.0.1.
        clip: H.264 and AAC in MP4.
    """
    with _serving([sys.executable, "-c", _CAMERA, str(port), str(clip)]) as process:
        yield process


@contextmanager
def rtsp_server(port: int, clip: Path, login: str = "") -> Iterator[subprocess.Popen[str]]:
    """An RTSP server, at `/camera`.

    Args:
        port: Of 127.0.0.1.
        clip: H.264 and AAC in MP4.
        login: `USER:PASSWORD`, empty for a server without.
    """
    with _serving([_SYSTEM_PYTHON, "-c", _RTSP, str(port), str(clip), login]) as process:
        yield process


@contextmanager
def small_rtsp_server(port: int, clip: Path) -> Iterator[subprocess.Popen[str]]:
    """An RTSP server that needs no GStreamer: pictures only, H.264 or HEVC.

    Args:
        port: Of 127.0.0.1.
        clip: An MP4.
    """
    with _serving([sys.executable, "-m", "tests.rtsp_by_pyav", str(port), str(clip)]) as process:
        yield process


@contextmanager
def _serving(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close() if process.stdout else None


def why_no_rtsp_server() -> str:
    """What GStreamer's RTSP server lacks here, empty if it works."""
    if shutil.which(_SYSTEM_PYTHON) is None:
        return f"{_SYSTEM_PYTHON} is missing"
    script = (
        "import gi; gi.require_version('GstRtspServer', '1.0')\n"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
        "names = 'qtdemux', 'h264parse', 'rtph264pay', 'aacparse', 'rtpmp4gpay'\n"
        "assert all(map(Gst.ElementFactory.find, names))"
    )
    done = subprocess.run([_SYSTEM_PYTHON, "-c", script], capture_output=True, check=False)
    return "" if done.returncode == 0 else "gst-rtsp-server or a plug-in of it is not installed"

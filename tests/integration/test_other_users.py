"""What another user of the machine can do with an embedded server: nothing.

The other user is real: a process with another user id, which only root can start.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import psutil

from dualface_client.memory.region import SHM_DIR
from dualface_client.triton.embedded import EmbeddedServer
from dualface_client.triton.session import Session, SlotGroup
from tests.users import seen_by_another_user

#: Prints for each path whether it opens, as a JSON list.
READ = """
def opens(path):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True
print(json.dumps([opens(path) for path in sys.argv[1:]]))
"""


def test_another_user_opens_none_of_the_files_that_pictures_pass_through(
    triton_server: EmbeddedServer,
) -> None:
    with Session(triton_server.grpc_address, {"face_reid": SlotGroup(1, 1)}):
        stubs = [str(path) for path in SHM_DIR.glob(f"{stub_prefix(triton_server)}*")]
        regions = [str(path) for path in SHM_DIR.glob(f"dualface-*-{os.getpid()}-*-sys-*")]
        assert (len(stubs), len(regions)) == (2, 1)
        ours = [*stubs, *regions]
        opened = json.loads(seen_by_another_user(READ, "/proc/version", *ours))
    assert opened == [True, False, False, False]


def stub_prefix(server: EmbeddedServer) -> str:
    """How the files of this server's models begin; others of this process may have left some."""
    (option,) = (
        argument
        for argument in psutil.Process(server.pid).cmdline()
        if "shm-region-prefix-name=" in argument
    )
    return option.partition("shm-region-prefix-name=")[2]


def test_another_user_does_not_get_into_the_servers_directory(
    triton_server: EmbeddedServer,
) -> None:
    inside = (triton_server.log_path, triton_server.repository)
    assert json.loads(seen_by_another_user(READ, *map(str, inside))) == [False, False]
    assert all(Path(path).exists() for path in inside)


#: Prints for each socket what connecting to it says.
CONNECT = """
def said(path):
    try:
        socket.socket(socket.AF_UNIX).connect(path)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "connected"
print(json.dumps([said(path) for path in sys.argv[1:]]))
"""


def test_another_user_cannot_ask_the_server_anything(
    triton_server: EmbeddedServer, tmp_path: Path
) -> None:
    socket_path = triton_server.grpc_address.removeprefix("unix:")
    with socket.socket(socket.AF_UNIX) as ours:
        ours.connect(socket_path)
    assert json.loads(seen_by_another_user(CONNECT, socket_path)) == ["EACCES"]


def test_the_only_port_of_the_server_is_that_of_its_figures(triton_server: EmbeddedServer) -> None:
    server = psutil.Process(triton_server.pid)
    found = [
        (listening.laddr.ip, listening.laddr.port)
        for process in (server, *server.children(recursive=True))
        for listening in process.net_connections("inet")
        if listening.status == psutil.CONN_LISTEN
    ]
    assert [f"http://{ip}:{port}/metrics" for ip, port in found] == [triton_server.metrics_url]

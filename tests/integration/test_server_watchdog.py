"""The watchdog beside a real Triton: it sees that both models answer, and that a server hangs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from dualface_client.settings.paths import tritonserver_dir
from dualface_client.triton.server_files import find_server_files
from dualface_client.triton.server_process import free_ports
from scripts.pins import ROOT
from scripts.serve_embedded import command, environment, prepare
from tests.processes import wait_until

WATCHDOG = ROOT / "scripts" / "watchdog.py"


def test_a_server_that_is_stopped_in_mid_work_is_ended(tmp_path: Path) -> None:
    files = find_server_files(tritonserver_dir())
    prepare(tmp_path / "serve", files, 1)
    http, grpc, metrics = free_ports(3)
    ports = (f"--http-port={http}", f"--grpc-port={grpc}", f"--metrics-port={metrics}")
    server = [*command(files, tmp_path / "serve", ""), *ports, "--log-verbose=1"]
    watch = f"{sys.executable} {WATCHDOG} --pid $$ --url http://127.0.0.1:{http}"
    watch += " --model face_detect --model face_reid --period-s 0.2 --timeout-s 3"
    log = tmp_path / "log"
    log.touch()
    line = f'{watch} >{tmp_path}/watchdog & exec "$@" >{log} 2>&1'
    with subprocess.Popen(
        ["/bin/sh", "-c", line, "sh", *server], env=environment(files), start_new_session=True
    ) as run:
        try:
            # The second request is sent when the first one has its answer.
            asked = "HTTP request: 2 /v2/models/face_reid/infer"
            wait_until(lambda: log.read_text().count(asked) > 1)
            assert "HTTP request: 2 /v2/models/face_detect/infer" in log.read_text()
            assert run.poll() is None
            os.kill(run.pid, signal.SIGSTOP)
            assert run.wait(60.0) == -signal.SIGKILL
            wait_until(lambda: "3 times in a row" in (tmp_path / "watchdog").read_text())
        finally:
            # One of the models' processes may wait for ever for a lock that the server had; in a
            # container it ends with it.
            with contextlib.suppress(ProcessLookupError):  # all have ended
                os.killpg(run.pid, signal.SIGKILL)

"""Runs on several servers, and the end of one of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import threading
from pathlib import Path

from dualface_client.batch.execute import carry_out
from dualface_client.batch.listener import Listener
from dualface_client.batch.prepare import prepare_run
from dualface_client.batch.run import Run, RunRequest
from dualface_client.location import Location
from dualface_client.observe.report import StreamReport
from dualface_client.observe.run_log import run_log
from dualface_client.settings.program import ProgramSettings
from dualface_client.stream.stop import Stop


def kill_for_good(server_pid: int) -> None:
    """Kills an embedded server so that no restart succeeds: without its backends."""
    shutil.rmtree(Path(os.readlink(f"/proc/{server_pid}/cwd")) / "backends")
    os.kill(server_pid, signal.SIGKILL)


class Running:
    """A run on a thread.

    Args:
        inputs: Directory of the videos.
        folder: For `out` and `tracks`; is made.
        program: How.
        locations: Where servers are started; none for where the program says.
    """

    def __init__(
        self,
        inputs: Path,
        folder: Path,
        program: ProgramSettings,
        locations: tuple[Location, ...] = (),
    ) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "tracks").mkdir()
        self.run: Run = prepare_run(
            RunRequest(
                (str(inputs),),
                str(folder / "out"),
                program,
                tracks=folder / "tracks",
                locations=locations,
            )
        )
        self.lines: list[str] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._carry_out)
        self._thread.start()

    def _carry_out(self) -> None:
        try:
            with run_log("text", self.lines.append):
                carry_out(self.run, Stop(), Listener())
        except BaseException as error:
            self.error = error

    def reports(self) -> list[StreamReport]:
        return [status.snapshot() for status in self.run.statuses]

    def at(self, name: str) -> list[StreamReport]:
        """Streams under way at a place."""
        return [each for each in self.reports() if each.place == name and each.frames_out > 4]

    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def finish(self) -> list[StreamReport]:
        self._thread.join(240.0)
        assert self.is_over()
        if self.error is not None:
            raise self.error
        return self.reports()

    def digests(self) -> dict[str, str]:
        files = sorted(self.folder.rglob("*.mp4")) + sorted(self.folder.rglob("*.txt"))
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

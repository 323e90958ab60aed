"""Videos in object stores, one at a time on the local disk: fetched before, published after.

Each stream has its own directory in the place for temporary files (`TMPDIR`), for one input and one
output. It is removed when the stream ends, and that of a killed process when the next one starts.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from dualface_client.errors import SinkError
from dualface_client.memory.names import new_name
from dualface_client.objects.store import ObjectStore
from dualface_client.settings import paths
from dualface_client.stream.job import Job
from dualface_client.stream.stop import Stop

#: Room for the output and for what others write meanwhile, relative to the input's length.
_ROOM = 2


@dataclass(frozen=True, slots=True)
class StagedJob:
    """A job whose files are all local.

    Attributes:
        job: To run; the given one if nothing of it lies in a store.
        given: As it was given.
        store: Copies from and to the store.
    """

    job: Job
    given: Job
    store: ObjectStore

    def publish(self, *, replace: bool) -> None:
        """Copies the finished output to where it belongs.

        Args:
            replace: Whether an object that exists is replaced.

        Raises:
            SinkError: It cannot be published, or exists.
            StoppedError: A stop was asked for.
        """
        output, url = self.job.output, self.given.output_url
        if url and output is not None and output.exists():
            self.store.publish(output, url, replace=replace)

    def in_the_users_words(self, text: str) -> str:
        """A message with addresses where it names files of the scratch directory."""
        for path, url in (
            (self.job.output, self.given.output_url),
            (self.job.input, self.given.input_url),
        ):
            text = text.replace(str(path), url) if url else text
        return text


@contextmanager
def staged(
    job: Job, stop: Stop, store: ObjectStore | None = None, place: Path | None = None
) -> Iterator[StagedJob]:
    """Fetches what a job reads from a store; its output is local until it is published.

    Args:
        job: What to do.
        stop: Asked from outside to end early.
        store: Copies from and to the store, None for the usual one.
        place: Where directories for them are made, None for the usual place.

    Raises:
        SourceError: The input cannot be fetched.
        SinkError: The scratch directory cannot be made, or has no room.
        StoppedError: A stop was asked for.
    """
    store = store or ObjectStore(stop=stop.event)
    if not (job.input_url or job.output_url):
        yield StagedJob(job, job, store)
        return
    scratch = _new_directory(place or paths.scratch_dir())
    try:
        local = job
        if job.output_url:
            # A name of its own: input and output may have the same one.
            local = replace(local, output=scratch / "out" / PurePosixPath(job.output_url).name)
        if job.input_url:
            local = replace(local, input=scratch / "in" / job.input.name)
            _check_room(job.input_url, scratch, store)
            store.fetch(job.input_url, local.input)
        yield StagedJob(local, job, store)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # the next process reaps what is left


def _new_directory(place: Path) -> Path:
    scratch = place / str(new_name("scratch"))
    try:
        scratch.mkdir(mode=0o700)
        for part in ("in", "out"):
            (scratch / part).mkdir()
    except OSError as error:
        raise SinkError(
            f"{place}: cannot hold a video of an object store ({error.strerror}); set "
            "TMPDIR to a directory with room for two videos of each stream"
        ) from error
    return scratch


def _check_room(url: str, scratch: Path, store: ObjectStore) -> None:
    found = store.look_at(url)
    needed_bytes = _ROOM * found.size_bytes if found else 0
    free_bytes = shutil.disk_usage(scratch).free
    if free_bytes < needed_bytes:
        raise SinkError(
            f"{url}: has no room in {scratch.parent}: {free_bytes >> 20} MiB are free, and twice "
            f"its length is {needed_bytes >> 20} MiB; set TMPDIR to a larger disk, or run fewer "
            "--streams"
        )

"""Refuses outputs that cannot be written, before a server is started for them."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dualface_client.atomic_file import LINK, is_device
from dualface_client.errors import UsageError
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import OUTPUT_SUFFIXES, Job, RealPaths, written_by
from dualface_client.stream.overlay import overlay_path
from dualface_client.video.outfile import (
    is_finished,
    partial_path_of,
    why_no_partial,
    why_not_locked,
)

_REMEDY = "choose another name or allow --overwrite"
_REMEDY_OF_OUTPUTS = (
    "--resume does only what is still missing, --overwrite makes everything again; or choose "
    "another name"
)


@dataclass(frozen=True, slots=True)
class SideFile:
    """A file that a run writes besides its videos.

    Attributes:
        option: The option that names it.
        what: What is written there, for messages.
        path: The file, or an existing directory.
        may_replace: Whether an existing one is replaced.
        in_place: Whether an existing one is written to, and not replaced by a new file.
    """

    option: str
    what: str
    path: Path
    may_replace: bool
    in_place: bool = False


@contextmanager
def new_directories(
    jobs: Sequence[Job], per_video: Sequence[Path | None] = (), *, several: bool = False
) -> Iterator[None]:
    """Creates missing directories of outputs; removes them again if the body fails.

    Args:
        jobs: From `jobs_of_inputs`.
        per_video: What several videos each write a file to; None for an option that is not given.
        several: Whether there are several videos, perhaps in other shards.

    Raises:
        UsageError: One cannot be created.
    """
    wanted = [job.output.parent for job in jobs if job.output is not None and not job.problem]
    if several:
        wanted += [path for path in per_video if path is not None and _may_be_directory(path)]
    made = [path for path in dict.fromkeys(wanted) if not os.path.lexists(path)]
    for path in made:
        try:
            path.mkdir(exist_ok=True)  # another shard may just have made it
        except OSError as error:
            raise UsageError(f"{path}: cannot be created: {error.strerror}") from error
    try:
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):  # no longer empty
                path.rmdir()
        raise


def _may_be_directory(path: Path) -> bool:
    """Whether a name that does not exist may become a directory, as with -o."""
    return not path.suffix and os.path.isdir(path.parent)


def check_outputs(
    jobs: Sequence[Job],
    settings: StreamSettings,
    tell: Callable[[str], None] = lambda note: None,
    *,
    existing_may_stay: bool = False,
    lock: Callable[[int, int], None] = fcntl.flock,
) -> None:
    """Checks every output of a run.

    Args:
        jobs: From `jobs_of_inputs`.
        settings: Of the run; a job may have its own.
        tell: Gets a line for what is going to be replaced.
        existing_may_stay: Whether outputs that exist are handled elsewhere.
        lock: As `fcntl.flock`.

    Raises:
        UsageError: One of them exists, is being written, or its directory cannot be written.
    """
    wanted = [(job, job.output) for job in jobs if job.output is not None and not job.problem]
    for directory in dict.fromkeys(output.parent for _, output in wanted):
        _check_directory(directory)
    kept = [
        output
        for job, output in wanted
        if os.path.isdir(output)
        or (os.path.lexists(output) and not (job.settings or settings).output.overwrite)
    ]
    if kept and not existing_may_stay:
        more = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
        raise UsageError(f"{kept[0]}: exists{more}; {_REMEDY_OF_OUTPUTS}")
    for _, output in wanted:
        _check_partial(output, tell, lock)


def check_per_video(option: str, path: Path | None, videos: int) -> None:
    """Refuses a single file for something that each of several videos writes.

    Args:
        option: The option that names it.
        path: File or directory, None if the option was not given.
        videos: How many there are.

    Raises:
        UsageError: It is not a directory.
    """
    if path is not None and videos > 1 and not os.path.isdir(path):
        raise UsageError(
            f"{option} {path}: there are {videos} videos; name a directory, which is made if its "
            "parent exists and its name has no suffix"
        )


def overlay_files(
    overlay: Path | None, jobs: Sequence[Job], *, may_replace: bool
) -> list[SideFile]:
    """The files that `--debug-overlay` writes.

    Raises:
        UsageError: It is a container that cannot be written.
    """
    option = "--debug-overlay"
    if overlay is None:
        return []
    if not os.path.isdir(overlay) and overlay.suffix.lower() not in OUTPUT_SUFFIXES:
        raise UsageError(
            f"{option} {overlay}: expected a name that ends in "
            f"{', '.join(sorted(OUTPUT_SUFFIXES))}, or an existing directory"
        )
    paths = dict.fromkeys(overlay_path(overlay, job) for job in jobs)
    return [SideFile(option, "the overlay", path, may_replace) for path in paths]


def check_side_files(jobs: Sequence[Job], files: Sequence[SideFile]) -> None:
    """Refuses files that would destroy something or cannot be written.

    Raises:
        UsageError: One would.
    """
    local = (job for job in jobs if not (job.address or job.input_url))
    used = [path for job in local for path in (job.input, *written_by(job))]
    used += [path for job in jobs if job.input_url for path in written_by(job)]
    real = RealPaths()
    taken = {real.of(path) for path in used}
    why_no_file = cache(_why_no_file)  # many files may share a directory
    for file in files:
        is_directory = os.path.isdir(file.path)
        reason = ""
        if is_directory:
            pass
        elif file.path.is_symlink() and not is_device(file.path):
            reason = f"it {LINK}"
        elif real.of(file.path) in taken:
            reason = "it is one of the videos or of the other files"
        elif os.path.lexists(file.path) and not file.may_replace:
            reason = f"it exists; {_REMEDY}"
        directory = file.path if is_directory else file.path.parent
        if not reason and _makes_file(file) and (why := why_no_file(directory)):
            reason = f"{directory} {why}"
        if reason:
            raise UsageError(f"{file.option} {file.path}: cannot write {file.what}: {reason}")
        if not is_directory:
            taken.add(real.of(file.path))


def _makes_file(file: SideFile) -> bool:
    """Whether a new file is made for it, also where that takes the name of an existing one."""
    if os.path.isdir(file.path):
        return True
    return not (is_device(file.path) or (file.in_place and os.path.lexists(file.path)))


def _check_directory(directory: Path) -> None:
    if not os.path.isdir(directory):
        raise UsageError(f"{directory}: is not a directory; create it or choose another output")
    if why := _why_no_file(directory):
        raise UsageError(f"{directory}: {why}; change its permissions or choose another output")


def _why_no_file(directory: Path) -> str:
    """What keeps files from being made in a directory, empty for nothing."""
    if not os.path.isdir(directory):
        return "is not a directory"
    try:
        with tempfile.TemporaryFile(dir=directory):  # permissions alone do not show this
            return ""
    except OSError as error:
        return f"is not writable ({error.strerror})"


def _check_partial(
    output: Path, tell: Callable[[str], None], lock: Callable[[int, int], None]
) -> None:
    """Whether somebody is writing there, or was and got killed."""
    partial = partial_path_of(output)
    if reason := why_no_partial(partial):
        raise UsageError(f"{partial}: {reason}")
    try:
        fd = os.open(partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return  # not there, or the stream will say why
    try:
        try:
            lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(why_not_locked(partial, error)) from error
        if is_finished(partial, output):
            partial.unlink()
            return
    finally:
        os.close(fd)
    tell(f"{partial}: was left behind by an earlier run and is replaced")

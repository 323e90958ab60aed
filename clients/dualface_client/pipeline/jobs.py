"""From the command line's paths to one job per video."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dualface_client.errors import UsageError
from dualface_client.settings.run import RunSettings
from dualface_client.video.outfile import partial_path_of

#: What is taken from a directory. A file that is named directly is tried whatever its suffix.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts"),
        *("mpg", "mpeg", "flv", "wmv", "3gp", "ogv", "mxf"),
    )
)
OUTPUT_TAG = "_dualface"
_OUTPUT_SUFFIXES = frozenset((".mp4", ".m4v", ".mov", ".mkv"))


@dataclass(frozen=True, slots=True)
class Job:
    """One video to process.

    Attributes:
        name: Short, unique in the run.
        input: The video.
        output: What to write, None to write nothing.
        problem: Why it cannot be processed at all, empty where it may be tried.
        settings: Its own way of processing, None for the run's.
    """

    name: str
    input: Path
    output: Path | None
    problem: str = ""
    settings: RunSettings | None = None


def plan_jobs(inputs: Sequence[str], output: str | None) -> list[Job]:
    """Expands directories and globs and gives every video its output.

    A directory stands for the videos directly in it, sorted by name. An input that matches nothing
    becomes a job with a `problem`, so that the others go on.

    Args:
        inputs: Files, directories or glob patterns.
        output: A file (for exactly one video) or a directory, which is made where its parent
            exists; None to write nothing.

    Raises:
        UsageError: Two videos would be written to one file, or many videos to a file.
    """
    found = [job for text in inputs for job in _expand(text)]
    if output is not None:
        found = _with_outputs(found, Path(output), text=output)
        _refuse_collisions(found)
        _refuse_inputs_as_outputs(found)
    return _with_unique_names(found)


def _expand(text: str) -> Iterator[Job]:
    path = Path(text)
    if path.is_dir():
        videos = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in VIDEO_SUFFIXES)
        missing = f"{text}: has no videos ({' '.join(sorted(VIDEO_SUFFIXES))})"
    elif glob.has_magic(text) and not path.exists():
        videos = sorted(Path(match) for match in glob.glob(text, recursive=True))
        missing = f"{text}: matches no file"
    else:
        videos = [path]
        missing = ""
    if not videos:
        yield Job(path.name or text, path, None, missing)
    for video in videos:
        # What cannot even be found needs no server to be told so.
        problem = "" if video.exists() else f"{video}: no such file; check the path"
        yield Job(video.stem, video, None, problem)


def _with_outputs(jobs: list[Job], output: Path, text: str) -> list[Job]:
    is_file = output.suffix.lower() in _OUTPUT_SUFFIXES and not output.is_dir()
    if is_file and not text.endswith("/"):
        if len(jobs) > 1:
            raise UsageError(
                f"-o {output}: is one file, but there are {len(jobs)} videos; name a directory"
            )
        return [replace(job, output=output) for job in jobs]
    if output.suffix.lower() in VIDEO_SUFFIXES and not output.is_dir():
        raise UsageError(
            f"-o {output}: {output.suffix} cannot be written; "
            f"expected one of {' '.join(sorted(_OUTPUT_SUFFIXES))}, or a directory"
        )
    _make_directory(output)
    return [replace(job, output=output / f"{job.input.stem}{OUTPUT_TAG}.mp4") for job in jobs]


def _make_directory(path: Path) -> None:
    if path.is_dir():
        return
    if path.exists() or not path.parent.is_dir():
        reason = "is not a directory" if path.exists() else f"{path.parent} does not exist"
        raise UsageError(
            f"-o {path}: {reason}; name a file ending in .mp4, .m4v, .mov or .mkv, or a directory"
        )
    try:
        path.mkdir()
    except OSError as error:
        raise UsageError(f"-o {path}: cannot be made: {error.strerror}") from error


def _refuse_collisions(jobs: list[Job]) -> None:
    owners: dict[Path, Path] = {}
    for job in jobs:
        if job.output is None or job.problem:
            continue
        if job.output in owners:
            raise UsageError(
                f"{owners[job.output]} and {job.input} would both be written to {job.output}; "
                "rename one or run them into different directories"
            )
        owners[job.output] = job.input


def written_by(job: Job) -> list[Path]:
    """The files a job makes: its output, and the partial file that becomes it."""
    return [] if job.output is None else [job.output, partial_path_of(job.output)]


def _refuse_inputs_as_outputs(jobs: list[Job]) -> None:
    inputs = {job.input.resolve() for job in jobs}
    for job in jobs:
        for path in written_by(job):
            if path.resolve() in inputs:
                raise UsageError(
                    f"{path}: is an input, and would be replaced while {job.input} is processed; "
                    "rename it or write to another directory"
                )


def _with_unique_names(jobs: list[Job]) -> list[Job]:
    counts = Counter(job.name for job in jobs)
    seen: Counter[str] = Counter()
    named = []
    for job in jobs:
        seen[job.name] += 1
        repeated = counts[job.name] > 1
        named.append(replace(job, name=f"{job.name}#{seen[job.name]}" if repeated else job.name))
    return named

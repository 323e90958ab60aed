"""From the command line's paths to one job per video."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from dualface_client.batch.live_jobs import job_of_address
from dualface_client.batch.object_jobs import jobs_of_objects, with_object_outputs
from dualface_client.batch.shards import keys_in
from dualface_client.errors import UsageError
from dualface_client.settings.addresses import is_object_url, scheme_of
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.job import OUTPUT_SUFFIXES, OUTPUT_TAG, Job, RealPaths, written_by
from dualface_client.stream.video_names import PARTIAL_TAG, VIDEO_SUFFIXES, is_output, is_video
from dualface_client.video.outfile import partial_path_of

#: Longest name of a file on Linux (`NAME_MAX` in its limits.h).
_NAME_BYTES = 255


def jobs_of_inputs(
    inputs: Sequence[str],
    output: str | None,
    tell: Callable[[str], None] = lambda note: None,
    *,
    further_outputs: Sequence[str] = (),
    settings: StreamSettings | None = None,
) -> list[Job]:
    """Expands directories and globs and gives every video its output.

    A directory stands for the videos directly in it, sorted by name. Outputs of earlier runs in it
    are left out, and videos named twice are taken once. An input that matches nothing becomes a job
    with a `problem`, so that the others go on.

    Args:
        inputs: Files, directories or glob patterns.
        output: A file (for exactly one video) or a directory, which is created if its parent
            exists; None to write nothing.
        tell: Gets a line for what was left out.
        further_outputs: More outputs, which only live streams have.
        settings: Of the run, which say whether files are live streams.

    Raises:
        UsageError: Two videos would be written to one file, or many videos to a file.
    """
    found = _without_repeats([job for text in inputs for job in _listed(text, tell)], tell)
    if output is not None:
        found = _with_all_outputs(found, (output, *further_outputs), settings or StreamSettings())
        _refuse_collisions(found)
        refuse_inputs_as_outputs(found)
    return _with_unique_names(found)


def _with_all_outputs(
    jobs: list[Job], outputs: Sequence[str], settings: StreamSettings
) -> list[Job]:
    """Outputs for all: several for each live stream, one for each other video."""
    files = [job for job in jobs if not job.is_live(settings)]
    if files and len(outputs) > 1:
        raise UsageError(
            f"-o {outputs[1]}: {files[0].input} is not a live stream; a video has one output"
        )
    if files:
        if is_object_url(outputs[0]):
            files = with_object_outputs(files, outputs[0])
        else:
            files = _with_outputs(files, Path(outputs[0]), text=outputs[0])
    written = iter(files)
    return [
        replace(job, outputs=tuple(outputs)) if job.is_live(settings) else next(written)
        for job in jobs
    ]


def _listed(text: str, tell: Callable[[str], None]) -> Iterator[Job]:
    """The jobs of one argument, each with what decides its shard."""
    jobs = _expand(text, tell)
    key_of = keys_in(text)
    return (
        replace(job, listed_as=job.input_url or job.address or key_of(job.input)) for job in jobs
    )


def _expand(text: str, tell: Callable[[str], None]) -> Iterator[Job]:
    path = Path(text)
    if not text or "\0" in text:
        raise UsageError(f"input {text!r}: expected a file, a directory or a pattern")
    if is_object_url(text) and not os.path.lexists(path):
        yield from jobs_of_objects(text, tell)
    elif scheme_of(text) and not os.path.lexists(path):
        yield job_of_address(text)
    elif problem := _no_file(text, path):
        yield Job(text, path, None, problem)
    elif os.path.isdir(path):
        yield from _of_directory(path, text, tell)
    elif glob.has_magic(text) and not os.path.lexists(path):
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))
        yield from _of_list(path, text, matches, f"{text}: matches no file", tell)
    else:
        yield _of_file(path)


def _no_file(text: str, path: Path) -> str:
    """Why something that other programs accept as an input is not one here; else empty."""
    if os.path.lexists(path):
        return ""
    if text == "-":
        return "standard input is not read; save it to a file and name that"
    return ""


def _of_directory(path: Path, text: str, tell: Callable[[str], None]) -> Iterator[Job]:
    try:
        entries = sorted(path.iterdir())
    except OSError as error:
        problem = f"{text}: cannot be read ({error.strerror}); check its permissions"
        yield Job(path.name or text, path, None, problem)
        return
    folders = [entry for entry in entries if os.path.isdir(entry)]
    if deeper := [folder for folder in folders if _holds_videos(folder)]:
        more = f" and {len(deeper) - 1} more" if len(deeper) > 1 else ""
        tell(
            f"{deeper[0]}{more}: directories within a directory are not searched; name them, "
            f"or the pattern '{path}/**/*.mp4'"
        )
    videos = [entry for entry in entries if is_video(entry) and entry not in folders]
    missing = f"{text}: has no videos ({' '.join(sorted(VIDEO_SUFFIXES))})"
    yield from _of_list(path, text, videos, missing, tell)


def _holds_videos(folder: Path) -> bool:
    """Whether there is a video in it that is not our own output."""
    try:
        return any(is_video(entry) and not is_output(entry) for entry in folder.iterdir())
    except OSError:  # not readable for us: nothing to point at
        return False


def _of_list(
    path: Path, text: str, videos: list[Path], missing: str, tell: Callable[[str], None]
) -> Iterator[Job]:
    """Jobs for the files of a directory or a pattern, without our own outputs."""
    wanted = videos
    if not is_output(Path(text)):  # a pattern that asks for them gets them
        wanted = [video for video in videos if not is_output(video)]
    if skipped := len(videos) - len(wanted):
        tell(
            f"{text}: {skipped} outputs of earlier runs (*{OUTPUT_TAG}.*, *{PARTIAL_TAG}.*) are "
            "left out; name them to process them"
        )
        missing = f"{text}: has only outputs of earlier runs; name them to process them"
    if not wanted:
        yield Job(path.name or text, path, None, missing)
    yield from map(_of_file, wanted)


def _of_file(video: Path) -> Job:
    """A job; for a file that cannot be examined, one that needs no server to fail."""
    problem = ""
    try:
        os.stat(video)
    except (FileNotFoundError, NotADirectoryError):  # the job fails with this
        problem = f"{video}: no such file; check the path"
    except OSError as error:  # too long, not permitted
        reason = f"cannot be examined ({error.strerror})"
        problem = f"{video}: {reason}; check the path and its permissions"
    return Job(video.stem, video, None, problem)


def _without_repeats(jobs: list[Job], tell: Callable[[str], None]) -> list[Job]:
    kept: dict[str, Job] = {}
    for job in jobs:
        place = job.address or job.input_url or os.path.abspath(job.input)
        if place in kept:
            tell(f"{job.shown_input}: is named more than once and processed once")
        kept.setdefault(place, job)
    return list(kept.values())


def _with_outputs(jobs: list[Job], output: Path, text: str) -> list[Job]:
    if not text or "\0" in text:
        raise UsageError(f"-o {text!r}: expected a file or a directory")
    if text == "-":
        raise UsageError("-o -: nothing is written to standard output; name a file or a directory")
    is_file = output.suffix.lower() in OUTPUT_SUFFIXES and not os.path.isdir(output)
    if is_file and not text.endswith("/"):
        if len(jobs) > 1:
            raise UsageError(
                f"-o {output}: is one file, but there are {len(jobs)} videos; name a directory"
            )
        if not os.path.isdir(output.parent):
            raise UsageError(
                f"{output.parent}: is not a directory; create it or choose another output"
            )
        return [_to(output, job) for job in jobs]
    if output.suffix.lower() in VIDEO_SUFFIXES and not os.path.isdir(output):
        raise UsageError(
            f"-o {output}: {output.suffix} cannot be written; "
            f"expected one of {' '.join(sorted(OUTPUT_SUFFIXES))}, or a directory"
        )
    _refuse_no_directory(output, text)
    return [_to(output / f"{job.input.stem}{OUTPUT_TAG}.mp4", job) for job in jobs]


def _to(output: Path, job: Job) -> Job:
    """The job with its output; it fails by itself where no file can have that name."""
    name = partial_path_of(output).name  # the longest that it has
    if len(os.fsencode(name)) <= _NAME_BYTES or job.problem:
        return replace(job, output=output)
    problem = (
        f"{job.shown_input}: its output's name is too long ({name}, at most {_NAME_BYTES} bytes); "
        "rename it, or name an output file with -o"
    )
    return replace(job, problem=problem)


def _refuse_no_directory(path: Path, text: str) -> None:
    """Whether a path is a directory, or is meant to be one and can be created."""
    if os.path.isdir(path):
        return
    try:
        there = bool(os.lstat(path))
    except FileNotFoundError:  # that is the question
        there = False
    except OSError as error:  # too long, not permitted
        raise UsageError(f"-o {path}: cannot be examined ({error.strerror})") from error
    if there:
        reason = "is not a directory"
    elif not os.path.isdir(path.parent):
        reason = f"{path.parent} does not exist"
    elif path.suffix and not text.endswith("/"):
        reason = f"{path.suffix} is not a video's suffix, and a new directory is written {path}/"
    else:
        return
    raise UsageError(
        f"-o {path}: {reason}; name a file ending in .mp4, .m4v, .mov or .mkv, or a directory"
    )


def _refuse_collisions(jobs: list[Job]) -> None:
    owners: dict[str, str] = {}
    for job in jobs:
        place = job.output_url or str(job.output or "")
        if not place or job.problem:
            continue
        if place in owners:
            raise UsageError(
                f"{owners[place]} and {job.shown_input} would both be written to {place}; "
                "rename one or run them into different directories"
            )
        owners[place] = job.shown_input


def refuse_inputs_as_outputs(jobs: list[Job]) -> None:
    """Raises UsageError if a job would replace an input that it or another one reads."""
    real = RealPaths()
    inputs = {real.of(job.input) for job in jobs if not (job.address or job.input_url)}
    objects = {job.input_url for job in jobs if job.input_url}
    for job in jobs:
        if job.output_url in objects:
            raise UsageError(f"{job.output_url}: is an input; write to another place")
        for path in written_by(job):
            if real.of(path) in inputs:
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

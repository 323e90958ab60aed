"""Jobs whose videos lie in object stores: found, given outputs, and looked for before they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from dualface_client.errors import SourceError, UsageError
from dualface_client.objects.store import ObjectStore, StoredObject
from dualface_client.observe.report import FINAL_STATES, StreamStatus
from dualface_client.settings.stream import StreamSettings
from dualface_client.stream.finished import ended_before_as
from dualface_client.stream.job import OUTPUT_SUFFIXES, OUTPUT_TAG, Job
from dualface_client.stream.video_names import VIDEO_SUFFIXES, is_output, is_video


def jobs_of_objects(
    url: str, tell: Callable[[str], None], store: ObjectStore | None = None
) -> Iterator[Job]:
    """Jobs for an object, for the videos directly below an address, or for those of a pattern.

    Args:
        url: As in `ObjectStore.find`.
        tell: Gets a line for what was left out.
        store: Where to look, None for the usual one.
    """
    try:
        found = (store or ObjectStore()).find(url)
    except SourceError as error:  # the job fails with this, and others go on
        yield replace(_job(url), name=PurePosixPath(url).stem or url, problem=str(error))
        return
    if [entry.url for entry in found] == [url]:  # named directly: tried in any case
        yield _job(url)
        return
    videos = [entry for entry in found if is_video(PurePosixPath(entry.url))]
    wanted = [entry for entry in videos if not is_output(PurePosixPath(entry.url))]
    if skipped := len(videos) - len(wanted):
        tell(f"{url}: {skipped} outputs of earlier runs (*{OUTPUT_TAG}.*) are left out")
    if not wanted:
        problem = f"{url}: has no videos ({' '.join(sorted(VIDEO_SUFFIXES))})"
        yield replace(_job(url), name=PurePosixPath(url).name or url, problem=problem)
    yield from (_job(entry.url) for entry in wanted)


def _job(url: str) -> Job:
    path = PurePosixPath(url)
    return Job(path.stem, Path(path.name), None, input_url=url)


def with_object_outputs(jobs: list[Job], url: str) -> list[Job]:
    """The jobs with an object each to write.

    Args:
        jobs: Of files, or of objects.
        url: Of an object (for one video), or the beginning of all names.

    Raises:
        UsageError: It is one object for several videos.
    """
    path = PurePosixPath(url)
    if path.suffix.lower() in OUTPUT_SUFFIXES and not url.endswith("/"):
        if len(jobs) > 1:
            raise UsageError(
                f"-o {url}: is one object, but there are {len(jobs)} videos; end it with /"
            )
        return [replace(job, output_url=url) for job in jobs]
    place = url.rstrip("/")
    return [replace(job, output_url=f"{place}/{job.input.stem}{OUTPUT_TAG}.mp4") for job in jobs]


def existing_outputs(
    jobs: Sequence[Job], store: ObjectStore | None = None
) -> dict[str, StoredObject]:
    """Outputs in stores that exist, by address; one listing for each place.

    Raises:
        UsageError: A store cannot be reached.
    """
    wanted = [job.output_url for job in jobs if job.output_url and not job.problem]
    store = store or ObjectStore()
    found: dict[str, StoredObject] = {}
    places = dict.fromkeys(url.rpartition("/")[0] + "/" for url in wanted)
    try:
        for place in places:
            found |= {entry.url: entry for entry in store.find(place)}
    except SourceError as error:
        if not isinstance(error.__cause__, FileNotFoundError):  # nothing has that beginning yet
            raise UsageError(str(error)) from error
    return {url: found[url] for url in wanted if url in found}


def check_object_outputs(
    jobs: Sequence[Job], settings: StreamSettings, *, existing_may_stay: bool
) -> dict[str, StoredObject]:
    """Looks which outputs exist in stores.

    Args:
        jobs: Of the run.
        settings: Of the run; a job may have its own.
        existing_may_stay: Whether outputs that exist are handled elsewhere.

    Raises:
        UsageError: One exists, or a store cannot be reached.
    """
    found = existing_outputs(jobs)
    kept = [
        job.output_url
        for job in jobs
        if job.output_url in found and not (job.settings or settings).output.overwrite
    ]
    if kept and not existing_may_stay:
        more = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
        raise UsageError(
            f"{kept[0]}: exists{more}; --resume does only what is still missing, --overwrite makes "
            "everything again; or choose another name"
        )
    return found


def skip_published(
    jobs: Sequence[Job],
    statuses: Sequence[StreamStatus],
    recorded: Mapping[str, Any],
    found: Mapping[str, StoredObject],
) -> None:
    """Sets streams to `done` whose outputs are in their stores, where none is there in part.

    Args:
        jobs: Of the run.
        statuses: From `new_statuses`.
        recorded: State of the earlier run, empty without one.
        found: From `existing_outputs`.
    """
    earlier = {entry.get("output"): entry for entry in recorded.get("streams", ())}
    for job, status in zip(jobs, statuses, strict=True):
        if job.output_url not in found or status.snapshot().state in FINAL_STATES:
            continue
        entry = earlier.get(job.output_url, {})
        frames = int(entry.get("frames_out", 0))
        is_ours = entry.get("input") == job.shown_input
        status.update(
            **{
                "frames_in": frames,
                **ended_before_as(entry, is_ours),
            },
            resumed=True,
            frames_expected=frames,
            frames_out=frames,
        )

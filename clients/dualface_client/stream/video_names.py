"""Names of videos: what is taken from a directory, and what this program writes."""

from __future__ import annotations

from pathlib import PurePath

from dualface_client.stream.job import OUTPUT_TAG

#: Files that are taken from a directory. One that is named directly is tried in any case.
VIDEO_SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m2ts", "mts"),
        *("mpg", "mpeg", "flv", "wmv", "asf", "vob", "3gp", "ogv", "mxf"),
    )
)
#: How names of unfinished outputs end, see `video.outfile.partial_path_of`.
PARTIAL_TAG = ".partial"


def is_video(path: PurePath) -> bool:
    """Whether a file is taken from a directory, by its name."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def is_output(path: PurePath) -> bool:
    """Whether a file is an output of ours, finished or not, by its name."""
    return path.stem.endswith((OUTPUT_TAG, PARTIAL_TAG))

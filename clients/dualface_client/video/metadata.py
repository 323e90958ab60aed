"""What a file says about itself: title, dates, place, chapters, timecode, carried to the output."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from dualface_client.video.ffmpeg import AV_ERRORS, av
from dualface_client.video.formats import FORMATS

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer

#: What describes the file itself and not its content, in lower case; the output has its own.
_OF_THE_FILE = frozenset(
    {
        *("major_brand", "minor_version", "compatible_brands", "duration"),
        *("encoder", "software", "encoding_tool"),  # the program that wrote it
        *("isvbr", "wmfsdkversion", "wmfsdkneeded", "deviceconformancetemplate"),
    }
)
#: Apple's names for what FFmpeg writes under a common one, behind `com.apple.quicktime.`.
_APPLE = "com.apple.quicktime."
_COMMON = {"author": "artist", "creationdate": "date", "location.iso6709": "location"}
_TIMECODE = "timecode"


def carry_metadata(
    source: InputContainer, output: OutputContainer, suffix: str, shift_s: int
) -> list[str]:
    """Sets metadata and chapters of an output; what its container does not hold is said.

    Args:
        source: The input.
        output: Its header is not yet written.
        suffix: Of its name, a key of `FORMATS`.
        shift_s: Whole seconds that are subtracted from every time of the source.

    Returns:
        Notes for the user.
    """
    found = dict(_common_names(source.metadata))
    held = held_keys(suffix, found)
    output.metadata.update({key: value for key, value in found.items() if key.lower() in held})
    missing = sorted(key for key in found if key.lower() not in held)
    notes = [f"{suffix} does not hold this metadata: {', '.join(missing)}"] * bool(missing)
    chapters = _shifted(source.chapters(), shift_s)
    output.set_chapters(chapters)
    timecode = _timecode(source)
    if timecode and chapters and FORMATS[suffix].muxer != "matroska":
        # A video track names its timecode or its chapters: FFmpeg writes one reference for each.
        notes.append(f"timecode {timecode}: left out, as {suffix} has chapters; .mkv holds both")
    elif timecode:
        output.metadata[_TIMECODE] = timecode
    return notes


def held_keys(suffix: str, metadata: Mapping[str, str]) -> frozenset[str]:
    """The keys, in lower case, that a container gives back: tried by writing one to memory.

    Args:
        suffix: A key of `FORMATS`.
        metadata: What is to be written.
    """
    form, file = FORMATS[suffix], io.BytesIO()
    try:
        with av.open(file, "w", format=form.muxer, options=form.options) as trial:
            trial.metadata.update(metadata)
            stream = trial.add_stream("aac", rate=48_000)
            trial.mux(stream.encode(_silence()))
            trial.mux(stream.encode(None))
        file.seek(0)
        with av.open(file, metadata_errors="replace") as written:
            return frozenset(key.lower() for key in written.metadata)
    except AV_ERRORS:  # a value that cannot be written: the output must not fail for it
        return frozenset()


def _silence() -> av.AudioFrame:
    frame = av.AudioFrame("fltp", "stereo", 1024)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate, frame.pts = 48_000, 0
    return frame


def _common_names(metadata: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key, value in metadata.items():
        name = key.lower()
        if name.startswith(_APPLE):
            name = name.removeprefix(_APPLE)
            yield _COMMON.get(name, name), value
        elif name not in _OF_THE_FILE | {_TIMECODE}:
            yield key, value


def _shifted(chapters: list[Any], shift_s: int) -> list[Any]:
    """Chapters on the output's clock, without those that end before it starts."""
    found = []
    for chapter in chapters:
        units = round(shift_s / Fraction(chapter["time_base"]))
        start, end = max(0, chapter["start"] - units), chapter["end"] - units
        if end > 0:
            found.append({**chapter, "start": start, "end": end})
    return found


def _timecode(source: InputContainer) -> str:
    """The time of day or of the tape at the first frame, empty for none."""
    places = (source.metadata, *(stream.metadata for stream in source.streams))
    found = (value for place in places for key, value in place.items() if key.lower() == _TIMECODE)
    return next(found, "")

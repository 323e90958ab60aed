"""Contact sheets: moments of a clip, the source above and the canvas below."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dualface_client.types import ByteArray
from scripts.clips.timing import bgr_of, video_frames
from scripts.judge.canvas import CanvasLook

#: Both pictures of a moment are fitted into this, in pixels.
CELL_WH = (400, 225)
_COLUMNS = 4
_BORDER_PX = 4
_CAPTION_PX = 22
_GOOD, _BAD = (110, 110, 110), (40, 40, 230)  # BGR


@dataclass(frozen=True, slots=True)
class Moment:
    """One cell of a sheet.

    Attributes:
        caption: Time and findings.
        source: Fitted picture, BGR.
        canvas: The same moment of the output.
        bad: It has findings.
    """

    caption: str
    source: ByteArray
    canvas: ByteArray
    bad: bool


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices, evenly from the first to the last."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
    return [indices[place] for place in dict.fromkeys(places.tolist())]


def pictures_at(path: Path, indices: Collection[int]) -> dict[int, tuple[float, ByteArray]]:
    """Time in seconds and fitted picture of some frames, by their number in the video.

    Raises:
        SourceError: The file cannot be decoded.
    """
    last = max(indices, default=-1)
    found: dict[int, tuple[float, ByteArray]] = {}
    for index, (time_s, frame) in enumerate(video_frames(path)):
        if index in indices:
            found[index] = float(time_s), fitted(bgr_of(frame))
        if index >= last:
            break
    return found


def fitted(picture: ByteArray, size_wh: tuple[int, int] = CELL_WH) -> ByteArray:
    """The picture as large as it fits, centred on black."""
    width, height = size_wh
    scale = min(width / picture.shape[1], height / picture.shape[0])
    size = max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1)
    cell = np.zeros((height, width, 3), np.uint8)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.resize(picture, size, interpolation=interpolation)
    cell[y : y + size[1], x : x + size[0]] = small
    return cell


def moments(
    name: str, source: Path, output: Path, looks: dict[int, CanvasLook]
) -> dict[int, Moment]:
    """Cells for some frames of a clip.

    Args:
        name: Comes before the time in each caption; may be empty.
        source: The clip.
        output: What was made of it, frame by frame.
        looks: Frame number to what was seen there.

    Raises:
        SourceError: A file cannot be decoded.
    """
    sources, canvases = pictures_at(source, looks), pictures_at(output, looks)
    found = {}
    for index in sorted(sources.keys() & canvases.keys()):
        findings = looks[index].findings
        time_s, canvas = canvases[index]
        caption = " ".join(filter(None, (name, f"{time_s:.2f} s", *findings)))
        found[index] = Moment(caption, sources[index][1], canvas, bool(findings))
    return found


def sheet(cells: Iterable[Moment]) -> ByteArray:
    """All cells in rows of four, BGR; at least one cell."""
    drawn = [_drawn(moment) for moment in cells]
    blank = np.full_like(drawn[0], 255)
    drawn += [blank] * (-len(drawn) % min(_COLUMNS, len(drawn)))
    rows = [drawn[i : i + _COLUMNS] for i in range(0, len(drawn), _COLUMNS)]
    return np.vstack([np.hstack(row) for row in rows])


def _drawn(moment: Moment) -> ByteArray:
    color = _BAD if moment.bad else _GOOD
    caption = np.full((_CAPTION_PX, moment.source.shape[1], 3), 255, np.uint8)
    place = (4, _CAPTION_PX - 7)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(caption, moment.caption, place, font, 0.45, color, 1, cv2.LINE_AA)
    cell = np.vstack([caption, moment.source, moment.canvas])
    b = _BORDER_PX
    framed = cv2.copyMakeBorder(cell, b, b, b, b, cv2.BORDER_CONSTANT, value=color)
    return np.asarray(framed, np.uint8)


def save(path: Path, picture: ByteArray) -> None:
    """Writes a JPEG."""
    ok, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok  # noqa: S101 - every 8-bit picture can be coded
    path.write_bytes(data.tobytes())

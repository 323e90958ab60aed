"""What is known of each picture besides its faces: where it ends, how it moves, its windows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dualface_client.picture.bars import BarFinder
from dualface_client.picture.motion import MotionMeter
from dualface_client.picture.panels import PanelFinder
from dualface_client.types import Box, ByteArray, Faces, PictureFacts

#: After the camera has moved, no window is believed for this long: its borders stand still.
_STEADY_AFTER_S = 1.0
#: A still camera's pictures are looked at this often, and always in the first part of a
#: shot, in which windows and bars are found.
_LOOK_EVERY_S, _FIRST_S = 0.12, 1.5


class PictureAnalysis:
    """Looks at the previews of a stream, one after the other.

    Args:
        source_wh_px: Width and height of the source.
    """

    def __init__(self, source_wh_px: tuple[int, int]) -> None:
        self._source_wh_px = source_wh_px
        self._bars = BarFinder()
        self._motion = MotionMeter()
        self._panels = PanelFinder()
        self._moved_s = float("-inf")
        self._shot_s = self._looked_s = float("-inf")
        self._frames = 0  # since the last one that was looked at
        self._facts = PictureFacts((0.0, 0.0, float(source_wh_px[0]), float(source_wh_px[1])))

    def wants(self, time_s: float, scene_cut: bool) -> bool:
        """Whether this frame has to be looked at; without, `unchanged` is true of it.

        To be asked once of each frame, in order: the motion that the next look finds is shared out
        among the frames since the last one.

        Args:
            time_s: Its presentation time, not decreasing.
            scene_cut: It is the first of a shot.
        """
        self._frames += 1
        if scene_cut or self._shot_s == float("-inf"):
            self._shot_s = time_s
            return True
        recent = time_s - max(self._shot_s, self._moved_s) < _FIRST_S
        return recent or time_s - self._looked_s >= _LOOK_EVERY_S

    @property
    def unchanged(self) -> PictureFacts:
        """The last frame's facts, of a camera that stands still."""
        return replace(self._facts, motion_xy_px=(0.0, 0.0))

    def update(
        self, preview: ByteArray, faces: Faces, time_s: float, scene_cut: bool
    ) -> PictureFacts:
        """Looks at the frame that `wants` was asked of last.

        Args:
            preview: Luma of the frame, shape `(height, width)`, uint8, of the same size for all.
            faces: What was detected in the frame.
            time_s: Its presentation time, not decreasing.
            scene_cut: It is the first of a shot.
        """
        frames, self._frames = max(self._frames, 1), 0
        self._looked_s = time_s
        height, width = preview.shape
        scale = np.array([self._source_wh_px[0] / width, self._source_wh_px[1] / height])
        boxes = (faces.boxes_xyxy_px / np.tile(scale, 2)).astype(np.float32)
        content = self._bars.update(preview, time_s, scene_cut)
        x, y = self._motion.update(preview, boxes, content, scene_cut, frames)
        if scene_cut:
            self._moved_s = float("-inf")
        elif x or y:
            self._moved_s = time_s
        steady = time_s - self._moved_s >= _STEADY_AFTER_S
        panels = self._panels.update(preview, boxes, content, time_s, scene_cut, steady)
        if panels:  # each window moves by itself, and the picture as a whole stands still
            x, y = 0.0, 0.0
        self._facts = PictureFacts(
            content_xyxy_px=_scaled(content, scale),
            panels_xyxy_px=tuple(_scaled(panel, scale) for panel in panels),
            motion_xy_px=(float(x * scale[0]), float(y * scale[1])),
        )
        return self._facts


def _scaled(box: Box, scale: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Box:
    x1, y1, x2, y2 = box
    return (
        float(x1 * scale[0]),
        float(y1 * scale[1]),
        float(x2 * scale[0]),
        float(y2 * scale[1]),
    )

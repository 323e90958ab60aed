"""How suitable a detected face is for recognition."""

from __future__ import annotations

from math import hypot

from dualface_client.tracking.boxes import cover
from dualface_client.types import Box, Faces

_FULL_HEIGHT_PX = 80.0  # a face of this height has all the detail that a 112 px chip shows
_MIN_HEIGHT_PX = 24.0
_SHARP = 0.05  # sharpness above which more changes nothing
#: Eye distances by which the landmarks of a whole face lie inside the picture, at least. The
#: detector puts those that are outside on the edge, and half a face looks like nobody: in a pan
#: over a face, its cosine with itself was at most 0.24 while the edge hid one eye, 0.88 with this.
_INSIDE = 0.2


def face_quality(
    faces: Faces, row: int, picture_wh_px: tuple[int, int], sharpness: float | None = None
) -> float:
    """Product of size, frontality, freedom from overlap, wholeness, detection score and sharpness.

    Frontality is the nose's offset from the middle of the eyes along the eye line, in eye
    distances: about 0 from the front, 0.5 when the nose reaches an eye in profile.

    Args:
        faces: Detections of the frame.
        row: Whose quality.
        picture_wh_px: Width and height of the frame, whose edges may cut the face.
        sharpness: From `imaging.sharpness`; None counts as sharp.

    Returns:
        0 (useless) to 1.
    """
    boxes: list[Box] = [tuple(box) for box in faces.boxes_xyxy_px.tolist()]
    height = boxes[row][3] - boxes[row][1]
    size = (height - _MIN_HEIGHT_PX) / (_FULL_HEIGHT_PX - _MIN_HEIGHT_PX)
    covered = max(
        (cover(boxes[row], box) for other, box in enumerate(boxes) if other != row), default=0.0
    )
    quality = _unit(size) * _frontality(faces, row) * _unit(1.0 - 4.0 * covered)
    quality *= wholeness(faces, row, picture_wh_px) * _unit(float(faces.scores[row]))
    return quality if sharpness is None else quality * _unit(sharpness / _SHARP)


def _frontality(faces: Faces, row: int) -> float:
    eye, other_eye, nose = faces.landmarks_px[row, :3].tolist()
    along_x, along_y = other_eye[0] - eye[0], other_eye[1] - eye[1]
    distance2 = along_x**2 + along_y**2
    if distance2 <= 0:
        return 0.0
    middle_x, middle_y = (eye[0] + other_eye[0]) / 2, (eye[1] + other_eye[1]) / 2
    offset = ((nose[0] - middle_x) * along_x + (nose[1] - middle_y) * along_y) / distance2
    return _unit(1.0 - 2.0 * abs(offset))


def wholeness(faces: Faces, row: int, picture_wh_px: tuple[int, int]) -> float:
    """How far inside the picture a face's landmarks lie, 0 (on its edge, or beyond) to 1.

    The edges of bars and of windows in the picture do not count.
    """
    landmarks = faces.landmarks_px[row].tolist()
    (x_px, y_px), (other_x_px, other_y_px) = landmarks[:2]
    apart_px = hypot(other_x_px - x_px, other_y_px - y_px)
    width_px, height_px = picture_wh_px
    inside_px = min(min(x, width_px - x, y, height_px - y) for x, y in landmarks)
    return _unit(inside_px / (_INSIDE * apart_px)) if apart_px > 0 else 0.0


def _unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)

"""How much a stream holds at once: frames that wait, slots, canvases. Memory is planned by it."""

from __future__ import annotations

from dualface_client.memory.vram import StreamLoad
from dualface_client.settings.stream import StreamSettings
from dualface_client.triton.client import SlotLayout
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS
from dualface_client.triton.session import SlotGroup

#: Faces of one ReID request: both people and a few passers-by.
REID_BATCH = 4
#: Frames that wait to be composed, at most: the bound on memory for very high frame rates.
MAX_LOOKAHEAD_FRAMES = 24
#: Bytes of one stream's frames that wait in one place, at most; two frames wait whatever their
#: size. Ten frames of 4K, two of 8K: their cameras look less far ahead.
MAX_WAITING_BYTES = 128 << 20
#: Canvases drawn in one launch, at most: a GPU that several processes share changes between them
#: for every launch.
MAX_COMPOSED_AT_ONCE = 8


def frames_that_may_wait(width_px: int, height_px: int) -> int:
    """NV12 frames of a size within `MAX_WAITING_BYTES`, at least two."""
    return max(2, MAX_WAITING_BYTES // (width_px * height_px * 3 // 2))


def composed_at_once(settings: StreamSettings) -> int:
    """Frames whose canvases are drawn together: those that one answer of the detector brings."""
    return min(settings.detection.batch, MAX_COMPOSED_AT_ONCE)


def frames_held(settings: StreamSettings) -> int:
    """Frames of one stream that its loop may hold at once.

    Requests in flight, one that is being filled and one whose frames are being decided on; those
    that wait for the look-ahead, or to be drawn together; those that were read ahead; and one in
    each thread's hands.
    """
    detection = settings.detection
    in_requests = detection.batch * (detection.in_flight + 2)
    waiting = MAX_LOOKAHEAD_FRAMES + composed_at_once(settings)
    return in_requests + waiting + settings.queues.frames_ahead + 4


def slot_groups(settings: StreamSettings, streams: int) -> dict[str, SlotGroup]:
    """Slots of a worker: what each stream has in flight, and one to fill meanwhile.

    Args:
        settings: Frames per request and requests in flight.
        streams: Streams that run at a time.
    """
    detection = settings.detection
    return {
        FACE_DETECT.name: SlotGroup(detection.batch, streams * (detection.in_flight + 1)),
        FACE_REID.name: SlotGroup(REID_BATCH, 2 * streams),
    }


def load_of(settings: StreamSettings, frames_held: int) -> StreamLoad:
    """What the settings make of a stream.

    Args:
        settings: Of the stream.
        frames_held: Frames that its loop may hold.
    """
    groups = slot_groups(settings, 1)
    slots = sum(
        groups[spec.name].count * SlotLayout.of(spec, groups[spec.name].batch).byte_size
        for spec in MODELS
    )
    output = settings.output
    behind = settings.queues.frames_behind
    drawn = composed_at_once(settings)
    return StreamLoad(frames_held, slots, output.canvas_wh_px, behind, drawn)

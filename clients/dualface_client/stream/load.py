"""How much a stream holds at once (frames, slots, canvases), for planning memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dualface_client.decisions.window import MAX_LOOKAHEAD_FRAMES
from dualface_client.memory.slots import SizeClass, bytes_needed
from dualface_client.memory.vram import StreamLoad
from dualface_client.settings.stream import StreamSettings
from dualface_client.triton.batch_sizes import Demand
from dualface_client.triton.description import FACE_DETECT, FACE_REID, MODELS
from dualface_client.triton.session import SlotGroup
from dualface_client.triton.transport import SlotLayout

#: Faces of one ReID request: both people and a few passers-by.
REID_BATCH = 4
#: Most bytes of one stream's frames that wait in one place; two frames wait whatever their size.
#: That is ten frames of 4K and two of 8K, whose cameras therefore look less far ahead.
MAX_WAITING_BYTES = 128 << 20
#: By how much a pool of Triton's Python backend grows, and how large it is at first.
_POOL_STEP_BYTES = 1 << 20
#: Most canvases drawn in one launch: a GPU shared by several processes switches between them for
#: every launch.
MAX_COMPOSED_AT_ONCE = 8


def frames_that_may_wait(width_px: int, height_px: int) -> int:
    """How many NV12 frames of a size fit into `MAX_WAITING_BYTES`, at least two."""
    return max(2, MAX_WAITING_BYTES // (width_px * height_px * 3 // 2))


def composed_at_once(settings: StreamSettings) -> int:
    """Frames whose canvases are drawn together: those of one answer of the detector."""
    return min(settings.detection.batch, MAX_COMPOSED_AT_ONCE)


def frames_held(settings: StreamSettings) -> int:
    """Frames of one stream that its loop may hold at once.

    These are the frames of requests in flight, of one that is being filled and of one that is being
    decided on; frames that wait for the look-ahead, or to be drawn together; frames that were read
    ahead; and one in each thread's hands.
    """
    detection = settings.detection
    in_requests = detection.batch * (detection.in_flight + 2) * (detection.every or 1)
    waiting = MAX_LOOKAHEAD_FRAMES + composed_at_once(settings)
    return in_requests + waiting + settings.queues.frames_ahead + 4


def slot_groups(settings: StreamSettings, streams: int) -> dict[str, SlotGroup]:
    """Slots of a worker: what its streams have in flight, and spare ones for all of them.

    A stream fills a slot only when one of its requests has been answered. What the server does not
    answer keeps its slot.

    Args:
        settings: Frames per request and requests in flight.
        streams: Streams that run at a time.
    """
    detection = settings.detection
    return {
        FACE_DETECT.name: SlotGroup(
            detection.batch, streams * detection.in_flight + _spare_slots(streams)
        ),
        FACE_REID.name: SlotGroup(REID_BATCH, 2 * streams),
    }


def _spare_slots(streams: int) -> int:
    return 1 + streams // 4


def demands(
    settings: StreamSettings, files: int, live: int, own: Iterable[StreamSettings] = ()
) -> dict[str, Demand]:
    """What a server is asked by streams that run at a time, by model.

    Args:
        settings: Frames per request and requests in flight of files.
        files: How many of the streams are files.
        live: How many are live, each of which has one frame under way.
        own: Settings of single streams.
    """
    detection, each = settings.detection, [settings, *own]
    has_look = any(one.cast.enabled and one.tracking.reid != "never" for one in each)
    # The look and the frames between two detections are asked about one by one.
    has_single = files > 0 and (has_look or detection.every != 1)
    under_way = live + files * detection.batch * detection.in_flight
    # Seldom asked: a session for several requests at once would not earn its 110 MiB (H200).
    faces = REID_BATCH
    if any(one.tracking.reid == "always" for one in each):
        faces *= files + live
    return {
        FACE_DETECT.name: Demand(1 if live else detection.batch, under_way, has_single),
        FACE_REID.name: Demand(REID_BATCH, faces),
    }


def region_bytes(settings: StreamSettings, streams: int, *, on_gpu: bool) -> dict[str, int]:
    """Bytes of /dev/shm that one worker's slots need, by model.

    Args:
        settings: Of the streams.
        streams: Streams of the worker that run at a time.
        on_gpu: Whether the input of requests is in GPU memory, and only answers are here.
    """
    needed = {}
    for spec in MODELS:
        group = slot_groups(settings, streams)[spec.name]
        layout = SlotLayout.of(spec, group.batch)
        size = SizeClass(layout.output_bytes if on_gpu else layout.byte_size, group.count)
        needed[spec.name] = bytes_needed({spec.name: size})
    return needed


def server_pool_bytes(
    settings: StreamSettings, streams: int, instances: Mapping[str, int], *, on_gpu: bool
) -> int:
    """Bytes of /dev/shm that an embedded server fills while it answers these streams.

    Each process of a model has a pool, into which Triton's Python backend copies the requests
    under way.

    Args:
        settings: Of the streams.
        streams: All that run at a time.
        instances: Processes of each model.
        on_gpu: Whether the input of requests is in GPU memory and stays there.
    """
    regions = region_bytes(settings, streams, on_gpu=on_gpu)
    steps = (-(-size // _POOL_STEP_BYTES) + instances[name] for name, size in regions.items())
    return sum(steps) * _POOL_STEP_BYTES


def load_of(settings: StreamSettings, frames_held: int) -> StreamLoad:
    """How a stream is run with these settings.

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
    return StreamLoad(frames_held, slots, output.tile_layout.canvas_wh_px, behind, drawn)

"""Values that travel along the data path. Every room may use them; they import none.

Conventions, everywhere in the project:

- Boxes are `xyxy`, float32, in pixels of the (display-oriented) source frame, origin at the top
  left corner of the top left pixel, x to the right, y down.
- Sides are as the viewer of the picture sees them: `LEFT` is the left tile.
- Time is `pts * time_base`, an integer times a fraction; seconds as float are for display only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ByteArray = npt.NDArray[np.uint8]
#: x1, y1, x2, y2 in pixels, as plain floats.
Box = tuple[float, float, float, float]

#: Width and height of an aligned face, the input of face ReID.
FACE_CHIP_PX = 112
#: Where the five landmarks (order of `Faces.landmarks_px`) are in an aligned face chip: x, y in px.
#: The template of ArcFace (Deng et al. 2019), with which the network was trained.
FACE_CHIP_TEMPLATE_PX: tuple[tuple[float, float], ...] = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


class Side(Enum):
    """Where a person's tile is in the output, as the viewer sees it."""

    LEFT = "left"
    RIGHT = "right"

    # Members are single objects; `Enum`'s hash of the name is Python code, run for every lookup.
    __hash__ = object.__hash__

    @property
    def other(self) -> Side:
        """The opposite side."""
        return Side.RIGHT if self is Side.LEFT else Side.LEFT


class ColorMatrix(Enum):
    """YCbCr matrix, named as in ITU-T H.273."""

    BT601 = "bt601"
    BT709 = "bt709"
    BT2020 = "bt2020"


@dataclass(frozen=True, slots=True)
class ColorSpec:
    """How to interpret the YCbCr samples of a picture."""

    matrix: ColorMatrix = ColorMatrix.BT709
    full_range: bool = False


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Nv12Image:
    """One 8-bit 4:2:0 picture, on the host (NumPy) or on a GPU (CuPy).

    Attributes:
        y: Luma, shape `(height, width)`, uint8. Both sizes are even.
        uv: Chroma, shape `(height / 2, width / 2, 2)`, uint8, interleaved Cb, Cr.
        color: Matrix and range of the samples.
        owner: What the pixels belong to as long as it exists; None for the arrays themselves.
    """

    y: Any
    uv: Any
    color: ColorSpec = field(default_factory=ColorSpec)
    owner: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        height, width = self.y.shape
        if height % 2 or width % 2 or self.uv.shape != (height // 2, width // 2, 2):
            raise ValueError(
                f"NV12 planes do not fit: y {self.y.shape}, uv {self.uv.shape}; "
                f"expected even y and uv {(height // 2, width // 2, 2)}"
            )

    @property
    def width_px(self) -> int:
        """Width of the luma plane."""
        return int(self.y.shape[1])

    @property
    def height_px(self) -> int:
        """Height of the luma plane."""
        return int(self.y.shape[0])

    @property
    def size_wh_px(self) -> tuple[int, int]:
        """Width and height of the luma plane."""
        return self.width_px, self.height_px


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors that distinguish people, all of one model version.

    Attributes:
        vectors: Shape `(n, 128)` float32, each row of length 1.
        model_version: Which model made them; two versions must not be compared.
    """

    vectors: FloatArray
    model_version: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture of a stream with its place in time.

    Attributes:
        index: 0-based position in presentation order.
        pts: Presentation time stamp in units of `time_base`; strictly increasing in a stream.
        time_base: Seconds per unit of `pts`.
        image: Pixels, already rotated to display orientation.
        duration: Display duration in units of `time_base`, 0 if the source does not say.
    """

    index: int
    pts: int
    time_base: Fraction
    image: Nv12Image
    duration: int = 0

    @property
    def time_s(self) -> float:
        """Presentation time in seconds, for display and dynamics."""
        return self.pts * self.time_base.numerator / self.time_base.denominator


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a source knows about its stream before the first frame.

    Attributes:
        width_px: Display width after rotation, rounded up to even.
        height_px: Display height after rotation, rounded up to even.
        frame_rate: Nominal frames per second (30000/1001 for 29.97), None if unknown.
        time_base: Seconds per PTS unit.
        frame_count: Frames expected, an estimate; 0 if the container does not say.
        duration_s: Length in seconds, 0.0 if unknown.
        color: Matrix and range of the frames this source yields.
        primaries: Their ColourPrimaries as a number of ITU-T H.273; 2 is unspecified.
        transfer: Their TransferCharacteristics, in the same way.
        codec: Short codec name, for example `h264`.
        stream_index: The video track's index among the container's streams; None if unknown.
        audio_stream_count: Audio streams that belong to it.
        notes: What was noticed and handled (rotation, interlacing, 10 bit), for the user.
    """

    width_px: int
    height_px: int
    frame_rate: Fraction | None
    time_base: Fraction
    frame_count: int = 0
    duration_s: float = 0.0
    color: ColorSpec = field(default_factory=ColorSpec)
    primaries: int = 2
    transfer: int = 2
    codec: str = ""
    stream_index: int | None = None
    audio_stream_count: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Fits a picture into a model input: `target = source * scale + (x_px, y_px)`.

    The same convention on every device: coordinates are pixel edges, the content is centred, its
    size is rounded to even, and the rest of the target is filled with 0.

    Attributes:
        scale_x: Target pixels per source pixel, horizontally.
        scale_y: The same, vertically; differs from `scale_x` only by rounding.
        x_px: Left edge of the content in the target, even.
        y_px: Top edge of the content in the target, even.
        width_px: Content width in the target, even.
        height_px: Content height in the target, even.
    """

    scale_x: float
    scale_y: float
    x_px: int
    y_px: int
    width_px: int
    height_px: int

    @classmethod
    @lru_cache(maxsize=64)  # for every frame the same
    def fit(cls, source_wh_px: tuple[float, float], target_wh_px: tuple[int, int]) -> Letterbox:
        """The largest centred placement that keeps the aspect.

        Args:
            source_wh_px: Width and height of the picture.
            target_wh_px: Width and height of the model input, even.
        """
        (source_w, source_h), (target_w, target_h) = source_wh_px, target_wh_px
        scale = min(target_w / source_w, target_h / source_h)
        width = min(target_w, max(2, 2 * round(source_w * scale / 2)))
        height = min(target_h, max(2, 2 * round(source_h * scale / 2)))
        x_px = (target_w - width) // 4 * 2
        y_px = (target_h - height) // 4 * 2
        return cls(width / source_w, height / source_h, x_px, y_px, width, height)

    def to_source(self, points_xy_px: FloatArray) -> FloatArray:
        """Maps target coordinates back.

        Args:
            points_xy_px: Shape `(..., 2)`, x and y in target pixels.

        Returns:
            The same shape in source pixels.
        """
        offset = np.array([self.x_px, self.y_px], np.float32)
        scale = np.array([self.scale_x, self.scale_y], np.float32)
        return ((points_xy_px - offset) / scale).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Faces:
    """Detections of one frame as parallel arrays, best score first.

    Attributes:
        boxes_xyxy_px: Shape `(n, 4)`, float32, source pixels.
        scores: Shape `(n,)`, float32, 0 to 1.
        landmarks_px: Shape `(n, 5, 2)`, float32, x and y of: eye on the image's left, eye on the
            image's right, nose tip, mouth corner on the left, mouth corner on the right.
    """

    boxes_xyxy_px: FloatArray
    scores: FloatArray
    landmarks_px: FloatArray

    def __post_init__(self) -> None:
        count = len(self.scores)
        for name, array, shape in (
            ("boxes_xyxy_px", self.boxes_xyxy_px, (count, 4)),
            ("scores", self.scores, (count,)),
            ("landmarks_px", self.landmarks_px, (count, 5, 2)),
        ):
            if array.shape != shape:
                raise ValueError(f"Faces.{name} has shape {array.shape}, expected {shape}")

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def empty(cls) -> Faces:
        """No face at all."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros((0,), np.float32),
            np.zeros((0, 5, 2), np.float32),
        )


@dataclass(frozen=True, slots=True)
class Tracks:
    """Confirmed tracks of one frame as parallel arrays, ordered by track id.

    Attributes:
        ids: Shape `(n,)`, int64, positive, never reused within a stream.
        boxes_xyxy_px: Shape `(n, 4)`, float32: the matched detection, or the motion model's
            prediction if no detection matched.
        scores: Shape `(n,)`, float32: score of the matched detection, 0 where predicted.
        face_rows: Shape `(n,)`, int64: row in the frame's `Faces`, -1 where predicted.
    """

    ids: IntArray
    boxes_xyxy_px: FloatArray
    scores: FloatArray
    face_rows: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def empty(cls) -> Tracks:
        """No track."""
        return cls(
            np.zeros((0,), np.int64),
            np.zeros((0, 4), np.float32),
            np.zeros((0,), np.float32),
            np.zeros((0,), np.int64),
        )


@dataclass(frozen=True, slots=True)
class Person:
    """What one tile shows in one frame.

    Attributes:
        identity: 1-based, constant for a person within a stream; 0 while nobody holds the side.
        box_xyxy_px: Shape `(4,)`, float32; None while the face is not seen.
        score: Detection score of the box, 0 where it is predicted or missing.
    """

    identity: int = 0
    box_xyxy_px: FloatArray | None = None
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class TrackView:
    """A confirmed track in one frame.

    Attributes:
        id: Track id, positive.
        identity: Whose face it is thought to be, 0 for nobody.
        box_xyxy_px: Shape `(4,)`, float32: detection or prediction.
        score: Score of the detection, 0 where predicted.
    """

    id: int
    identity: int
    box_xyxy_px: FloatArray
    score: float


@dataclass(frozen=True, slots=True)
class SeatAssignment:
    """Who sits where in one frame.

    Attributes:
        left: The left tile's person.
        right: The right tile's person.
        scene_cut: True on the first frame of a new shot: cameras jump instead of gliding.
        reid_ran: True if this frame took a ReID request.
        risk: Swap risk, 0 (none) to 1.
        risk_parts: The riskiest pair's parts that are not 0, by name, each 0 to 1.
        tracks: All confirmed tracks, seen or lost, by id.
    """

    left: Person
    right: Person
    scene_cut: bool = False
    reid_ran: bool = False
    risk: float = 0.0
    risk_parts: tuple[tuple[str, float], ...] = ()
    tracks: tuple[TrackView, ...] = ()

    def of(self, side: Side) -> Person:
        """The person of a side."""
        return self.left if side is Side.LEFT else self.right


@dataclass(frozen=True, slots=True)
class Crop:
    """A rectangle of the source, in source pixels, inside the source."""

    x_px: float
    y_px: float
    width_px: float
    height_px: float


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of the canvas in whole pixels, all four values even."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int


@dataclass(frozen=True, slots=True)
class View:
    """A part of the source in a rectangle of the canvas.

    A crop of the rectangle's shape (within 1 %) fills it. Any other is fitted into its middle, and
    what is left free shows the same crop enlarged to cover the rectangle, blurred and darker.

    Attributes:
        crop: Inside the source, of any shape.
        area: Inside the canvas; the views of one canvas do not overlap.
    """

    crop: Crop
    area: Rect


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What is known of a frame besides its faces, in source pixels.

    Attributes:
        content_xyxy_px: The picture without plain bars at its edges.
        panels_xyxy_px: Parts of the content with still, straight borders of their own (windows of
            a call, a split screen, a picture in the picture), inset so that no border is inside;
            empty if the picture is one.
        motion_xy_px: How far the picture as a whole moved since the previous frame, x to the right,
            y down; 0 on the first frame of a shot.
    """

    content_xyxy_px: Box
    panels_xyxy_px: tuple[Box, ...] = ()
    motion_xy_px: tuple[float, float] = (0.0, 0.0)


#: How two people share the canvas: beside or above each other, or in one picture.
LayoutKind = Literal["side-by-side", "stacked", "solo"]


@dataclass(frozen=True, slots=True)
class TileLayout:
    """Where the tiles are on the canvas, all sizes even.

    Attributes:
        canvas_wh_px: Output width and height.
        kind: `side-by-side` has the left tile on the left, `stacked` has it above; `solo` always
            shows one picture.
        gap_px: Between the two tiles.
        gap_color: What no view covers, R, G, B, each 0 to 255.
    """

    canvas_wh_px: tuple[int, int] = (1920, 1080)
    kind: LayoutKind = "side-by-side"
    gap_px: int = 0
    gap_color: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        width, height = self.canvas_wh_px
        if min(width, height, *self.tile_wh_px) < 2 or width % 2 or height % 2 or self.gap_px < 0:
            raise ValueError(
                f"canvas {width}x{height} with a gap of {self.gap_px}: expected even sizes of at "
                "least 2 that leave room for the tiles"
            )
        if self.gap_px % 2 or any(size % 2 for size in self.tile_wh_px):
            sizes = "x".join(str(size) for size in self.tile_wh_px)
            raise ValueError(
                f"canvas {width}x{height}, {self.kind}, with a gap of {self.gap_px}: each tile "
                f"would be {sizes}; expected an even gap and even tiles"
            )

    @property
    def tile_wh_px(self) -> tuple[int, int]:
        """Width and height of each tile; of the whole canvas if it shows one picture."""
        width, height = self.canvas_wh_px
        if self.kind == "side-by-side":
            return (width - self.gap_px) // 2, height
        if self.kind == "stacked":
            return width, (height - self.gap_px) // 2
        return width, height

    def area(self, side: Side) -> Rect:
        """A person's tile; with `solo` the whole canvas."""
        width, height = self.tile_wh_px
        if self.kind == "solo" or side is Side.LEFT:
            return Rect(0, 0, width, height)
        if self.kind == "stacked":
            return Rect(0, height + self.gap_px, width, height)
        return Rect(width + self.gap_px, 0, width, height)

    def side_of(self, area: Rect) -> Side | None:
        """Whose tile a part of the canvas is; None for any other part, and with `solo`."""
        if self.kind == "solo":
            return None
        return next((side for side in Side if self.area(side) == area), None)

    @property
    def whole(self) -> Rect:
        """All of the canvas."""
        return Rect(0, 0, *self.canvas_wh_px)

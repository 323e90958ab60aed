"""The verifier: it accepts a right output and names what is wrong with the others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dualface_client.errors import DualfaceError
from dualface_client.settings import paths
from dualface_client.types import ByteArray, Faces, FloatArray, TileLayout
from scripts.clips.tiles import (
    References,
    Sighting,
    TileTally,
    frames_to_check,
    look_at_tile,
    references_from_sources,
)
from scripts.clips.timing import Check, bgr_of, tone_at, video_frames
from scripts.clips.truth import FrameTruth, Truth
from scripts.clips.writing import SAMPLE_RATE_HZ, tone_samples
from scripts.make_clips import ClipPlan, make_clip
from scripts.reference_models import ReferenceModels, similarity_to_template
from scripts.verify_output import Demands, main, report_text, verify

SIZE = (960, 540)
#: For what is not seen in the tiles: they are looked at once.
SELDOM = 100


@dataclass(frozen=True, slots=True)
class Case:
    """One composed clip with everything that judges an output of it."""

    source: Path
    truth: Truth
    models: ReferenceModels
    references: References

    def judge(self, output: Path, every: int = 3) -> dict[str, Check]:
        demands = Demands(every=every, layout=TileLayout(SIZE))
        checks = verify(output, self.source, self.truth, self.models, self.references, demands)
        return {check.name: check for check in checks}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    try:
        models = ReferenceModels(paths.models_dir())
        references = references_from_sources(paths.clips_dir(), models)
        path = tmp_path_factory.mktemp("clip") / "cross_once.mp4"
        plan = ClipPlan("cross_once", 3, 0, Fraction(8), SIZE)
        truth = make_clip(plan, path, paths.clips_dir(), models)
    except DualfaceError as error:
        pytest.fail(str(error))
    return Case(path, truth, models, references)


def tile_of(bgr: ByteArray, frame: FrameTruth, identity: int) -> ByteArray:
    """A tile cut around the face that the truth tells, as a perfect program would."""
    x1, y1, x2, y2 = frame.person(identity).box
    height = 1.8 * (y2 - y1)
    width = height * SIZE[0] / 2 / SIZE[1]
    scale = SIZE[1] / height
    x, y = (x1 + x2) / 2 - width / 2, (y1 + y2) / 2 - height / 2
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
    return np.asarray(cv2.warpAffine(bgr, matrix, (SIZE[0] // 2, SIZE[1])), np.uint8)


@pytest.fixture(scope="module")
def produce(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an output, right or with one fault."""
    folder = tmp_path_factory.mktemp("outputs")

    @cache
    def run(
        swap_from: float = 99.0, drop: int = -1, late_s: float = 0.0, pts_late: int = 0
    ) -> Path:
        path = folder / f"{swap_from}_{drop}_{late_s}_{pts_late}.mp4"
        left, right = case.truth.expected_left, case.truth.expected_right
        with av.open(str(case.source)) as source, av.open(str(path), "w") as out:
            video = out.add_stream("libx264", rate=8, options={"preset": "veryfast"})
            video.width, video.height = SIZE
            video.codec_context.time_base = Fraction(1, 90000)
            sound_in = source.streams.audio[0]
            sound = out.add_stream_from_template(sound_in)
            for packet in source.demux(sound_in):
                if packet.size and packet.pts is not None and packet.dts is not None:
                    packet.stream = sound
                    packet.pts += round(late_s * SAMPLE_RATE_HZ)
                    packet.dts += round(late_s * SAMPLE_RATE_HZ)
                    out.mux(packet)
            for frame, (time_s, picture) in zip(
                case.truth.frames, video_frames(case.source), strict=True
            ):
                bgr = bgr_of(picture)
                tiles = [tile_of(bgr, frame, identity) for identity in (left, right)]
                if time_s >= swap_from:
                    tiles.reverse()
                canvas = av.VideoFrame.from_ndarray(np.hstack(tiles), format="bgr24")
                canvas.pts, canvas.time_base = frame.pts + pts_late, Fraction(1, 90000)
                if frame.index != drop:
                    out.mux(video.encode(canvas))
            out.mux(video.encode(None))
        return path

    return run


def test_a_right_output_passes_every_check(case: Case, produce: Callable[..., Path]) -> None:
    checks = case.judge(produce())
    assert all(check.ok for check in checks.values()), report_text(list(checks.values()))
    assert checks["tiles"].values["right_share"] == 1
    assert checks["tiles"].values["present_share"] == 1
    assert checks["tiles"].values["frames"] >= 6
    assert min(checks["centred"].values["centred_share"].values()) == 1


def test_swapped_tiles_are_seen_and_their_interval_named(
    case: Case, produce: Callable[..., Path]
) -> None:
    checks = case.judge(produce(swap_from=2.0))
    assert [name for name, check in checks.items() if not check.ok] == ["tiles"]
    (run,) = checks["tiles"].values["wrong"]
    assert 2.0 <= run["from_s"] < 2.5
    assert run["seen"] == [case.truth.expected_right, case.truth.expected_left]
    assert f"left shows {case.truth.expected_right}" in report_text(list(checks.values()))


def test_a_missing_frame_is_seen(case: Case, produce: Callable[..., Path]) -> None:
    checks = case.judge(produce(drop=5), every=SELDOM)
    assert not checks["frame_count"].ok
    assert not checks["frame_times"].ok
    assert checks["frame_count"].values == {"output": 23, "source": 24}


def test_a_frame_at_another_time_is_seen(case: Case, produce: Callable[..., Path]) -> None:
    checks = case.judge(produce(pts_late=90), every=SELDOM)
    assert checks["frame_count"].ok
    assert not checks["frame_times"].ok
    assert checks["frame_times"].values["worst_ms"] == pytest.approx(1.0)


@pytest.mark.parametrize("late_s", [0.03, 1.0])
def test_late_sound_is_heard(late_s: float, case: Case, produce: Callable[..., Path]) -> None:
    checks = case.judge(produce(late_s=late_s), every=SELDOM)
    assert checks["audio_packets"].ok
    assert not checks["tones"].ok
    assert "0 of 3 tones" in checks["tones"].detail


def test_another_picture_size_is_seen(case: Case) -> None:
    """The source itself is no output: it has no tiles, but its frames and sound fit."""
    demands = Demands(every=SELDOM, layout=TileLayout())
    found = verify(case.source, case.source, case.truth, case.models, case.references, demands)
    checks = {check.name: check for check in found}
    assert not checks["format"].ok
    assert checks["frame_times"].ok
    assert checks["tones"].ok


def test_recoded_sound_is_seen(case: Case, produce: Callable[..., Path], tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    with av.open(str(produce())) as source, av.open(str(other), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = video
                out.mux(packet)
        source.seek(0)
        for frame in source.decode(source.streams.audio[0]):
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    assert not case.judge(other, every=SELDOM)["audio_packets"].ok


def test_command_line_says_it_by_exit_code_and_json(
    case: Case, produce: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    truth = case.source.with_suffix(".json")
    common = ["--truth", str(truth), "--source", str(case.source), "--size", "960x540"]
    common += ["--every", "12"]
    assert main([str(produce()), *common, "--json", str(report)]) == 0
    assert json.loads(report.read_text())["ok"] is True
    assert main([str(produce(swap_from=0)), *common, "--json", str(report)]) == 1
    assert json.loads(report.read_text())["ok"] is False
    assert "FAIL tiles" in capsys.readouterr().out
    assert main([str(truth), *common]) == 2
    assert "cannot be opened as a video" in capsys.readouterr().err


def test_references_tell_the_two_people_apart(case: Case) -> None:
    one, two = case.references.centroids
    assert case.references.ids == (1, 2)
    assert [who for who, _ in case.references.who(np.stack([two, one]))] == [2, 1]
    assert case.references.who(one[None])[0][0] == 1
    # A face that looks a little more like the other one is told by the clear one beside it.
    blend = one + 1.1 * two
    found = case.references.who(np.stack([two, blend / np.linalg.norm(blend)]))
    assert [who for who, _ in found] == [2, 1]
    assert found[1][1] < 0
    assert float(one @ two) < 0.93
    np.testing.assert_allclose(np.linalg.norm([one, two], axis=1), 1, atol=1e-5)


def test_an_empty_tile_shows_nobody(case: Case) -> None:
    empty = np.full((540, 480, 3), 120, np.uint8)
    assert look_at_tile(empty, case.models, case.references) == Sighting(0)


def test_no_face_counts_as_wrong_and_runs_are_merged() -> None:
    tally = TileTally((2, 1), TileLayout())
    right, nobody = (Sighting(2, True, 0.1), Sighting(1)), (Sighting(0), Sighting(1))
    for index, pair in enumerate([right, nobody, nobody, right]):
        tally.times_s.append(index / 4)
        tally.sightings.append(pair)
    tiles, centred = tally.checks(0.5, 0.5)
    assert tiles.ok
    assert tiles.values["right_share"] == 0.5
    assert tiles.values["no_face_share"] == {"left": 0.5, "right": 0.0}
    assert tiles.values["wrong"] == [{"from_s": 0.25, "to_s": 0.5, "frames": 2, "seen": [0, 1]}]
    assert not centred.ok
    assert not tally.checks(0.6, 0.0)[0].ok


def test_nothing_looked_at_is_no_success() -> None:
    assert not TileTally((1, 2), TileLayout()).checks(0.0, 0.0)[0].ok


def test_only_frames_with_both_faces_are_looked_at(case: Case) -> None:
    all_times = frames_to_check(case.truth, 1, 0.0)
    clear = frames_to_check(case.truth, 1, 0.8)
    assert len(all_times) == 24
    assert clear < all_times
    hidden = [frame for frame in case.truth.frames if not frame.all_visible(0.8)]
    assert len(clear) + len(hidden) == 24
    assert len(frames_to_check(case.truth, 2, 0.8)) == (len(clear) + 1) // 2


@pytest.mark.parametrize("late_s", [-0.1, 0.0, 0.013])
def test_a_tone_is_found_to_the_millisecond(late_s: float) -> None:
    sound = np.roll(tone_samples(4), round(late_s * SAMPLE_RATE_HZ))
    onset_s, hz = tone_at(sound, SAMPLE_RATE_HZ, 2.0, 0.05)
    assert onset_s == pytest.approx(2.0 + late_s, abs=0.001)
    assert hz == pytest.approx(1000, abs=10)


def test_silence_has_no_tone() -> None:
    assert np.isnan(tone_at(np.zeros(96000, np.float32), 48000, 1.0, 0.05)).all()


def test_similarity_undoes_turn_scale_and_shift() -> None:
    from dualface_client.types import FACE_CHIP_TEMPLATE_PX  # only here

    template = np.array(FACE_CHIP_TEMPLATE_PX, np.float32)
    angle, scale = 0.3, 2.5
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks = (template @ turn.T + [300, 40]).astype(np.float32)
    matrix = similarity_to_template(landmarks)
    np.testing.assert_allclose(landmarks @ matrix[:, :2].T + matrix[:, 2], template, atol=1e-3)


class BothSeen:
    """Sees two people in any picture, at its left and right."""

    def __init__(self, faces: int = 2) -> None:
        self._faces = faces

    def detect(self, bgr: ByteArray, min_score: float = 0.5) -> Faces:
        """Faces of a picture, best first."""
        boxes = [[100, 100, 200, 220], [400, 100, 500, 220]][: self._faces]
        marks = np.zeros((len(boxes), 5, 2), np.float32)
        marks[:, 0, 0] = [box[0] for box in boxes]
        return Faces(np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), marks)

    def embed(self, bgr: ByteArray, landmarks_px: FloatArray) -> FloatArray:
        """Unit embedding of a face."""
        row: FloatArray = np.eye(2, dtype=np.float32)[0 if landmarks_px[0, 0] < 300 else 1]
        return row


@pytest.mark.parametrize(("faces", "right"), [(2, True), (1, False)])
def test_one_picture_is_right_with_both_people_in_it(faces: int, right: bool) -> None:
    tally = TileTally((1, 2), TileLayout((640, 360)))
    plain = np.full((360, 640, 3), 90, np.uint8)  # nothing parts it in the middle
    tally.look(plain, 0.0, BothSeen(faces), References((1, 2), np.eye(2, dtype=np.float32)))
    assert tally.pictures == [right]
    check = tally.checks(0.9, 0.0)[0]
    assert check.ok == right
    assert "1 of them one picture" in check.detail

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from dualface_client.batch.resume import identities, skip_finished
from dualface_client.errors import SourceError
from dualface_client.observe.progress import result_lines
from dualface_client.observe.report import KEPT_FIGURES, StreamReport
from dualface_client.observe.run_state import RunState
from dualface_client.settings.stream import InputSettings, OutputSettings, StreamSettings
from dualface_client.stream.finished import verify_output
from dualface_client.stream.job import Job, new_statuses
from dualface_client.video.check import readable_frames
from tests import media
from tests.media import Clip


class Batch:
    """One input of 20 frames with an output of some other number."""

    def __init__(self, folder: Path, output_frames: int = 20) -> None:
        media.make(folder / "a.mp4", Clip(frames=20))
        media.make(folder / "out.mp4", Clip(frames=output_frames, size_wh_px=(96, 64)))
        self.jobs = [Job("a", folder / "a.mp4", folder / "out.mp4")]
        self.statuses = new_statuses(self.jobs)

    @property
    def job(self) -> Job:
        return self.jobs[0]

    def record(self, frames_out: int, **changes: Any) -> dict[str, Any]:
        """What a run that wrote so many frames leaves in its state file."""
        statuses = new_statuses(self.jobs)
        statuses[0].update(state="done", frames_out=frames_out, frames_in=frames_out, **changes)
        return RunState("0.1", statuses, identities(self.jobs)).as_dict()

    def resumed(self, recorded: dict[str, Any] | None = None, *, overwrite: bool = False) -> Any:
        settings = StreamSettings(output=OutputSettings(overwrite=overwrite))
        skip_finished(self.jobs, self.statuses, recorded or {}, settings)
        return self.statuses[0].snapshot()


def test_a_whole_output_is_not_made_again(tmp_path: Path) -> None:
    report = Batch(tmp_path).resumed()
    assert (report.state, report.frames_out, report.resumed) == ("done", 20, True)
    assert result_lines(report)[0] == "a: done by an earlier run, 20 frames, verified"


def test_the_record_counts_where_the_input_is_damaged(tmp_path: Path) -> None:
    """Its output has fewer frames than it has packets, and is complete all the same."""
    batch = Batch(tmp_path, output_frames=17)
    report = batch.resumed(batch.record(17, decode_errors=3, elapsed_s=4.0))
    assert (report.state, report.frames_out, report.decode_errors) == ("done", 17, 3)


def test_the_record_of_the_run_that_made_it_is_kept(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    told = {"reid_frames": 5, "sides": {1: "right", 2: "left"}, "latency_p50_s": 0.25}
    recorded = json.loads(json.dumps(batch.record(20, elapsed_s=4.0, **told)))
    report = batch.resumed(recorded)
    assert (report.reid_ratio, report.fps) == (0.25, 5.0)
    assert (report.sides, report.latency_p50_s) == ({1: "right", 2: "left"}, 0.25)
    third = new_statuses(batch.jobs)  # the run after this one
    again = RunState("0.1", batch.statuses, identities(batch.jobs)).as_dict()
    skip_finished(batch.jobs, third, json.loads(json.dumps(again)), StreamSettings())
    assert third[0].snapshot() == report


def test_a_record_of_an_older_version_has_fewer_figures(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    recorded = batch.record(20, elapsed_s=4.0)
    for name in KEPT_FIGURES:
        del recorded["streams"][0][name]
    report = batch.resumed(recorded)
    assert (report.state, report.elapsed_s, report.sides) == ("done", 4.0, {})


def test_an_output_of_an_incomplete_input_stays_incomplete(tmp_path: Path) -> None:
    batch = Batch(tmp_path, output_frames=17)
    record = batch.record(17, error="a.mp4: is not complete")
    record["streams"][0]["state"] = "incomplete"
    report = batch.resumed(record)
    assert (report.state, report.exit_code, report.resumed) == ("incomplete", 1, True)
    assert report.error == "a.mp4: is not complete"


@pytest.mark.parametrize("disturb", ["frames", "state", "input", "source"])
def test_a_record_of_something_else_does_not_count(tmp_path: Path, disturb: str) -> None:
    batch = Batch(tmp_path, output_frames=17)
    record = batch.record(17)
    stream = record["streams"][0]
    match disturb:
        case "frames":
            stream["frames_out"] = 16
        case "state":
            stream["state"] = "stopped"
        case "input":
            stream["input"] = "other.mp4"
        case "source":
            os.utime(batch.job.input, ns=(1, 1))
    report = batch.resumed(record)
    assert report.state == "failed"
    wanted = "wrote 16" if disturb == "frames" else "its input has 20"
    assert f"it has 17 frames, the run that made it {wanted}" in report.error or (
        f"it has 17 frames, {wanted}" in report.error
    )


def test_what_is_not_verified_is_refused_and_with_overwrite_made_again(tmp_path: Path) -> None:
    batch = Batch(tmp_path, output_frames=12)
    assert batch.resumed(overwrite=True).state == "waiting"
    replaces = StreamSettings(output=OutputSettings(overwrite=True))
    batch.jobs[0] = replace(batch.job, settings=replaces)
    assert batch.resumed().state == "waiting"
    batch.jobs[0] = replace(batch.job, settings=None)
    report = batch.resumed()
    assert report.state == "failed"
    assert "out.mp4: exists and is not the finished output of" in report.error
    assert "allow --overwrite" in report.error
    assert batch.job.output is not None
    assert batch.job.output.exists()


def test_a_cut_output_is_seen_even_where_its_index_promises_all(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    assert batch.job.output is not None
    os.truncate(batch.job.output, batch.job.output.stat().st_size * 2 // 3)
    assert "cut short" in batch.resumed().error or "cannot be read" in batch.resumed().error


@pytest.mark.parametrize("per_job", [False, True], ids=["of-the-run", "of-the-job"])
def test_the_frames_of_the_track_that_was_asked_for_count(tmp_path: Path, *, per_job: bool) -> None:
    short, long = (media.make(tmp_path / f"{n}.mp4", Clip(frames=n)) for n in (12, 20))
    job = Job("a", media.beside(tmp_path / "a.mkv", [short, long]), short)
    for track, problem in ((1, ""), (2, "it has 12 frames, its input has 20")):
        asked = StreamSettings(input=InputSettings(video_track=track))
        own, of_run = (asked, StreamSettings()) if per_job else (None, asked)
        assert verify_output(replace(job, settings=own), {}, of_run)[1] == problem


def test_no_output_and_no_input_are_left_to_the_run(tmp_path: Path) -> None:
    batch = Batch(tmp_path)
    assert batch.job.output is not None
    batch.job.output.unlink()
    assert batch.resumed().state == "waiting"
    jobs = [Job("gone", tmp_path / "gone.mp4", tmp_path / "x.mp4", "gone.mp4: no such file")]
    statuses = new_statuses(jobs)
    skip_finished(jobs, statuses, {}, StreamSettings())
    assert statuses[0].snapshot() == StreamReport(
        "gone",
        str(jobs[0].input),
        str(jobs[0].output),
        "failed",
        error="gone.mp4: no such file",
        exit_code=1,
    )
    assert identities(jobs) == {}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_frames_are_counted_and_damage_is_named(tmp_path: Path, suffix: str) -> None:
    path = media.make(tmp_path / f"a{suffix}", Clip(frames=30, options={"g": "10"}))
    assert readable_frames(path) == 30
    data = bytearray(path.read_bytes())
    half = tmp_path / f"half{suffix}"
    half.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(SourceError, match=r"half"):
        readable_frames(half)


def blank(path: Path, source: Path, packets: int) -> Path:
    """Copies a video whose last packets are zeros, as pages are that never reached the disk."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        found = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    for at, size in found[-packets:]:
        assert at is not None
        data[at : at + size] = bytes(size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", ["libx264", "libx265", "libsvtav1"])
@pytest.mark.parametrize("packets", [1, 8])
def test_pictures_that_are_missing_behind_the_last_key_frame_are_seen(
    tmp_path: Path, codec: str, packets: int
) -> None:
    clip = Clip(frames=30, codec=codec, options={"g": "15"}, size_wh_px=(96, 64))
    path = media.make(tmp_path / "a.mp4", clip)
    assert readable_frames(path) == 30
    with pytest.raises(SourceError, match=r"bad\.mp4: its end cannot be decoded \("):
        readable_frames(blank(tmp_path / "bad.mp4", path, packets))


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("b_frames.mp4", "libx264", {"bf": "3"}),
        ("open_groups.mkv", "libx265", {"x265-params": "open-gop=1:log-level=none"}),
        # Nothing is shown of the pictures before the whole picture has been refreshed.
        ("no_key_frames.mkv", "libx264", {"x264-params": "intra-refresh=1"}),
        # These are sought to the very packet, and not to its key frame.
        ("transport.ts", "libx264", {"bf": "3"}),
        ("b_frames.flv", "libx264", {"bf": "3"}),
        ("reordered.avi", "mpeg4", {"bf": "2"}),
    ],
)
def test_pictures_that_come_late_or_need_earlier_ones_are_not_missed(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    clip = Clip(frames=60, codec=codec, options={"g": "25", **options}, size_wh_px=(96, 64))
    assert readable_frames(media.make(tmp_path / name, clip)) == 60


def test_what_is_no_video_has_no_frames(tmp_path: Path) -> None:
    (tmp_path / "t.mp4").write_bytes(b"text" * 100)
    with pytest.raises(SourceError, match=r"t\.mp4: cannot be read"):
        readable_frames(tmp_path / "t.mp4")
    with pytest.raises(SourceError, match="cannot be read"):
        readable_frames(tmp_path / "none.mp4")
    shutil.rmtree(tmp_path)

"""`dualface-client run` on bad and odd input, against one running server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from dualface_client.triton.embedded import EmbeddedServer
from tests.media import (
    Audio,
    Clip,
    cut,
    damage,
    make,
    make_audio_only,
    packets_of,
    rotate,
    times_of,
)

Run = Callable[..., subprocess.CompletedProcess[str]]

SMALL = Clip(frames=6, size_wh_px=(160, 120))


@pytest.fixture
def run(triton_server: EmbeddedServer, tmp_path: Path) -> Run:
    """Runs the command on the shared server, small tiles, in the test's directory."""

    def call(
        *arguments: str | Path, options: Sequence[str] = (), server: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dualface_client", "run", *map(str, arguments)]
        command += ["--server", server or triton_server.grpc_address, "--size", "320x180"]
        return subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            timeout=120,
        )

    return call


def frames_of(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def no_trace(done: subprocess.CompletedProcess[str]) -> None:
    assert "Traceback" not in done.stdout + done.stderr, done.stderr


def test_bad_inputs_fail_by_name_and_the_good_one_is_done(run: Run, tmp_path: Path) -> None:
    good = make(tmp_path / "good.mp4", SMALL)
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    make_audio_only(tmp_path / "voice.m4a")
    cut(tmp_path / "cut.mp4", good, 0.5)
    (tmp_path / "novideos").mkdir()
    names = ["absent.mp4", "zero.mp4", "text.mp4", "voice.m4a", "cut.mp4", "novideos", "good.mp4"]
    done = run(*names, "-o", "out", options=["--summary", "s.json"])
    no_trace(done)
    assert done.returncode == 1
    for line in (
        "absent: failed: absent.mp4: no such file",
        "zero: failed: zero.mp4: is empty (0 bytes)",
        "text: failed: text.mp4: cannot be read as a video",
        "voice: failed: voice.m4a: has only audio",
        "cut: failed: cut.mp4: its index (moov) is missing",
        "novideos: failed: novideos: has no videos",
        "good: done, 6 frames",
        "7 videos: 1 done, 6 failed",
    ):
        assert line in done.stderr, done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_dualface.mp4"]
    streams = {s["name"]: s for s in json.loads((tmp_path / "s.json").read_text())["streams"]}
    assert streams["good"]["frames_out"] == 6
    assert streams["zero"]["state"] == "failed"


ODD_ONES: dict[str, Clip] = {
    "odd_size": replace(SMALL, size_wh_px=(161, 121), codec="ffv1"),
    "one_pixel": replace(SMALL, size_wh_px=(1, 1), codec="ffv1"),
    "ten_bit": replace(SMALL, pix_fmt="yuv420p10le"),
    "four_two_two": replace(SMALL, pix_fmt="yuv422p"),
    "interlaced": replace(SMALL, interlaced=True),
    "vfr": replace(SMALL, pts=(0, 3, 4, 9, 11, 30), time_base=Fraction(1, 100)),
    "eight_k": replace(SMALL, frames=2, size_wh_px=(7680, 4320), options={"preset": "ultrafast"}),
}


@pytest.mark.parametrize("name", sorted(ODD_ONES))
def test_odd_videos_are_done_frame_for_frame(run: Run, tmp_path: Path, name: str) -> None:
    clip = ODD_ONES[name]
    suffix = "mkv" if clip.codec == "ffv1" else "mp4"
    source = make(tmp_path / f"{name}.{suffix}", clip)
    done = run(source, "-o", "out.mp4")
    no_trace(done)
    assert done.returncode == 0, done.stderr
    assert "nobody was seen" in done.stderr
    assert times_of(tmp_path / "out.mp4") == times_of(source)
    with av.open(str(tmp_path / "out.mp4")) as output:
        video = output.streams.video[0]
        assert (video.width, video.height) == (320, 180)
        assert video.codec_context.profile == "High"


def test_a_rotated_video_stands_upright(run: Run, tmp_path: Path) -> None:
    source = make(tmp_path / "phone.mp4", replace(SMALL, container={}))
    rotate(source, 90)
    done = run(source, "-o", "out.mp4")
    assert done.returncode == 0, done.stderr
    assert "note: rotated by" in done.stderr
    with av.open(str(tmp_path / "out.mp4")) as output:
        assert next(output.decode(video=0)).rotation == 0


def test_a_cut_matroska_gives_what_is_there_and_is_incomplete(run: Run, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mkv", replace(SMALL, frames=50))
    part = cut(tmp_path / "part.mkv", whole, 0.6)
    done = run(part, "-o", "out.mkv")
    no_trace(done)
    assert done.returncode == 1, done.stderr
    assert "part: incomplete" in done.stderr
    assert "cut short" in done.stderr
    assert "done" not in done.stderr
    assert 0 < frames_of(tmp_path / "out.mkv") == frames_of(part) < 50


def test_damage_in_the_middle_is_counted_and_the_rest_done(run: Run, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mkv", replace(SMALL, frames=40, options={"g": "10"}))
    damage(tmp_path / "bad.mkv", whole, range(15, 18))
    done = run(tmp_path / "bad.mkv", "-o", "out.mp4", options=["--summary", "s.json"])
    no_trace(done)
    assert done.returncode == 0, done.stderr
    (stream,) = json.loads((tmp_path / "s.json").read_text())["streams"]
    assert stream["frames_in"] == stream["frames_out"] == frames_of(tmp_path / "out.mp4") >= 25
    assert stream["decode_errors"] or stream["warnings"]


def test_every_audio_stream_is_copied_bit_for_bit(run: Run, tmp_path: Path) -> None:
    audio = (Audio(language="eng"), Audio("mp3", tone_hz=880, language="fra"))
    source = make(tmp_path / "talk.mp4", replace(SMALL, frames=25, audio=audio))
    assert run(source, "-o", "out.mp4").returncode == 0
    for index in (0, 1):
        ours, theirs = (packets_of(p, "audio", index) for p in (tmp_path / "out.mp4", source))
        assert [data for _, data in ours] == [data for _, data in theirs]
        assert [time for time, _ in ours] == [time for time, _ in theirs]


def test_an_existing_output_is_kept_unless_told(run: Run, tmp_path: Path) -> None:
    source = make(tmp_path / "talk.mp4", SMALL)
    (tmp_path / "out.mp4").write_text("precious")
    refused = run(source, "-o", "out.mp4")
    assert refused.returncode == 2
    assert "out.mp4: exists" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert (tmp_path / "out.mp4").read_text() == "precious"
    assert run(source, "-o", "out.mp4", options=["--overwrite", "--quiet"]).stderr == ""
    assert frames_of(tmp_path / "out.mp4") == 6


def test_output_places_that_cannot_be(run: Run, tmp_path: Path) -> None:
    source = make(tmp_path / "talk.mp4", SMALL)
    missing = run(source, "-o", "no/such/out.mp4")
    assert (missing.returncode, "no/such: is not a directory" in missing.stderr) == (2, True)
    deep = run(source, "-o", "no/such/dir")
    assert (deep.returncode, "does not exist" in deep.stderr) == (2, True)
    suffix = run(source, "-o", "out.avi")
    assert (suffix.returncode, ".avi cannot be written" in suffix.stderr) == (2, True)
    itself = run(source, "-o", "talk.mp4", options=["--overwrite"])
    assert (itself.returncode, "is an input" in itself.stderr) == (2, True)
    for done in (missing, deep, itself):
        no_trace(done)


def test_a_directory_that_may_not_be_written(run: Run, tmp_path: Path) -> None:
    source = make(tmp_path / "talk.mp4", SMALL)
    # Nobody, not even root, makes files in /proc.
    done = run(source, "-o", "/proc/out.mp4")
    assert done.returncode == 2
    assert "error: /proc: is not writable" in done.stderr
    no_trace(done)


def test_a_full_disk_fails_that_stream_and_leaves_a_playable_part(
    run: Run, tmp_path: Path, triton_server: EmbeddedServer
) -> None:
    # The limit leaves room for the two streams' region in /dev/shm; noise soon fills it.
    source = _noise(tmp_path / "noise.mkv", frames=30)
    make(tmp_path / "good.mp4", replace(SMALL, frames=10))
    script = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6_200_000, 6_200_000))\n"
        "from dualface_client.cli.main import main\n"
        "main()\n"
    )
    arguments = ["run", str(source), "good.mp4", "-o", "out", "--streams", "2", "--in-flight", "1"]
    arguments += ["--server", triton_server.grpc_address, "--disk-wait", "0"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, "--size", "640x360", "--crf", "1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=120,
    )
    no_trace(done)
    assert done.returncode == 1, done.stderr
    assert "noise: failed:" in done.stderr
    assert "space" in done.stderr or "large" in done.stderr
    part = tmp_path / "out" / "noise_dualface.partial.mp4"
    assert "the part so far: out/noise_dualface.partial.mp4" in done.stderr
    assert frames_of(part) > 0
    assert frames_of(tmp_path / "out" / "good_dualface.mp4") == 10  # beside it, at the same time
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize("option", ["--tracks", "--summary"])
def test_side_files_never_replace_a_video_or_anything_unasked(
    run: Run, tmp_path: Path, option: str
) -> None:
    source = make(tmp_path / "talk.mp4", SMALL)
    before = source.read_bytes()
    (tmp_path / "kept.txt").write_text("precious")
    for name, reason in (("talk.mp4", "one of the videos"), ("o.mp4", "one of the videos")):
        done = run(source, "-o", "o.mp4", options=[option, name, "--overwrite"])
        assert (done.returncode, reason in done.stderr) == (2, True), done.stderr
    done = run(source, "-o", "o.mp4", options=[option, "kept.txt"])
    assert (done.returncode, "allow --overwrite" in done.stderr) == (2, True), done.stderr
    assert source.read_bytes() == before
    assert (tmp_path / "kept.txt").read_text() == "precious"


def _noise(path: Path, frames: int) -> Path:
    rng = np.random.default_rng(1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for _ in range(frames):
            planes = rng.integers(16, 236, (540, 640), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        output.mux(stream.encode(None))
    return path


def test_usage_mistakes_are_explained(run: Run, tmp_path: Path) -> None:
    source = make(tmp_path / "talk.mp4", SMALL)
    for options, message in (
        (["--size", "1921x1080"], "nearest: 1920x1080"),
        (["--size", "huge"], "WIDTHxHEIGHT such as"),
        (["--crf", "70"], "expected a whole number, 1 to 51"),
        (["--device", "cuda"], "--device cuda"),
        (["--tracks", "nowhere/t.txt", "--preset", "veryfast"], "cannot write tracks"),
        (["--debug-overlay", "talk.mp4"], "one of the videos"),
        (["--debug-overlay", "seen.gif"], "expected a name that ends in .m4v"),
        (["--overwritten"], "No such option"),
    ):
        done = run(source, "-o", "out.mp4", options=options)
        assert done.returncode in (1, 2), (options, done.stderr)
        assert message in done.stderr, (options, done.stderr)
        no_trace(done)
    done = run(source)
    assert (done.returncode, "-o" in done.stderr) == (2, True)


def test_a_preset_that_does_not_exist_is_named(run: Run, tmp_path: Path) -> None:
    source = make(tmp_path / "talk.mp4", SMALL)
    done = run(source, "-o", "out.mp4", options=["--preset", "warp9"])
    assert done.returncode != 0
    assert "warp9" in done.stderr
    no_trace(done)

"""Every mistake in a configuration is told by file, line, value and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from dualface_client.cli.commands import cli
from dualface_client.config.program import check_settings
from dualface_client.errors import UsageError

#: What is wrong; the file; the line; what the message says of the value; and of the remedy.
SETTINGS = [
    ("number out of range", "output:\n  crf: 99\n", 2, "output.crf: 99", "1 to 51"),
    ("below the range", "run:\n  streams: 0\n", 2, "run.streams: 0", "1 to 1024"),
    ("negative", "queues:\n  frames_ahead: -3\n", 2, "frames_ahead: -3", "1 to 256"),
    ("a fraction for a count", "output: {crf: 20.5}\n", 1, "20.5", "without a fraction"),
    ("a word for a number", "output:\n  crf: good\n", 2, "output.crf: good", "a whole number"),
    ("a unit", "detection:\n  timeout_s: 10s\n", 2, "timeout_s: 10s", "without a unit"),
    ("a percentage", "monitor:\n  files_high: 90%\n", 2, "90%", "without a unit"),
    ("a decimal comma", "framing:\n  hold_s: 1,5\n", 2, "hold_s: 1,5", "write 1.5"),
    ("leading zeros", "output:\n  crf: 020\n", 2, "crf: 020", "without leading zeros"),
    ("not a number", "framing:\n  hold_s: .nan\n", 2, "hold_s: .nan", "0 to 3600"),
    ("infinite", "framing:\n  pan_rate: inf\n", 2, "pan_rate: inf", "0.01 to 1000"),
    ("an unknown word", "output:\n  encoder: x265\n", 2, "encoder: x265", "did you mean x264?"),
    ("a word in capitals", "run: {device: CUDA}\n", 1, "device: CUDA", "did you mean cuda?"),
    ("neither true nor false", "output:\n  overwrite: maybe\n", 2, "maybe", "true or false"),
    ("a size with a star", "output:\n  size: 1920*1080\n", 2, "1920*1080", "such as 1920x1080"),
    ("an odd size", "output:\n  size: 1921x1081\n", 2, "1921x1081", "nearest: 1920x1080"),
    ("an odd gap", "output:\n  gap_px: 3\n", 2, "gap_px: 3", "nearest: 2 and 4"),
    ("an unknown colour", "output:\n  gap_color: bleck\n", 2, "bleck", "did you mean black?"),
    ("too few digits", "output:\n  gap_color: '#123'\n", 2, "#123", "six hexadecimal digits"),
    ("an address without port", "server:\n  address: gpu1\n", 2, "address: gpu1", "usually 8001"),
    ("a URL", "server:\n  address: http://a:8001\n", 2, "http://a:8001", "leave out http://"),
    ("a port too large", "server:\n  address: a:99999\n", 2, "a:99999", "HOST:PORT"),
    ("a missing model", "server:\n  reid_onnx: no.onnx\n", 2, "no.onnx", "check the path"),
    ("an unknown key", "output:\n\n  cfr: 20\n", 3, "output.cfr", "did you mean output.crf?"),
    ("the wrong section", "detection:\n  crf: 20\n", 2, "detection.crf", "mean output.crf?"),
    ("an unknown section", "trakcing:\n  risk: 1\n", 1, "trakcing", "did you mean tracking?"),
    ("a key like no other", "qqqqqq: 1\n", 1, "qqqqqq", "remove it"),
    ("a value for a section", "output: x264\n", 1, "a single value", "indented below it"),
    ("a section for a value", "output:\n  crf: {a: 1}\n", 2, "a section", "1 to 51"),
    ("a list for a value", "run:\n  device: [cpu]\n", 2, "a list", "auto, cpu, cuda"),
    ("no value", "output:\n  crf:\n", 2, "crf: has no value", "remove the line"),
    ("null", "output:\n  crf: ~\n", 2, "crf: has no value", "remove the line"),
    ("given twice", "output:\n  crf: 20\n  crf: 21\n", 3, "crf: given twice", "keep one"),
    ("twice, dotted", "output.crf: 20\noutput:\n  crf: 21\n", 3, "given twice", "keep one"),
    ("a list of settings", "- crf\n", 1, "a list at the top", "sections such as `output:`"),
    ("a text", "hello\n", 1, "a single value at the top", "sections such as `output:`"),
    ("tabs", "output:\n\tcrf: 20\n", 2, "not YAML", "with spaces, not tabs"),
    ("an open quote", "run:\n  device: 'cpu\n", 3, "not YAML", "close quotes"),
    ("an open bracket", "output: {crf: 20\n", 2, "not YAML", "close quotes and brackets"),
    ("a crooked indent", "output:\n  crf: 20\n size: 64x64\n", 3, "not YAML", "align the indents"),
    ("two documents", "output:\n  crf: 20\n---\nrun: {}\n", 3, "second one", "remove the line"),
    ("a Python object", "run: !!python/object:os.x {}\n", 1, "python/object", "a plain value"),
    ("a merged section", "a: &a {}\noutput:\n  <<: *a\n", 3, "<<", "write the values out"),
    ("a loop", "output: &o\n  crf: *o\n", 2, "inside its own anchor", "write the values out"),
    ("a control character", "run:\n  device: \x01\n", 2, "not YAML", "remove it"),
    ("not UTF-8", b"run:\n  device: \xff\n", 2, "0xff", "save the file as UTF-8"),
    (
        "a gap that leaves tiles of odd width",
        "output:\n  gap_px: 10\n",
        2,
        "output.gap_px: 10: each tile would be 955 px wide",
        "expected an even number; use a gap of 8 or 12",
    ),
    (
        "a gap that leaves no tiles",
        "output: {size: 640x360}\noutput.gap_px: 640\n",
        2,
        "output.gap_px: 640",
        "at most 624: the width is 640",
    ),
    (
        "tiles of odd height",
        "output:\n  layout: stacked\n  size: 1080x1918\n",
        3,
        "output.size: 1080x1918: each tile would be 959 px high",
        "expected an even number; use a height of 1916",
    ),
    (
        "tiles of odd width",
        "output:\n  size: 1922x1080\n",
        2,
        "output.size: 1922x1080: each tile would be 961 px wide",
        "expected an even number; use a width of 1920",
    ),
    (
        "a gap in one picture",
        "output:\n  layout: solo\n  gap_px: 8\n",
        3,
        "output.gap_px: 8",
        "no effect with output.layout, solo",
    ),
    (
        "more frames than the engine takes",
        "detection:\n  frames_per_request: 32\n",
        2,
        "frames_per_request: 32",
        "at most limits.detector_batch, 16 (default)",
    ),
    (
        "release above threshold",
        "tracking:\n  risk:\n    release: 0.7\n",
        3,
        "release: 0.7",
        "less than tracking.risk.threshold, 0.5 (default)",
    ),
    (
        "threshold below release",
        "tracking.risk.threshold: 0.2\n",
        1,
        "threshold: 0.2",
        "more than tracking.risk.release, 0.25",
    ),
    (
        "more streams than encoder sessions",
        "limits: {nvenc_sessions: 8}\noutput: {encoder: nvenc}\nrun:\n  streams: 9\n",
        4,
        "run.streams: 9",
        "at most limits.nvenc_sessions, 8",
    ),
    (
        "NVENC on a GPU without it",
        "limits: {nvenc_sessions: 0}\noutput:\n  encoder: nvenc\n",
        3,
        "output.encoder: nvenc",
        "use x264 or auto",
    ),
]
STREAMS = [
    ("no list", "streams: talk.mp4\n", 1, "streams", "a list, `- name: ...`"),
    ("an empty list", "streams: []\n", 1, "streams", "a list, `- name: ...`"),
    ("not a stream", "streams:\n- talk.mp4\n", 2, "a single value", "name, input and output"),
    ("no name", "streams:\n- input: a.mp4\n  output: b.mp4\n", 2, "name", "write `name: ...`"),
    ("no input", "streams:\n- name: a\n  output: b.mp4\n", 2, "input", "write `input: ...`"),
    ("no output", "streams:\n- name: a\n  input: a.mp4\n", 2, "output", "write `output: ...`"),
    (
        "an unknown key",
        "streams:\n- name: a\n  input: a.mp4\n  ouput: b.mp4\n",
        4,
        "ouput",
        "did you mean output?",
    ),
    (
        "a list of inputs",
        "streams:\n- name: a\n  input: [a.mp4]\n  output: b.mp4\n",
        3,
        "input: a list",
        "expected a text",
    ),
    (
        "a priority in words",
        "streams:\n- {name: a, input: a.mp4, output: b.mp4, priority: high}\n",
        2,
        "priority: high",
        "0 to 1000",
    ),
    (
        "a name used twice",
        "streams:\n- {name: a, input: a, output: b.mp4}\n- {name: a, input: b, output: c.mp4}\n",
        3,
        "name: a: used by the stream in line 2",
        "give each its own",
    ),
    (
        "an output used twice",
        "streams:\n- {name: a, input: a, output: c.mp4}\n- {name: b, input: b, output: c.mp4}\n",
        3,
        "output: c.mp4: used by the stream in line 2",
        "give each its own",
    ),
    (
        "a setting of the whole run",
        "streams:\n- name: a\n  input: a\n  output: b.mp4\n  settings:\n    run: {device: cpu}\n",
        6,
        "run.device",
        "move it to manual.yaml",
    ),
    (
        "a wrong setting",
        "streams:\n- name: a\n  input: a\n  output: b.mp4\n  settings:\n    output.crf: 0\n",
        6,
        "output.crf: 0",
        "1 to 51",
    ),
    (
        "settings that do not fit together",
        "streams:\n- name: a\n  input: a\n  output: b.mp4\n"
        "  settings:\n    tracking.risk.release: 0.9\n",
        6,
        "release: 0.9",
        "less than tracking.risk.threshold",
    ),
]
MISTAKES = SETTINGS + STREAMS


def check(path: Path) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["config", "check", str(path)], standalone_mode=False)
    assert done.exception is None, done.exception
    return int(done.return_value), done.stderr


@pytest.mark.parametrize(
    ("content", "line", "value", "remedy"),
    [mistake[1:] for mistake in MISTAKES],
    ids=[mistake[0] for mistake in MISTAKES],
)
def test_a_mistake_is_told_by_file_line_value_and_remedy(
    content: str | bytes, line: int, value: str, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "manual.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    code, text = check(path)
    told = [told for told in text.splitlines() if value in told]
    assert code == 2
    assert told, text
    assert told[0].startswith(f"{path}:{line}: "), text
    assert remedy in told[0]


def test_there_are_thirty_and_more() -> None:
    assert len({mistake[0] for mistake in SETTINGS}) >= 30


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in check(tmp_path / "none.yaml")[1]
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (1 << 20) + b"\n")
    assert "larger than 1 MiB" in check(large)[1]


def test_of_a_directory_the_layers_are_checked_together(tmp_path: Path) -> None:
    code, text = check(tmp_path)
    assert code == 2
    assert text.startswith(f"{tmp_path}: has none of ")
    assert "manual.yaml; name a file or another directory" in text
    (tmp_path / "fallback.yaml").write_text("tracking.risk.release: 0.3\n")
    (tmp_path / "manual.yaml").write_text("tracking.risk.threshold: 0.4\n")
    (tmp_path / "streams.yaml").write_text("not a layer\n")
    done = CliRunner().invoke(cli, ["config", "check", str(tmp_path)], standalone_mode=False)
    assert (done.return_value, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path}: right (fallback.yaml, manual.yaml)\n"
    (tmp_path / "manual.yaml").write_text("tracking.risk.threshold: 0.2\n")
    code, text = check(tmp_path)
    assert code == 2
    assert text.startswith(f"{tmp_path / 'manual.yaml'}:1: ")
    assert "tracking.risk.release" in text
    (tmp_path / "fallback.yaml").write_text("output:\n  crf: 99\n")
    assert f"{tmp_path / 'fallback.yaml'}:2: output.crf" in check(tmp_path)[1]


def test_endless_files_end(tmp_path: Path) -> None:
    path = tmp_path / "manual.yaml"
    path.write_text("[" * 600)
    assert "nested too deeply" in check(path)[1]
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]" for i in range(1, 12)]
    path.write_text("\n".join(lines))
    assert "more than 20000 values" in check(path)[1]


def test_a_right_file_is_said_to_be_right(tmp_path: Path) -> None:
    path = tmp_path / "manual.yaml"
    path.write_text("output:\n  crf: 30\nmonitor:\n")
    done = CliRunner().invoke(cli, ["config", "check", str(path)], standalone_mode=False)
    assert (done.return_value, "right" in done.stdout) == (0, True)


def test_files_that_a_list_of_streams_names_are_missed_and_cameras_are_not(tmp_path: Path) -> None:
    path = tmp_path / "streams.yaml"
    path.write_text(
        "streams:\n"
        f"- {{name: file, input: {tmp_path}/gone.mp4, output: {tmp_path}/a.mp4}}\n"
        f"- {{name: door, input: 'rtsp://camera/door', output: {tmp_path}/}}\n"
    )
    done = CliRunner().invoke(cli, ["config", "check", str(path)], standalone_mode=False)
    first, *notes = done.stdout.splitlines()
    assert first == f"{path}: right, 2 streams"
    assert notes == [f"note: {path}:2: {tmp_path}/gone.mp4 is not there now"]


def test_every_mistake_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "manual.yaml"
    path.write_text("output:\n  crf: 99\n  encodr: x264\nrun:\n  device: tpu\n")
    assert len(check(path)[1].splitlines()) == 3


@pytest.mark.parametrize("word", ["gpu", "GPU", "nvidia"])
def test_a_device_that_has_another_name_here_is_suggested(word: str) -> None:
    with pytest.raises(UsageError, match="expected one of auto, cpu, cuda; did you mean cuda"):
        check_settings(None, {"device": ("run.device", word)})

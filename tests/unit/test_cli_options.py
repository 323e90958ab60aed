"""What the command line refuses before anything is imported or started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualface_client.cli.commands import cli
from dualface_client.daemon.run import STREAMS
from dualface_client.errors import UsageError


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["run", "x.mp4", *arguments])
    if isinstance(done.exception, UsageError):  # shown by `run_command_line`
        return str(done.exception)
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        ":8001",
        "host:0",
        "h:65536",
        "http://h:1",
        "unix:",
        "unix:a",
        "unix:///a",
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert "HOST:PORT such as" in refused("-o", "y.mp4", "--server", text)


@pytest.mark.parametrize("option", ["--crf", "--size", "--server", "--streams"])
def test_a_long_value_is_not_repeated_in_full(option: str) -> None:
    said = refused("-o", "y.mp4", option, "9" * 5000)
    assert "... (5000 characters): expected" in said
    assert len(said) < 1000


@pytest.mark.parametrize("size", ["²x²", "1921x1080", "x", "1x", "99999999999x16", "0x0"])
def test_sizes_that_cannot_be(size: str) -> None:
    assert size in refused("-o", "y.mp4", "--size", size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--server", "h:1", "-o", "y.mp4", "--model-threads", "2"), "--model-threads has no"),
        (
            ("--server", "h:1", "-o", "y.mp4", "--reid-onnx", __file__),
            "has no effect on the server of server.address, h:1",
        ),
        (("--encoder", "none", "-o", "y.mp4"), "--output has no effect with --encoder none"),
        (("--encoder", "none", "--crf", "20"), "--crf has no effect with --encoder none"),
        (
            ("-o", "y.mp4", "--detector-onnx", "absent.onnx"),
            "absent.onnx: expected exported, or an",
        ),
        (("-o", "y.mp4", "--preset", "warp9"), "warp9: expected one of ultrafast, "),
        ((), "Missing option '-o'"),
        (("--streams-file", "s.yaml"), "INPUT... has no effect with --streams-file"),
    ],
)
def test_options_that_would_be_ignored_or_fail_later(
    arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments)


def test_a_hint_that_asks_ends_with_its_question_mark() -> None:
    assert "did you mean fast?\n" in refused("-o", "y.mp4", "--preset", "fastt")
    assert "1 to 51.\n" in refused("-o", "y.mp4", "--crf", "52")


def test_settings_of_files_and_variables_count(tmp_path: Path) -> None:
    """As the options that they stand for: here, that nothing is written."""
    manual = tmp_path / "manual.yaml"
    manual.write_text("output:\n  encoder: none\n")
    text = refused("-o", "y.mp4", "--config", str(manual))
    assert "--output has no effect with --encoder none" in text
    done = CliRunner().invoke(cli, ["run", "x.mp4"], env={"DUALFACE_OUTPUT_CRF": "99"})
    assert "DUALFACE_OUTPUT_CRF: output.crf: 99: expected a whole number" in str(done.exception)


def test_no_input_and_no_streams_file() -> None:
    done = CliRunner().invoke(cli, ["run", "-o", "y.mp4"])
    assert (done.exit_code, "Missing argument 'INPUT...'" in done.output) == (2, True)


def daemon_help() -> str:
    """As one line, however the terminal breaks it."""
    return " ".join(CliRunner().invoke(cli, ["daemon", "--help"]).output.split())


def test_the_daemons_help_says_what_it_does_with_streams_and_workers() -> None:
    text = daemon_help()
    assert f"For the daemon, streams that it runs at a time; `auto` is {STREAMS}." in text
    assert "up to this many or one per four streams, whichever is more" in text


def test_options_that_take_a_directory_say_so() -> None:
    text = daemon_help()
    assert "--input-directory DIR" in text
    assert "--output-directory DIR" in text


def test_a_base_install_is_told_what_to_install(tmp_path: Path) -> None:
    """Without the command line's packages: an interpreter that finds ours alone."""
    import dualface_client

    (tmp_path / "dualface_client").symlink_to(Path(dualface_client.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "dualface_client", "--help"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: the Python package 'click' is not installed; it comes with the extra 'cpu': "
        "pip install 'dualface-client[cpu]' ([gpu] instead for an NVIDIA GPU)\n"
    )


def test_an_output_that_nobody_reads_is_no_crash() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m dualface_client doctor | true"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("text", ["", "one,two", "0,0", "-1", "0:", "GPU", "0;1"])
@pytest.mark.parametrize("command", ["run", "serve", "plan", "probe", "doctor", "daemon"])
def test_what_is_no_list_of_gpus_is_refused_by_every_command(command: str, text: str) -> None:
    done = CliRunner().invoke(cli, [command, "--gpus", text])
    assert done.exit_code == 2
    assert "all, or GPUs with commas between them, such as 0,2" in done.output


def test_a_plan_is_for_each_gpu_and_its_share_of_the_streams() -> None:
    four = CliRunner().invoke(cli, ["plan", "--streams", "64", "--gpus", "0,1,2,3"]).output
    one = CliRunner().invoke(cli, ["plan", "--streams", "16"]).output
    assert four.startswith("4 GPUs; memory is for each of them")
    assert one.strip() in four
    assert re.search(r"^All 4: [\d,]+ bytes of /dev/shm$", four, re.MULTILINE)

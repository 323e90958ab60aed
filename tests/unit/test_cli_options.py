"""What the command line refuses before anything is imported or started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualface_client.cli.commands import cli


def refused(*arguments: str) -> str:
    done = CliRunner().invoke(cli, ["run", "x.mp4", *arguments])
    assert done.exit_code == 2, done.output
    return done.output


@pytest.mark.parametrize("text", ["", "host", "host:", ":8001", "host:0", "h:65536", "http://h:1"])
def test_what_is_no_address(text: str) -> None:
    assert "expected HOST:PORT such as" in refused("-o", "y.mp4", "--server", text)


@pytest.mark.parametrize("size", ["²x²", "1921x1080", "x", "1x", "99999999999x16", "0x0"])
def test_sizes_that_cannot_be(size: str) -> None:
    assert size in refused("-o", "y.mp4", "--size", size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--server", "h:1", "-o", "y.mp4", "--model-threads", "2"), "--model-threads has no"),
        (("--server", "h:1", "-o", "y.mp4", "--reid-onnx", __file__), "--reid-onnx has no effect"),
        (("--encoder", "none", "-o", "y.mp4"), "--output has no effect with --encoder none"),
        (("--encoder", "none", "--crf", "20"), "--crf has no effect with --encoder none"),
        (("-o", "y.mp4", "--detector-onnx", "absent.onnx"), "'absent.onnx' does not exist"),
        (("-o", "y.mp4", "--preset", "warp9"), "'warp9' is not one of 'ultrafast', "),
        ((), "Missing option '-o'"),
    ],
)
def test_options_that_would_be_ignored_or_fail_later(
    arguments: tuple[str, ...], message: str
) -> None:
    assert message in refused(*arguments)


def test_a_base_install_is_told_what_to_install(tmp_path: Path) -> None:
    """Without the command line's packages: an interpreter that finds ours alone."""
    import dualface_client

    (tmp_path / "dualface_client").symlink_to(Path(dualface_client.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-S", "-m", "dualface_client", "--help"],
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == (
        "error: the Python package 'click' is not installed; the command line needs the extra "
        "'run': pip install 'dualface-client[run]'\n"
    )


def test_an_output_that_nobody_reads_is_no_crash() -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m dualface_client doctor | true"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr

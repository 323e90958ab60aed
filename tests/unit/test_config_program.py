"""Settings of Python programs are read and refused as those of files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dualface_client.config.program import check_settings, load_settings
from dualface_client.config.stack import build, merged
from dualface_client.errors import ConfigError
from dualface_client.settings.program import ProgramSettings, RunSettings
from dualface_client.settings.stream import OutputSettings, StreamSettings
from dualface_client.settings.tracking import TrackingSettings


def test_nothing_said_is_the_defaults() -> None:
    assert check_settings(None) == check_settings({}) == ProgramSettings()


@pytest.mark.parametrize(
    "settings",
    [
        {"output.crf": 18, "output.size": (1280, 720), "output.overwrite": True},
        {"output": {"crf": "18", "size": "1280x720", "overwrite": "yes"}},
        {"output": {"crf": 18, "size": [1280, 720]}, "output.overwrite": True},
        StreamSettings(output=OutputSettings((1280, 720), crf=18, overwrite=True)),
    ],
)
def test_a_mapping_says_the_same_as_typed_settings(settings: Any) -> None:
    output = OutputSettings((1280, 720), crf=18, overwrite=True)
    assert check_settings(settings) == ProgramSettings(stream=StreamSettings(output=output))


def test_what_is_typed_comes_out_as_it_went_in() -> None:
    framing = replace(StreamSettings().framing, zoom_rate=0.1 + 0.2)
    program = ProgramSettings(
        run=RunSettings(streams=3, workers=None), stream=replace(StreamSettings(), framing=framing)
    )
    assert check_settings(program) == program


def test_a_colour_is_three_numbers_or_as_in_a_file() -> None:
    for color in ((26, 43, 60), [26, 43, 60], "#1A2B3C", "1a2b3c"):
        output = check_settings({"output.gap_color": color}).stream.output
        assert output.gap_color == (26, 43, 60)


def test_none_is_the_word_that_leaves_the_choice_to_the_program() -> None:
    program = check_settings({"run.workers": None, "server.address": None, "run.streams": 2})
    assert program.run == RunSettings(workers=None, streams=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output.crff": 20}, r"settings: output\.crff: unknown setting; did you mean output\.crf"),
        ({"output": {"crf": 99}}, "settings: output.crf: 99: expected a whole number, 1 to 51"),
        ({"output.crf": True}, "output.crf: true: expected a whole number"),
        ({"output.crf": None}, "output.crf: has no value; expected a whole number"),
        ({"output.crf": [20]}, "output.crf: a list: expected a whole number"),
        ({"output.crf": 20, "output": {"crf": 21}}, "output.crf: given twice; keep one"),
        ({"output.size": (1280,)}, "output.size: 1280: expected auto, or WIDTHxHEIGHT"),
        ({"output.gap_color": (300, 0, 0)}, "output.gap_color: 12C0000: expected six hexa"),
        ({"output": 5}, "output: a single value: expected a section"),
        ({"framing.zoom_rate": math.nan}, "framing.zoom_rate: nan: expected a number"),
        ({5: 3}, "settings: 5: unknown setting"),
        (StreamSettings(output=OutputSettings(crf=99)), "output.crf: 99: expected a whole number"),
        (
            {"detection.frames_per_request": 8, "limits.detector_batch": 4},
            r"frames_per_request: 8: expected at most limits.detector_batch, 4 \(settings\)",
        ),
        (
            StreamSettings(tracking={"reid": "never"}),  # type: ignore[arg-type] # on purpose
            r"settings: stream.tracking: dict .*expected TrackingSettings",
        ),
        (20, "settings: int 20: expected StreamSettings, ProgramSettings or a mapping"),
        ([("output.crf", 20)], "settings: list .*: expected StreamSettings"),
        (OutputSettings(), "settings: OutputSettings .*: expected StreamSettings"),
        (StreamSettings, "settings: type .*: expected StreamSettings"),
    ],
)
def test_what_is_wrong_is_refused(settings: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_settings(settings)


def test_arguments_go_over_settings_and_are_checked_with_them() -> None:
    arguments = {"workers": ("run.workers", 2), "device": ("run.device", None)}
    program = check_settings({"run": {"workers": 3, "device": "cpu"}}, arguments)
    assert program.run == RunSettings(device="cpu", workers=2)
    with pytest.raises(ConfigError, match=r"argument workers: run.workers: 0: expected auto, or a"):
        check_settings(None, {"workers": ("run.workers", 0)})
    model = {"server.reid_onnx": __file__}
    with pytest.raises(ConfigError, match=r"has no effect .*127.0.0.1:1 \(argument server\)"):
        check_settings(model, {"server": ("server.address", "127.0.0.1:1")})


def test_files_lie_below_variables_and_those_below_the_program(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("output: {crf: 30, preset: slow}\ntracking: {reid: never}\n")
    environ = {"DUALFACE_OUTPUT_CRF": "31", "DUALFACE_OUTPUT_PRESET": "fast"}
    program = load_settings({"output.crf": 32}, config=file, environ=environ)
    assert program.stream.output == OutputSettings(crf=32, preset="fast")
    assert program.stream.tracking == replace(TrackingSettings(), reid="never")
    assert check_settings(program) == program


def test_a_broken_file_is_refused_or_left_out(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("output: {crf: 99}\n")
    with pytest.raises(ConfigError, match=r"mine.yaml:1: output.crf: 99"):
        load_settings(config=file, environ={})
    assert load_settings(config=file, environ={}, config_fallback=True) == ProgramSettings()
    with pytest.raises(ConfigError, match="settings: int 5"):
        load_settings(5, environ={})  # type: ignore[arg-type] # on purpose


def test_every_default_passes_the_check_by_its_own_value() -> None:
    assert build(merged([])) == check_settings(ProgramSettings())


def test_words_are_a_list_or_a_text() -> None:
    for given in (["rtsp", "tcp"], "rtsp, TCP"):
        program = check_settings({"input.schemes": given})
        assert program.stream.input.schemes == ("rtsp", "tcp")
    with pytest.raises(ConfigError, match=r"input\.schemes: .*expected words with commas"):
        check_settings({"input.schemes": "/"})

"""Layers over each other, with their origins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dualface_client.cli.commands import cli
from dualface_client.config.layers import environment_layer
from dualface_client.config.stack import (
    ConfigFiles,
    Effective,
    effective,
    find_files,
    user_directory,
)
from dualface_client.errors import ConfigError, UsageError

Write = Callable[..., Path]


@pytest.fixture
def layers(tmp_path: Path) -> Write:
    """Writes layers into a directory: `layers(manual="...", fallback="...")`."""

    def write(directory: str = "configs", **texts: str) -> Path:
        place = tmp_path / directory
        place.mkdir(parents=True, exist_ok=True)
        for layer, text in texts.items():
            (place / f"{layer}.yaml").write_text(text)
        return place

    return write


def read(
    place: Path, environ: dict[str, str] | None = None, *, fallback: bool = False, **command: str
) -> Effective:
    given = {key.replace("__", "."): text for key, text in command.items()}
    files = find_files(place, {})
    return effective(files, environ or {}, given, config_fallback=fallback)


def test_each_layer_wins_over_those_below_it(layers: Write) -> None:
    place = layers(
        fallback="output: {crf: 21, preset: slow, encoder: x264, size: 640x480}\nrun: {streams: 2}",
        auto_detected="output: {crf: 22, preset: fast, encoder: auto}\nrun: {streams: 3}",
        manual="output:\n  crf: 23\n  preset: medium\nrun:\n  streams: 4\n",
    )
    found = read(
        place,
        {"DUALFACE_OUTPUT_CRF": "24", "DUALFACE_RUN_STREAMS": "5"},
        run__streams="6",
    )
    seen = {key: (found[key], str(found.values[key].origin)) for key in found.values}
    assert seen["output.size"] == ((640, 480), f"{place}/fallback.yaml:1")
    assert seen["output.encoder"] == ("auto", f"{place}/auto_detected.yaml:1")
    assert seen["output.preset"] == ("medium", f"{place}/manual.yaml:3")
    assert seen["output.crf"] == (24, "DUALFACE_OUTPUT_CRF")
    assert seen["run.streams"] == (6, "--streams")
    assert seen["output.overwrite"] == (False, "default")
    program = found.program()
    assert (program.run.streams, program.stream.output.canvas_wh_px) == (6, (640, 480))


def test_the_program_decides_where_a_batch_is_auto(layers: Write) -> None:
    place = layers(manual="output: {crf: 20}")
    assert read(place)["detection.frames_per_request"] is None
    assert read(place).program().stream.detection.batch == 1
    own = read(place, detection__frames_per_request="4")
    assert own.program().stream.detection.frames_per_request == 4


def test_a_path_arrives(layers: Write) -> None:
    place = layers(manual="output: {crf: 20}")
    model = place / "own.onnx"
    model.touch()
    found = read(place, {"DUALFACE_SERVER_DETECTOR_ONNX": str(model)})
    assert found.program().server.detector_onnx == model


def test_files_are_found_in_the_documented_order(layers: Write, tmp_path: Path) -> None:
    here = layers(manual="output: {crf: 20}").parent
    user = layers("home/.config/dualface", auto_detected="output: {crf: 20}")
    named = layers("named", fallback="output: {crf: 20}")
    environ = {"HOME": str(tmp_path / "home"), "DUALFACE_CONFIG": str(named)}
    own = named / "fallback.yaml"
    assert find_files(own, environ, here).files == {"manual": own}
    assert find_files(user, environ, here).files == {"auto_detected": user / "auto_detected.yaml"}
    assert find_files(None, environ, here).files == {"fallback": own}
    del environ["DUALFACE_CONFIG"]
    assert find_files(None, environ, here).files == {"manual": here / "configs" / "manual.yaml"}
    elsewhere = tmp_path / "elsewhere"
    assert find_files(None, environ, elsewhere).found_by == "user directory"
    assert find_files(None, {"HOME": str(elsewhere)}, elsewhere).files == {}


def test_the_users_directory_follows_xdg() -> None:
    assert user_directory({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}) == Path("/x/dualface")
    assert user_directory({"XDG_CONFIG_HOME": "x", "HOME": "/h"}) == Path("/h/.config/dualface")


@pytest.mark.parametrize("what", ["missing", "empty"])
def test_a_named_place_without_layers_is_refused(what: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=f"--config {tmp_path}/{what}: "):
        find_files(tmp_path / what, {})
    with pytest.raises(ConfigError, match="DUALFACE_CONFIG"):
        find_files(None, {"DUALFACE_CONFIG": str(tmp_path / what)})


def test_a_broken_layer_is_refused_as_a_whole(layers: Write) -> None:
    place = layers(manual="output:\n  crf: 30\n  encodr: x264\n", fallback="output: {crf: 21}")
    with pytest.raises(ConfigError, match=r"manual.yaml:3: output.encodr") as caught:
        read(place)
    assert "--config-fallback" in str(caught.value)
    assert caught.value.exit_code == 2
    found = read(place, fallback=True)
    assert (found["output.crf"], found.values["output.crf"].origin.layer) == (21, "fallback")
    assert len(found.notes) == 1
    assert "manual.yaml:3" in found.notes[0]


def test_layers_that_do_not_fit_together_are_refused_by_the_later_one(layers: Write) -> None:
    place = layers(
        auto_detected="limits:\n  nvenc_sessions: 3\n",
        manual="output:\n  encoder: nvenc\nrun:\n  streams: 4\n",
    )
    with pytest.raises(ConfigError, match=r"manual.yaml:4: run.streams: 4: expected at most") as e:
        read(place)
    assert "auto_detected.yaml:2" in str(e.value)
    found = read(place, fallback=True)
    assert (found["run.streams"], found["limits.nvenc_sessions"]) == (None, 3)
    with pytest.raises(ConfigError, match=r"--streams: run\.streams: 4"):
        read(place.parent / "configs", fallback=True, run__streams="4", output__encoder="nvenc")


def test_fallback_does_not_excuse_options_and_variables(layers: Write) -> None:
    place = layers(manual="output: {crf: 99}")
    with pytest.raises(ConfigError) as caught:
        read(place, {"DUALFACE_OUTPUT_CRF": "98"}, fallback=True)
    assert "DUALFACE_OUTPUT_CRF: output.crf: 98" in str(caught.value)


def test_own_models_need_the_embedded_server(layers: Write) -> None:
    place = layers(manual="server:\n  address: gpu:8001\n")
    model = place / "own.onnx"
    model.touch()
    with pytest.raises(ConfigError, match=r"--detector-onnx: .*own.onnx: has no effect"):
        read(place, server__detector_onnx=str(model))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("cast:2", r"pin_left: cast:2: needs the cast, but there is cast\.enabled, false"),
        ("cast:0", r"expected nobody, or an existing file, or cast:NUMBER such as cast:2"),
    ],
)
def test_a_pin_by_number_needs_a_look(layers: Write, number: str, message: str) -> None:
    place = layers(fallback="")
    with pytest.raises(ConfigError, match=message):
        read(place, tracking__sides__pin_left=number, cast__enabled="false")
    assert read(place, tracking__sides__pin_left="cast:2").program().stream.cast.enabled


def test_one_person_of_the_cast_cannot_have_both_sides(layers: Write) -> None:
    place = layers(manual="tracking: {sides: {pin_right: 'cast:1'}}\n")
    with pytest.raises(UsageError) as caught:
        read(place, tracking__sides__pin_left="cast:1")
    assert (
        "pin_left: cast:1: expected another person than in tracking.sides.pin_right, cast:1 "
        f"({place / 'manual.yaml'}:1): nobody has both sides"
    ) in str(caught.value)
    sides = read(place, tracking__sides__pin_left="cast:2").program().stream.tracking.sides
    assert (sides.pin_left, sides.pin_right) == ("cast:2", "cast:1")


def test_a_pinned_photo_needs_reid(layers: Write) -> None:
    place = layers(manual="tracking: {reid: never}\n")
    photo = place / "ann.jpg"
    photo.touch()
    with pytest.raises(ConfigError, match=r"pin_left: .*ann\.jpg: needs ReID, but there is"):
        read(place, tracking__sides__pin_left=str(photo))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("DUALFACE_OUTPUT_CFR", "did you mean DUALFACE_OUTPUT_CRF?"),
        ("DUALFACE_OUTPUT_QUALITY_OF_LIFE", "unknown variable"),
        ("DUALFACE_RUN_STREMS", "did you mean DUALFACE_RUN_STREAMS?"),
    ],
)
def test_a_misspelt_variable_is_refused(name: str, told: str) -> None:
    (problem,) = environment_layer({name: "3"}).problems
    assert str(problem).startswith(f"{name}: ")
    assert told in str(problem)


def test_other_variables_are_left_alone() -> None:
    environ = {
        "DUALFACE_HOME": "/x",
        "DUALFACE_SERVER_KEY_FILE": "/k",
        "DUALFACE_ZZZ": "1",
        "DUALFACE_OUTPUT_CRF": "",
        "PATH": "/bin",
    }
    layer = environment_layer(environ)
    assert (layer.values, layer.problems) == ({}, ())


def test_no_files_are_no_mistake() -> None:
    found = effective(ConfigFiles({}, "none"), {}, {})
    assert {given.origin.layer for given in found.values.values()} == {"default"}


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(cli, ["config", *arguments], env=environ, standalone_mode=False)


def test_show_prints_values_with_origins_as_one_could_write_them(
    layers: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers(manual="output:\n  crf: 30\n")
    monkeypatch.chdir(tmp_path)
    done = run("show", "output", "--preset", "slow", DUALFACE_OUTPUT_SIZE="640x480")
    lines = {line.split("#")[0].strip(): line.split("# ")[1] for line in done.stdout.splitlines()}
    assert lines["output.crf: 30"] == "manual, configs/manual.yaml:2"
    assert lines["output.preset: slow"] == "command line, --preset"
    assert lines["output.size: 640x480"] == "environment, DUALFACE_OUTPUT_SIZE"
    assert lines["output.overwrite: false"] == "default"
    again = tmp_path / "again.yaml"
    again.write_text(done.stdout)
    assert run("check", str(again)).return_value == 0


def test_show_as_json(layers: Write) -> None:
    place = layers(manual="output:\n  crf: 99\n")
    done = run("show", "--json", "--config-fallback", "--config", str(place))
    told = json.loads(done.stdout)
    assert told["settings"]["output.crf"]["value"] == "20"
    assert f"{place}/manual.yaml:2" in told["notes"][0]


def test_show_knows_its_sections_and_refuses_others() -> None:
    done = run("show", "tracking.risk")
    assert {line.partition(".")[0] for line in done.stdout.splitlines()} == {"tracking"}
    assert "expected one of cast, daemon, detection, " in str(run("show", "outptu").exception)


def test_the_template_is_a_file_to_start_from(tmp_path: Path) -> None:
    path = tmp_path / "manual.yaml"
    path.write_text(run("template").stdout)
    assert run("check", str(path)).return_value == 0


def test_uncommon_options_are_in_help_all_alone() -> None:
    assert "--tracking-risk-threshold" not in run("show", "--help").stdout
    assert "--crf" in run("show", "--help").stdout
    assert "--tracking-risk-threshold" in run("show", "--help-all").stdout


def test_a_broken_file_ends_a_command_without_a_stack_trace(layers: Write, tmp_path: Path) -> None:
    layers(manual="output:\n  crf: 99\n")
    done = subprocess.run(
        [sys.executable, "-m", "dualface_client", "config", "show"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=tmp_path,
    )
    assert (done.returncode, "configs/manual.yaml:2: output.crf: 99" in done.stderr) == (2, True)
    assert "Traceback" not in done.stderr

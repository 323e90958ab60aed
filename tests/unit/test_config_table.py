"""One table: command line, files, environment and the page say the same."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dualface_client.cli.config import show
from dualface_client.cli.daemon import daemon
from dualface_client.cli.run import run
from dualface_client.config.layers import OTHER_VARIABLES, environment_layer, file_layer
from dualface_client.config.reference import template
from dualface_client.config.stack import build, merged
from dualface_client.config.table import settings_table
from dualface_client.config.values import Given, Layer, Origin
from dualface_client.memory.vram import DEFAULT_LIMIT
from dualface_client.settings.kinds import Choice, Color, Integer, Kind, Real, Size, Switch
from dualface_client.settings.program import LimitSettings, ProgramSettings, RunSettings
from dualface_client.triton.description import FACE_DETECT
from scripts.render_configuration import PAGE, rendered

#: Options of `config show` that are no settings, and those of `run`: of one run alone.
DAEMON = {"--config", "--directory", "--help-all"}
SHOW = {"--config", "--config-fallback", "--json", "--help-all"}
RUN = {
    "--output",
    "--streams-file",
    "--config",
    "--config-fallback",
    "--help-all",
    "--tracks",
    "--summary",
    "--quiet",
    "--resume",
    "--shard",
    "--cluster",
    "--verbose",
    "--state",
    "--report",
    "--debug-overlay",
    "--pin",
}


def leaves(value: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not is_dataclass(value):
        return [path]
    return [
        leaf
        for field in fields(value)
        for leaf in leaves(getattr(value, field.name), (*path, field.name))
    ]


def options_of(command: click.Command) -> set[str]:
    return {
        max(option.opts, key=len) for option in command.params if isinstance(option, click.Option)
    }


def test_files_environment_command_line_and_page_have_the_same_settings() -> None:
    table = settings_table()
    page = PAGE.read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| `(DUALFACE_\w+)` \|", page, re.MULTILINE)
    assert {flag for _, flag, _ in rows} == {s.flag for s in table.values()}
    assert (
        options_of(show) - SHOW == options_of(daemon) - DAEMON == {s.flag for s in table.values()}
    )
    of_run = {s.flag for s in table.values() if not s.key.startswith("daemon.")}
    assert options_of(run) - RUN == of_run
    assert {env for _, _, env in rows} == {s.env for s in table.values()}
    assert [name for name, _, _ in rows] == [key.rpartition(".")[2] for key in table]
    in_file = {".".join(path) for path in leaves_of_yaml(yaml.safe_load(template("")))}
    assert in_file == set(table)


def leaves_of_yaml(node: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(node, dict):
        return [path]
    return [leaf for key, child in node.items() for leaf in leaves_of_yaml(child, (*path, key))]


def test_variables_that_the_project_reads_are_known() -> None:
    """No variable of another part of the bundle is mistaken for a misspelt setting."""
    root = PAGE.parents[1]
    sources = [*(root / "clients").rglob("*.py"), *(root / "docker").rglob("*")]
    sources += [root / "compose.yaml", *root.glob("compose.*.yaml"), *(root / "configs").iterdir()]
    names = {
        name
        for path in sources
        if path.is_file()
        for name in re.findall(r"\bDUALFACE_[A-Z_]+\b", path.read_text())
    }
    assert "DUALFACE_HOME" in names
    settings = {setting.env for setting in settings_table().values()}
    assert names - settings - OTHER_VARIABLES == set()


def test_names_are_unique_and_variables_are_nobody_elses() -> None:
    table = settings_table().values()
    assert len({s.flag for s in table}) == len({s.env for s in table}) == len(table)
    assert not {s.env for s in table} & OTHER_VARIABLES


def test_rendered_files_are_up_to_date() -> None:
    stale = [str(path) for path, text in rendered().items() if path.read_text() != text]
    assert stale == [], "run: python scripts/render_configuration.py"


def test_every_setting_is_described_and_its_default_accepted() -> None:
    for setting in settings_table().values():
        assert len(setting.description) > 10, setting.key
        assert setting.kind.read(setting.kind.show(setting.default)) == setting.default


def test_the_template_gives_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "manual.yaml"
    path.write_text(template("All of it"))
    layer = file_layer(path, "manual")
    assert not layer.problems
    assert set(layer.values) == set(settings_table())
    assert build(merged([layer])) == ProgramSettings()


def test_every_variable_arrives_under_its_key() -> None:
    table = settings_table()
    environ = {s.env: s.kind.show(s.default) for s in table.values()}
    layer = environment_layer(environ)
    assert not layer.problems
    assert {key: given.value for key, given in layer.values.items()} == {
        key: setting.default for key, setting in table.items()
    }


def test_every_setting_reaches_its_field() -> None:
    """A value that is not the default arrives in the field that the row names, and nowhere else."""
    for setting in settings_table().values():
        if setting.path[-1].endswith(("_onnx", "_file")) or setting.path[-1].startswith("pin_"):
            continue  # needs a file; test_settings_stack gives one
        layer = Layer("manual", {setting.key: other_value(setting.key)})
        program = build(merged([layer]))
        changed = [
            path for path in leaves(program) if at(program, path) != at(ProgramSettings(), path)
        ]
        assert changed == [setting.path]


def other_value(key: str) -> Given:
    kind, default = settings_table()[key].kind, settings_table()[key].default
    if isinstance(kind, Choice):
        return Given(next(o for o in kind.options if o != default), Origin("manual"))
    for text in (
        "cpu",
        "x264",
        "slow",
        "always",
        "7",
        "0.77",
        "64x64",
        "1A2B3C",
        "a:1",
        "true",
        "false",
        "1.5",
        "0",
        ".",
        "http://a:1",
    ):
        try:
            value = kind.read(text)
        except ValueError:  # not of this kind: the next may be
            continue
        if value != default:
            return Given(value, Origin("manual"))
    raise AssertionError(key)


def at(root: object, path: tuple[str, ...]) -> object:
    for part in path:
        root = getattr(root, part)
    return root


def test_the_gpus_share_is_the_planners() -> None:
    assert RunSettings().vram_limit == DEFAULT_LIMIT


def test_the_engines_batch_is_the_descriptions() -> None:
    assert LimitSettings().detector_batch == FACE_DETECT.max_batch_size


def test_help_texts_survive_an_interpreter_that_drops_docstrings() -> None:
    command = [sys.executable, "-OO", "-m", "dualface_client", "daemon", "--help-all"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    said = " ".join(shown.split())
    assert all(setting.description in said for setting in settings_table().values())


@given(st.floats(0, 1000))
def test_what_a_number_shows_reads_back(value: float) -> None:
    kind = Real(0, 1000)
    assert kind.read(kind.show(value)) == value


@pytest.mark.parametrize(
    ("text", "color", "shown"),
    [
        ("black", (0, 0, 0), "black"),
        ("White", (255, 255, 255), "white"),
        ("#1a2B3c", (26, 43, 60), "1A2B3C"),
        ("000000", (0, 0, 0), "black"),
    ],
)
def test_colours_have_names_or_six_digits(
    text: str, color: tuple[int, int, int], shown: str
) -> None:
    assert Color().read(text) == color
    assert Color().show(color) == shown


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_what_was_expected(text: str) -> None:
    for kind in (Integer(1, 9), Real(0, 1), Switch(), Size(), Color()):
        outcome = attempt(kind, text)
        assert outcome is None or outcome.startswith("expected ")


@pytest.mark.parametrize("text", ["1_", "1__0", "_1", "9" * 5000, "-", "1_0_"])
def test_what_python_refuses_as_a_number_in_its_own_words(text: str) -> None:
    refusal = attempt(Integer(1), text)
    assert refusal is not None
    assert refusal.startswith("expected a whole number, 1 or more")


def attempt(kind: Kind, text: str) -> str | None:
    """The refusal, None where the text was read and what it shows reads back."""
    try:
        value = kind.read(text)
    except ValueError as error:
        return str(error)
    assert kind.read(kind.show(value)) == value
    return None

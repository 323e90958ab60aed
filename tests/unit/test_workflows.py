"""What runs on GitHub and before a commit is what runs on a desk, and its files are valid."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
BIN = Path(sys.executable).parent


def valid(path: Path, schema: str) -> bool:
    pytest.importorskip("check_jsonschema", reason="a development package that is not installed")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode == 0


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize(
    "schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"]
)
def test_the_workflow_is_valid(schema: str, tmp_path: Path) -> None:
    assert valid(WORKFLOW, schema)
    broken = tmp_path / "ci.yml"
    broken.write_text(WORKFLOW.read_text().replace("timeout-minutes", "timeout-minuts"))
    assert not valid(broken, schema)


def test_the_workflow_runs_the_same_script_as_a_desk_and_may_write_nothing() -> None:
    workflow = load(WORKFLOW)
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert workflow["permissions"] == {"contents": "read"}


def test_the_workflow_begins_with_the_oldest_python() -> None:
    (job,) = load(WORKFLOW)["jobs"].values()
    versions = [each["python"] for each in job["strategy"]["matrix"]["include"]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={versions[0]}"
    assert versions == sorted(set(versions), key=lambda version: int(version.split(".")[1]))


def test_hooks_run_the_tools_of_the_environment() -> None:
    for repository in load(ROOT / ".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            program, _, _ = hook["entry"].partition(" ")
            assert program.startswith(".venv/bin/")
            assert (BIN / Path(program).name).exists(), hook["id"]
            assert hook["language"] == "system"

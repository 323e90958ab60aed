"""The models of an embedded server, from the user's choice to what Triton reads."""

from __future__ import annotations

import re
from pathlib import Path

from dualface_client.batch.execute import contexts_needed
from dualface_client.batch.server import ServerChoice, models_of
from dualface_client.settings import paths
from dualface_client.triton.batch_sizes import Demand
from dualface_client.triton.embedded import EmbeddedOptions, python_models
from dualface_client.triton.repository import write_python_model

DEMANDS = {"face_detect": Demand(8, 128), "face_reid": Demand(4, 4)}


def parameters(choice: ServerChoice, repository: Path) -> dict[str, dict[str, str]]:
    """Parameters in the configuration that Triton reads, by model."""
    options = EmbeddedOptions(device=choice.device)
    found = {}
    for model in python_models(models_of(choice), options):
        write_python_model(repository, model)
        text = (repository / model.spec.name / "config.pbtxt").read_text()
        pairs = re.findall(r'key: "(\w+)"\s+value:? \{\s+string_value: "([^"]*)"', text)
        found[model.spec.name] = dict(pairs)
    return found


def test_what_a_run_asks_for_reaches_the_configuration(tmp_path: Path) -> None:
    found = parameters(ServerChoice(device="cuda", demands=DEMANDS), tmp_path)
    assert {name: each["batches"] for name, each in found.items()} == {
        "face_detect": "8,16",
        "face_reid": "4",
    }


def test_without_a_run_every_size_is_prepared(tmp_path: Path) -> None:
    found = parameters(ServerChoice(device="cuda"), tmp_path)
    assert {each["batches"] for each in found.values()} == {"1,4,8,16"}


def test_only_our_own_models_get_small_stacks(tmp_path: Path) -> None:
    own = paths.models_dir() / "face_detect.onnx"
    found = parameters(ServerChoice(device="cuda", detector_onnx=own), tmp_path)
    assert {name: each["small_stacks"] for name, each in found.items()} == {
        "face_detect": "no",
        "face_reid": "yes",
    }


def test_a_run_counts_the_contexts_that_are_still_to_come() -> None:
    assert contexts_needed(4, has_own=True) == 4
    assert contexts_needed(0, has_own=False) == 1  # its own, which a look at the GPU left closed
    assert contexts_needed(0, has_own=True) == 0

"""`.env` makes plain `docker compose` lines mean what `make up` started."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.compose_env import known_variables, settings
from scripts.pins import ROOT


def make(*arguments: str) -> list[str]:
    """The lines that make would run."""
    done = subprocess.run(
        ["make", "--dry-run", "--silent", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_profiles_files_and_pools_of_a_deployment() -> None:
    found = settings("gpu", ["observability", "tls"], "gpu1", {"DUALFACE_GPU": "1", "HOME": "/x"})
    assert found["COMPOSE_PROFILES"] == "gpu,observability"
    assert found["COMPOSE_FILE"] == "compose.yaml:compose.tls.yaml"
    assert found["COMPOSE_PROJECT_NAME"] == "gpu1"
    assert found["DUALFACE_GPU"] == "1"  # the environment before configs/gpu.env
    assert found["DUALFACE_EXTRAS"] == "gpu"
    assert int(found["CUDA_MEMORY_POOL_BYTES"]) > 0
    assert "HOME" not in found
    live = settings("cpu", ["live", "observability"], "", {})
    assert live["COMPOSE_PROFILES"] == "cpu,live,observability"
    assert live["COMPOSE_FILE"] == "compose.yaml:compose.live.yaml"
    alone = settings("cpu", [], "", {})
    assert (alone["COMPOSE_PROFILES"], alone["COMPOSE_FILE"]) == ("cpu", "compose.yaml")
    assert "COMPOSE_PROJECT_NAME" not in alone


def test_every_file_of_a_deployment_is_there_and_its_variables_known() -> None:
    found = settings("gpu", ["mps", "tls"], "", {})
    assert all((ROOT / name).is_file() for name in found["COMPOSE_FILE"].split(":"))
    assert {"DUALFACE_VIDEOS", "PROMETHEUS_PORT", "TRITON_MUTUAL_TLS"} <= known_variables()
    pools = {"CUDA_MEMORY_POOL_BYTES", "PINNED_MEMORY_POOL_BYTES"}
    assert pools <= known_variables()


def test_make_takes_engines_version_and_gpu_from_its_command_line() -> None:
    (line,) = [text for text in make("build-engines", "VERSION=2", "GPU=1") if "build_eng" in text]
    assert line.endswith("--gpu 1 --version 2")
    lines = make("up", "PROFILE=gpu", "PROJECT=gpu1", "GPU=1")
    assert any('--project "gpu1"' in text and "DUALFACE_GPU=1" in text for text in lines)
    assert lines[-1].endswith("--env-file .env.gpu1 up -d --build")
    # A MIG instance has no index; engines are for the card's capability.
    lines = make("up", "PROFILE=gpu", "GPU=MIG-0af")
    assert any("DUALFACE_GPU=MIG-0af" in text for text in lines)
    assert any("--gpu 0 --version 1 --check" in text for text in lines)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="needs docker-compose 1.29")
def test_a_plain_line_starts_nothing_without_the_file(tmp_path: Path) -> None:
    for path in ROOT.glob("compose*.yaml"):
        shutil.copy(path, tmp_path)
    (tmp_path / "docker/secrets").mkdir(parents=True)
    done = subprocess.run(
        ["docker-compose", "ps"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Creating" not in done.stdout + done.stderr

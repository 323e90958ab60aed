"""`.env` makes plain `docker compose` lines mean what `make up` started."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts import compose_env
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


def deployed(additions: list[str]) -> dict[str, Any]:
    """The services of a deployment on a GPU as compose reads them."""
    found = settings("gpu", additions, "", {})
    files = [text for name in found["COMPOSE_FILE"].split(":") for text in ("-f", name)]
    profiles = [
        text for name in found["COMPOSE_PROFILES"].split(",") for text in ("--profile", name)
    ]
    line = ["docker-compose", *files, *profiles, "config"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = yaml.safe_load(done.stdout)["services"]
    return services


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="needs docker-compose 1.29")
@pytest.mark.parametrize(
    "additions",
    [
        list(some)
        for length in range(1, 5)
        for some in itertools.combinations(compose_env.ADDITIONS, length)
        if {"tls", "mps"} & set(some)
    ],
    ids="+".join,
)
def test_the_daemon_meets_the_server_wherever_the_client_does(additions: list[str]) -> None:
    services = deployed(additions)
    triton, client, daemon = (services[name] for name in ("triton", "client", "daemon"))
    for namespace in ("pid", "ipc", "network_mode"):
        assert daemon[namespace] == client[namespace] == triton[namespace]
    wanted = dict(client["environment"])
    del wanted["NVIDIA_DRIVER_CAPABILITIES"]  # it decodes on the CPU
    assert daemon["environment"] == wanted
    overlays = {mount for mount in client["volumes"] if not mount.endswith(":/videos:rw")}
    assert len(overlays) == len({"tls", "mps"} & set(additions))
    assert overlays <= set(daemon["volumes"])


@pytest.mark.parametrize("overlay", ["tls", "mps"])
def test_an_overlay_gives_the_daemon_what_it_gives_the_client(overlay: str) -> None:
    services = yaml.safe_load((ROOT / f"compose.{overlay}.yaml").read_text())["services"]
    assert services["daemon"] == services["client"]


@pytest.mark.parametrize("name", ["tls", "mps"])
def test_what_the_server_of_a_profile_cannot_do_is_refused(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(compose_env, "ROOT", tmp_path)
    with pytest.raises(SystemExit) as ended:
        compose_env.main(["--profile", "cpu", "--with", "live", name])
    assert ended.value.code == 2
    assert f"WITH={name}: " in (said := capsys.readouterr().err)
    assert "leave it out, or use PROFILE=gpu" in said
    assert not list(tmp_path.iterdir())

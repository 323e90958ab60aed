"""`dualface-client compose`: a pod, server and client for each GPU; each file is worked on once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dualface_client.cli.commands import cli
from dualface_client.errors import UsageError
from dualface_client.machine.compose_file import for_gpus, read_base
from scripts.pins import ROOT

BASE = ROOT / "compose.yaml"


def written(folder: Path, gpus: str) -> Path:
    path = folder / "compose.gpus.yaml"
    line = ["compose", "--gpus", gpus, "--base", str(BASE), "--output", str(path)]
    done = CliRunner().invoke(cli, line)
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture
def services(tmp_path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(written(tmp_path, "0,2:1").read_text())["services"]
    return found


def test_each_gpu_has_a_pod_a_server_and_a_client_of_its_own(services: dict[str, Any]) -> None:
    kinds = ("pod", "triton", "client")
    assert list(services) == [f"{kind}-{tag}" for tag in ("gpu0", "gpu2-1") for kind in kinds]
    for tag, gpu in (("gpu0", "0"), ("gpu2-1", "2:1")):
        for kind in ("triton", "client"):
            service = services[f"{kind}-{tag}"]
            assert (
                service["pid"] == service["ipc"] == service["network_mode"] == f"service:pod-{tag}"
            )
            (device,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert (device["device_ids"], device["capabilities"]) == ([gpu], ["gpu"])
        client = services[f"client-{tag}"]
        assert client["depends_on"] == {f"triton-{tag}": {"condition": "service_healthy"}}
        assert services[f"triton-{tag}"]["depends_on"] == [f"pod-{tag}"]
    assert not any("ports" in service or "profiles" in service for service in services.values())


def test_clients_read_one_directory_and_share_it_by_shards(services: dict[str, Any]) -> None:
    clients = [service for name, service in services.items() if name.startswith("client")]
    commands = [client["command"] for client in clients]
    assert [command[-1] for command in commands] == ["--shard=1/2", "--shard=2/2"]
    assert commands[0][:-1] == commands[1][:-1] == read_base(BASE)["services"]["client"]["command"]
    assert clients[0]["volumes"] == clients[1]["volumes"]


def test_the_file_for_one_gpu_is_left_as_it_was() -> None:
    base = read_base(BASE)
    for_gpus(base, ["0", "1"])
    assert base == read_base(BASE)


def test_it_follows_the_compose_specification(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="a development package that is not installed")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*line, str(written(tmp_path, "0,1,2"))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_compose_itself_reads_it(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    line = [program, "-f", str(written(tmp_path, "0,1")), "config", "--services"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 6


def test_what_is_not_our_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("services: {web: {image: x}}")
    (tmp_path / "broken.yaml").write_text("a: [")
    for name, said in (
        ("none.yaml", "cannot be read"),
        ("broken.yaml", "cannot be read"),
        ("other.yaml", "has no service 'pod'"),
    ):
        with pytest.raises(UsageError, match=rf"--base .*{name}: {said}.*of a checkout"):
            read_base(tmp_path / name)

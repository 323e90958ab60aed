"""compose.yaml says what Compose and tritonserver understand, and keeps the house's rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dualface_client.settings.paths import tritonserver_dir
from dualface_client.triton.access import KEY_HEADER
from dualface_client.triton.server_files import find_server_files
from scripts.pins import ROOT
from scripts.serve_embedded import KEY_NAME, RESTRICTED, WATCHDOG_PORT, command
from tests.triton_log import HARMLESS, LINES

FILES = ("compose.yaml", "compose.live.yaml", "compose.mps.yaml", "compose.tls.yaml")
MEMBERS = ("triton", "client", "triton-cpu", "client-cpu", "daemon")
FLAG = re.compile(r"--([a-z][a-z0-9-]+)")
#: Added with 26.04; the embedded 2.51 takes client shared memory without being asked.
ONLY_IN_PRODUCTION = {"allow-client-shm"}


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = load("compose.yaml")["services"]
    return found


def server_flags() -> set[str]:
    shell = load("compose.yaml")["services"]["triton"]["command"][-1]
    text = shell.partition("exec tritonserver")[2]
    text += load("compose.tls.yaml")["services"]["triton"]["environment"]["TRITON_EXTRA_FLAGS"]
    return set(FLAG.findall(text))


def known_flags() -> set[str]:
    lines = (ROOT / "tests/fixtures/tritonserver_flags.txt").read_text().splitlines()
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("name", FILES)
def test_file_follows_the_compose_specification(name: str) -> None:
    pytest.importorskip("check_jsonschema", reason="a development package that is not installed")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*line, name], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_schema_check_sees_a_misspelt_key(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema", reason="a development package that is not installed")
    path = tmp_path / "compose.yaml"
    path.write_text("services: {triton: {image: x, helthcheck: {test: [CMD, 'true']}}}\n")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*line, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1


def test_every_server_flag_exists_in_the_pinned_release() -> None:
    flags = server_flags()
    assert len(flags) > 15
    assert flags <= known_flags(), flags - known_flags()


def test_shared_flags_exist_in_the_embedded_server() -> None:
    files = find_server_files(tritonserver_dir())
    libraries = ":".join(str(place) for place in files.library_dirs)
    done = subprocess.run(
        [str(files.binary), "--help"],
        env={"LD_LIBRARY_PATH": libraries},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    offered = set(FLAG.findall(done.stdout + done.stderr))
    embedded = set(FLAG.findall(" ".join(command(files, Path("/x"), "k" * 16))))
    assert embedded - {"-"} <= offered, embedded - offered
    assert server_flags() - ONLY_IN_PRODUCTION <= offered, server_flags() - offered


def test_server_is_told_what_production_needs(services: dict[str, Any]) -> None:
    text = services["triton"]["command"][-1]
    for flag in (
        "--allow-client-shm=true",
        "--model-control-mode=explicit",
        "--backend-config=tensorrt,execution-policy=BLOCKING",
        "--grpc-address=127.0.0.1",
        "--http-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--cuda-memory-pool-byte-size=0:",
        "--pinned-memory-pool-byte-size=",
    ):
        assert flag in text
    exit_timeout = int(re.findall(r"--exit-timeout-secs=(\d+)", text)[0])
    assert exit_timeout < int(services["triton"]["stop_grace_period"].removesuffix("s"))


def test_both_servers_guard_the_same_protocols_with_the_clients_header(
    services: dict[str, Any],
) -> None:
    rule = f"rules={','.join(RESTRICTED)}:{KEY_NAME}="
    assert rule in services["triton"]["command"][-1]
    assert f"triton-grpc-protocol-{KEY_NAME}" == KEY_HEADER


@pytest.mark.parametrize("name", MEMBERS)
def test_members_share_the_pods_namespaces_and_nothing_else(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    assert service["pid"] == service["ipc"] == service["network_mode"] == "service:pod"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"].startswith("${DUALFACE_UID:-1000}")
    assert "ports" not in service
    assert service["secrets"] == ["triton_key"]


def test_pod_owns_shareable_memory_and_opens_loopback_only(services: dict[str, Any]) -> None:
    assert services["pod"]["ipc"] == "shareable"
    assert services["pod"]["init"] is True
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["triton", "triton-cpu"])
def test_healthcheck_asks_for_both_models(services: dict[str, Any], name: str) -> None:
    text = json.dumps(services[name]["healthcheck"]["test"])
    assert "face_detect" in text
    assert "face_reid" in text
    client = services[name.replace("triton", "client")]
    assert client["depends_on"][name] == {"condition": "service_healthy"}


def test_both_servers_are_ended_where_they_hang_and_then_restarted(
    services: dict[str, Any],
) -> None:
    for name, place in (("triton", "/opt/dualface"), ("triton-cpu", "/opt/dualface/share")):
        assert f"{place}/watchdog.py" in " ".join(services[name]["command"])
        assert services[name]["restart"] == "unless-stopped"
    assert "./scripts/watchdog.py:/opt/dualface/watchdog.py:ro" in services["triton"]["volumes"]
    models = services["triton"]["command"][-1].partition("watchdog.py")[2].partition(" &")[0]
    assert f"--metrics-port {WATCHDOG_PORT} --fallbacks /tmp/pool-fallbacks" in models
    assert re.findall(r"--model (\w+)", models) == ["face_detect", "face_reid"]


def test_gpus_are_reserved_by_id(services: dict[str, Any]) -> None:
    for name in ("triton", "client", "engines", "mps"):
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device["device_ids"] == ["${DUALFACE_GPU:-0}"]
        assert device["capabilities"] == ["gpu"]


def open_directories() -> set[str]:
    """Directories of our image that every user may write, and whose mode a new volume takes."""
    text = (ROOT / "docker/Dockerfile").read_text().partition("USER 1000")[0]
    made = re.findall(r"^RUN install -d -m 1777 (.+)$", text, re.MULTILINE)
    return {place for line in made for place in line.split()}


def test_no_service_without_capabilities_writes_to_a_volume_of_roots(
    services: dict[str, Any],
) -> None:
    volumes = load("compose.yaml")["volumes"]
    tried = set()
    for name, service in services.items():
        if not service.get("user", "").startswith("${DUALFACE_UID"):
            continue
        for mount in service.get("volumes", ()):
            if not isinstance(mount, str):  # keeps the mode that another service has given it
                assert mount["volume"] == {"nocopy": True}
                givers = [services[other] for other in service["depends_on"]]
                assert any(f"{mount['source']}:/state" in s.get("volumes", ()) for s in givers)
                continue
            volume, _, place = mount.partition(":")
            if volume not in volumes or place.endswith(":ro"):
                continue
            tried.add(volume)
            options = (volumes[volume] or {}).get("driver_opts", {})
            with_mode = options.get("o") == "mode=1777"
            ours = service["image"] == "dualface-client:local"
            assert with_mode or (ours and place in open_directories()), f"{name}: {mount}"
    assert tried == {"state", "mps-run", "prometheus-data"}


def test_prometheus_is_the_user_who_may_read_the_daemons_token(services: dict[str, Any]) -> None:
    assert services["prometheus"]["user"] == services["daemon"]["user"]
    assert "state:/state:ro" in services["prometheus"]["volumes"]


def test_a_file_of_the_overlay_takes_the_place_of_one_that_is_there() -> None:
    (mount,) = load("compose.live.yaml")["services"]["prometheus"]["volumes"]
    source, place, mode = mount.split(":")
    assert mode == "ro"
    assert (ROOT / source).is_file()
    assert (ROOT / "docker/prometheus" / Path(place).relative_to("/etc/prometheus")).is_file()


def test_volumes_are_removed_with_the_rest(services: dict[str, Any]) -> None:
    page = (ROOT / "docs/upgrade.md").read_text()
    (line,) = re.findall(r"docker volume rm (.+)", page)
    names = {f"dualface_{name}" for name in load("compose.yaml")["volumes"]}
    assert set(line.split()) == names


def test_profiles_are_those_of_the_documents(services: dict[str, Any]) -> None:
    profiles = {profile for service in services.values() for profile in service["profiles"]}
    assert profiles == {"cpu", "gpu", "live", "mps", "observability", "engines"}


def test_alerts_and_panels_ask_for_metrics_that_triton_has() -> None:
    known = {
        "nv_inference_count",
        "nv_inference_exec_count",
        "nv_inference_pending_request_count",
        "nv_inference_request_success",
        "nv_inference_request_failure",
        "nv_inference_queue_duration_us",
        "nv_inference_compute_infer_duration_us",
        "nv_gpu_utilization",
        "nv_gpu_memory_used_bytes",
        "nv_gpu_memory_total_bytes",
        "nv_pinned_memory_pool_used_bytes",
        "nv_pinned_memory_pool_total_bytes",
    }
    rules = (ROOT / "docker/prometheus/rules.yml").read_text()
    board = (ROOT / "docker/grafana/dashboards/dualface.json").read_text()
    assert set(re.findall(r"nv_\w+", rules + board)) <= known
    assert len(yaml.safe_load(rules)["groups"][1]["rules"]) >= 5
    assert len(json.loads(board)["panels"]) >= 8


@pytest.mark.parametrize("kind", [None, "cuda_pool", "pinned_pool", "lost_output", "output_by_ipc"])
def test_a_pool_that_runs_dry_makes_the_server_unhealthy(
    services: dict[str, Any], tmp_path: Path, kind: str | None
) -> None:
    """The container's own command and health check, with a server that only logs."""
    (tmp_path / "key").write_text("k")
    line = LINES[kind] if kind else HARMLESS[0]
    fake = tmp_path / "tritonserver"
    fake.write_text(f"#!/bin/sh\necho started\ncat <<'END' >&2\n{line}\nEND\n")
    (tmp_path / "curl").write_text("#!/bin/sh\nexit 0\n")
    for name in ("tritonserver", "curl"):
        (tmp_path / name).chmod(0o700)

    def shell(text: str) -> subprocess.CompletedProcess[str]:
        here = text.replace("/tmp/", f"{tmp_path}/").replace("$$", "$")  # noqa: S108 - the container's
        here = here.replace("/run/secrets/triton_key", f"{tmp_path}/key")
        here = here.replace("/opt/dualface/", f"{ROOT}/scripts/")
        here = here.replace(f"--metrics-port {WATCHDOG_PORT}", "")  # others may be using it
        path = f"{tmp_path}:{os.environ['PATH']}"
        variables = {"CUDA_MEMORY_POOL_BYTES": "1", "PINNED_MEMORY_POOL_BYTES": "1"}
        env = {"PATH": path, **variables, "TRITON_EXTRA_FLAGS": ""}
        return subprocess.run(
            ["/bin/sh", "-euc", here], env=env, capture_output=True, text=True, check=False
        )

    done = shell(services["triton"]["command"][-1])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["started", line]  # the log still goes to Docker
    healthy = shell(services["triton"]["healthcheck"]["test"][-1]).returncode == 0
    assert healthy is (kind is None)

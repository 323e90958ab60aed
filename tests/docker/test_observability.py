"""Prometheus as compose.yaml starts it: its user, its volume, its rules, and Triton in it.

The image is Debian's package with the user and the directory of the public one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.pins import read_pins
from tests.docker.stack import Stack, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(900)]

IMAGE = "dualface-test-prometheus"
DOCKERFILE = """
ARG BASE
FROM ${BASE}
RUN apt-get update -q && apt-get install -q -y --no-install-recommends prometheus \\
    && mkdir /prometheus && chown nobody:nogroup /prometheus
USER nobody
VOLUME /prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""


@pytest.fixture(scope="module")
def watched(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The stack with Prometheus in its pod."""
    context = tmp_path_factory.mktemp("prometheus")
    (context / "Dockerfile").write_text(DOCKERFILE)
    base = stack.environment.get("BASE_IMAGE", read_pins()["BASE_IMAGE"])
    line = ["docker", "build", "--build-arg", f"BASE={base}", "-t", IMAGE, str(context)]
    run(line, stack.environment)
    found = replace(stack, environment=stack.environment | {"PROMETHEUS_IMAGE": IMAGE})
    found.compose("up", "-d", "--no-deps", "prometheus-volume", "prometheus")
    return found


def ask(stack: Stack, path: str) -> list[dict[str, object]]:
    """A question to Prometheus's API, from inside of the pod."""
    script = f"from urllib.request import urlopen; print(urlopen('http://127.0.0.1:9090{path}').read().decode())"
    text = stack.docker("exec", stack.name("pod"), "python3", "-c", script, check=False)
    data = json.loads(text)["data"] if text.startswith("{") else {}
    rows: list[dict[str, object]] = data.get("result") or data.get("groups") or []
    return rows


def test_prometheus_writes_to_its_volume_and_scrapes_triton(watched: Stack) -> None:
    up = "/api/v1/query?query=up%7Bjob%3D%22triton%22%7D"
    watched.wait("the first scrape", lambda: bool(ask(watched, up)), 120.0)
    assert watched.state("prometheus", ".State.Status") == "running"
    (found,) = ask(watched, up)
    assert found["value"][1] == "1"  # type: ignore[index] # a pair of time and text


def test_prometheus_has_taken_the_rules(watched: Stack) -> None:
    groups = ask(watched, "/api/v1/rules")
    rules = [rule for group in groups for rule in group["rules"]]  # type: ignore[attr-defined] # JSON
    assert {"TritonDown", "QueueTooLong"} <= {rule["name"] for rule in rules}
    assert all(rule["health"] in {"ok", "unknown"} for rule in rules)


def test_the_documented_lines_mean_the_deployment(watched: Stack, tmp_path: Path) -> None:
    """`.env` as `make up` writes it, read by the real compose."""
    from scripts.compose_env import settings

    environment = watched.environment | {"PROMETHEUS_IMAGE": IMAGE}
    found = settings("cpu", ["observability"], watched.project, environment)
    path = tmp_path / "env"
    path.write_text("".join(f"{name}={value}\n" for name, value in found.items()))
    bare = {name: value for name, value in environment.items() if name not in found}
    done = run([*watched.command, "--env-file", str(path), "ps"], bare)
    assert "triton-cpu" in done.stdout
    assert "prometheus" in done.stdout

"""The cpu profile of compose.yaml, run for real by `make test-docker`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

import pytest

from dualface_client.settings.paths import home_dir
from scripts.pins import read_pins
from tests.docker.stack import GID, UID, Stack, run


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "docker: needs a Docker engine (make test-docker)")


@pytest.fixture(scope="session")
def compose_command() -> tuple[str, ...]:
    """`docker compose` or `docker-compose`; skips where no engine or no base image is there."""
    if not os.environ.get("DUALFACE_TEST_DOCKER"):
        pytest.skip("runs with `make test-docker`")
    environment = dict(os.environ)
    if not shutil.which("docker") or run(["docker", "info"], environment, check=False).returncode:
        pytest.skip("no Docker engine answers: start dockerd, or add yourself to group docker")
    base = os.environ.get("BASE_IMAGE", read_pins()["BASE_IMAGE"])
    here = run(["docker", "image", "inspect", base], environment, check=False)
    if here.returncode and run(["docker", "pull", base], environment, check=False).returncode:
        pytest.skip(f"{base} cannot be pulled: see tests/docker/make_base_image.sh")
    plugin = run(["docker", "compose", "version"], environment, check=False)
    if plugin.returncode == 0:
        return ("docker", "compose")
    if not shutil.which("docker-compose"):
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    return ("docker-compose",)


@pytest.fixture(scope="session")
def stack(
    compose_command: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """The running cpu profile with one clip to work on; removed at the end."""
    directory = tmp_path_factory.mktemp("stack")
    videos = directory / "videos"
    for name in ("in", "out"):
        (videos / name).mkdir(parents=True)
    clip = [sys.executable, "scripts/make_clips.py", "cross_once", "--seconds", "8"]
    run([*clip, "--size", "1280x720", "--out", str(directory / "clips")], dict(os.environ))
    shutil.copy(directory / "clips" / "cross_once.mp4", videos / "in")
    key = directory / "key"
    key.write_text("a-key-for-this-test-only")
    for path in (videos / "in", videos / "out"):
        path.chmod(0o777)  # the containers' user is another one
    for path in (directory, *directory.parents[:2]):
        path.chmod(path.stat().st_mode | 0o055)
    environment = os.environ | {
        "DUALFACE_HOME": str(home_dir()),
        "DUALFACE_VIDEOS": str(videos),
        "DUALFACE_KEY_FILE": str(key),
        "DUALFACE_UID": str(UID),
        "DUALFACE_GID": str(GID),
        "PROMETHEUS_PORT": "0",
    }
    made = Stack(compose_command, f"dualface-test-{os.getpid()}", videos, environment)
    try:
        made.compose("up", "-d", "--build")
        yield made
    finally:
        made.compose("down", "-v", "--remove-orphans", check=False)

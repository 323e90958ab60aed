"""Every place that names a version names the pinned one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dualface_client.settings.paths import PYTRITON_VERSION
from scripts.pins import ROOT, read_pins

PINS = read_pins()
IMAGES = ("TRITON_IMAGE", "TENSORRT_IMAGE", "BASE_IMAGE", "PROMETHEUS_IMAGE", "GRAFANA_IMAGE")
NAMED = [
    path
    for pattern in ("README.md", "docs/*.md", "compose*.yaml", "configs/*.env", "docker/Dockerfile")
    for path in sorted(ROOT.glob(pattern))
]


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.name)
def test_images_are_the_pinned_ones(path: Path) -> None:
    text = path.read_text()
    for key in IMAGES:
        name, _, tag = PINS[key].rpartition(":")
        found = re.findall(rf"{re.escape(name)}:([\w.-]+)", text)
        assert set(found) <= {tag}, f"{path.name} names {name}:{found}"


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.name)
def test_drivers_are_the_pinned_one(path: Path) -> None:
    found = re.findall(r"driver (\d{3}\.\d+) or newer", path.read_text(), re.IGNORECASE)
    assert set(found) <= {PINS["DRIVER_MINIMUM"]}


@pytest.mark.parametrize("path", NAMED, ids=lambda path: path.name)
def test_tritonclient_and_embedded_server_are_the_pinned_ones(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"tritonclient[ =`]+(\d+\.\d+\.\d+)", text)) <= {PINS["TRITONCLIENT"]}
    assert set(re.findall(r"nvidia-pytriton`? (\d+\.\d+\.\d+)", text)) <= {PYTRITON_VERSION}


def test_server_and_builder_are_of_one_release() -> None:
    assert PINS["TRITON_IMAGE"].rpartition(":")[2] == PINS["TENSORRT_IMAGE"].rpartition(":")[2]


def test_images_stand_in_compose() -> None:
    text = (ROOT / "compose.yaml").read_text()
    for key in IMAGES:
        assert f"${{{key}:-{PINS[key]}}}" in text
    assert f"ARG BASE_IMAGE={PINS['BASE_IMAGE']}" in (ROOT / "docker/Dockerfile").read_text()


def test_python_pins_agree() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"tritonclient=={PINS['TRITONCLIENT']}" in constraints
    project = (ROOT / "pyproject.toml").read_text()
    assert f"tritonclient[grpc]>={PINS['TRITONCLIENT']}" in project
    rtx = (ROOT / "scripts/engines/tensorrt_rtx.txt").read_text()
    assert set(re.findall(r"==([\d.]+)", rtx)) == {PINS["TENSORRT_RTX"]}
    assert f"tensorrt-rtx-cu{PINS['CUDA_MAJOR']}-libs" in rtx

"""The descriptions for Kubernetes follow its schemas, and say what compose.yaml says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from dualface_client.cli.commands import cli
from dualface_client.memory.region import SHM_DIR
from scripts.pins import ROOT, read_pins

kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason="the extra `dev-cluster`, which `make check` installs"
)

PLACE = ROOT / "deploy" / "kubernetes"
VERSION = "1.37"


def load(name: str) -> Any:
    return yaml.safe_load((PLACE / name).read_text())


def pod_of(spec: dict[str, Any]) -> dict[str, Any]:
    """A pod as Kubernetes would make it of a template."""
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}


JOB_POD: dict[str, Any] = load("indexed-job/job.yaml")["spec"]["template"]["spec"]
RAY: dict[str, Any] = load("ray-job/rayjob.yaml")["spec"]
RAY_PODS: list[dict[str, Any]] = [
    RAY["rayClusterSpec"]["headGroupSpec"]["template"]["spec"],
    *(group["template"]["spec"] for group in RAY["rayClusterSpec"]["workerGroupSpecs"]),
]


@pytest.mark.parametrize("name", ["indexed-job/gpu.yaml", "indexed-job/job.yaml"])
def test_descriptions_follow_the_schemas(name: str) -> None:
    kubernetes_validate.validate(load(name), VERSION, strict=True)


@pytest.mark.parametrize("spec", RAY_PODS, ids=["head", "workers"])
def test_pods_of_the_ray_cluster_follow_the_schemas(spec: dict[str, Any]) -> None:
    kubernetes_validate.validate(pod_of(spec), VERSION, strict=True)


def test_the_check_sees_a_misspelt_key() -> None:
    job = load("indexed-job/job.yaml")
    job["spec"]["template"]["spec"]["initContainers"][0]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSION, strict=True)


@pytest.mark.parametrize("directory", ["indexed-job", "ray-job"])
def test_what_kustomize_is_told_exists(directory: str) -> None:
    found = load(f"{directory}/kustomization.yaml")
    files = [*found["resources"], *found.get("configurations", ())]
    files += [file for each in found.get("configMapGenerator", ()) for file in each["files"]]
    for name in files:
        assert (PLACE / directory / name).is_file(), name
    used = {
        container["image"].partition(":")[0]
        for spec in (JOB_POD, *RAY_PODS)
        for container in (*spec["containers"], *spec.get("initContainers", ()))
    }
    assert {image["name"] for image in found["images"]} <= used


def test_the_page_names_what_must_be_made_first() -> None:
    page = (PLACE / "README.md").read_text()
    for spec in (JOB_POD, *RAY_PODS):
        for volume in spec["volumes"]:
            claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
            secret = volume.get("secret", {}).get("secretName", "")
            assert claim + secret in page


def options(command: str) -> set[str]:
    return set(re.findall(r"--[a-z][a-z-]*", command))


def test_commands_have_options_that_exist() -> None:
    run = cli.get_command(click.Context(cli), "run")
    assert run is not None
    known = {name for param in run.params if isinstance(param, click.Option) for name in param.opts}
    client = JOB_POD["containers"][0]["command"][-1]
    assert options(RAY["entrypoint"]) <= known
    assert options(client) <= known
    assert shlex.split(RAY["entrypoint"])[:2] == ["dualface-client", "run"]


def test_triton_is_started_as_in_compose() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["triton"]
    theirs = compose["command"][-1].partition("exec tritonserver")[2]
    script = (PLACE / "indexed-job/run_triton.sh").read_text().partition("exec tritonserver")[2]
    assert options(script) == options(theirs)
    (triton,) = JOB_POD["initContainers"]
    assert triton["image"] == read_pins()["TRITON_IMAGE"]
    variables = {each["name"] for each in triton["env"]}
    assert set(re.findall(r"\$([A-Z_]+)", script)) <= variables


def test_containers_of_a_pod_share_what_regions_need() -> None:
    assert JOB_POD["shareProcessNamespace"] is True
    containers = [*JOB_POD["initContainers"], *JOB_POD["containers"]]
    for container in containers:
        assert {"name": "shm", "mountPath": str(SHM_DIR)} in container["volumeMounts"]
        assert container["resources"]["claims"] == [{"name": "gpu"}]
    for spec in (JOB_POD, *RAY_PODS):
        (shm,) = (volume for volume in spec["volumes"] if volume["name"] == "shm")
        assert shm["emptyDir"]["medium"] == "Memory"
        assert spec["securityContext"]["runAsUser"] == 1000


def test_shares_are_all_given_out() -> None:
    job = load("indexed-job/job.yaml")["spec"]
    (shards,) = (e["value"] for e in JOB_POD["containers"][0]["env"] if e["name"] == "SHARDS")
    assert job["completions"] == int(shards)
    assert job["parallelism"] <= job["completions"]
    assert (
        "--shard=$((JOB_COMPLETION_INDEX + 1))/$SHARDS" in JOB_POD["containers"][0]["command"][-1]
    )


def test_ray_is_the_pinned_one() -> None:
    constraints = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"ray=={RAY['rayClusterSpec']['rayVersion']}" in constraints


def test_the_page_says_that_it_was_not_run() -> None:
    assert "**Not run on a cluster**" in Path(PLACE / "README.md").read_text()

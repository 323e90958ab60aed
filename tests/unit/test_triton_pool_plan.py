"""Pool sizes: each term is the product it says, and bad input says what to do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dualface_client.cli.commands import cli
from dualface_client.errors import UsageError
from dualface_client.memory.vram import MIB
from dualface_client.triton.ensembles import read_ensembles
from dualface_client.triton.pool_file import pools_of_environment, write_pools
from dualface_client.triton.pool_plan import (
    FLOOR_BYTES,
    PINNED_FLOOR_BYTES,
    Deployment,
    PoolPlan,
    checked_pool,
    plan_pools,
)

STAGE = """
name: "{name}" backend: "{backend}" max_batch_size: 8
input [{{ name: "in" data_type: TYPE_UINT8 dims: [1] }}]
output [{{ name: "out" data_type: {kind} dims: {dims} }}]
instance_group [{{ kind: {place} }}]
"""
STEP = '{{ model_name: "{model}" input_map {{ key: "in" value: "{a}" }} '
STEP += 'output_map {{ key: "out" value: "{b}" }} }}'


def repository(root: Path, dims: str = "[3, 640, 640]", place: str = "KIND_GPU") -> Path:
    """raw -> a -> [pixels] -> b -> [features] -> c -> answer"""
    models = (
        ("a", "python", "TYPE_FP32", dims, place),
        ("b", "python", "TYPE_FP16", "[1000]", "KIND_GPU"),
        ("c", "python", "TYPE_FP32", "[2]", "KIND_CPU"),
    )
    for name, backend, kind, shape, where in models:
        (root / name).mkdir(parents=True)
        text = STAGE.format(name=name, backend=backend, kind=kind, dims=shape, place=where)
        (root / name / "config.pbtxt").write_text(text)
    links = (("a", "raw", "pixels"), ("b", "pixels", "features"), ("c", "features", "answer"))
    steps = ", ".join(STEP.format(model=m, a=a, b=b) for m, a, b in links)
    (root / "all").mkdir()
    (root / "all" / "config.pbtxt").write_text(
        f'name: "all" platform: "ensemble" max_batch_size: 8 future_field: 7\n'
        f"ensemble_scheduling {{ step [{steps}] }}\n"
    )
    return root


def test_models_asked_directly_take_nothing_from_the_cuda_pool() -> None:
    for backend in ("tensorrt", "python"):
        plan = plan_pools(Deployment(streams=64, backend=backend))
        assert sum(term.byte_size for term in plan.cuda_terms) == 0
        assert plan.cuda_bytes == FLOOR_BYTES


def test_a_chain_keeps_two_neighbours_at_a_time(tmp_path: Path) -> None:
    (ensemble,) = read_ensembles(repository(tmp_path))
    assert ensemble.is_chain
    # c runs on the CPU: its answer is not in GPU memory.
    assert [(t.name, t.byte_size) for t in ensemble.tensors] == [
        ("pixels", 3 * 640 * 640 * 4),
        ("features", 2000),
    ]
    assert ensemble.peak_bytes == 3 * 640 * 640 * 4 + 2000
    plan = plan_pools(
        Deployment(streams=4, requests_in_flight=2, batch=3, ensembles=(ensemble,), bls_bytes=10)
    )
    assert [term.byte_size for term in plan.cuda_terms] == [0, 8 * 3 * ensemble.peak_bytes, 80]
    assert plan.cuda_bytes % MIB == 0
    needed = 8 * 3 * ensemble.peak_bytes + 80
    assert 1.5 * needed <= plan.cuda_bytes < 1.5 * needed + MIB


def test_what_runs_on_the_cpu_takes_nothing(tmp_path: Path) -> None:
    (ensemble,) = read_ensembles(repository(tmp_path, place="KIND_CPU"))
    assert ensemble.peak_names == "features"


def test_an_open_shape_must_be_said(tmp_path: Path) -> None:
    root = repository(tmp_path, dims="[3, -1, -1]")
    with pytest.raises(UsageError, match=r"a/out has the open shape \[3, -1, -1\]"):
        read_ensembles(root)
    (ensemble,) = read_ensembles(root, {"a/out": (3, 320, 320)})
    assert ensemble.tensors[0].byte_size == 3 * 320 * 320 * 4


def test_a_missing_or_broken_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a Triton model repository"):
        read_ensembles(tmp_path)
    root = repository(tmp_path / "r")
    (root / "b" / "config.pbtxt").unlink()
    with pytest.raises(UsageError, match="its step 'b' has no config"):
        read_ensembles(root)
    (root / "b" / "config.pbtxt").write_text("name: [")
    with pytest.raises(UsageError, match=r"b/config.pbtxt: cannot be read"):
        read_ensembles(root)


def test_pinned_pool_counts_what_crosses_to_and_from_the_host() -> None:
    cuda = plan_pools(Deployment(warm_up=False))
    # 2 instances x 16 x (64, 15) FP32, and 1 x 32 x 128 FP32
    assert sum(term.byte_size for term in cuda.pinned_terms) == 2 * 16 * 3840 + 32 * 512
    assert cuda.pinned_bytes == PINNED_FLOOR_BYTES
    system = plan_pools(Deployment(warm_up=False, cuda_shared_memory=False))
    more = sum(t.byte_size for t in system.pinned_terms)
    assert more - (2 * 16 * 3840 + 32 * 512) == 2 * 16 * 640 * 640 * 3 + 32 * 112 * 112 * 3
    warm = plan_pools(Deployment())
    assert "25 pictures" in next(t.how for t in warm.pinned_terms if "warm-up" in t.what)


def test_every_term_names_its_source() -> None:
    plan = plan_pools(Deployment(cuda_shared_memory=False, bls_bytes=1))
    for term in (*plan.cuda_terms, *plan.pinned_terms):
        assert ".cc" in term.source


@pytest.mark.parametrize("value", ["0", "-5", "64M", "1.5", ""])
def test_a_pool_that_is_no_pool_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=f"CUDA_MEMORY_POOL_BYTES={value}: expected a positive"):
        checked_pool("CUDA_MEMORY_POOL_BYTES", value)


def test_a_pool_larger_than_the_card_is_refused() -> None:
    assert checked_pool("x", "1000", 1000) == 1000
    with pytest.raises(UsageError, match="x=1001: larger than the GPU's 1000 bytes"):
        checked_pool("x", "1001", 1000)
    environ = {"CUDA_MEMORY_POOL_BYTES": "1001"}
    with pytest.raises(UsageError, match="larger than"):
        pools_of_environment(environ, 1000)
    assert pools_of_environment(environ, 2000) == (1001, None)
    assert pools_of_environment({"PINNED_MEMORY_POOL_BYTES": "7"}) == (None, 7)


def test_a_deployment_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="streams 0: expected at least 1"):
        Deployment(streams=0)
    with pytest.raises(UsageError, match="requests_in_flight -1"):
        Deployment(requests_in_flight=-1)
    with pytest.raises(UsageError, match="batch 0"):
        Deployment(batch=0)
    with pytest.raises(UsageError, match="bls bytes -1"):
        Deployment(bls_bytes=-1)


def test_the_environment_file_keeps_its_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "gpu.env"
    path.write_text("# mine\nCUDA_MEMORY_POOL_BYTES=1\nDUALFACE_GPU=0\n")
    for _ in range(2):  # the second time changes nothing
        write_pools(path, PoolPlan((), ()), "test")
        assert path.read_text().splitlines() == [
            "# mine",
            "DUALFACE_GPU=0",
            "# Pools: test",
            f"CUDA_MEMORY_POOL_BYTES={FLOOR_BYTES}",
            f"PINNED_MEMORY_POOL_BYTES={PINNED_FLOOR_BYTES}",
        ]
    assert list(tmp_path.iterdir()) == [path]


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "dualface_client", "plan", *arguments]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_the_command_shows_terms_and_writes_the_file(tmp_path: Path) -> None:
    root, path = repository(tmp_path / "r"), tmp_path / "gpu.env"
    done = command("--streams", "8", "--repository", str(root), "--write", str(path))
    assert done.returncode == 0, done.stderr
    assert "ensemble all: tensors between its steps (pixels, features)" in done.stdout
    assert "16 requests x batch 8 x 4,917,200" in done.stdout
    size = int(path.read_text().split("CUDA_MEMORY_POOL_BYTES=")[1].split()[0])
    assert f"CUDA_MEMORY_POOL_BYTES={size}" in done.stdout
    assert 1.5 <= size / (16 * 8 * 4917200) < 1.51


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--streams", "0"], "streams 0: expected at least 1"),
        (["--cuda-pool", "0"], "--cuda-pool=0: expected a positive number"),
        (["--cuda-pool", "-1"], "--cuda-pool=-1: expected a positive number"),
        (["--cuda-pool", "4096"], "8388608 bytes are planned"),
        (["--instances", "face_detect"], "expected MODEL=N"),
        (["--dims", "a=1"], "expected MODEL/TENSOR="),
    ],
)
def test_mistakes_are_answered_without_a_trace(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_what_grows_with_the_streams_is_planned_and_written_too(tmp_path: Path) -> None:
    def planned(streams: int, *more: str) -> list[int]:
        arguments = ["plan", "--streams", str(streams), *more]
        output = CliRunner().invoke(cli, arguments).output.partition("Clients (")[2]
        numbers = re.findall(r"([\d,]+) +(?:bytes|with)", output)
        return [int(number.replace(",", "")) for number in numbers]

    one, sixteen = planned(1), planned(16)
    assert len(one) == 4
    assert sixteen[2] == 4 * one[2]  # four streams in a process
    assert sixteen[3] == 16 * one[3]
    path = tmp_path / "gpu.env"
    options = ("--shared-memory", "system", "--backend", "python", "--write", str(path))
    shared = planned(16, *options)
    assert shared[0] > 400 << 20
    assert f"DUALFACE_SHM_SIZE={shared[1] >> 20}m\n" in path.read_text()

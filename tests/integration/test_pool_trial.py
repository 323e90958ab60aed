"""A real fallback of a real Triton: without a GPU its pinned pool is missing, and it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dualface_client.errors import ServerStartError
from dualface_client.triton.ensembles import read_ensembles
from scripts.pools.trial import TRIALS, Trial, attempt, write_repository
from scripts.tune_pool import main, planned

SMALL = Trial("small", "for a test", ((1000,), (2000, 300)), batch=2, requests=3, delay_ms=1.0)


def test_the_guard_sees_the_fallback_and_every_answer_carries_its_mark(tmp_path: Path) -> None:
    repository = write_repository(SMALL, tmp_path / "models", gpu=False)
    outcome = attempt(SMALL, repository, 1 << 20, seconds=0.0, gpu=False)
    assert outcome.fallbacks == {"pinned_pool": 1}
    assert outcome.seen_after_s >= 0
    assert not outcome.works
    assert outcome.requests == 2 * SMALL.requests
    assert (outcome.garbage, outcome.errors) == (0, 0)


@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: trial.name)
def test_a_trial_is_planned_from_its_own_configs(tmp_path: Path, trial: Trial) -> None:
    repository = write_repository(trial, tmp_path / "models", gpu=True)
    (ensemble,) = read_ensembles(repository)
    assert ensemble.is_chain
    # The one byte of the last step's answer is counted as well, while its inputs live.
    sizes = [sum(stage) for stage in trial.stages]
    pairs = [a + b for a, b in zip([0, *sizes], [*sizes, 1], strict=True)]
    assert ensemble.peak_bytes == max(pairs)
    needed = trial.requests * trial.batch * ensemble.peak_bytes
    assert 1.5 <= planned(trial, repository).cuda_bytes / needed < 1.6


def test_a_repository_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    repository = write_repository(SMALL, tmp_path / "models", gpu=False)
    (repository / "stage1" / "1" / "model.py").write_text("raise RuntimeError('no such model')")
    with pytest.raises(ServerStartError, match="no such model"):
        attempt(replace(SMALL, requests=1), repository, 1 << 20, 0.1, gpu=False)


def test_tuning_needs_a_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dualface_client.observe.gpus import read_gpus

    if read_gpus():
        pytest.skip("there is one here")
    assert main(["--out", str(tmp_path)]) == 2
    assert "no GPU here" in capsys.readouterr().out

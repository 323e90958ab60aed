"""Prometheus's own tool reads the configuration, and its rules fire when they should."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scripts.pins import ROOT

FILES = ROOT / "docker" / "prometheus"
pytestmark = pytest.mark.skipif(
    not shutil.which("promtool"), reason="needs promtool, of Debian's package prometheus"
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """The files of the container, in a directory of the test's."""
    for name in ("rules.yml", "daemon.yml"):
        shutil.copy(FILES / name, tmp_path)
    (tmp_path / "token").touch()
    text = (FILES / "prometheus.yml").read_text()
    path = tmp_path / "prometheus.yml"
    path.write_text(
        text.replace("/state/", f"{tmp_path}/").replace("/etc/prometheus/", f"{tmp_path}/")
    )
    return path


def test_the_configuration_is_read(configuration: Path) -> None:
    done = promtool("check", "config", configuration)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    text = configuration.read_text()
    configuration.write_text(text.replace("job_name: triton", "jobname: triton"))
    assert promtool("check", "config", configuration).returncode != 0


@pytest.mark.parametrize("live", [False, True])
def test_the_daemon_is_scraped_only_where_it_runs(configuration: Path, *, live: bool) -> None:
    """Else an alert would miss it in every deployment without one."""
    if live:
        overlay = yaml.safe_load((ROOT / "compose.live.yaml").read_text())
        (mount,) = overlay["services"]["prometheus"]["volumes"]
        source, place, _ = mount.split(":")
        shutil.copy(ROOT / source, configuration.parent / Path(place).name)
    done = promtool("check", "service-discovery", "--timeout=1s", configuration, "dualface")
    assert done.returncode == 0, done.stdout + done.stderr
    found = [each["labels"]["instance"] for each in json.loads(done.stdout) or ()]
    assert found == (["127.0.0.1:8070"] if live else [])


@pytest.mark.parametrize(
    ("series", "values", "alert", "labels", "summary"),
    [
        (
            'dualface_output_free_bytes{directory="/videos/out"}',
            "9e9 9e9 4e9 4e9 4e9 4e9",
            "OutputDiskNearlyFull",
            {"severity": "warning", "directory": "/videos/out"},
            "/videos/out has 3.725GiB left: outputs wait for space, then fail",
        ),
        (
            "dualface_server_started_seconds",
            "100 100 200 200 300 400",
            "ServerKeepsRestarting",
            {"severity": "critical"},
            "Triton was started 3 times anew in half an hour: its log says why",
        ),
        (
            "dualface_server_pool_fallbacks_total",
            "0 0 0 0 0 1",
            "ServerPoolDry",
            {"severity": "critical"},
            "A memory pool of Triton's has run dry: dualface-client plan says how large it must be",
        ),
        (
            'up{job="triton"}',
            "1 1 0 0 0 0",
            "TritonDown",
            {"severity": "critical", "job": "triton"},
            "Triton's metrics endpoint does not answer",
        ),
        (
            'up{job="dualface"}',
            "1 1 0 0 0 0",
            "DaemonDown",
            {"severity": "critical", "job": "dualface"},
            "The daemon does not answer Prometheus, or does not take its token: "
            "the log of `daemon` says why",
        ),
    ],
    ids=["disk", "restarts", "pool", "down", "daemon"],
)
def test_an_alert_fires_when_it_should_and_not_before(
    tmp_path: Path, series: str, values: str, alert: str, labels: dict[str, str], summary: str
) -> None:
    fired = {"exp_labels": labels, "exp_annotations": {"summary": summary}}
    case = {
        "rule_files": [str(FILES / "rules.yml")],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": series, "values": values}],
                "alert_rule_test": [
                    {"eval_time": "1m", "alertname": alert, "exp_alerts": []},
                    {"eval_time": "5m", "alertname": alert, "exp_alerts": [fired]},
                ],
            }
        ],
    }
    path = tmp_path / "test.yml"
    path.write_text(yaml.safe_dump(case))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr

"""Dashboard and alerts ask for metrics that exist, and alerts fire for their causes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dualface_client.histogram import Histogram
from dualface_client.observe.metrics import metrics_text
from dualface_client.observe.report import StreamReport, StreamStatus
from dualface_client.observe.run_state import RunState, SlotFigures, WorkerState

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docker/prometheus/rules.yml"
BOARD = ROOT / "docker/grafana/dashboards/dualface.json"
#: Told by the containers' watchdog, not by the program.
WATCHDOGS = set(re.findall(r"# TYPE (\w+)", (ROOT / "scripts/watchdog.py").read_text()))
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)


def whole_state() -> RunState:
    """Something of everything that can be told."""
    times = Histogram((1,) * 14, 1.0)
    report = StreamReport(
        *("a", "i", "o", "failed"),
        failure="X",
        latency=times,
        queue=times,
        live=True,
        dropped={"behind": 1},
    )
    state = RunState("test", [StreamStatus(report)])
    state.set_worker(WorkerState(1, 2, 0, ("a",)))
    state.set_figures(1, {"face_detect": SlotFigures(1, 1, 0, 0.0)}, {"face_detect": times})
    state.set_pool({"cuda_pool": 1}, "dry")
    return state


def samples() -> dict[str, set[str]]:
    """Labels of each sample that the program has."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics_text(whole_state()).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def asked() -> list[str]:
    """Every expression of the dashboard and of the alerts."""
    panels = json.loads(BOARD.read_text())["panels"]
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [
        *(target["expr"] for panel in panels for target in panel.get("targets", ())),
        *(rule["expr"] for group in groups for rule in group["rules"]),
    ]


def test_every_metric_that_is_asked_for_exists_with_its_labels() -> None:
    known = samples()
    named = 0
    for expression in asked():
        for name, matchers in re.findall(r"\b(dualface_\w+)(?:\{([^}]*)\})?", expression):
            if name in WATCHDOGS:
                continue
            assert name in known, expression
            # `job` is Prometheus' own.
            labels = set(re.findall(r"(\w+)\s*!?=~?", matchers)) - {"job"}
            assert labels <= known[name], expression
            named += 1
    assert named > 20


def test_panels_and_alerts_are_apart_and_named_once() -> None:
    panels = json.loads(BOARD.read_text())["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels]
    assert len(places) == len(set(places))


@promtool
@pytest.mark.parametrize("broken", [False, True])
def test_each_alert_fires_for_its_cause_and_only_then(tmp_path: Path, *, broken: bool) -> None:
    rules = RULES.read_text()
    if broken:
        rules = rules.replace('stalled_streams{job!="run"} > 0', 'stalled_streams{job!="run"} > 1')
    (tmp_path / "rules.yml").write_text(rules)
    tests = tmp_path / "alerts_test.yml"
    tests.write_text((ROOT / "tests/fixtures/alerts_test.yml").read_text())
    line = ["promtool", "test", "rules", str(tests)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) is broken, done.stdout + done.stderr


def test_every_alert_of_the_product_is_tried() -> None:
    groups = {g["name"]: g["rules"] for g in yaml.safe_load(RULES.read_text())["groups"]}
    tried = (ROOT / "tests/fixtures/alerts_test.yml").read_text()
    assert [r["alert"] for r in groups["dualface-streams"] if r["alert"] not in tried] == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed here")
def test_the_unit_is_what_systemd_understands(tmp_path: Path) -> None:
    text = (ROOT / "systemd/dualface-daemon.service").read_text()
    unit = tmp_path / "dualface-daemon.service"
    unit.write_text(text.replace("/opt/dualface/bin/dualface-client", "/bin/true"))
    line = ["systemd-analyze", "verify", str(unit)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchdogSecs"))
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert "WatchdogSecs" in done.stderr

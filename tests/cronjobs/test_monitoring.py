"""The alert rules and the dashboard: each alert fires, clears, and leads to its section of the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from reports.reconciliations.registry import RECONCILIATIONS
from tests.harness.manifests import ROOT, of_kind, render

DOC = ROOT.parent / "doc"
COMPONENT = ROOT / "components" / "monitoring"
RULE_TESTS = sorted(Path(__file__).parent.glob("alert_rules*_test.yaml"))
RULES: dict[str, Any] = yaml.safe_load((COMPONENT / "alert-rules.yaml").read_text())["spec"]
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
METRIC = re.compile(r"prisoner_to_nomis_\w+")


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub generates for the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """Each alert has a summary and a severity, says how soon to act, and names an existing section of the runbook.

    Its description contains a command, unless that section is about Application Insights. The alert and its metrics
    are documented.
    """
    annotations = rule["annotations"]
    assert annotations["summary"]
    assert "`" in annotations["description"] or "application-insights" in annotations["runbook"]
    assert rule["labels"] == {"severity": "syscon", "act": rule["labels"]["act"]}
    assert rule["labels"]["act"] in {"now", "today", "this-week"}
    document, _, anchor = annotations["runbook"].partition("#")
    assert anchor in anchors(ROOT.parent / document)
    documented = (DOC / "metrics.md").read_text()
    assert all(f"`{name}`" in documented for name in METRIC.findall(rule["expr"]))
    assert f"`{rule['alert']}`" in documented


def test_every_alert_has_a_case() -> None:
    """Each alert has a test case in which it fires and then clears."""
    cases = [case for file in RULE_TESTS for case in yaml.safe_load(file.read_text())["tests"]]
    assert {case["name"] for case in cases} == {rule["alert"] for rule in ALERTS}
    assert all(
        [bool(each["exp_samples"]) for each in case["promql_expr_test"]] == [False, True, False] for case in cases
    )


def test_the_rules_fire_and_clear(tmp_path: Path) -> None:
    """Prometheus evaluates the rules, and every test case of the rules passes."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, which evaluates the rules, is not installed")
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(RULES))
    for file in RULE_TESTS:
        (tmp_path / file.name).write_text(file.read_text().replace("RULES", "rules.yaml"))
    files = [file.name for file in RULE_TESTS]
    done = subprocess.run([promtool, "test", "rules", *files], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_reconciliation_has_an_alert_for_a_missed_run() -> None:
    """One rule expects the incentives reconciliation weekly, and another expects every other reconciliation daily."""
    weekly = {name for name, entry in RECONCILIATIONS.items() if not entry.cron.endswith("* * *")}
    rules = {rule["alert"]: rule["expr"] for rule in ALERTS}
    assert weekly == {"incentives"}
    assert 'reconciliation="incentives"' in rules["PrisonerToNomisNoWeeklyReconciliation"]
    assert 'reconciliation!="incentives"' in rules["PrisonerToNomisNoDailyReconciliation"]


def test_the_dashboard_shows_documented_metrics() -> None:
    """Every panel of the dashboard has a title and a query, and the queries use only documented metrics."""
    dashboard = json.loads((COMPONENT / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    documented = (DOC / "metrics.md").read_text()
    assert all(panel["title"] and panel["targets"] for panel in panels)
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    named = {re.sub("_(bucket|count)$", "", name) for query in queries for name in METRIC.findall(query)}
    assert named
    assert {name for name in named if f"`{name}`" not in documented} == set()


def test_an_overlay_with_the_component_renders(tmp_path: Path) -> None:
    """With the monitoring component, Prometheus can find the scheduler's service and Grafana can find the dashboard."""
    manifests = render("prod", "monitoring", tmp_path)
    (monitor,) = of_kind(manifests, "ServiceMonitor").values()
    (service,) = of_kind(manifests, "Service").values()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {port["name"] for port in service["spec"]["ports"]} >= {
        each["port"] for each in monitor["spec"]["endpoints"]
    }
    dashboard = of_kind(manifests, "ConfigMap")["prisoner-to-nomis-dashboard"]
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["prisoner-to-nomis.json"])["title"]

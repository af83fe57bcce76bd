"""The figures of `status`, as metrics.

They are read at most twice a minute, and a figure is left out only if it cannot be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.health.deadline import ReadResult
from jobs.health.figure_metrics import CACHE_SECONDS, FigureMetrics
from jobs.health.figures import Figures, read_figures
from jobs.health.page import serve_health
from jobs.runtime.metrics import Metrics
from sandbox import Sandbox
from sync.alerting import Severity
from sync.clock import now
from sync.events.context import Outcome
from sync.store import outbox
from sync.store.findings import FindingKind, record_finding
from sync.store.tables import creations
from tests.harness.app import App, open_application

PREFIX = "prisoner_to_nomis"
DEADLINE_SECONDS = 20.0


def rendered(metrics: Metrics) -> dict[str, str]:
    """The figures on a metrics page, by name and labels, as text."""
    lines = metrics.render().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))


def page_of(app: App, **settings: str) -> dict[str, str]:
    """The figures of an installation, by name and labels, as its metrics page shows them."""
    with open_application(app.settings, app.settings["DATABASE_URL"], **settings) as application:
        metrics = Metrics()
        metrics.add(FigureMetrics(lambda: read_figures(application, DEADLINE_SECONDS)).collect)
        return rendered(metrics)


def test_figures_are_those_of_status(app: App, sandbox: Sandbox) -> None:
    """The metrics page shows the same numbers as `status`. For a queue or state without entries, it shows zero."""
    sandbox.reset(prisoners=40, mismatches={"7": 2})
    app.forget_queues()
    app.make_queues()
    app.main_queue("visit").send("waits")
    app.queues()["activity"].dlq.send("dead")
    app.run_ok("reconcile", "incentives", "--no-notify")
    with open_application(app.settings, app.settings["DATABASE_URL"]) as application:
        with application.database.begin() as connection:
            record_finding(connection, "f", FindingKind.DUPLICATE, "visit", Severity.LOW, "an-event", {}, None)
            values = {"domain": "visit", "dps_id": "1", "state": "ambiguous", "request": {}, "properties": {}}
            moments = dict.fromkeys(("intended_at", "created_at", "updated_at"), now())
            connection.execute(creations.insert().values(**values, **moments, attempts=1))
            outbox.enqueue(connection, "d", "slack", {})
        with application.job_runs.run("scheduler", {}) as run:
            application.job_runs.record_heartbeat(run.id, {"heartbeatAt": now().isoformat()})
            found, shown = page_of(app), app.run("status", "--json").json()
            (host,) = [line["name"] for line in shown["schedulers"]]
    visit = 'queue_messages{kind="main",queue="visit",state='
    figures = {
        f'{visit}"waiting"}}': 1,
        f'{visit}"in flight"}}': 0,
        'queue_messages{kind="dlq",queue="activity",state="waiting"}': 1,
        'open_findings{kind="duplicate",severity="low"}': 1,
        'open_findings{kind="non-unique",severity="serious"}': 0,
        'unsettled_creations{state="ambiguous"}': 1,
        'unsettled_creations{state="created"}': 0,
        'unsent_deliveries{channel="slack",state="pending"}': 1,
        'unsent_deliveries{channel="email",state="failed"}': 0,
        'reconciliation_differences{reconciliation="incentives"}': 2,
        'reconciliation_unread{reconciliation="incentives"}': 0,
        'reconciliation_expected{reconciliation="incentives"}': 1,
        'figure_unknown{figure="queue visit"}': 0,
        'figure_unknown{figure="ages"}': 1,
    }
    assert {name: float(found[f"{PREFIX}_{name}"]) for name in figures} == figures
    lines = {(part, line["name"]): line for part, each in shown.items() if isinstance(each, list) for line in each}
    assert lines["queues", "visit"]["waiting"] == 1
    assert lines["queues", "activity"]["dead"] == 1
    assert lines["reconciliations", "incentives"]["differences"] == 2
    assert (lines["findings", "duplicate"]["open"], lines["creations", "ambiguous"]["number"]) == (1, 1)
    assert lines["deliveries", "slack"]["number"] == 1
    age = float(found[f'{PREFIX}_reconciliation_last_complete_age_seconds{{reconciliation="incentives"}}'])
    assert 0 <= age <= lines["reconciliations", "incentives"]["ageSeconds"] + 1
    assert float(found[f'{PREFIX}_scheduler_heartbeat_age_seconds{{host="{host}"}}']) >= 0


def test_figures_that_cannot_be_read_are_left_out(app: App) -> None:
    """If the database is unavailable, the metrics page still shows the figures of the queues.

    Unknown figures are left out instead of being shown as zero, and the page says which ones are unknown.
    """
    app.main_queue("visit").send("waits")
    found = page_of(app, DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert found[f'{PREFIX}_queue_messages{{kind="main",queue="visit",state="waiting"}}'] == "1.0"
    assert not [name for name in found if name.startswith(f"{PREFIX}_open_findings")]
    assert found[f'{PREFIX}_figure_unknown{{figure="findings"}}'] == "1.0"


def test_figures_are_read_twice_a_minute() -> None:
    """However often the metrics page is requested, the figures are read at most once every 30 seconds."""
    moment, reads = 0.0, 0
    unknown: ReadResult[Any] = ReadResult(unknown="away")

    def read() -> Figures:
        nonlocal reads
        reads += 1
        first = (unknown, unknown, unknown, unknown)
        return Figures({}, *first, {}, *first, unknown, unknown, None, None)

    metrics = FigureMetrics(read, lambda: moment)
    for _ in range(3):
        assert list(metrics.collect())
    assert reads == 1
    moment += CACHE_SECONDS
    metrics.collect()
    assert reads == 2


def test_the_page_has_the_version_but_no_creation_times() -> None:
    """The metrics page has the running version as a metric, but not the creation times of counters."""
    metrics = Metrics()
    metrics.name_build("1.2.3", "dev")
    metrics.message_ended("visit", Outcome.APPLIED, 1)
    found = rendered(metrics)
    assert found[f'{PREFIX}_build_info{{environment="dev",version="1.2.3"}}'] == "1.0"
    assert [name for name in found if "_created" in name] == []


def test_every_metric_is_documented(app: App, sandbox: Sandbox) -> None:
    """The page on metrics in `doc` names every metric of the program."""
    documented = Path("doc/metrics.md").read_text(encoding="utf-8")
    with open_application(app.settings, app.settings["DATABASE_URL"], Metrics()) as application:
        assert application.metrics is not None
        with application.job_runs.run("scheduler", {}), serve_health(application, ("scheduler",), lambda: True):
            families = {
                line.split()[2]
                for line in application.metrics.render().decode().splitlines()
                if line.startswith("# TYPE")
            }
    ours = {name for name in families if name.startswith(PREFIX)}
    assert len(ours) >= 15
    assert [name for name in sorted(ours) if f"`{name}`" not in documented] == []

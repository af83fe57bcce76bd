"""Implausibly missing levels, whether one or many, count neither as agreement nor as differences."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from reports.engine.run_start import ReconciliationParameters
from reports.presentation.email_report import email_report
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_report import slack_report
from reports.reconciliations.incentives.result import IncentiveResult
from sandbox import Sandbox
from sync.store.tables import reconciliation_runs
from tests.harness.reconciliations import OpenApp, reconciled

CURRENT = "/incentives/booking-id/{b}/current"
SINGLE = "/iep/reviews/booking/{b}"
BULK = "/iep/reviews/bookings"


def without_levels(upstream: Sandbox, *sides: str, **how: Any) -> None:
    """Makes each of `sides` respond that there is no level, either as the service itself does or as `how` says."""
    how = {"status": 404, **how}
    if "DPS" in sides:
        upstream.fault("incentives", "POST", BULK, kind="status", status=200, body=[])
        upstream.fault("incentives", "GET", SINGLE, kind="status", **how)
    if "NOMIS" in sides:
        upstream.fault("nomis", "GET", CURRENT, kind="status", **how)


def list_only_few(upstream: Sandbox, *, differing: bool = False) -> None:
    """Makes NOMIS list only twelve of the prisoners whose levels agree and, if `differing`, all whose levels differ."""
    differ = {each["bookingId"] for each in upstream.planted()["mismatches"]}
    rows = [{name: each[name] for name in ("bookingId", "offenderNo")} for each in upstream.prisoners()]
    few = sorted((row for row in rows if row["bookingId"] not in differ), key=lambda row: int(row["bookingId"]))[:12]
    few += [row for row in rows if differing and row["bookingId"] in differ]
    page = {"content": few, "number": 0, "totalElements": len(few), "totalPages": 1, "last": True}
    upstream.fault("nomis", "GET", "/prisoners/ids", kind="status", status=200, body=page)


def claims_nothing(result: IncentiveResult) -> bool:
    """Whether the run failed and has no figures or findings about any prisoner."""
    counted = (result.compared, result.mismatches, result.resolved, result.in_flight, result.matrix)
    return result.status == "failed" and counted == (0, (), (), (), ())


@pytest.mark.parametrize("sides", [("DPS",), ("NOMIS",), ("DPS", "NOMIS")])
@pytest.mark.parametrize("prisoners", [8, 120])
@pytest.mark.parametrize("first", [True, False])
def test_a_side_without_any_level_fails_the_run(
    upstream: Sandbox, open_app: OpenApp, sides: tuple[str, ...], prisoners: int, first: bool
) -> None:
    """If a side says that nobody has a level, the run fails and reports nothing about differences."""
    upstream.reset(prisoners=prisoners, mismatches={"7": 2})
    app = open_app()
    if not first:
        assert reconciled(app).status == "complete"
    without_levels(upstream, *sides)
    result = reconciled(app, notify=False)
    assert claims_nothing(result)
    side = "NOMIS" if "NOMIS" in sides else "DPS"
    most = "10%" if prisoners >= 20 else "20%"
    against = f"more than the {most} that a first run accepts" if first else "compared with"
    assert f"{side} has no level for {prisoners} of {prisoners} prisoners" in str(result.failure)
    assert against in str(result.failure)


def test_a_far_larger_share_without_levels_fails_the_run(upstream: Sandbox, open_app: OpenApp) -> None:
    """If far more levels are missing than in the last run, the run fails and reports nothing about differences.

    The next run is compared with the last complete one.
    """
    upstream.reset(prisoners=200, mismatches={"3": 3, "7": 2})
    app = open_app()
    before = reconciled(app)
    assert before.status == "complete"
    upstream.fault("nomis", "GET", CURRENT, kind="status", status=404, probability=0.25, seed=5)
    assert claims_nothing(reconciled(app))
    upstream.clear_faults()
    after = reconciled(app)
    assert (after.status, after.compared_with, len(after.mismatches)) == ("complete", before.run_id, 5)


@pytest.mark.parametrize("first", [True, False])
def test_a_third_without_levels_fails_the_run_even_if_they_are_few(
    upstream: Sandbox, open_app: OpenApp, first: bool
) -> None:
    """If about a third of all levels are missing, the run fails, even if fewer than twenty are missing."""
    upstream.reset(prisoners=50, mismatches={"7": 2}, bulk="404")
    app = open_app()
    if not first:
        assert reconciled(app).status == "complete"
    for each in upstream.prisoners()[:16]:
        path = SINGLE.replace("{b}", str(each["bookingId"]))
        upstream.fault("incentives", "GET", f"{path}$", kind="status", status=404)
    result = reconciled(app)
    assert claims_nothing(result)
    assert "DPS has no level for 16 of 50 prisoners" in str(result.failure)


def test_a_list_that_is_suddenly_short_resolves_nothing(upstream: Sandbox, open_app: OpenApp) -> None:
    """If most prisoners vanish from the list, the run fails, even if the total agrees with the number of rows.

    No prisoner counts as released, and the next run is compared with the last complete one.
    """
    upstream.reset(prisoners=120, mismatches={"7": 4})
    app = open_app()
    before = reconciled(app)
    list_only_few(upstream)
    result = reconciled(app)
    assert (result.status, result.resolved) == ("failed", ())
    assert "12 prisoners are listed, but an earlier run listed 120" in str(result.failure)
    upstream.clear_faults()
    after = reconciled(app)
    assert (after.status, after.compared_with, len(after.mismatches)) == ("complete", before.run_id, 4)


def test_no_report_proposes_a_fix_while_the_list_is_in_doubt(upstream: Sandbox, open_app: OpenApp) -> None:
    """If most prisoners vanish from the list, the run still shows the differences that it found, but fixes none.

    The page, the email, the Slack messages and the CSV have only the commands that repeat, accept or show the run. The
    differences keep their causes, but have no commands and no requests, so no command can fix all of them either.
    """
    upstream.reset(prisoners=120, mismatches={"1": 2, "2": 2, "7": 2})
    app = open_app()
    before = reconciled(app)
    assert all(each.diagnosis is not None for each in before.mismatches)
    assert any("incentives repair" in str(each.diagnosis) for each in before.mismatches)
    list_only_few(upstream, differing=True)
    result = reconciled(app)
    assert (result.implausible, len(result.mismatches)) == (True, len(before.mismatches))
    known = {each.booking_id: each.diagnosis.cause for each in before.mismatches if each.diagnosis}
    for each in result.mismatches:
        assert each.diagnosis is not None
        assert each.diagnosis.cause == known[each.booking_id]
        assert (each.diagnosis.commands, each.diagnosis.request) == ((), None)
    own = r"runs rerun|reconcile incentives --accept|runs show"
    mail = email_report(result, None, "somewhere", Masking())
    slack = slack_report(result, None, "somewhere", Masking())
    csv = next(each.content for each in mail.files if each.kind == "csv")
    for text in (render_report(result), mail.text, mail.html, "\n".join(each.text for each in slack.posts), csv):
        assert "Do not fix anything until the data has been checked." in text
        assert re.findall(rf"prisoner-to-nomis (?!(?:{own}) {result.run_id}).*", text) == []


def test_a_list_that_is_just_as_short_a_day_later_is_accepted(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the list is suddenly short, runs fail. If it is still as short a day later, the next run is complete.

    For example, a data refresh in a test environment can make the list short for good.
    """
    upstream.reset(prisoners=120, mismatches={"7": 4})
    app = open_app()
    reconciled(app)
    list_only_few(upstream)
    assert reconciled(app).status == "failed"
    assert reconciled(app).status == "failed"
    with app.database.begin() as connection:
        runs = connection.execute(select(reconciliation_runs.c.id, reconciliation_runs.c.started_at)).all()
        for run in runs:
            moved = update(reconciliation_runs).where(reconciliation_runs.c.id == run.id)
            connection.execute(moved.values(started_at=run.started_at - timedelta(days=1)))
    assert reconciled(app).status == "complete"


def test_a_few_missing_levels_are_differences(upstream: Sandbox, open_app: OpenApp) -> None:
    """A few missing levels, for example after missed admissions, are differences in the first run and in later ones."""
    upstream.reset(prisoners=200, mismatches={"3": 8, "2": 4})
    app = open_app()
    assert [len(reconciled(app).mismatches) for _ in range(2)] == [12, 12]


def test_a_resumed_run_reads_everyone_again(upstream: Sandbox, open_app: OpenApp) -> None:
    """A run that failed because of implausible levels reads everyone again when it is resumed.

    Once the service has recovered, the resumed run finds the real differences.
    """
    upstream.reset(prisoners=100, mismatches={"7": 2})
    app = open_app()
    without_levels(upstream, "DPS")
    failed = app.reconcile(run_id="failed")
    assert failed.status == "failed"
    upstream.clear_faults()
    resumed = app.reconcile(ReconciliationParameters(resume="failed"))
    assert resumed.status == "complete"
    assert resumed.result is not None
    assert (resumed.result.compared, len(resumed.result.mismatches)) == (100, 2)


@pytest.mark.parametrize(
    "how",
    [
        {"text": "default backend - 404"},
        {"text": "<html>not found</html>"},
        {"text": ""},
        {"body": {"timestamp": "2023-05-22T04:00:00Z", "status": 404, "error": "Not Found", "path": "/x"}},
        {"status": 200, "text": ""},
        {"status": 200, "text": "null"},
        {"status": 200, "text": "{}"},
        {"status": 204, "text": ""},
    ],
)
def test_a_wrong_address_or_an_empty_response_is_not_a_missing_level(
    upstream: Sandbox, open_app: OpenApp, how: dict[str, Any]
) -> None:
    """If all responses are empty, or come from a wrong address or a withdrawn route, the run fails.

    The reason says that prisoners could not be read, and nobody is compared.
    """
    upstream.reset(prisoners=30, mismatches={"7": 2})
    without_levels(upstream, "DPS", "NOMIS", **how)
    result = reconciled(open_app())
    assert (result.status, result.compared, result.mismatches) == ("failed", 0, ())
    assert "could not be read" in str(result.failure)


@pytest.mark.parametrize(
    "how", [{"status": 200, "text": ""}, {"status": 200, "text": "null"}, {"text": "no such page"}]
)
def test_one_empty_response_is_one_unread_prisoner(upstream: Sandbox, open_app: OpenApp, how: dict[str, Any]) -> None:
    """If the response for one prisoner is empty or comes from a wrong address, that prisoner is unread.

    The prisoner does not count as having no level.
    """
    upstream.reset(prisoners=60, mismatches={"7": 2, "2": 1}, bulk="404")
    bookings = sorted(each["bookingId"] for each in upstream.planted()["mismatches"])
    for service, path in (("nomis", CURRENT), ("incentives", SINGLE)):
        one = path.replace("{b}", str(bookings[0]))
        upstream.fault(service, "GET", f"{one}$", kind="status", **{"status": 404, **how})
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 59)
    assert [each.booking_id for each in result.unread] == bookings[:1]
    assert {each.booking_id for each in result.mismatches} == set(bookings[1:])


@pytest.mark.parametrize("sides", [("nomis",), ("incentives",), ("nomis", "incentives")])
def test_a_level_that_is_missing_at_the_recheck_is_unread(
    upstream: Sandbox, open_app: OpenApp, sides: tuple[str, ...]
) -> None:
    """If a level that was there at the first reading is missing at the recheck, its prisoner is unread.

    The prisoner's difference does not count as settled.
    """
    upstream.reset(prisoners=60, mismatches={"7": 2}, bulk="404")
    booking_id = min(each["bookingId"] for each in upstream.planted()["mismatches"])
    for service, path in (("nomis", CURRENT), ("incentives", SINGLE)):
        if service in sides:
            one = path.replace("{b}", str(booking_id))
            upstream.fault(service, "GET", f"{one}$", kind="status", status=404, skip=1)
    result = reconciled(open_app())
    assert (result.status, result.settled_on_recheck, len(result.mismatches)) == ("incomplete", 0, 1)
    assert [each.booking_id for each in result.unread] == [booking_id]
    assert "when first read, but no level in the recheck" in result.unread[0].reason

"""If a few bookings can never be read, a run gives up on them even if a breaker opens, and compares all the others."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from typing import Any

import pytest

from reports.engine.run_start import ReconciliationParameters
from reports.presentation import summary
from reports.presentation.csv import render_csv
from reports.presentation.email_report import email_report
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_report import slack_report
from reports.reconciliations.incentives.result import IncentiveResult
from reports.reconciliations.results import parse_result
from sandbox import Sandbox
from sync.settings import times
from sync.settings.upstreams import UpstreamName
from tests.harness.messages import attached
from tests.harness.reconciliations import OpenApp, ReportsApp, result_of
from tests.harness.waiting import until

#: A limit in seconds, far below the wait for an outage and far above the time that the attempts take.
SOON = 60.0


def spoil(upstream: Sandbox, bookings: list[int], **how: Any) -> None:
    """Makes NOMIS fail to return the current records of these bookings.

    It always responds with status 500, unless `how` says otherwise.
    """
    for booking_id in bookings:
        path = f"/incentives/booking-id/{booking_id}/current$"
        upstream.fault("nomis", "GET", path, kind="status", **{"status": 500, **how})


def reconciled(app: ReportsApp, **parameters: Any) -> IncentiveResult:
    """The result of a run that waits up to ten minutes for an unavailable service."""

    def wait(_seconds: float) -> None:
        # While a breaker is open, a page of the list waits in steps. A step ends once the services respond again.
        until(lambda: app.breakers.probe(UpstreamName), "the services are up")

    return result_of(app.reconcile(ReconciliationParameters(**parameters), outage_seconds=600, sleep=wait))


def planted(upstream: Sandbox) -> list[int]:
    """The ids of the bookings with a planted difference, in ascending order."""
    return sorted(each["bookingId"] for each in upstream.planted()["mismatches"])


@pytest.mark.parametrize("bad", [3, 12])
def test_bad_bookings_are_not_an_outage(
    upstream: Sandbox, open_app: OpenApp, monkeypatch: pytest.MonkeyPatch, bad: int
) -> None:
    """A run soon gives up on bookings whose records NOMIS always fails to return, and counts them as unread.

    It compares all other bookings and finds their differences.
    """
    for name in ("FIRST_PING_SECONDS", "PING_SECONDS", "MAX_PING_SECONDS"):
        monkeypatch.setattr(times, name, 0.05)
    upstream.reset(prisoners=200, mismatches={"7": 4})
    others = [each["bookingId"] for each in upstream.prisoners() if each["bookingId"] not in planted(upstream)]
    spoil(upstream, others[:bad])
    began = time.monotonic()
    result = reconciled(open_app(with_breakers=True, reconciliation_max_unreadable_percent="10"))
    assert time.monotonic() - began < SOON
    assert (result.status, result.compared) == ("incomplete", 200 - bad)
    assert {each.booking_id for each in result.unread} == set(others[:bad])
    assert [each.booking_id for each in result.mismatches] == planted(upstream)
    # Unread prisoners are read once more after the list has been read again.
    asked = Counter(each["path"] for each in upstream.requests("nomis"))
    assert all(asked[f"/incentives/booking-id/{each}/current"] <= 8 for each in others[:bad])


def test_an_unconfirmed_difference_is_shown_as_seen(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a record differs at first and cannot be read again, all reports show the difference as not confirmed.

    The record counts neither as a mismatch nor as compared.
    """
    upstream.reset(prisoners=60, mismatches={"7": 2})
    seen, confirmed = planted(upstream)
    spoil(upstream, [seen], status=400, skip=1)
    result = reconciled(open_app())
    assert (result.status, result.compared) == ("incomplete", 59)
    assert [each.booking_id for each in result.mismatches] == [confirmed]
    (found,) = result.unconfirmed
    expected = next(each for each in upstream.planted()["mismatches"] if each["bookingId"] == seen)
    assert (found.booking_id, found.nomis_level, found.dps_level) == (seen, expected["nomis"], expected["dps"])
    assert (found.standing, result.counts()["unconfirmed"]) == ("new", 1)
    assert parse_result(result.to_json()).unconfirmed == result.unconfirmed
    mail, slack = email_report(result, None, "x", Masking()), slack_report(result, None, "x", Masking())
    for text in (render_report(result), mail.text, mail.html, "\n".join(each.text for each in slack.posts)):
        assert "not confirmed" in text
        assert found.offender_no in text
    row = next(row for row in csv.DictReader(io.StringIO(render_csv(result))) if row["standing"] == "unconfirmed")
    assert (row["booking_id"], row["nomis_level"], row["row"]) == (str(seen), expected["nomis"], "")


def test_a_run_with_only_unconfirmed_differences_does_not_claim_agreement(upstream: Sandbox, open_app: OpenApp) -> None:
    """If none of the records that differ can be read again, the headline says how many differences were seen.

    The report does not say that there are no differences.
    """
    upstream.reset(prisoners=60, mismatches={"7": 2})
    spoil(upstream, planted(upstream), status=400, skip=1)
    result = reconciled(open_app())
    assert (result.status, result.mismatches, len(result.unconfirmed)) == ("incomplete", (), 2)
    text = render_report(result)
    assert summary.headline(result).endswith(", 2 differences were seen and not confirmed")
    assert "The first reading found 2 differences among the other prisoners" in text
    assert attached(slack_report(result, None, "x", Masking()), "csv")


@pytest.mark.parametrize("differs", [True, False])
def test_an_excluded_booking_need_not_be_read(upstream: Sandbox, open_app: OpenApp, differs: bool) -> None:
    """If an excluded booking cannot be read, the run is still complete, and the report says why it was not read."""
    upstream.reset(prisoners=60, mismatches={"7": 2})
    others = [each["bookingId"] for each in upstream.prisoners() if each["bookingId"] not in planted(upstream)]
    bad = planted(upstream)[0] if differs else others[0]
    spoil(upstream, [bad], status=400)
    app = open_app(reconciliation_exclusions=f"{bad},always fails")
    result = reconciled(app)
    assert (result.status, result.compared, result.unread) == ("complete", 59, ())
    (excluded,) = result.excluded
    assert (excluded.booking_id, excluded.reason, excluded.still_differs) == (bad, "always fails", True)
    assert "status 400" in str(excluded.unread)
    assert "status 400" in render_report(result)
    assert result.unneeded_exclusions == ()
    assert [each["bookingId"] for each in app.events("mismatch-error")] == [str(bad)]
    assert app.events("excluded-booking") == []


def test_a_prison_is_not_empty_if_its_records_are_excluded_and_unread(upstream: Sandbox, open_app: OpenApp) -> None:
    """If all bookings at a chosen prison are excluded and cannot be read, the prison does not count as empty."""
    first, other = (each for each in upstream.prisoners()[:2])
    known = [each["bookingId"] for each in upstream.prisoners() if each["prisonId"] == first["prisonId"]]
    for booking_id in known:
        upstream.fault("nomis", "GET", f"/incentives/booking-id/{booking_id}/current$", status=400)
    app = open_app(reconciliation_exclusions=";".join(f"{booking_id},always fails" for booking_id in known))
    prisons = tuple({first["prisonId"], other["prisonId"]})
    result = result_of(app.reconcile(ReconciliationParameters(prisons=prisons)))
    assert (result.status, result.empty_prisons) == ("complete", ())
    assert {each.booking_id for each in result.excluded} == set(known)


def test_history_continues_for_everyone_who_was_read(upstream: Sandbox, open_app: OpenApp) -> None:
    """Even if one booking cannot be read, runs have a trend, and new, persisting and resolved differences.

    The earlier difference of the unread booking is not resolved in the meantime. It persists once the booking can be
    read again.
    """
    upstream.reset(prisoners=100, mismatches={"7": 3})
    app = open_app()
    bad, fixed, staying = planted(upstream)
    first = reconciled(app)
    spoil(upstream, [bad], status=400)
    second = reconciled(app)
    standings = {each.booking_id: each.standing for each in second.mismatches}
    assert standings == {fixed: "persisting", staying: "persisting"}
    assert second.compared_with == first.run_id
    level = next(each["dps"] for each in upstream.planted()["mismatches"] if each["bookingId"] == fixed)
    body = app.services.nomis.call("GET", f"/incentives/booking-id/{fixed}/current")
    equal = {**body, "iepLevel": {"code": level, "description": level}}
    path = f"/incentives/booking-id/{fixed}/current$"
    upstream.fault("nomis", "GET", path, kind="status", status=200, body=equal)
    third = reconciled(app)
    assert (third.status, third.compared_with) == ("incomplete", second.run_id)
    assert [each.booking_id for each in third.resolved] == [fixed]
    assert [point.run_id for point in third.trend] == [first.run_id, second.run_id, third.run_id]
    assert [point.unread for point in third.trend] == [0, 1, 1]
    fourth = reconciled(app)
    assert fourth.resolved == ()
    upstream.clear_faults()
    fifth = reconciled(app)
    assert fifth.status == "complete"
    assert {each.booking_id: each.standing for each in fifth.mismatches} == {
        bad: "persisting",
        staying: "persisting",
        fixed: "new",
    }
    since = {each.booking_id: each.since for each in fifth.mismatches}
    assert since[bad] == since[staying] == first.mismatches[0].since

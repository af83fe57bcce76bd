"""A few bookings that always fail, before a breaker: the run gives them up, and all others have their result."""

from __future__ import annotations

import csv
import io
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from reports.engine.result import ReconciliationResult
from reports.engine.run import ReconciliationParameters
from reports.presentation import summary
from reports.presentation.csv import render_csv
from reports.presentation.html import render_report
from reports.presentation.messages import email_report, slack_report
from reports.presentation.text import Masking
from sandbox import Sandbox
from sync.upstream.breaker import Breakers
from sync.upstream.services import connect
from sync.upstream.transport import Transport
from tests.harness.reconciliations import Office
from tests.reports.conftest import OpenOffice

#: Far below what waiting for an outage would take, and far above what the attempts take.
SOON = 60.0


@contextmanager
def behind_breakers(office: Office) -> Iterator[Office]:
    """The same parts, with calls through breakers as in the program."""
    with closing(Transport(office.settings)) as pings:
        breakers = Breakers(office.database, office.telemetry, pings.reach)
        with closing(Transport(office.settings, (breakers,))) as transport:
            yield replace(office, services=connect(transport))


def spoil(world: Sandbox, bookings: list[int], **how: Any) -> None:
    """Makes NOMIS fail for these bookings, always or as `how` says."""
    for booking_id in bookings:
        path = f"/incentives/booking-id/{booking_id}/current$"
        world.fault("nomis", "GET", path, kind="status", **{"status": 500, **how})


def reconciled(office: Office, **parameters: Any) -> ReconciliationResult:
    """The result of a run that would wait ten minutes for a service that is down."""
    # A page of the list waits for a breaker in steps: without any pause it would have waited before anything happened.
    result = office.reconcile(
        ReconciliationParameters(**parameters), outage_seconds=600, sleep=lambda _seconds: time.sleep(0.1)
    ).result
    assert result is not None
    return result


def planted(world: Sandbox) -> list[int]:
    """The bookings that differ."""
    return sorted(each["bookingId"] for each in world.planted()["mismatches"])


@pytest.mark.parametrize("bad", [3, 12])
def test_bad_bookings_are_no_outage(world: Sandbox, office: OpenOffice, bad: int) -> None:
    """They are unread after their attempts, soon; everybody else is compared, and their differences are found."""
    world.reset(prisoners=200, mismatches={"7": 4})
    others = [each["bookingId"] for each in world.prisoners() if each["bookingId"] not in planted(world)]
    spoil(world, others[:bad])
    began = time.monotonic()
    with behind_breakers(office(reconciliation_max_unreadable_percent="10")) as opened:
        result = reconciled(opened)
    assert time.monotonic() - began < SOON
    assert (result.status, result.compared) == ("incomplete", 200 - bad)
    assert {each.booking_id for each in result.unread} == set(others[:bad])
    assert [each.booking_id for each in result.mismatches] == planted(world)
    # Whoever is unread is read once more when the list has been looked at again.
    asked = Counter(each["path"] for each in world.requests("nomis"))
    assert all(asked[f"/incentives/booking-id/{each}/current"] <= 8 for each in others[:bad])


def test_a_difference_that_is_not_read_again_is_shown_as_seen(world: Sandbox, office: OpenOffice) -> None:
    """Page, CSV, JSON, Slack and email name it with its levels; it counts neither as found nor as nothing."""
    world.reset(prisoners=60, mismatches={"7": 2})
    seen, confirmed = planted(world)
    spoil(world, [seen], status=400, skip=1)
    result = reconciled(office())
    assert (result.status, result.compared) == ("incomplete", 59)
    assert [each.booking_id for each in result.mismatches] == [confirmed]
    (told,) = result.unconfirmed
    expected = next(each for each in world.planted()["mismatches"] if each["bookingId"] == seen)
    assert (told.booking_id, told.nomis_level, told.dps_level) == (seen, expected["nomis"], expected["dps"])
    assert (told.standing, result.counts()["unconfirmed"]) == ("new", 1)
    assert ReconciliationResult.from_json(result.to_json()).unconfirmed == result.unconfirmed
    mail, slack = email_report(result, None, "x", Masking()), slack_report(result, None, "x", Masking())
    for text in (render_report(result), mail.text, mail.html, "\n".join([slack.summary, *slack.thread])):
        assert "not confirmed" in text
        assert told.offender_no in text
    row = next(row for row in csv.DictReader(io.StringIO(render_csv(result))) if row["standing"] == "unconfirmed")
    assert (row["booking_id"], row["nomis_level"], row["row"]) == (str(seen), expected["nomis"], "")


def test_where_no_difference_can_be_read_again_none_is_said_to_be_absent(world: Sandbox, office: OpenOffice) -> None:
    """The headline says what was seen, not that there is nothing."""
    world.reset(prisoners=60, mismatches={"7": 2})
    spoil(world, planted(world), status=400, skip=1)
    result = reconciled(office())
    assert (result.status, result.mismatches, len(result.unconfirmed)) == ("incomplete", (), 2)
    text = render_report(result)
    assert summary.headline(result) == "Incomplete: 2 differences seen and not confirmed"
    assert "The first reading saw 2 differences among the others" in text
    assert slack_report(result, None, "x", Masking()).csv is not None


@pytest.mark.parametrize("differs", [True, False])
def test_an_excluded_booking_need_not_be_read(world: Sandbox, office: OpenOffice, differs: bool) -> None:
    """A bad booking on the list of exclusions leaves the run complete; it is shown there, with the reason."""
    world.reset(prisoners=60, mismatches={"7": 2})
    others = [each["bookingId"] for each in world.prisoners() if each["bookingId"] not in planted(world)]
    bad = planted(world)[0] if differs else others[0]
    spoil(world, [bad], status=400)
    opened = office(reconciliation_exclusions=f"{bad},always fails")
    result = reconciled(opened)
    assert (result.status, result.compared, result.unread) == ("complete", 59, ())
    (excluded,) = result.excluded
    assert (excluded.booking_id, excluded.reason, excluded.still_differs) == (bad, "always fails", True)
    assert "status 400" in str(excluded.unread)
    assert "status 400" in render_report(result)
    assert result.unneeded_exclusions == ()
    assert [each["bookingId"] for each in opened.events("mismatch-error")] == [str(bad)]
    assert opened.events("excluded-booking") == []


def test_history_goes_on_for_everyone_who_was_read(world: Sandbox, office: OpenOffice) -> None:
    """One bad booking in every run: new, persisting, resolved and the trend are told of all others; hers stays."""
    world.reset(prisoners=100, mismatches={"7": 3})
    opened = office()
    bad, mended, staying = planted(world)
    first = reconciled(opened)
    spoil(world, [bad], status=400)
    second = reconciled(opened)
    standings = {each.booking_id: each.standing for each in second.mismatches}
    assert standings == {mended: "persisting", staying: "persisting"}
    assert second.compared_with == first.run_id
    level = next(each["dps"] for each in world.planted()["mismatches"] if each["bookingId"] == mended)
    body = opened.services.nomis.call("GET", f"/incentives/booking-id/{mended}/current")
    equal = {**body, "iepLevel": {"code": level, "description": level}}
    path = f"/incentives/booking-id/{mended}/current$"
    world.fault("nomis", "GET", path, kind="status", status=200, body=equal)
    third = reconciled(opened)
    assert (third.status, third.compared_with) == ("incomplete", second.run_id)
    assert [each.booking_id for each in third.resolved] == [mended]
    assert [point.run_id for point in third.trend] == [first.run_id, second.run_id, third.run_id]
    assert [point.unread for point in third.trend] == [0, 1, 1]
    fourth = reconciled(opened)
    assert fourth.resolved == ()
    world.clear_faults()
    fifth = reconciled(opened)
    assert fifth.status == "complete"
    assert {each.booking_id: each.standing for each in fifth.mismatches} == {
        bad: "persisting",
        staying: "persisting",
        mended: "new",
    }
    since = {each.booking_id: each.since for each in fifth.mismatches}
    assert since[bad] == since[staying] == first.mismatches[0].since

"""Differences in flight are not mismatches, but differences that only seem to be in flight are."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, timedelta

import pytest

from reports.engine.pending_messages import PendingMessages
from reports.engine.run_start import ReconciliationParameters
from sandbox import Sandbox
from sync.clock import LONDON, now
from sync.domains.declaration import Domain
from sync.domains.incentives import DOMAIN
from sync.errors import RuleError
from tests.harness.reconciliations import (
    OpenApp,
    causes,
    pending_on_dlq,
    planted_causes,
    result_of,
)


@pytest.mark.parametrize("where", ["queue", "dlq"])
def test_in_flight_and_excluded_differences_are_not_mismatches(
    upstream: Sandbox, open_app: OpenApp, where: str
) -> None:
    """If a booking has a recent review or a pending message, its difference is in flight and not a mismatch.

    Excluded bookings are listed separately, even if both sides are equal.
    """
    upstream.reset(prisoners=200, mismatches={"1": 1, "7": 1}, in_flight=2, in_flight_seconds=60, excluded=2)
    listed = upstream.planted()["excludedBookings"]
    app = open_app(reconciliation_exclusions=";".join(f"{each},merged by hand" for each in listed))
    waiting = pending_on_dlq(upstream, app)(DOMAIN).on_dlq
    peeked = PendingMessages(failed=waiting) if where == "queue" else PendingMessages(on_dlq=waiting)
    result = result_of(app.reconcile(find_pending=lambda _domain: peeked))
    assert Counter(each["cause"] for each in planted_causes(upstream)) == {1: 1, 7: 1}
    assert [each.diagnosis.number for each in result.mismatches if each.diagnosis] == [7]
    assert len(result.in_flight) == 3
    assert {each.booking_id for each in result.excluded} == set(listed)
    assert [each.booking_id for each in result.excluded if not each.still_differs] == upstream.planted()[
        "excludedMatching"
    ]
    assert len(app.events("excluded-booking")) == 2
    assert app.events("excluded-booking")[0]["reason"] == "merged by hand"
    resolved = app.events("mismatch-excluded-booking-resolved")
    assert [each["bookingId"] for each in resolved] == [str(each) for each in upstream.planted()["excludedMatching"]]
    assert "remove" in resolved[0]["reason"]


def test_a_recent_arrival_is_in_flight(upstream: Sandbox, open_app: OpenApp) -> None:
    """If DPS has not received the event about a recent transfer, the difference is in flight.

    Once the transfer is older than the in-flight time, the difference is a mismatch.
    """
    upstream.reset(prisoners=50, mismatch_rate=0)
    for each in upstream.prisoners()[:6]:
        upstream.control("POST", f"/prisoners/{each['offenderNo']}/transfer", {"prisonId": "LEI", "publish": False})
    app = open_app()
    result = result_of(app.reconcile())
    assert result.mismatches == ()
    assert result.in_flight != ()
    for young in result.in_flight:
        assert re.fullmatch(
            r"the NOMIS record was last changed (less than a minute|\d+ minutes?) ago, "
            r"and may not have reached DPS yet",
            young.why,
        )
    later = result_of(open_app(reconciliation_in_flight_minutes="0").reconcile())
    assert [each.booking_id for each in later.mismatches] == [each.booking_id for each in result.in_flight]


def test_a_change_is_in_flight_for_ten_minutes(upstream: Sandbox, open_app: OpenApp) -> None:
    """A difference is in flight if its review is less than ten minutes old.

    It is also in flight if the review is dated a few minutes in the future, since clocks may differ. If the review is
    older, or dated further in the future, the difference is a mismatch.
    """
    upstream.reset(prisoners=60, mismatch_rate=0)
    present = now().astimezone(LONDON).replace(tzinfo=None)
    moments = {
        "years ahead": present + timedelta(days=1600),
        "an hour ahead": present + timedelta(hours=1),
        "two minutes ahead": present + timedelta(minutes=2),
        "five minutes ago": present - timedelta(minutes=5),
        "eleven minutes ago": present - timedelta(minutes=11),
    }
    bookings = {}
    for (name, moment), each in zip(moments.items(), upstream.prisoners(), strict=False):
        upstream.add_review(each["offenderNo"], "EN3", publish=False, at=moment.isoformat(timespec="seconds"))
        bookings[each["bookingId"]] = name
    result = result_of(open_app().reconcile())
    assert {bookings[each.booking_id] for each in result.mismatches} == {
        "years ahead",
        "an hour ahead",
        "eleven minutes ago",
    }
    assert {bookings[each.booking_id] for each in result.in_flight} == {"two minutes ahead", "five minutes ago"}


@pytest.mark.parametrize(("where", "status"), [("dlq", "mismatch"), ("queue", "in flight")])
def test_a_dead_letter_is_in_flight_in_only_one_complete_run(
    upstream: Sandbox, open_app: OpenApp, where: str, status: str
) -> None:
    """A difference whose message is on the DLQ is in flight in one complete run, and a mismatch in later runs.

    If the DLQ gets a newer message, the difference is in flight again. A difference whose message is on the main queue
    is in flight in every run.
    """
    upstream.reset(prisoners=60, mismatches={"1": 1})
    app = open_app()
    waiting = pending_on_dlq(upstream, app)(DOMAIN).on_dlq
    peeked = PendingMessages(failed=waiting) if where == "queue" else PendingMessages(on_dlq=waiting)
    first = result_of(app.reconcile(find_pending=lambda _domain: peeked))
    assert (first.status, len(first.in_flight), first.mismatches) == ("complete", 1, ())
    booking = first.in_flight[0]
    second = result_of(app.reconcile(find_pending=lambda _domain: peeked))
    alone = ReconciliationParameters(offender_nos=(booking.offender_no,))
    for result in (second, result_of(app.reconcile(alone, find_pending=lambda _domain: peeked))):
        mismatches = {each.booking_id: "mismatch" for each in result.mismatches}
        assert mismatches | {each.booking_id: "in flight" for each in result.in_flight} == {booking.booking_id: status}
        assert causes(result.mismatches) in ({}, {booking.booking_id: 1})
    newer = upstream.add_review(booking.offender_no, "EN2", publish=False)
    third = result_of(
        app.reconcile(find_pending=lambda _domain: PendingMessages(on_dlq=frozenset({*waiting, f"incentive:{newer}"})))
    )
    assert (third.mismatches, [each.booking_id for each in third.in_flight]) == ((), [booking.booking_id])


def test_a_dead_letter_that_is_given_up_is_a_difference(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the program has given up on the dead letter of a difference, the difference is a mismatch and not in flight.

    The diagnosis gives the reason, and the command that shows the message.
    """
    upstream.reset(prisoners=60, mismatches={"1": 1})
    app = open_app()
    (review,) = pending_on_dlq(upstream, app)(DOMAIN).on_dlq
    why = "it came back 7 times, and housekeeping no longer sends it back"
    given_up = PendingMessages(on_dlq=frozenset({review}), given_up={review: why})
    result = result_of(app.reconcile(find_pending=lambda _domain: given_up))
    assert result.in_flight == ()
    (diagnosis,) = (each.diagnosis for each in result.mismatches)
    assert diagnosis is not None
    assert (diagnosis.number, why in diagnosis.explanation) == (1, True)
    assert diagnosis.commands[0] == "prisoner-to-nomis dlq show incentive"


def test_an_excluded_booking_in_flight_is_counted_once(upstream: Sandbox, open_app: OpenApp) -> None:
    """An excluded booking with a pending message is listed as excluded and not as in flight.

    The result gives the date of the booking's entry on the list of exclusions.
    """
    upstream.reset(prisoners=50, mismatches={"1": 1})
    (booking,) = (each["bookingId"] for each in planted_causes(upstream))
    app = open_app(reconciliation_exclusions=f"{booking},known,2020-01-31")
    result = result_of(app.reconcile(find_pending=pending_on_dlq(upstream, app)))
    assert result.in_flight == ()
    assert [(each.booking_id, each.since) for each in result.excluded] == [(booking, date(2020, 1, 31))]


def test_a_difference_that_agrees_at_the_recheck_is_not_reported(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a record differs at first, but both sides agree at the recheck, there is no mismatch.

    The difference counts as settled.
    """
    upstream.reset(prisoners=100, in_flight=3, in_flight_seconds=0, mismatch_rate=0)
    result = result_of(open_app(reconciliation_in_flight_minutes="0").reconcile())
    assert result.mismatches == ()
    assert result.settled_on_recheck == 3


def test_messages_on_the_main_queue_hide_no_difference(upstream: Sandbox, open_app: OpenApp) -> None:
    """Even while the incentive queue has messages, a difference counts as a mismatch.

    The evidence says that a message may be pending, the confidence in the cause is low, and no repair is suggested.
    """
    upstream.reset(prisoners=100, mismatches={"2": 1})
    doubt = "the incentive queue holds 3 messages"
    [mismatch] = result_of(open_app().reconcile(find_pending=lambda _domain: PendingMessages(doubt=doubt))).mismatches
    [current] = [row for row in mismatch.evidence if row.side == "DPS" and row.current]
    assert current.note == f"not written to NOMIS; its message may be pending: {doubt}"
    assert mismatch.diagnosis is not None
    assert (mismatch.diagnosis.number, mismatch.diagnosis.confidence) == (2, "low")
    assert not [command for command in mismatch.diagnosis.commands if "repair" in command]


def test_unreadable_queues_hide_no_difference(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the queues cannot be read, a run reports every difference that it finds."""
    upstream.reset(prisoners=100, mismatches={"7": 1})

    def find_pending(_domain: Domain) -> PendingMessages:
        raise RuleError("no queue")

    assert len(result_of(open_app().reconcile(find_pending=find_pending)).mismatches) == 1

"""Whole runs of the reconciliation against the sandbox, through all that can go wrong."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from reports.engine import checkpoints, runs
from reports.engine.recheck import JUST_RECORDED
from reports.engine.result import ReconciliationResult
from reports.engine.run import (
    ReconciliationBusy,
    ReconciliationParameters,
    UnknownRun,
)
from reports.reconciliations.incentives.levels import Codebook
from reports.reconciliations.incentives.pending_messages import PendingMessages
from sandbox import Sandbox
from sync.clock import LONDON, now
from sync.domains.incentives import dps as incentives_api
from sync.failures import RuleError
from sync.settings.declaration import UpstreamName
from sync.store import outbox
from tests.harness.processes import exit_codes
from tests.harness.reconciliations import CURRENT, HALF, OTHER_HALF, Office, at_work, causes, open_office, result_of
from tests.reports.conftest import OpenOffice


def planted(world: Sandbox) -> list[dict[str, Any]]:
    """What differs by a planted cause, rows of the decision table alone."""
    return [each for each in world.planted()["mismatches"] if isinstance(each["cause"], int)]


def dlq_of(world: Sandbox, office: Office) -> Callable[[], PendingMessages]:
    """A look at the queues that finds the planted reviews of row 1 on the dead letter queue."""
    waiting = [each["bookingId"] for each in planted(world) if each["cause"] == 1]

    def find_pending() -> PendingMessages:
        summaries = [
            incentives_api.booking_summary(office.services[UpstreamName.INCENTIVES], booking_id)
            for booking_id in waiting
        ]
        return PendingMessages(
            on_dlq=frozenset(each.id for each in summaries if each is not None and each.id is not None)
        )

    return find_pending


@pytest.mark.parametrize("seed", [1, 2])
def test_finds_exactly_what_was_planted_with_its_cause(world: Sandbox, office: OpenOffice, seed: int) -> None:
    """Every planted difference, no other, each with the row of the decision table that was planted."""
    rows = {str(row): 3 for row in range(1, 11)}
    world.reset(prisoners=400, seed=seed, mismatches=rows, every_cause=True)
    opened = office()
    outcome = opened.reconcile(find_pending=dlq_of(world, opened))
    result = result_of(outcome)
    assert outcome.status == "complete"
    # What waits on a queue is told apart: it differs only until its message is handled.
    reported = causes(result.mismatches) | {each.booking_id: 1 for each in result.in_flight}
    assert reported == {each["bookingId"]: each["cause"] for each in planted(world)}
    assert {"dlq retry incentive" in each.why for each in result.in_flight} == {True}
    levels = {each.booking_id: (each.nomis_level, each.dps_level) for each in result.mismatches}
    levels |= {each.booking_id: (each.nomis_level, each.dps_level) for each in result.in_flight}
    assert levels == {each["bookingId"]: (each["nomis"], each["dps"]) for each in planted(world)}
    assert result.compared == 400
    assert sum(cell.count for cell in result.matrix) == 400
    assert sum(prison.compared for prison in result.prisons) == 400
    assert ReconciliationResult.from_json(result.to_json()) == result


def test_tells_everyone_by_the_old_events(world: Sandbox, office: OpenOffice) -> None:
    """One event at the start, one for each mismatch, and a summary with a property for each prisoner."""
    world.reset(prisoners=100, mismatches={"2": 1, "3": 1, "4": 1})
    opened = office()
    opened.reconcile()
    assert opened.events("requested") == [{"active-prisoners": "100"}]
    told = {each["offenderNo"]: each for each in opened.events("mismatch")}
    expected = {
        each["offenderNo"]: {
            "offenderNo": each["offenderNo"],
            "bookingId": str(each["bookingId"]),
            "nomisIncentiveLevel": each["nomis"] or "null",
            "dpsIncentiveLevel": each["dps"] or "null",
        }
        for each in planted(world)
    }
    assert told == expected
    summary = {
        "mismatch-count": "3",
        "success": "true",
        "prisoners-checked": "100",
        "prisoners-failed": "0",
        "pages-failed": "0",
    }
    levels = {number: f"{each['nomisIncentiveLevel']}:{each['dpsIncentiveLevel']}" for number, each in told.items()}
    assert opened.events("report") == [summary | levels]


@pytest.mark.parametrize("where", ["queue", "dlq"])
def test_passes_over_what_is_on_its_way_and_what_is_excluded(world: Sandbox, office: OpenOffice, where: str) -> None:
    """Fresh reviews and waiting messages are no mismatches; excluded bookings are told apart, needed or not."""
    world.reset(prisoners=200, mismatches={"1": 1, "7": 1}, in_flight=2, in_flight_seconds=60, excluded=2)
    listed = world.planted()["excludedBookings"]
    opened = office(reconciliation_exclusions=";".join(f"{each},merged by hand" for each in listed))
    waiting = dlq_of(world, opened)().on_dlq
    peeked = PendingMessages(failed_reviews=waiting) if where == "queue" else PendingMessages(on_dlq=waiting)
    result = result_of(opened.reconcile(find_pending=lambda: peeked))
    assert Counter(each["cause"] for each in planted(world)) == {1: 1, 7: 1}
    assert [each.diagnosis.number for each in result.mismatches if each.diagnosis] == [7]
    assert len(result.in_flight) == 3
    assert {each.booking_id for each in result.excluded} == set(listed)
    assert [each.booking_id for each in result.excluded if not each.still_differs] == world.planted()[
        "excludedMatching"
    ]
    assert len(opened.events("excluded-booking")) == 2
    assert opened.events("excluded-booking")[0]["reason"] == "merged by hand"
    resolved = opened.events("mismatch-excluded-booking-resolved")
    assert [each["bookingId"] for each in resolved] == [str(each) for each in world.planted()["excludedMatching"]]
    assert "remove" in resolved[0]["reason"]


def test_passes_over_an_arrival_that_dps_has_not_heard_of_yet(world: Sandbox, office: OpenOffice) -> None:
    """A transfer of this minute is no missed arrival; it is one when its event has not come for some time."""
    world.reset(prisoners=50, mismatch_rate=0)
    for each in world.prisoners()[:6]:
        world.control("POST", f"/prisoners/{each['offenderNo']}/transfer", {"prisonId": "LEI", "publish": False})
    opened = office()
    result = result_of(opened.reconcile())
    assert result.mismatches == ()
    assert {each.why for each in result.in_flight} == {JUST_RECORDED}
    later = result_of(office(reconciliation_in_flight_minutes="0").reconcile())
    assert [each.booking_id for each in later.mismatches] == [each.booking_id for each in result.in_flight]


def test_in_flight_ends_ten_minutes_ago_and_begins_with_the_difference_of_clocks(
    world: Sandbox, office: OpenOffice
) -> None:
    """A review or record dated in the future is a difference in every run, save by a few minutes' clock difference."""
    world.reset(prisoners=60, mismatch_rate=0)
    present = now().astimezone(LONDON).replace(tzinfo=None)
    moments = {
        "years ahead": present + timedelta(days=1600),
        "an hour ahead": present + timedelta(hours=1),
        "two minutes ahead": present + timedelta(minutes=2),
        "five minutes ago": present - timedelta(minutes=5),
        "eleven minutes ago": present - timedelta(minutes=11),
    }
    bookings = {}
    for (name, moment), each in zip(moments.items(), world.prisoners(), strict=False):
        world.add_review(each["offenderNo"], "EN3", publish=False, at=moment.isoformat(timespec="seconds"))
        bookings[each["bookingId"]] = name
    result = result_of(office().reconcile())
    assert {bookings[each.booking_id] for each in result.mismatches} == {
        "years ahead",
        "an hour ahead",
        "eleven minutes ago",
    }
    assert {bookings[each.booking_id] for each in result.in_flight} == {"two minutes ahead", "five minutes ago"}


@pytest.mark.parametrize(("where", "status"), [("dlq", "mismatch"), ("queue", "in flight")])
def test_a_dead_letter_is_in_flight_in_one_complete_run_only(
    world: Sandbox, office: OpenOffice, where: str, status: str
) -> None:
    """What lies on the DLQ since before the last complete run is a difference; a newer review is in flight."""
    world.reset(prisoners=60, mismatches={"1": 1})
    opened = office()
    waiting = dlq_of(world, opened)().on_dlq
    peeked = PendingMessages(failed_reviews=waiting) if where == "queue" else PendingMessages(on_dlq=waiting)
    first = result_of(opened.reconcile(find_pending=lambda: peeked))
    assert (first.status, len(first.in_flight), first.mismatches) == ("complete", 1, ())
    booking = first.in_flight[0]
    second = result_of(opened.reconcile(find_pending=lambda: peeked))
    alone = ReconciliationParameters(offender_nos=(booking.offender_no,))
    for result in (second, result_of(opened.reconcile(alone, find_pending=lambda: peeked))):
        mismatches = {each.booking_id: "mismatch" for each in result.mismatches}
        assert mismatches | {each.booking_id: "in flight" for each in result.in_flight} == {booking.booking_id: status}
        assert causes(result.mismatches) in ({}, {booking.booking_id: 1})
    newer = world.add_review(booking.offender_no, "EN2", publish=False)
    third = result_of(opened.reconcile(find_pending=lambda: PendingMessages(on_dlq=frozenset({*waiting, newer}))))
    assert (third.mismatches, [each.booking_id for each in third.in_flight]) == ((), [booking.booking_id])


def test_a_dead_letter_that_is_given_up_is_a_difference(world: Sandbox, office: OpenOffice) -> None:
    """Nothing sends it back, so that nothing is on its way; the report says why, and how to look."""
    world.reset(prisoners=60, mismatches={"1": 1})
    opened = office()
    (review,) = dlq_of(world, opened)().on_dlq
    why = "it came back 7 times, and housekeeping does not send it back any more"
    given_up = PendingMessages(on_dlq=frozenset({review}), given_up={review: why})
    result = result_of(opened.reconcile(find_pending=lambda: given_up))
    assert result.in_flight == ()
    (diagnosis,) = (each.diagnosis for each in result.mismatches)
    assert diagnosis is not None
    assert (diagnosis.number, why in diagnosis.explanation) == (1, True)
    assert diagnosis.commands[0] == "prisoner-to-nomis dlq show incentive"


def test_counts_what_is_excluded_and_on_its_way_once(world: Sandbox, office: OpenOffice) -> None:
    """A booking on the list of exclusions is told of there alone, with the date of its entry."""
    world.reset(prisoners=50, mismatches={"1": 1})
    (booking,) = (each["bookingId"] for each in planted(world))
    opened = office(reconciliation_exclusions=f"{booking},known,2020-01-31")
    result = result_of(opened.reconcile(find_pending=dlq_of(world, opened)))
    assert result.in_flight == ()
    assert [(each.booking_id, each.since) for each in result.excluded] == [(booking, date(2020, 1, 31))]


def test_names_exclusions_of_bookings_that_are_gone(world: Sandbox, office: OpenOffice) -> None:
    """An entry whose booking is not active may go too, unless the list of active ones is not whole."""
    world.reset(prisoners=120, mismatch_rate=0)
    opened = office(reconciliation_exclusions="99999999,merged long ago")
    assert result_of(opened.reconcile()).unneeded_exclusions == ("booking 99999999, which is not active",)
    world.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    assert result_of(opened.reconcile()).unneeded_exclusions == ()


def test_drops_what_agrees_when_read_again(world: Sandbox, office: OpenOffice) -> None:
    """A difference that has settled when it is read for the second time is not reported."""
    world.reset(prisoners=100, in_flight=3, in_flight_seconds=0, mismatch_rate=0)
    result = result_of(office(reconciliation_in_flight_minutes="0").reconcile())
    assert result.mismatches == ()
    assert result.settled_on_recheck == 3


def test_knows_new_ones_from_old_ones_and_from_resolved_ones(world: Sandbox, office: OpenOffice) -> None:
    """Against the last complete run over everyone: new, persisting since its first run, and resolved."""
    world.reset(prisoners=100, mismatches={"4": 1, "5": 1, "7": 1})
    opened = office()
    first = result_of(opened.reconcile(run_id="first"))
    assert (first.new, first.persisting, first.compared_with) == (3, 0, None)
    twice = next(each for each in first.mismatches if each.diagnosis and each.diagnosis.number == 5)
    assert twice.nomis is not None
    assert world.delete_nomis_incentive(twice.booking_id, twice.nomis.record)
    gone = next(each for each in first.mismatches if each.diagnosis and each.diagnosis.number == 7)
    world.release(gone.offender_no)
    alone = result_of(opened.reconcile(ReconciliationParameters(offender_nos=(twice.offender_no,))))
    assert alone.mismatches == ()
    second = result_of(opened.reconcile(run_id="second"))
    assert (second.new, second.persisting) == (0, 1)
    assert second.mismatches[0].since == first.started_at
    assert {each.booking_id: each.how for each in second.resolved} == {
        twice.booking_id: "equal",
        gone.booking_id: "released",
    }
    assert second.compared_with == "first"
    assert [point.run_id for point in second.trend] == ["first", "second"]


def test_never_calls_unread_ones_resolved_nor_claims_success(world: Sandbox, office: OpenOffice) -> None:
    """A mismatch that could not be read again stays what it was; the run is incomplete."""
    world.reset(prisoners=100, mismatches={"7": 3})
    opened = office()
    first = result_of(opened.reconcile(run_id="first"))
    unread = first.mismatches[0]
    path = CURRENT.replace("{b}", str(unread.booking_id))
    world.fault("nomis", "GET", path, kind="status", status=400)
    outcome = opened.reconcile(run_id="second")
    second = result_of(outcome)
    assert outcome.status == "incomplete"
    assert [each.booking_id for each in second.unread] == [unread.booking_id]
    assert second.resolved == ()
    assert second.compared == 99
    assert opened.events("report")[-1]["success"] == "false"
    assert opened.events("mismatch-error") == [{"offenderNo": unread.offender_no, "bookingId": str(unread.booking_id)}]
    world.clear_faults()
    third = result_of(opened.reconcile(run_id="third"))
    assert third.compared_with == "second"
    # Whoever was not read in between keeps the earlier state.
    assert {each.standing for each in third.mismatches} == {"persisting"}
    assert {each.since for each in third.mismatches} == {each.since for each in first.mismatches}


def test_tells_network_errors_by_their_own_event(world: Sandbox, office: OpenOffice) -> None:
    """No answer at all is another finding than a bad answer."""
    world.reset(prisoners=60, mismatch_rate=0)
    booking = world.prisoners()[5]["bookingId"]
    world.fault("nomis", "GET", CURRENT.replace("{b}", str(booking)), kind="reset")
    opened = office()
    assert opened.reconcile().status == "incomplete"
    assert [each["bookingId"] for each in opened.events("network-error")] == [str(booking)]
    assert opened.events("mismatch-error") == []


def test_names_a_page_it_could_not_read_and_resumes_with_it(world: Sandbox, office: OpenOffice) -> None:
    """The page is counted and named; resuming reads that page's prisoners and nobody else again."""
    world.reset(prisoners=200, mismatches={"7": 2})
    opened = office()
    world.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400, query="page=1")
    outcome = opened.reconcile(run_id="paged")
    result = result_of(outcome)
    assert outcome.status == "incomplete"
    assert [each.page for each in result.unread_pages] == [1]
    assert opened.events("mismatch-page-error") == [{"page": "1"}]
    assert result.compared == 150
    world.clear_faults()
    world.clear_records()
    resumed = opened.reconcile(ReconciliationParameters(resume="paged"))
    assert (resumed.status, resumed.run_id) == ("complete", "paged")
    assert result_of(resumed).compared == 200
    assert len(result_of(resumed).mismatches) == 2
    again = [each for each in world.requests("nomis") if each["path"].endswith("/current")]
    assert len(again) <= 50 + 2


def test_gives_up_with_what_it_has_when_too_much_fails(world: Sandbox, office: OpenOffice) -> None:
    """Past the threshold the run fails visibly, says why, and is not taken for a measure."""
    world.reset(prisoners=300, mismatches={"7": 2})
    world.fault("nomis", "GET", CURRENT, kind="status", status=400, probability=0.5, seed=3)
    opened = office()
    outcome = opened.reconcile()
    assert outcome.status == "failed"
    assert "more than 5 % of 300 prisoners could not be read" in str(result_of(outcome).failure)
    assert opened.events("report")[-1]["success"] == "false"
    world.clear_faults()
    assert result_of(opened.reconcile()).compared_with is None


def test_fails_visibly_when_nothing_can_be_listed(world: Sandbox, office: OpenOffice) -> None:
    """Without the list there is a failed result, not an empty success."""
    world.fault("nomis", "GET", "/prisoners/ids", kind="status", status=400)
    opened = office()
    outcome = opened.reconcile()
    assert outcome.status == "failed"
    assert "number of active prisoners" in str(result_of(outcome).failure)
    assert [each["success"] for each in opened.events("report")] == ["false"]


def test_tracks_the_unforeseen_and_lets_it_be_seen(world: Sandbox, office: OpenOffice) -> None:
    """An error that nobody thought of is raised, and the summary event says nothing but that there was no success."""
    world.reset(prisoners=60)
    opened = office()

    def fail(stage: str, _done: int, _total: int) -> None:
        if stage == "reading":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.reconcile(progress=fail)
    assert opened.events("report") == [{"success": "false"}]


@pytest.mark.parametrize("seed", [1, 2])
def test_compares_a_population_that_moves(world: Sandbox, office: OpenOffice, seed: int) -> None:
    """Nobody is compared twice, and whoever stayed is compared; the released are no mismatches."""
    world.reset(prisoners=300, seed=seed, moving=2, mismatches={"7": 4})
    before = {each["bookingId"] for each in world.prisoners()}
    opened = office(reports_incentives_reconciliation_page_size="20")
    result = result_of(opened.reconcile(run_id="moving"))
    after = {each["bookingId"] for each in world.prisoners()}
    with opened.database.read() as connection:
        population = checkpoints.load_population(connection, "moving")
    assert population is not None
    listed = [each.booking_id for each in population.prisoners]
    assert len(listed) == len(set(listed))
    assert before & after <= set(listed)
    mismatching = {each["bookingId"] for each in planted(world)}
    assert mismatching & after <= {each.booking_id for each in result.mismatches} <= mismatching


def test_leaves_out_whom_the_run_saw_released(world: Sandbox, office: OpenOffice) -> None:
    """A difference of somebody who was released meanwhile is told apart."""
    world.reset(prisoners=100, mismatches={"7": 2})
    leaver = planted(world)[0]
    result = result_of(office().reconcile(sleep=lambda _seconds: world.release(leaver["offenderNo"])))
    assert result.released == (leaver["offenderNo"],)
    assert len(result.mismatches) == 1
    assert result.compared == 99


def test_looks_at_one_prison_alone(world: Sandbox, office: OpenOffice) -> None:
    """Only that prison's prisoners are counted, and its mismatches shown, those without a NOMIS record too."""
    world.reset(prisoners=400, mismatches={"2": 6, "7": 6})
    prison = next(each["prisonId"] for each in planted(world) if each["cause"] == 2)
    expected = {each["bookingId"] for each in planted(world) if each["prisonId"] == prison}
    result = result_of(office().reconcile(ReconciliationParameters(prisons=(prison,))))
    assert {each.booking_id for each in result.mismatches} == expected
    assert {each.prison_id for each in result.prisons} <= {prison, None}
    assert len(expected) <= result.compared < 400


def test_a_prison_where_nobody_is_makes_the_run_incomplete(world: Sandbox, office: OpenOffice) -> None:
    """A mistyped prison is no all-clear: it is named, also beside one whose prisoners were compared."""
    world.reset(prisoners=100)
    there = world.prisoners()[0]["prisonId"]
    opened = office()
    alone = result_of(opened.reconcile(ReconciliationParameters(prisons=("XXX",))))
    assert (alone.status, alone.compared, alone.empty_prisons) == ("incomplete", 0, ("XXX",))
    beside = result_of(opened.reconcile(ReconciliationParameters(prisons=(there, "XXX"))))
    assert (beside.status, beside.empty_prisons) == ("incomplete", ("XXX",))
    assert beside.compared > 0
    assert result_of(opened.reconcile(ReconciliationParameters(prisons=(there,)))).status == "complete"


def test_a_list_that_is_suddenly_empty_is_not_believed(world: Sandbox, office: OpenOffice) -> None:
    """Nobody listed, where there were prisoners a week ago: the run fails, and resolves nothing."""
    world.reset(prisoners=20, mismatches={"7": 2})
    opened = office()
    assert result_of(opened.reconcile()).status == "complete"
    world.reset(prisoners=0)
    emptied = result_of(opened.reconcile())
    assert (emptied.status, emptied.resolved) == ("failed", ())
    assert emptied.failure == "NOMIS lists no active prisoner, where the last complete run compared 20"


def test_a_list_that_empties_during_the_run_is_not_believed(world: Sandbox, office: OpenOffice) -> None:
    """Before the second look, and before a run is gone on with: differences stand, and none is resolved."""
    world.reset(prisoners=40, mismatches={"7": 2})
    opened = office(reports_incentives_reconciliation_page_size="10")
    everyone = [each["offenderNo"] for each in world.prisoners()]

    def empty(_seconds: float = 0) -> None:
        for offender_no in everyone:
            world.release(offender_no)

    looked_again = result_of(opened.reconcile(sleep=empty))
    assert (looked_again.released, len(looked_again.mismatches)) == ((), 2)

    world.reset(prisoners=40, mismatches={"7": 2})
    world.fault("nomis", "GET", f"/incentives/booking-id/{world.prisoners()[3]['bookingId']}/current$", status=400)
    begun = opened.reconcile(run_id="begun")
    assert begun.status == "incomplete"
    world.clear_faults()
    empty()
    resumed = result_of(opened.reconcile(ReconciliationParameters(resume="begun")))
    assert (resumed.status, resumed.resolved) == ("failed", ())
    assert resumed.failure == "NOMIS lists no active prisoner, where this run had found 40 before"


def test_a_prison_counts_as_empty_only_where_everybody_was_read(world: Sandbox, office: OpenOffice) -> None:
    """Whoever could not be read may be there."""
    world.reset(prisoners=60)
    prison = world.prisoners()[0]["prisonId"]
    world.fault("nomis", "GET", "/incentives/booking-id/{b}/current", kind="status", status=400)
    patient = office(reconciliation_max_unreadable_percent="100")
    result = result_of(patient.reconcile(ReconciliationParameters(prisons=(prison,))))
    assert result.status == "incomplete"
    assert result.empty_prisons == ()


def test_nobody_at_all_is_complete_where_nobody_was_before(world: Sandbox, office: OpenOffice) -> None:
    """An environment without prisoners has nothing to compare."""
    world.reset(prisoners=0)
    result = result_of(office().reconcile())
    assert (result.status, result.compared) == ("complete", 0)


def test_looks_at_single_prisoners_whatever_dps_knows_of_them(world: Sandbox, office: OpenOffice) -> None:
    """The active booking is found by the review, or by the list where there is none; an unknown number is said."""
    world.reset(prisoners=100, mismatches={"3": 1, "7": 1})
    wanted = tuple(each["offenderNo"] for each in planted(world))
    opened = office()
    outcome = opened.reconcile(ReconciliationParameters(offender_nos=(*wanted, "Z9999ZZ")))
    result = result_of(outcome)
    assert {each.offender_no for each in result.mismatches} == set(wanted)
    assert [each.offender_no for each in result.unread] == ["Z9999ZZ"]
    assert outcome.status == "incomplete"
    assert opened.events("requested") == []


WHOLE = ReconciliationParameters()
THIRD = ReconciliationParameters(shards=3, shard=1)


@pytest.mark.parametrize(
    ("first", "second"), [(WHOLE, WHOLE), (WHOLE, HALF), (HALF, WHOLE), (HALF, THIRD), (HALF, HALF)]
)
def test_leaves_when_another_run_is_under_way(
    world: Sandbox, office: OpenOffice, first: ReconciliationParameters, second: ReconciliationParameters
) -> None:
    """A second run does nothing, in one piece or in parts; looking at one prisoner is allowed."""
    world.reset(prisoners=100)
    opened = office()
    with at_work(opened, first, "first"):
        with pytest.raises(ReconciliationBusy, match="under way"):
            opened.reconcile(second, run_id="second")
        someone = world.prisoners()[0]["offenderNo"]
        assert opened.reconcile(ReconciliationParameters(offender_nos=(someone,))).status == "complete"
    with opened.database.read() as connection:
        assert runs.find_run(connection, "second") is None


def test_lets_the_other_shards_of_its_run_work(world: Sandbox, office: OpenOffice) -> None:
    """Shards of one run work side by side."""
    world.reset(prisoners=100)
    opened = office()
    with at_work(opened, HALF, "first"):
        assert opened.reconcile(OTHER_HALF, run_id="second").run_id == "first"


def test_refuses_to_resume_what_cannot_be_resumed(world: Sandbox, office: OpenOffice) -> None:
    """An unknown run, a complete one, and another number of shards are said in words."""
    opened = office()
    opened.reconcile(run_id="done")
    for parameters in (ReconciliationParameters(resume="none"), ReconciliationParameters(resume="done")):
        with pytest.raises(UnknownRun):
            opened.reconcile(parameters)


def _run_until_killed(environment: dict[str, str], folder: str, url: str) -> None:
    """A process that reconciles and kills itself after two pages, as a crash would."""

    def die(stage: str, done: int, _total: int) -> None:
        if stage == "reading" and done >= 100:
            os.kill(os.getpid(), signal.SIGKILL)

    with open_office(environment, Path(folder), url) as opened:
        opened.reconcile(run_id="killed", progress=die)


def test_loses_no_finished_page_when_it_is_killed(world: Sandbox, office: OpenOffice, tmp_path: Path) -> None:
    """After a kill the finished pages are there and are not read again; the resumed run is as good as any."""
    world.reset(prisoners=300, mismatches={"7": 3, "4": 2})
    opened = office()
    arguments = (world.environment(), str(tmp_path), opened.settings.database_url)
    assert exit_codes(_run_until_killed, arguments) == [-signal.SIGKILL]
    with opened.database.read() as connection:
        pages = list(checkpoints.load_pages(connection, "killed", Codebook(), Codebook()))
    finished = {each.booking_id for page in pages for each in page.prisoners}
    assert len(finished) >= 100
    world.clear_records()
    outcome = opened.reconcile(ReconciliationParameters(resume="killed"))
    assert outcome.status == "complete"
    read_again = {int(each["path"].split("/")[3]) for each in world.requests("nomis") if "/current" in each["path"]}
    mismatching = {each["bookingId"] for each in planted(world)}
    assert read_again & finished <= mismatching
    assert {each.booking_id for each in result_of(outcome).mismatches} == mismatching
    assert result_of(outcome).compared == 300


def test_stops_between_pages_when_asked_and_goes_on(world: Sandbox, office: OpenOffice) -> None:
    """What is raised out of the progress ends the run at once and without an event; it can be resumed."""
    world.reset(prisoners=300)
    opened = office()

    def stop(stage: str, done: int, _total: int) -> None:
        if stage == "reading" and done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened.reconcile(run_id="stopped", progress=stop)
    assert opened.events("report") == []
    resumed = opened.reconcile(ReconciliationParameters(resume="stopped"))
    assert result_of(resumed).compared == 300


def test_is_finished_once_by_whichever_shard_ends_last(world: Sandbox, office: OpenOffice) -> None:
    """Shards under ids of their own join one run, share one list, and one of them draws the result."""
    world.reset(prisoners=300, mismatches={"7": 3, "4": 3})
    opened = office()
    parameters = [ReconciliationParameters(shards=3, shard=shard) for shard in range(3)]
    with ThreadPoolExecutor(3) as pool:
        outcomes = list(pool.map(opened.reconcile, parameters))
    assert len({each.run_id for each in outcomes}) == 1
    assert sorted(each.status for each in outcomes).count("unfinished shard") == 2
    result = result_of(next(each for each in outcomes if each.status == "complete"))
    assert result.compared == 300
    assert {each.booking_id for each in result.mismatches} == {each["bookingId"] for each in planted(world)}
    assert len(opened.events("requested")) == 1
    assert len(opened.events("report")) == 1
    reads = Counter(each["path"] for each in world.requests("nomis") if each["path"].endswith("/current"))
    assert max(reads.values()) <= 2


def test_a_shard_that_is_tried_again_neither_reads_nor_finishes_twice(world: Sandbox, office: OpenOffice) -> None:
    """A repeated shard of an open run leaves; one that died before the end finishes what is left."""
    world.reset(prisoners=100)
    opened = office()
    first = opened.reconcile(ReconciliationParameters(shards=2, shard=0))
    world.clear_records()
    again = opened.reconcile(ReconciliationParameters(shards=2, shard=0))
    assert (first.status, again.status) == ("unfinished shard", "unfinished shard")
    assert again.run_id == first.run_id
    assert world.requests("nomis") == []

    def die_at_the_end(stage: str, done: int, total: int) -> None:
        if stage == "rechecking" or (stage == "reading" and done == total):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened.reconcile(ReconciliationParameters(shards=2, shard=1), progress=die_at_the_end)
    last = opened.reconcile(ReconciliationParameters(shards=2, shard=1))
    assert (last.status, last.run_id) == ("complete", first.run_id)
    assert len(opened.events("report")) == 1
    assert result_of(last).compared == 100


def test_enqueues_its_report_once_for_each_channel(world: Sandbox, office: OpenOffice) -> None:
    """The report goes to what is set up, and to nothing with `notify` off."""
    opened = office(smtp_url="smtp://localhost:1", reports_email_to="a@example.org")
    opened.reconcile(ReconciliationParameters(notify=False))
    with opened.database.read() as connection:
        assert outbox.due(connection, 10) == []
    opened.reconcile()
    with opened.database.read() as connection:
        assert [each.channel for each in outbox.due(connection, 10)] == ["archive", "slack", "email"]


def test_a_difference_stays_while_a_message_may_still_bring_it(world: Sandbox, office: OpenOffice) -> None:
    """Messages on the incentive queue hide no difference: its evidence says that they may bring it."""
    world.reset(prisoners=100, mismatches={"2": 1})
    doubt = "the incentive queue holds 3 messages"
    [mismatch] = result_of(office().reconcile(find_pending=lambda: PendingMessages(doubt=doubt))).mismatches
    [current] = [row for row in mismatch.evidence if row.side == "DPS" and row.current]
    assert current.note == f"not written to NOMIS; its message may be pending: {doubt}"
    assert mismatch.diagnosis is not None
    assert (mismatch.diagnosis.number, mismatch.diagnosis.confidence) == (2, "low")
    assert not [command for command in mismatch.diagnosis.commands if "repair" in command]


def test_reports_when_the_queues_cannot_be_read(world: Sandbox, office: OpenOffice) -> None:
    """Without the queues a run reports every difference that it found."""
    world.reset(prisoners=100, mismatches={"7": 1})

    def find_pending() -> PendingMessages:
        raise RuleError("no queue")

    assert len(result_of(office().reconcile(find_pending=find_pending)).mismatches) == 1


def test_keeps_a_mismatch_whose_evidence_cannot_be_read(world: Sandbox, office: OpenOffice) -> None:
    """A difference is reported although nobody can say why."""
    world.reset(prisoners=100, mismatches={"7": 1})
    world.fault("mapping", "GET", kind="status", status=400)
    mismatch = result_of(office().reconcile()).mismatches[0]
    assert mismatch.diagnosis is None
    assert "mapping: GET" in str(mismatch.evidence_missing)
    assert mismatch.nomis_level != mismatch.dps_level


def test_reports_its_progress_from_one_thread(world: Sandbox, office: OpenOffice) -> None:
    """Whoever follows the progress may raise to stop the run, so it is told by the thread that runs it."""
    world.reset(prisoners=120, mismatches={"7": 2})
    threads = set()
    stages = []

    def note(stage: str, done: int, total: int) -> None:
        threads.add(threading.get_ident())
        stages.append((stage, done, total))

    office().reconcile(progress=note)
    assert threads == {threading.get_ident()}
    assert [each for each in stages if each[0] == "reading"][-1] == ("reading", 120, 120)
    assert {stage for stage, _, _ in stages} == {"listing", "reading", "rechecking", "finding causes"}


@pytest.mark.parametrize(("seconds", "steps"), [("0.4", 1), ("2.5", 3), ("3", 3)])
def test_brings_every_stage_to_its_end(world: Sandbox, office: OpenOffice, seconds: str, steps: int) -> None:
    """Whoever follows a run sees each bar filled, that of the wait before the second look too."""
    world.reset(prisoners=60, mismatches={"7": 2})
    opened = office(reconciliation_recheck_seconds=seconds)
    waits: list[float] = []
    opened.reconcile(sleep=waits.append)
    last = {stage: (done, total) for stage, done, total in opened.stages}
    assert set(last) == {"listing", "reading", "waiting", "rechecking", "finding causes"}
    assert {stage: done for stage, (done, _) in last.items()} == {stage: total for stage, (_, total) in last.items()}
    assert last["waiting"] == (steps, steps)
    assert sum(waits) == pytest.approx(float(seconds))

"""Each row of the decision table for incentive levels, checked with histories that the tests make up."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.reconciliations.incentives import causes
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.diagnosis import diagnose
from reports.reconciliations.incentives.evidence import Evidence, PrisonerLevels, ReviewMapping, ReviewMessage
from reports.reconciliations.incentives.result import Arrival
from sync.domains.incentives.dps import Review, ReviewSummary
from sync.domains.incentives.nomis import IepLevel, IepRecord

BOOKING = 1_204_417
OFFENDER = "A4471CK"


def record(
    sequence: int, level: str, at: str, module: str | None = "JDBC Thin Client", prison: str = "MDI"
) -> IepRecord:
    """A record of an incentive level in NOMIS, dated `at` and made by `module`."""
    moment = datetime.fromisoformat(at)
    return IepRecord(
        booking_id=BOOKING,
        incentive_sequence=sequence,
        iep_date_time=moment,
        prison_id=prison,
        iep_level=IepLevel(code=level),
        audit_module=module,
        when_created=moment,
        offender_no=OFFENDER,
    )


def review(
    review_id: int,
    level: str,
    at: str,
    kind: str = "REVIEW",
    prison: str = "MDI",
    booking: int = BOOKING,
    who: str = OFFENDER,
) -> Review:
    """A review of an incentive level in DPS, dated `at`."""
    moment = datetime.fromisoformat(at)
    return Review(
        id=review_id,
        iep_code=level,
        booking_id=booking,
        iep_date=date.fromisoformat(at[:10]),
        iep_time=moment,
        agency_id=prison,
        prisoner_number=who,
        review_type=kind,
    )


def evidence(records: list[IepRecord], reviews: list[Review], **more: object) -> Evidence:
    """Evidence with these NOMIS records, the current one first, and these DPS reviews, the newest first."""
    summary = None
    if reviews:
        newest = reviews[0]
        summary = ReviewSummary(
            id=newest.id,
            iep_code=newest.iep_code,
            booking_id=BOOKING,
            iep_time=newest.iep_time,
            iep_details=tuple(reviews),
        )
    pair = PrisonerLevels(OFFENDER, BOOKING, records[0] if records else None, summary)
    return replace(Evidence(pair, history=tuple(records[1:])), **more)  # type: ignore[arg-type]


def written(sequence: int, booking: int = BOOKING) -> ReviewMapping:
    """The mapping of the current review to the NOMIS record `sequence` of `booking`."""
    return ReviewMapping(booking, sequence)


MISSED = evidence(
    [record(7, "BAS", "2023-05-20T15:22:00", "OIDITRAN", "LEI"), record(6, "ENH", "2023-03-02T09:00:00")],
    [review(70, "ENH", "2023-03-02T09:00:00.512")],
    written=written(6),
)
TWICE = evidence(
    [
        record(7, "STD", "2023-05-20T10:02:05", "OIDITRAN", "LEI"),
        record(6, "ENH", "2023-05-20T10:01:40", prison="LEI"),
        record(5, "STD", "2023-05-20T10:01:12", "OIDITRAN", "LEI"),
    ],
    [review(70, "ENH", "2023-05-20T10:01:40.1", "TRANSFER", "LEI"), review(60, "ENH", "2023-01-02T10:00:00")],
    written=written(6),
)
WRONG_ORDER = evidence(
    [record(4, "STD", "2023-05-20T10:00:00"), record(3, "ENH", "2023-05-20T10:20:00")],
    [review(71, "ENH", "2023-05-20T10:20:00"), review(70, "STD", "2023-05-20T10:00:00")],
    written=written(3),
    reviews_of={4: 70},
)


@pytest.mark.parametrize(
    ("number", "side", "case"),
    [
        (1, "DPS", replace(MISSED, message=ReviewMessage(pending_on="dlq"))),
        (1, "DPS", replace(MISSED, message=ReviewMessage(pending_on="queue"))),
        (2, "DPS", evidence([], [review(70, "STD", "2023-05-20T10:00:00")])),
        (
            2,
            "DPS",
            evidence(
                [record(3, "STD", "2023-01-01T10:00:00")],
                [review(70, "ENH", "2023-05-20T10:00:00"), review(60, "STD", "2023-01-01T10:00:00")],
            ),
        ),
        (3, "DPS", evidence([record(1, "STD", "2023-05-20T10:00:00", "OIDADMIS")], [])),
        (4, "DPS", MISSED),
        (
            4,
            "DPS",
            evidence([record(2, "STD", "2023-05-20T10:00:00", None)], [review(1, "ENH", "2023-01-01T10:00:00")]),
        ),
        (5, "DPS", TWICE),
        (6, "DPS", WRONG_ORDER),
        (
            7,
            "NOMIS",
            evidence(
                [record(3, "STD", "2023-05-20T10:00:00", "OIDOIEPS")],
                [review(70, "ENH", "2023-05-20T09:59:00")],
                written=written(2),
            ),
        ),
        (
            8,
            "DPS",
            evidence(
                [record(3, "STD", "2023-05-20T10:00:00")],
                [review(70, "ENH", "2023-05-20T10:00:00")],
                written=written(3),
                reviews_of={3: 70},
            ),
        ),
        (
            8,
            "DPS",
            evidence(
                [record(3, "STD", "2023-05-20T10:00:00")],
                [review(60, "ENH", "2023-01-20T10:00:00")],
                written=written(2),
                reviews_of={3: 70},
            ),
        ),
        (
            9,
            "unknown",
            evidence(
                [record(3, "STD", "2023-05-20T10:00:00")],
                [
                    review(71, "ENH", "2023-05-21T10:00:00"),
                    review(70, "STD", "2023-05-20T10:00:00", booking=1_111_111, who="A9999ZZ"),
                ],
                written=written(1, 1_111_111),
                reviews_of={3: 70},
            ),
        ),
        (
            10,
            "unknown",
            evidence(
                [record(4, "STD", "2023-05-20T07:00:00", "OIDOIEPS"), record(3, "ENH", "2023-05-20T10:00:00")],
                [review(70, "ENH", "2023-05-20T10:00:00")],
                written=written(3),
            ),
        ),
    ],
)
def test_the_first_matching_row_gives_the_cause(number: int, side: str, case: Evidence) -> None:
    """The first row of the decision table that applies gives the cause and the side that is right."""
    found = diagnose(case)
    assert (found.number, found.right_side) == (number, side)
    assert found.cause == CAUSES[number].name
    assert found.explanation
    assert found.action


def test_the_missed_received_event_is_proposed() -> None:
    """If DPS missed a transfer, the command that publishes the received event again is proposed.

    The NOMIS record gives the prison and the time of the event. The module that made the record gives the reason.
    """
    assert diagnose(MISSED).commands == (
        (
            "prisoner-to-nomis reconcile fix received A4471CK --prison LEI --reason TRANSFERRED "
            "--occurred-at 2023-05-20T15:22:00"
        ),
        "prisoner-to-nomis reconcile incentives --prisoner A4471CK --no-notify",
    )


def test_only_the_duplicate_records_are_to_be_deleted() -> None:
    """If a prisoner was received twice, NOMIS support is asked to delete only the records after the one from DPS."""
    found = diagnose(TWICE)
    assert found.request is not None
    assert "prisoner A4471CK, booking 1204417: sequence 7 (STD, 20/05/2023 10:02:05, LEI" in found.request
    assert "sequence 5" not in found.request
    assert "sequence 6" not in found.request


@pytest.mark.parametrize(
    ("module", "earlier", "reason"),
    [
        ("OIDITRAN", True, "TRANSFERRED"),
        ("OIDADMIS", True, "READMISSION"),
        ("OIDADMIS", False, "NEW_ADMISSION"),
    ],
)
def test_the_module_gives_the_reason(module: str, earlier: bool, reason: str) -> None:
    """If DPS has a review, the screen that made the NOMIS record shows whether the arrival was a transfer.

    Without a review, the arrival counts as an admission. If the booking has an earlier record or review, an admission
    counts as a readmission.
    """
    at = "2023-01-02T10:00:00" if earlier else "2023-05-20T10:00:00"
    case = evidence(
        [record(2, "STD", "2023-05-20T15:22:00", module, "LEI")],
        [review(60, "ENH", at, prison="MDI")],
        written=written(1),
    )
    found = diagnose(case)
    assert found.arrival is not None
    assert (found.number, found.arrival.reason) == (4, reason)
    none_in_dps = diagnose(evidence(list(case.records) + ([record(1, "STD", at)] if earlier else []), []))
    assert none_in_dps.arrival is not None
    assert none_in_dps.number == 3
    assert none_in_dps.arrival.reason == ("READMISSION" if earlier else "NEW_ADMISSION")


@pytest.mark.parametrize("module", ["MERGE", "OSIOSEAR", "PRISON_API", None])
def test_a_record_that_is_not_an_arrival_needs_no_event(module: str | None) -> None:
    """If no arrival screen made the NOMIS record, no received event is proposed, and confidence in the cause is low."""
    case = evidence(
        [record(2, "STD", "2023-05-20T15:22:00", module)],
        [review(60, "ENH", "2023-01-01T10:00:00")],
        written=written(1),
    )
    found = diagnose(case)
    assert found.arrival is None
    assert found.confidence == "low"


def test_a_review_belongs_to_an_arrival_within_the_set_hours() -> None:
    """An evening review belongs to an arrival the next morning if the time between the two is within the set limit."""
    case = evidence(
        [
            record(7, "STD", "2023-05-20T06:00:00", "OIDITRAN", "LEI"),
            record(6, "ENH", "2023-05-19T20:00:00", prison="LEI"),
        ],
        [review(70, "ENH", "2023-05-19T20:00:00", "TRANSFER", "LEI")],
        written=written(6),
    )
    assert diagnose(case, timedelta(hours=12)).number == 5
    assert diagnose(case, timedelta(hours=9)).number == 4


def test_a_repair_that_would_not_become_current_is_not_proposed() -> None:
    """A repair is not proposed if its date would be earlier than that of the wrong record.

    Instead, the deletion of that record is requested. A repair with the same date is proposed.
    """
    deleted = evidence(
        [record(3, "STD", "2023-05-20T10:00:00")],
        [review(60, "ENH", "2023-01-20T10:00:00")],
        written=written(2),
        reviews_of={3: 70},
    )
    found = diagnose(deleted)
    assert found.commands == ()
    assert found.request is not None
    assert "sequence 3" in found.request
    edited = diagnose(WRONG_ORDER)
    assert edited.commands[0] == "prisoner-to-nomis incentives repair A4471CK"


def test_no_repair_is_proposed_while_the_message_may_be_pending() -> None:
    """While the message about the review may be pending, no repair is proposed: NOMIS could get the review twice."""
    lost = evidence([], [review(70, "STD", "2023-05-20T10:00:00")])
    assert diagnose(lost).commands[:2] == (
        "prisoner-to-nomis dlq show incentive",
        "prisoner-to-nomis incentives repair A4471CK",
    )
    doubtful = diagnose(replace(lost, message=ReviewMessage(doubt="the incentive queue holds 2 messages")))
    assert (doubtful.number, doubtful.confidence) == (2, "low")
    assert not [command for command in doubtful.commands if "repair" in command]
    assert "the incentive queue holds 2 messages" in doubtful.explanation


@given(words=st.lists(st.text().filter(lambda text: "\x00" not in text), min_size=3, max_size=3))
def test_a_proposed_command_quotes_external_values(words: list[str]) -> None:
    """In a proposed command, a shell reads each value from a service as one word, whatever the value contains."""
    offender_no, prison_id, reason = words
    pair = PrisonerLevels(offender_no, 1, None, None)
    arrival = Arrival(prison_id=prison_id, reason=reason, occurred_at=datetime.fromisoformat("2023-05-20T15:22:00"))
    again = ["prisoner-to-nomis", "reconcile", "incentives", "--prisoner", offender_no, "--no-notify"]
    receive, look = causes.receive_again(pair, arrival)
    assert shlex.split(receive)[4:9] == [offender_no, "--prison", prison_id, "--reason", reason]
    assert shlex.split(look) == again
    assert shlex.split(causes.explain(pair))[3:] == [offender_no]
    assert [shlex.split(each) for each in causes.repair(pair)] == [
        ["prisoner-to-nomis", "incentives", "repair", offender_no],
        again,
    ]
    assert (
        causes.explain(PrisonerLevels("$(rm -rf ~)", 1, None, None))
        == "prisoner-to-nomis reconcile explain '$(rm -rf ~)'"
    )

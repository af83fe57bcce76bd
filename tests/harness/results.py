"""Results of runs, made up for the tests of what is shown and sent."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from reports.engine.result import PrisonCount, TrendPoint
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.result import (
    IncentiveDiagnosis,
    IncentiveEvidenceRow,
    IncentiveExcluded,
    IncentiveInFlight,
    IncentiveMismatch,
    IncentiveResolved,
    IncentiveResult,
    IncentiveUnconfirmed,
    IncentiveUnread,
    MatrixCell,
    Side,
    UnreadPage,
)

STARTED = datetime(2023, 5, 22, 3, 0, tzinfo=UTC)
LETTERS = "ABCDEFGHJK"


def mismatch(number: int, **changes: object) -> IncentiveMismatch:
    """The mismatch of a made-up prisoner; causes, prisons and levels alternate with the number."""
    offender_no = f"A{number:04d}{LETTERS[number % 10]}{LETTERS[number // 10 % 10]}"
    cause = (4, 5, 7)[number % 3]
    made = IncentiveMismatch(
        offender_no=offender_no,
        booking_id=1_200_000 + number,
        prison_id=("LEI", "MDI", "PVI")[number % 3],
        nomis=Side(
            level=("BAS", "STD")[number % 2],
            at=datetime.fromisoformat("2023-05-20T15:22:00"),
            prison_id="LEI",
            origin="OIDITRAN",
            record=7,
        ),
        dps=None
        if number % 7 == 6
        else Side(level="ENH", at=datetime.fromisoformat("2023-03-02T09:00:00"), origin="REVIEW", record=70 + number),
        standing="new" if number % 2 == 0 else "persisting",
        since=STARTED if number % 2 == 0 else STARTED - timedelta(days=14),
        diagnosis=IncentiveDiagnosis(
            number=cause,
            cause=CAUSES[cause].text,
            confidence="high",
            right_side=CAUSES[cause].right_side,
            explanation=f"NOMIS made its record by itself, and {offender_no} was not heard of.",
            action="Publish the received event again.",
            commands=(f"prisoner-to-nomis reconcile fix received {offender_no} --prison LEI",),
            request=f"To #dps-appsupport: please delete sequence 7 of prisoner {offender_no}." if cause == 5 else None,
        ),
        evidence=(
            IncentiveEvidenceRow(
                side="NOMIS",
                at=datetime.fromisoformat("2023-05-20T15:22:07"),
                level="BAS",
                origin="OIDITRAN",
                record=7,
                current=True,
            ),
            IncentiveEvidenceRow(
                side="DPS",
                at=datetime.fromisoformat("2023-03-02T09:00:00"),
                level="ENH",
                origin="REVIEW",
                record=70,
                note="a note",
            ),
        ),
    )
    return made.model_copy(update=changes)


def made_result(mismatches: int = 3, **changes: object) -> IncentiveResult:
    """A complete run with `mismatches` mismatches, after eleven earlier ones."""
    found = tuple(mismatch(number) for number in range(mismatches))
    earlier = tuple(
        TrendPoint(
            run_id=f"run-{week}",
            started_at=STARTED - timedelta(weeks=11 - week),
            compared=87_000,
            mismatches=week * 3 % 17,
        )
        for week in range(11)
    )
    prisons = tuple(
        PrisonCount(
            prison_id=prison,
            compared=700,
            mismatches=sum(each.prison_id == prison for each in found),
            new=sum(each.prison_id == prison and each.standing == "new" for each in found),
        )
        for prison in ("LEI", "MDI", "PVI", "WII")
    )
    made = IncentiveResult(
        run_id="run-of-today",
        status="complete",
        environment="Production",
        started_at=STARTED,
        finished_at=STARTED + timedelta(minutes=9),
        total=87_012,
        listed=87_012,
        compared=87_012,
        mismatches=found,
        prisons=prisons,
        matrix=(
            MatrixCell(nomis_level="STD", dps_level="STD", count=45_000),
            MatrixCell(nomis_level="ENH", dps_level="ENH", count=42_000 - mismatches),
            MatrixCell(nomis_level="BAS", dps_level="ENH", count=mismatches),
            MatrixCell(nomis_level=None, dps_level=None, count=12),
        ),
        trend=(*earlier, TrendPoint(run_id="run-of-today", started_at=STARTED, compared=87_012, mismatches=mismatches)),
        compared_with="run-10",
    )
    return made.model_copy(update=changes)


def with_everything(mismatches: int = 3) -> IncentiveResult:
    """An incomplete run in which everything happened that can."""
    return made_result(
        mismatches,
        status="incomplete",
        in_flight=(
            IncentiveInFlight(offender_no="A1111AA", booking_id=1, nomis_level=None, dps_level="STD", why="on its way"),
        ),
        excluded=(
            IncentiveExcluded(
                offender_no="A2222BB",
                booking_id=2,
                nomis_level="STD",
                dps_level="BAS",
                reason="merged",
                still_differs=True,
                since=date(2023, 4, 3),
            ),
            IncentiveExcluded(offender_no="A3333CC", booking_id=3, reason="no longer needed", still_differs=False),
        ),
        unneeded_exclusions=("A3333CC, booking 3",),
        resolved=(
            IncentiveResolved(offender_no="A4444DD", booking_id=4, since=STARTED - timedelta(days=7), how="equal"),
        ),
        unconfirmed=(
            IncentiveUnconfirmed(
                offender_no="A5555EE", booking_id=5, nomis_level="BAS", since=STARTED, reason="status 503: busy"
            ),
        ),
        unread=(IncentiveUnread(offender_no="A5555EE", booking_id=5, reason="nomis: GET /x: status 503: busy"),),
        unread_pages=(UnreadPage(page=17, reason="nomis: GET /prisoners/ids: no answer: timed out"),),
        released=("A6666FF",),
    )

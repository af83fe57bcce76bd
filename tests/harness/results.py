"""Made-up results of runs, for the tests of reports and messages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal

from reports.engine.result import (
    Diagnosis,
    EvidenceRow,
    Excluded,
    FieldName,
    FieldValues,
    Gap,
    InFlight,
    KindName,
    Mismatch,
    PrisonCount,
    ReconciliationResult,
    Resolved,
    TrendPoint,
    Unconfirmed,
    Unread,
)
from reports.engine.runs import EndedRun
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
    """A mismatch of a made-up prisoner. The cause, prison and levels depend on `number`."""
    offender_no = f"A{number:04d}{LETTERS[number % 10]}{LETTERS[number // 10 % 10]}"
    cause = (4, 5, 7)[number % 3]
    values: dict[str, Any] = {
        "offender_no": offender_no,
        "booking_id": 1_200_000 + number,
        "prison_id": ("LEI", "MDI", "PVI")[number % 3],
        "nomis": Side(
            level=("BAS", "STD")[number % 2],
            at=datetime.fromisoformat("2023-05-20T15:22:00"),
            prison_id="LEI",
            origin="OIDITRAN",
            record=7,
        ),
        "dps": None
        if number % 7 == 6
        else Side(level="ENH", at=datetime.fromisoformat("2023-03-02T09:00:00"), origin="REVIEW", record=70 + number),
        "standing": "new" if number % 2 == 0 else "persisting",
        "since": STARTED if number % 2 == 0 else STARTED - timedelta(days=14),
        "diagnosis": IncentiveDiagnosis(
            number=cause,
            cause=CAUSES[cause].name,
            confidence="high",
            right_side=CAUSES[cause].right_side,
            who=CAUSES[cause].who,
            explanation=f"NOMIS made its record by itself, and {offender_no} was not heard of.",
            action="Publish the received event again.",
            commands=(f"prisoner-to-nomis reconcile fix received {offender_no} --prison LEI",),
            request=f"To #dps-appsupport: please delete sequence 7 of prisoner {offender_no}." if cause == 5 else None,
        ),
        "evidence": (
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
    }
    return IncentiveMismatch(**values | changes)


def made_result(mismatches: int = 3, **changes: object) -> IncentiveResult:
    """The result of a complete run with this number of mismatches, after eleven earlier runs."""
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
    values: dict[str, Any] = {
        "run_id": "run-of-today",
        "status": "complete",
        "environment": "Production",
        "started_at": STARTED,
        "finished_at": STARTED + timedelta(minutes=9),
        "total": 87_012,
        "listed": 87_012,
        "compared": 87_012,
        "mismatches": found,
        "prisons": prisons,
        "matrix": (
            MatrixCell(nomis_level="STD", dps_level="STD", count=45_000),
            MatrixCell(nomis_level="ENH", dps_level="ENH", count=42_000 - mismatches),
            MatrixCell(nomis_level="BAS", dps_level="ENH", count=mismatches),
            MatrixCell(nomis_level=None, dps_level=None, count=12),
        ),
        "trend": (
            *earlier,
            TrendPoint(run_id="run-of-today", started_at=STARTED, compared=87_012, mismatches=mismatches),
        ),
        "compared_with": "run-10",
    }
    return IncentiveResult(**values | changes)


def with_everything(mismatches: int = 3) -> IncentiveResult:
    """The result of an incomplete run, with findings and problems of every kind."""
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
        unread_pages=(UnreadPage(page=17, reason="nomis: GET /prisoners/ids: no response: timed out"),),
        released=("A6666FF",),
    )


VISIT_FIELDS = (
    FieldName(name="start", label="Start"),
    FieldName(name="end", label="End"),
    FieldName(name="status", label="Status"),
    FieldName(name="visitors", label="Visitors"),
    FieldName(name="room", label="Room"),
)
VISIT_KINDS = (
    KindName(code="nomis-visit-missing", label="not in NOMIS"),
    KindName(code="details-differ", label="different in details"),
    KindName(code="not-cancelled-in-nomis", label="not cancelled in NOMIS"),
)
_VISIT_CAUSES = {
    "nomis-visit-missing": "the booked event was lost, or failed",
    "details-differ": "the changed event was lost, or the visit was changed in NOMIS",
    "not-cancelled-in-nomis": "the cancelled event was lost, or failed",
}
_SLOT = "2023-05-25T10:00:00"
#: The values on both sides of a visit that differs, by the kind of difference.
_VISIT_DIFFERENCES = {
    "nomis-visit-missing": (
        FieldValues(field="start", dps=_SLOT),
        FieldValues(field="status", dps="BOOKED"),
    ),
    "details-differ": (
        FieldValues(field="start", nomis="2023-05-25T09:30:00", dps=_SLOT),
        FieldValues(field="end", nomis=None, dps="2023-05-25T11:00:00"),
        FieldValues(field="visitors", nomis="4729550", dps="4729550, 4729570"),
    ),
    "not-cancelled-in-nomis": (FieldValues(field="status", nomis="SCH", dps="CANCELLED"),),
}


def visit_mismatch(number: int, **changes: object) -> Mismatch:
    """A mismatch of a made-up visit. The kind, cause and prison depend on `number`."""
    kind = VISIT_KINDS[number % 3].code
    offender_no = f"B{number:04d}{LETTERS[number % 10]}{LETTERS[number // 10 % 10]}"
    reference = f"bq-te-{number // 100:02d}-{number % 100:02d}"
    made = Mismatch(
        key={"reference": reference},
        offender_no=offender_no,
        booking_id=1_300_000 + number,
        prison_id=("HEI", "MDI", None)[number % 3],
        kind=kind,
        missing_in="NOMIS" if kind == "nomis-visit-missing" else None,
        differences=_VISIT_DIFFERENCES[kind],
        other_fields=(FieldValues(field="room", nomis="VISITS-SOC", dps="Main hall"),),
        standing="new" if number % 2 == 0 else "persisting",
        since=STARTED if number % 2 == 0 else STARTED - timedelta(days=2),
        diagnosis=Diagnosis(
            cause=_VISIT_CAUSES[kind],
            confidence="medium",
            right_side="DPS",
            explanation=f"The visit of {offender_no} was last changed in DPS, and no message of it is known.",
            action="Write the current state of the visit to NOMIS.",
            commands=(f"prisoner-to-nomis resync visit {reference}",),
        ),
        evidence=(
            EvidenceRow(side="DPS", at=datetime.fromisoformat("2023-05-20T15:22:07"), text="visit booked"),
            EvidenceRow(side="mapping", text="no mapping", note=f"of booking {1_300_000 + number}"),
        ),
    )
    return made.model_copy(update=changes)


def visit_result(number: int = 3, **changes: object) -> ReconciliationResult:
    """The result of a complete run of a made-up visits reconciliation, with `number` mismatches.

    The result has only the fields that the results of all reconciliations have.
    """
    found = tuple(visit_mismatch(each) for each in range(number))
    earlier = made_result(0).trend[:-1]
    made = ReconciliationResult(
        reconciliation="official-visits",
        title="Official visits",
        counted="visits",
        key_columns=("reference",),
        fields=VISIT_FIELDS,
        kinds=VISIT_KINDS,
        run_id="visits-of-today",
        status="complete",
        environment="Production",
        started_at=STARTED,
        finished_at=STARTED + timedelta(minutes=4),
        parameters={"from_date": "2023-05-21", "to_date": "2023-06-26"},
        total=40_120,
        listed=40_120,
        compared=40_120,
        mismatches=found,
        prisons=tuple(
            PrisonCount(
                prison_id=prison,
                compared=20_000,
                mismatches=sum(each.prison_id == prison for each in found),
                new=sum(each.prison_id == prison and each.standing == "new" for each in found),
            )
            for prison in ("HEI", "MDI", "WII", None)
        ),
        trend=(
            *earlier,
            TrendPoint(run_id="visits-of-today", started_at=STARTED, compared=40_120, mismatches=number),
        ),
        compared_with="run-10",
    )
    return made.model_copy(update=changes)


def visits_with_everything(number: int = 3) -> ReconciliationResult:
    """The result of an incomplete run of the visits reconciliation, with findings and problems of every kind."""
    lacking: dict[str, Any] = {
        "key": {"reference": "bq-te-ke-ol"},
        "offender_no": "B5555EE",
        "booking_id": 5,
        "kind": "nomis-visit-missing",
        "missing_in": "NOMIS",
        "differences": (FieldValues(field="start", dps=_SLOT),),
    }
    equal: dict[str, Any] = {"key": {"reference": "bq-te-eq-al"}, "offender_no": "B3333CC"}
    why = "GET /visits/5: status 503: busy"
    return visit_result(
        number,
        status="incomplete",
        suspicious="1,204 of 40,120 differ, more than 2%: look for one common cause first",
        in_flight=(InFlight(**lacking, why="its message is on the queue"),),
        excluded=(
            Excluded(**lacking, reason="agreed with the prison", still_differs=True, since=date(2023, 4, 3)),
            Excluded(**equal, reason="no longer needed", still_differs=False),
        ),
        unneeded_exclusions=("bq-te-eq-al",),
        resolved=(Resolved(**lacking, since=STARTED - timedelta(days=7), how="gone"),),
        unconfirmed=(Unconfirmed(**lacking, since=STARTED, reason=why),),
        unread=(
            Unread(key=lacking["key"], offender_no="B5555EE", booking_id=5, side="NOMIS", reason=why),
            Unread(unit="prison LEI", side="DPS", reason="GET /visits/search: no response: timed out"),
        ),
        gaps=(Gap(what="page 17 of the visits at MDI", reason="GET /visits/search: status 502"),),
        released=("bq-te-aa-aa",),
        settled_on_recheck=2,
    )


def allocation_result(**changes: object) -> ReconciliationResult:
    """The result of a complete run that compared how many allocations each booking has at each prison."""
    kinds = (
        KindName(code="NOMIS_only", label="allocated in NOMIS only"),
        KindName(code="DPS_only", label="allocated in DPS only"),
        KindName(code="different_count", label="allocated a different number of times"),
    )
    sides = {"NOMIS_only": (1, None), "DPS_only": (None, 2), "different_count": (2, 1)}
    missing: dict[str, Literal["NOMIS", "DPS"]] = {"NOMIS_only": "DPS", "DPS_only": "NOMIS"}
    mismatches = tuple(
        Mismatch(
            key={"prison_id": "LEI", "booking_id": 1_204_417 + number},
            offender_no=None if number == 1 else f"C{number:04d}AA",
            booking_id=1_204_417 + number,
            prison_id="LEI",
            kind=kind,
            missing_in=missing.get(kind),
            differences=(FieldValues(field="count", nomis=nomis, dps=dps),),
            since=STARTED,
        )
        for number, (kind, (nomis, dps)) in enumerate(sides.items())
    )
    base = visit_result(0)
    made = ReconciliationResult(
        reconciliation="allocations",
        title="Allocations",
        counted="bookings",
        key_columns=("prison_id", "booking_id"),
        fields=(FieldName(name="count", label="Allocations"),),
        kinds=kinds,
        run_id="allocations-of-today",
        status="complete",
        environment=base.environment,
        started_at=base.started_at,
        finished_at=base.finished_at,
        total=None,
        listed=1_204,
        compared=1_204,
        mismatches=mismatches,
        prisons=(PrisonCount(prison_id="LEI", compared=1_204, mismatches=3, new=3),),
    )
    return made.model_copy(update=changes)


def ended_run(run_id: str = "run-of-today", status: str = "complete", **changes: Any) -> EndedRun:
    """A run of the incentive reconciliation, as the index of reports lists it."""
    values: dict[str, Any] = {
        "reconciliation": "incentives",
        "title": "Incentive levels",
        "counted": "prisoners",
        "started_at": STARTED,
        "finished_at": STARTED + timedelta(minutes=9),
        "compared": 87_012,
        "mismatches": 3,
        "new": 2,
        "unread": 0,
        "gaps": 0,
        "suspicious": False,
        "parameters": {},
    }
    return EndedRun(run_id=run_id, status=status, **values | changes)

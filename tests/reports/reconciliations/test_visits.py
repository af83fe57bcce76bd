"""The reconciliation of visits over real HTTP: what it finds, what it leaves out, and how it shows differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from reports.engine.causes import Explanation
from reports.engine.result import FieldName, FieldValues, KindName
from reports.engine.units import Scope
from reports.presentation.view import view_of
from reports.reconciliations.results import parse_result
from reports.reconciliations.visits.reconciliation import VisitEvents, Visits
from reports.reconciliations.visits.result import VisitMismatch, VisitResult
from sync import clock
from tests.harness.comparisons import Compared
from tests.harness.visits import FIRST, OLD_COMMENT, PRISON, SECOND, TODAY, VisitSetup, ago


@pytest.mark.parametrize("generation", ["2023", "today"])
def test_the_worked_example_of_visits(visit_setup: VisitSetup, generation: str) -> None:
    """The worked example has exactly four differences, each with its severity and the command that fixes it."""
    visit_setup.reset(generation=generation)
    for reference, days in (("aa-aa", 4), ("bb-bb", 5), ("cc-cc", 6), ("dd-dd", -1), ("ee-ee", 7)):
        visit_setup.book(reference, TODAY + timedelta(days=days))
    visit_setup.book("aa-aa", TODAY + timedelta(days=4), person_ids=[FIRST, SECOND])
    visit_setup.write("aa-aa", OLD_COMMENT, person_ids=[FIRST])
    visit_setup.write("bb-bb", OLD_COMMENT)
    visit_setup.sandbox.put("visit", reference="bb-bb", status="CANCELLED", outcome="VISITOR_CANCELLED")
    unmapped = visit_setup.write("cc-cc", mapped=False)
    visit_setup.write("dd-dd", status="NORM")
    visit_setup.sandbox.put("visit", reference="ee-ee", created=ago(minutes=3))

    compared = visit_setup.compare()
    assert compared.kinds == {
        "aa-aa": "details-differ",
        "bb-bb": "not-cancelled-in-nomis",
        "cc-cc": "mapping-missing",
        "ee-ee": "nomis-visit-missing",
    }
    rows = {row["visit"]: row for row in compared.differing}
    assert rows["aa-aa"]["differs"] == ("visitors",)
    assert (rows["aa-aa"]["nomis_visitors"], rows["aa-aa"]["dps_visitors"]) == (str(FIRST), f"{FIRST}, {SECOND}")
    assert rows["cc-cc"]["visit_id"] == unmapped
    age = clock.now() - rows["ee-ee"]["dps_changed_at"]
    assert timedelta(minutes=2) < age < timedelta(minutes=10)
    explained = compared.explained()
    assert {key: each.values["weight"] for key, each in explained.items()} == {
        "aa-aa": "medium",
        "bb-bb": "high",
        "cc-cc": "high",
        "ee-ee": "medium",
    }
    commands = {key: each.diagnosis.commands for key, each in explained.items() if each.diagnosis is not None}
    assert commands == {key: (f"prisoner-to-nomis resync visit {key}",) for key in explained}


@pytest.mark.parametrize("generation", ["2023", "today"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_exactly_the_planted_differences_of_visits_are_found(
    visit_setup: VisitSetup, generation: str, seed: int
) -> None:
    """Exactly the planted differences of visits are found, each with its kind and cause."""
    visit_setup.reset(prisoners=60, seed=seed, generation=generation, plant=["visits"], every_cause=True)
    planted = visit_setup.sandbox.planted()["reconciliations"]["visits"]
    prisons = sorted({each["prisonId"] for each in visit_setup.sandbox.prisoners()})
    compared = visit_setup.compare(Scope(prisons=tuple(prisons)))
    assert compared.kinds == {each["key"][0]: each["kind"] for each in planted}
    assert (compared.unread, compared.gaps) == ((), ())
    explained = compared.explained()
    diagnoses = {each["cause"]: explained[each["key"][0]].diagnosis for each in planted}
    causes = {cause: diagnosis.cause for cause, diagnosis in diagnoses.items() if diagnosis is not None}
    assert causes == {
        "created in DPS, never in NOMIS": "the event of the booking was lost, or failed",
        "created a moment ago": "the event of the booking was lost, or failed",
        "cancelled only in DPS": "the event of the cancellation was lost, or failed",
        "cancelled, the event waits": "the event of the cancellation was lost, or failed",
        "cancelled on the NOMIS screen": "the visit was cancelled on the NOMIS screen",
        "moved only in DPS": "the event of the change was lost, or failed",
        "visitors changed only in DPS": "the event of the change was lost, or failed",
        "restricted only in DPS": "the event of the change was lost, or failed",
        "prolonged on the NOMIS screen": "the visit was changed on the NOMIS screen",
        "of another type in NOMIS": "the visit was changed on the NOMIS screen",
        "prisoner merged in NOMIS": "the prisoner was merged in NOMIS"
        if generation == "today"
        else "the visit belongs to another prisoner in NOMIS",
        "created twice in NOMIS": "the visit was created twice",
        "created in NOMIS, never mapped": "the mapping was never saved",
        "deleted in NOMIS": "the visit was deleted in NOMIS",
        "deleted in DPS": "the visit was removed from DPS",
        "another outcome on the NOMIS screen": "the outcome was changed on the NOMIS screen",
        "comment of another visit in NOMIS": "the comment in NOMIS names another visit",
    }


def test_no_resync_is_proposed_for_a_cancelled_visit_without_a_mapping(visit_setup: VisitSetup) -> None:
    """If a visit without a mapping is cancelled in DPS, no resync is proposed, since it would do nothing."""
    visit_setup.book("aa-aa", TODAY + timedelta(days=4))
    visit_setup.write("aa-aa", mapped=False)
    visit_setup.sandbox.put("visit", reference="aa-aa", status="CANCELLED", outcome="VISITOR_CANCELLED")
    compared = visit_setup.compare()
    assert compared.kinds == {"aa-aa": "mapping-missing"}
    diagnosis = compared.explained()["aa-aa"].diagnosis
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.commands) == ("the visit was cancelled before its mapping was saved", ())


def test_visits_made_in_nomis_are_counted(visit_setup: VisitSetup) -> None:
    """A visit that was made on the NOMIS screen is counted, but is not a difference."""
    visit_setup.book("aa-aa", TODAY)
    visit_setup.write("aa-aa")
    visit_setup.write("aa-aa", "Family asked by telephone", mapped=False)
    visit_setup.book("bb-bb", TODAY)
    compared = visit_setup.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    values = compared.reconciliation.result_values(compared.frame, ())
    assert values == {"dps_visits": 2, "nomis_visits": 2, "on_screen": 1, "pages": 1}


def test_reported_duplicates_are_read_again(visit_setup: VisitSetup) -> None:
    """A duplicate that was reported is read again, although only recent NOMIS visits are listed.

    It remains a difference until it is cancelled.
    """
    visit_setup.book("aa-aa", TODAY)
    visit_setup.write("aa-aa")
    duplicate = visit_setup.write("aa-aa", mapped=False, created=ago(days=30))
    key = f"aa-aa {duplicate}"
    first = visit_setup.compare()
    assert first.kinds == {key: "nomis-duplicate"}
    earlier = a_result(first)
    assert visit_setup.compare(earlier=earlier).kinds == {key: "nomis-duplicate"}
    without = earlier.model_copy(update={"mismatches": ()})
    assert visit_setup.compare(earlier=without).kinds == {}
    path = f"/prisoners/{visit_setup.prisoner['offenderNo']}/visits/{duplicate}/cancel"
    assert visit_setup.caller.call("nomis", "PUT", path, {"outcome": "ADMIN"}).status_code == 200
    assert visit_setup.compare(earlier=earlier).kinds == {}


def a_result(compared: Compared) -> VisitResult:
    """The result of a complete run that began an hour ago and found the differences of `compared`."""
    began = clock.now() - timedelta(hours=1)
    mismatches = [
        VisitMismatch(
            key={"visit": row["visit"]},
            prison_id=row["prison_id"],
            kind=row["kind"],
            since=began,
            reference=row["reference"],
            visit_id=row["visit_id"],
        )
        for row in compared.differing
    ]
    found = len(compared.frame)
    return made_result(began=began, listed=found, compared=found, mismatches=tuple(mismatches))


def made_result(began: datetime | None = None, **values: Any) -> VisitResult:
    """The result of a complete run with the given values. The run began at `began` (default: the current time)."""
    moment = began or clock.now()
    given = {"listed": 1, "compared": 1, **values}
    return VisitResult(
        reconciliation="visits",
        title="Visits",
        counted="visits",
        key_columns=("visit",),
        fields=tuple(FieldName(name=each.name, label=each.label) for each in Visits.fields),
        kinds=tuple(KindName(code=code, label=label) for code, label in Visits.kinds.items()),
        run_id="run-1",
        status="complete",
        environment="test",
        started_at=moment,
        finished_at=moment,
        total=None,
        **given,
    )


def test_a_change_by_an_unknown_user_is_not_certain(visit_setup: VisitSetup) -> None:
    """If NOMIS does not say who created a visit, a change to the visit does not count as made on the NOMIS screen.

    The cause is then a lost or failed event, and the confidence is not high.
    """
    visit_setup.book("aa-aa", TODAY + timedelta(days=4))
    visit_setup.write("aa-aa", person_ids=[SECOND])
    compared = visit_setup.compare()
    [difference] = compared.differences
    changed = replace(difference, row={**difference.row, "created_by": None, "changed_by": "X_USER"})
    [explanation] = compared.reconciliation.explain([changed], compared.reads)
    assert isinstance(explanation, Explanation)
    assert explanation.diagnosis is not None
    assert explanation.diagnosis.cause == "the event of the change was lost, or failed"
    assert explanation.diagnosis.confidence != "high"


def test_a_run_of_visits_tracks_the_documented_events(visit_setup: VisitSetup) -> None:
    """The events for the start and end of a run and for a difference have the documented names and properties."""
    visit_setup.book("aa-aa", TODAY + timedelta(days=4))
    visit_id = visit_setup.write("aa-aa", person_ids=[SECOND])
    compared = visit_setup.compare()
    events = VisitEvents()
    requested = events.requested(compared.reconciliation.population(compared.reads))
    assert requested.name == "visits-reports-reconciliation-requested"
    assert dict(requested.properties) == {
        "prisons": "[HEI]",
        "from": (TODAY - timedelta(days=1)).isoformat(),
        "to": (TODAY + timedelta(days=35)).isoformat(),
    }
    result = a_result(compared)
    (mismatch,) = result.mismatches
    row: Mapping[str, Any] = compared.differing[0]
    shown = {"start": (row["nomis_start"], row["dps_start"]), "visitors": (row["nomis_visitors"], row["dps_visitors"])}
    values = [
        {"field": name, "nomis": str(nomis), "dps": dps.isoformat() if name == "start" else dps}
        for name, (nomis, dps) in shown.items()
    ]
    changed = mismatch.model_copy(
        update={
            "offender_no": row["offender_no"],
            "differences": tuple(FieldValues(**each) for each in values if each["field"] == "visitors"),
            "other_fields": tuple(FieldValues(**each) for each in values if each["field"] == "start"),
        }
    )
    event = events.mismatch(changed)
    assert event.name == "visits-reports-reconciliation-mismatch"
    assert dict(event.properties) == {
        "visitId": "aa-aa",
        "nomisVisitId": visit_id,
        "offenderNo": visit_setup.prisoner["offenderNo"],
        "prisonId": PRISON,
        "startDateTime": f"{TODAY + timedelta(days=4)}T10:00:00",
        "reason": "details-differ",
        "nomis": f"visitors={SECOND}",
        "dps": f"visitors={FIRST}",
    }
    (summary,) = events.summary(result, ())
    assert summary.name == "visits-reports-reconciliation-report"
    assert dict(summary.properties) == {
        "visit-count": 0,
        "nomis-visit-count": 0,
        "pages-count": 0,
        "mismatch-count": 1,
        "in-flight-count": 0,
        "unread-count": 0,
        "success": True,
        "aa-aa": "details-differ",
    }


def test_a_difference_of_visits_has_its_start_and_severity() -> None:
    """The stored result keeps the severity of a difference and the start of its visit, and the report shows both."""
    began = clock.now()
    start = FieldValues(field="start", nomis="2026-08-25T10:00:00", dps="2026-08-25T10:00:00")
    mismatch = VisitMismatch(
        key={"visit": "aa-aa 8811002"},
        offender_no="A1234BC",
        kind="nomis-duplicate",
        since=began,
        other_fields=(start,),
        weight="high",
        reference="aa-aa",
        visit_id=8_811_002,
    )
    result = parse_result(made_result(mismatches=(mismatch,), nomis_visits=2).to_json())
    assert isinstance(result, VisitResult)
    view, (shown,) = view_of(result), result.mismatches
    assert (view.name(shown), view.kind(shown)) == ("aa-aa 8811002", "in NOMIS twice")
    assert view.details(shown) == "A1234BC, 25 August 2026 at 10:00, severity serious"
    row = view.csv_row(shown)
    assert set(row) <= set(view.csv_columns())
    assert (row["visit"], row["weight"], row["nomis_visit_id"]) == ("aa-aa 8811002", "high", 8_811_002)

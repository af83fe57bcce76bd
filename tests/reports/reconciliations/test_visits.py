"""The reconciliation of visits over real HTTP: what it finds, what it leaves out, and what it cannot read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from reports.engine.contract import ServiceTooOld
from reports.engine.result import FieldName, FieldValues, KindName
from reports.engine.units import Scope
from reports.reconciliations.results import parse_result
from reports.reconciliations.views import view_of
from reports.reconciliations.visits.events import VisitEvents
from reports.reconciliations.visits.reconciliation import Visits
from reports.reconciliations.visits.result import VisitMismatch, VisitResult
from sandbox import Sandbox
from sync import clock
from sync.failures import UpstreamError
from sync.settings.loading import load_settings
from sync.upstream.services import Services, connect
from sync.upstream.transport import Transport
from tests.harness.comparisons import Compared, compare
from tests.harness.reads import PlainReads
from tests.harness.sandboxes import Caller

TODAY = clock.london_now().date()
PRISON = "HEI"
OLD_COMMENT, NEW_COMMENT = "Created by Book A Prison Visit. Reference: {}", "DPS booking reference: {}"
FIRST, SECOND = 4_700_001, 4_700_002


def ago(**much: float) -> str:
    """A local time in London, so long ago."""
    return (clock.london_now() - timedelta(**much)).replace(tzinfo=None).isoformat()


@dataclass
class World:
    """The sandbox, the services and the settings of a comparison."""

    sandbox: Sandbox
    caller: Caller
    services: Services
    environment: dict[str, str]
    prisoner: dict[str, Any] = field(default_factory=dict)

    def reset(self, **options: Any) -> None:
        """Makes a new world."""
        self.sandbox.reset(**{"prisoners": 20, **options})
        self.prisoner = self.sandbox.prisoners()[0]

    def book(self, reference: str, day: date, hours: tuple[int, int] = (10, 11), **changes: Any) -> None:
        """Books a visit, ten days ago unless `created` says otherwise."""
        start, end = (f"{day.isoformat()}T{hour:02}:00:00" for hour in hours)
        values = {
            "prisoner_id": self.prisoner["offenderNo"],
            "prison_id": PRISON,
            "room": "Visits Main Hall",
            "start": start,
            "end": end,
            "person_ids": [FIRST],
            "created": ago(days=10),
            **changes,
        }
        self.sandbox.put("visit", reference=reference, **values)

    def write(self, reference: str, comment: str = NEW_COMMENT, *, mapped: bool = True, **changes: Any) -> int:
        """Writes a booked visit to NOMIS with changes there, mapped or not; its id."""
        (booked,) = (each for each in self.sandbox.entities("visit") if each["reference"] == reference)
        body = {
            "startDateTime": booked["start"],
            "endTime": booked["end"].partition("T")[2],
            "prisonId": booked["prison_id"],
            "visitorPersonIds": booked["person_ids"],
            "visitType": "SCON",
            "issueDate": TODAY.isoformat(),
            "visitComment": comment.format(reference),
            "room": booked["room"],
            "openClosedStatus": booked["restriction"],
        }
        response = self.caller.call("nomis", "POST", f"/prisoners/{self.prisoner['offenderNo']}/visits", body)
        assert response.status_code == 201, response.text
        visit_id = int(response.json()["visitId"])
        if changes:
            self.sandbox.control("PUT", f"/nomis/visits/{visit_id}", changes)
        if mapped:
            mapping = {"nomisId": visit_id, "vsipId": reference, "mappingType": "ONLINE"}
            assert self.caller.call("mapping", "POST", "/mapping/visits", mapping).status_code == 201
        return visit_id

    def reconciliation(self, scope: Scope | None = None, **settings: str) -> Visits:
        """The reconciliation of a run."""
        return Visits(self.services, load_settings({**self.environment, **settings}), scope or Scope(prisons=(PRISON,)))

    def compare(
        self,
        scope: Scope | None = None,
        reads: PlainReads | None = None,
        earlier: VisitResult | None = None,
        **settings: str,
    ) -> Compared:
        """Compares everything in the scope."""
        found = self.reconciliation(scope, **settings)
        found.earlier = earlier
        return compare(found, reads)


@pytest.fixture
def world(quiet_sandbox: Sandbox) -> Iterator[World]:
    """A world without planted visits."""
    environment = quiet_sandbox.environment()
    transport = Transport(load_settings(environment))
    made = World(quiet_sandbox, Caller(quiet_sandbox), connect(transport), environment)
    made.reset()
    yield made
    transport.close()


@pytest.mark.parametrize("generation", ["2023", "today"])
def test_worked_example(world: World, generation: str) -> None:
    """Each finding of the worked example, and nothing else."""
    world.reset(generation=generation)
    for reference, days in (("aa-aa", 4), ("bb-bb", 5), ("cc-cc", 6), ("dd-dd", -1), ("ee-ee", 7)):
        world.book(reference, TODAY + timedelta(days=days))
    world.book("aa-aa", TODAY + timedelta(days=4), person_ids=[FIRST, SECOND])
    world.write("aa-aa", OLD_COMMENT, person_ids=[FIRST])
    world.write("bb-bb", OLD_COMMENT)
    world.sandbox.put("visit", reference="bb-bb", status="CANCELLED", outcome="VISITOR_CANCELLED")
    unmapped = world.write("cc-cc", mapped=False)
    world.write("dd-dd", status="NORM")
    world.sandbox.put("visit", reference="ee-ee", created=ago(minutes=3))

    compared = world.compare()
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
def test_found_as_planted(world: World, generation: str, seed: int) -> None:
    """Every planted difference is found with its kind, and nothing is said of the many special cases that agree."""
    world.reset(prisoners=60, seed=seed, generation=generation, plant=["visits"], every_cause=True)
    planted = world.sandbox.planted()["reconciliations"]["visits"]
    prisons = sorted({each["prisonId"] for each in world.sandbox.prisoners()})
    compared = world.compare(Scope(prisons=tuple(prisons)))
    assert compared.kinds == {each["key"][0]: each["kind"] for each in planted}
    assert (compared.unread, compared.gaps) == ((), ())
    explained = compared.explained()
    diagnoses = {each["cause"]: explained[each["key"][0]].diagnosis for each in planted}
    causes = {cause: diagnosis.cause for cause, diagnosis in diagnoses.items() if diagnosis is not None}
    assert causes == {
        "created in DPS, never in NOMIS": "the event that it was booked was lost, or failed",
        "created a moment ago": "the event that it was booked was lost, or failed",
        "cancelled in DPS alone": "the event that it was cancelled was lost, or failed",
        "cancelled, the event waits": "the event that it was cancelled was lost, or failed",
        "cancelled on the NOMIS screen": "the visit was cancelled on the NOMIS screen",
        "moved in DPS alone": "the event that it was changed was lost, or failed",
        "visitors changed in DPS alone": "the event that it was changed was lost, or failed",
        "restricted in DPS alone": "the event that it was changed was lost, or failed",
        "prolonged on the NOMIS screen": "the visit was changed on the NOMIS screen",
        "of another type in NOMIS": "the visit was changed on the NOMIS screen",
        "prisoner merged in NOMIS": "the prisoner was merged in NOMIS"
        if generation == "today"
        else "the visit is one of another prisoner in NOMIS",
        "created twice in NOMIS": "the visit was created twice",
        "created in NOMIS, never mapped": "the mapping was never saved",
        "deleted in NOMIS": "the visit was deleted in NOMIS",
        "deleted in DPS": "the visit was removed from DPS",
        "another outcome on the NOMIS screen": "the outcome was changed on the NOMIS screen",
        "comment of another visit in NOMIS": "the comment in NOMIS names another visit",
    }


def test_cancelled_visit_without_mapping_is_cancelled_by_the_prison(world: World) -> None:
    """A resync does nothing about it, since no mapping leads to the NOMIS visit, so none is proposed."""
    world.book("aa-aa", TODAY + timedelta(days=4))
    world.write("aa-aa", mapped=False)
    world.sandbox.put("visit", reference="aa-aa", status="CANCELLED", outcome="VISITOR_CANCELLED")
    compared = world.compare()
    assert compared.kinds == {"aa-aa": "mapping-missing"}
    diagnosis = compared.explained()["aa-aa"].diagnosis
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.commands) == ("the visit was cancelled before its mapping was saved", ())


def test_counts_of_both_sides(world: World) -> None:
    """A visit made on the NOMIS screen is counted, and is not a difference."""
    world.book("aa-aa", TODAY)
    world.write("aa-aa")
    world.write("aa-aa", "Family asked by telephone", mapped=False)
    world.book("bb-bb", TODAY)
    compared = world.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    values = compared.reconciliation.result_values(compared.frame, ())
    assert values == {"dps_visits": 2, "nomis_visits": 2, "on_screen": 1, "pages": 1}


def test_list_that_changes_while_it_is_read(world: World) -> None:
    """A visit booked between two pages hides none of the others."""
    for number in range(201):
        world.book(f"ab-cd-ef-{number:02}", TODAY + timedelta(days=number % 20), status="CANCELLED")

    class Booking(PlainReads):
        """Books a visit after the first page was read."""

        def page(self, service: Any, read: Any) -> Any:
            found = super().page(service, read)
            if self.calls.count(service) == 1:
                world.book("zz-zz-zz-zz", TODAY + timedelta(days=30), status="CANCELLED")
            return found

    compared = world.compare(reads=Booking())
    assert len(compared.frame) == 202
    assert compared.gaps == ()


def test_list_that_becomes_shorter_while_it_is_read(world: World) -> None:
    """A visit that leaves the list between two pages moves another one back on to the page that was read: it counts."""
    for number in range(201):
        world.book(f"ab-cd-ef-{number:03}", TODAY + timedelta(days=number % 20), status="CANCELLED")
    world.book("zz-zz-zz-zz", TODAY + timedelta(days=30), status="CANCELLED")

    class Leaving(PlainReads):
        """Takes the first visit off the list after the first page was read."""

        def page(self, service: Any, read: Any) -> Any:
            found = super().page(service, read)
            if self.calls.count(service) == 1:
                world.book("zz-zz-zz-zz", TODAY + timedelta(days=300), status="CANCELLED")
            return found

    compared = world.compare(reads=Leaving())
    assert {f"ab-cd-ef-{number:03}" for number in range(201)} <= set(compared.frame["reference"])
    assert compared.gaps == ()


def test_a_gateway_does_not_shorten_the_list_of_prisons(world: World) -> None:
    """A 404 that is not the service's own does not mean an older service, whose list may be another."""
    path = "/config/prisons/user-type/PUBLIC/supported"
    world.sandbox.fault("visits", path=path, kind="status", status=404, body="<html>not here</html>")
    world.sandbox.fault("visits", path="/config/prisons/supported", kind="status", status=200, body=["HEI"])
    with pytest.raises(UpstreamError, match="status 404"):
        world.reconciliation(Scope()).population(PlainReads())
    world.sandbox.clear_faults()
    unknown = {"timestamp": "2023-05-15T05:20:00", "status": 404, "error": "Not Found", "path": path}
    world.sandbox.fault("visits", path=path, kind="status", status=404, body=unknown)
    world.sandbox.fault("visits", path="/config/prisons/supported", kind="status", status=200, body=["HEI"])
    assert [unit.id for unit in world.reconciliation(Scope()).population(PlainReads()).units] == ["HEI"]


def test_page_that_cannot_be_read(world: World) -> None:
    """The visits of the other pages are compared, and the page is named."""
    for number in range(201):
        world.book(f"ab-cd-ef-{number:02}", TODAY + timedelta(days=number % 20))
    world.sandbox.fault("visits", path="/visits/search", query="page=1", kind="status", status=500)
    compared = world.compare()
    assert len(compared.kinds) == 200
    (gap,) = compared.gaps
    assert gap.detail == {"prisonId": PRISON, "page": 1, "side": "DPS"}
    event = VisitEvents().gap(gap)
    assert event.name == "visits-reports-reconciliation-mismatch-page-error"
    assert event.properties == {"prisonId": PRISON, "page": 1, "side": "DPS", "error": gap.reason}


def test_first_page_that_cannot_be_read(world: World) -> None:
    """Without any page nothing is known of the prison."""
    world.sandbox.fault("visits", path=r"/visits/search", kind="status", status=503)
    with pytest.raises(UpstreamError):
        world.compare()


@pytest.mark.parametrize(
    ("service", "path", "side"), [("nomis", r"/visits/\d+$", "NOMIS"), ("mapping", r"/vsipId/aa-aa$", "mapping")]
)
def test_visit_that_cannot_be_read(world: World, service: str, path: str, side: str) -> None:
    """It is neither equal nor different, and the others are compared."""
    world.book("aa-aa", TODAY)
    world.write("aa-aa")
    world.book("bb-bb", TODAY)
    world.sandbox.fault(service, method="GET", path=path, kind="status", status=500)
    compared = world.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    assert [(each.key, each.side) for each in compared.unread] == [({"visit": "aa-aa"}, side)]


def test_invalid_visit_in_the_list(world: World) -> None:
    """A visit that lacks a field is unread alone."""
    world.book("aa-aa", TODAY)
    world.book("bb-bb", TODAY)
    query = f"prisonId={PRISON}&visitStatus=BOOKED&page=0&size=200"
    page = world.caller.get("visits", f"/visits/search?{query}")
    (invalid,) = (each for each in page["content"] if each["reference"] == "aa-aa")
    del invalid["prisonerId"]
    world.sandbox.fault("visits", path="/visits/search", kind="status", status=200, body=page)
    compared = world.compare()
    assert compared.kinds == {"bb-bb": "nomis-visit-missing"}
    assert [(each.key, each.side) for each in compared.unread] == [({"visit": "aa-aa"}, "DPS")]


@pytest.mark.parametrize("service", ["visits", "nomis"])
def test_service_that_is_too_old(world: World, service: str) -> None:
    """A route that is not there ends the comparison: nothing counts as equal."""
    world.book("aa-aa", TODAY)
    world.write("aa-aa")
    path = {"visits": r"/visits/search", "nomis": r"/visits/\d+$"}[service]
    body = {"status": 404, "userMessage": "Not Found: No static resource visits.", "developerMessage": ""}
    world.sandbox.fault(service, method="GET", path=path, kind="status", status=404, body=body)
    with pytest.raises((ServiceTooOld, UpstreamError)) as raised:
        world.compare()
    # Of a page the engine makes the one of the other.
    error = raised.value
    assert error.no_route if isinstance(error, UpstreamError) else service == "nomis"


def test_reported_duplicates_are_looked_at_again(world: World) -> None:
    """A duplicate of long ago stays a difference until it is cancelled, although recent visits alone are listed."""
    world.book("aa-aa", TODAY)
    world.write("aa-aa")
    duplicate = world.write("aa-aa", mapped=False, created=ago(days=30))
    key = f"aa-aa {duplicate}"
    first = world.compare()
    assert first.kinds == {key: "nomis-duplicate"}
    earlier = a_result(first)
    assert world.compare(earlier=earlier).kinds == {key: "nomis-duplicate"}
    without = earlier.model_copy(update={"mismatches": ()})
    assert world.compare(earlier=without).kinds == {}
    path = f"/prisoners/{world.prisoner['offenderNo']}/visits/{duplicate}/cancel"
    assert world.caller.call("nomis", "PUT", path, {"outcome": "ADMIN"}).status_code == 200
    assert world.compare(earlier=earlier).kinds == {}


def a_result(compared: Compared) -> VisitResult:
    """The result of a complete run that found this, begun an hour ago."""
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
    """The result of a complete run."""
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


def test_chosen_days(world: World) -> None:
    """Nothing is said of other days, whatever the other side has on them."""
    world.book("aa-aa", TODAY + timedelta(days=3))
    world.book("bb-bb", TODAY + timedelta(days=4))
    world.write("bb-bb", mapped=False)
    day = TODAY + timedelta(days=3)
    scope = Scope(prisons=(PRISON,), from_date=day, to_date=day, days_chosen=True)
    assert world.compare(scope).kinds == {"aa-aa": "nomis-visit-missing"}
    assert set(world.compare().kinds) == {"aa-aa", "bb-bb"}


def test_a_run_resumed_after_midnight_keeps_its_days(world: World) -> None:
    """The days that it began with were not chosen, so NOMIS visits of other days are still examined."""
    first, last = Visits.window(world.reconciliation().settings, TODAY - timedelta(days=1))
    world.book("bb-bb", last + timedelta(days=1))
    world.write("bb-bb", mapped=False)
    scope = Scope(prisons=(PRISON,), from_date=first, to_date=last)
    assert world.compare(scope).kinds == {"bb-bb": "mapping-missing"}


def test_chosen_prisoner(world: World) -> None:
    """The visits of one prisoner, wherever they take place."""
    world.book("aa-aa", TODAY)
    other = world.sandbox.prisoners()[1]["offenderNo"]
    world.book("bb-bb", TODAY, prisoner_id=other, prison_id="BLI")
    assert world.compare(Scope(offender_nos=(other,))).kinds == {"bb-bb": "nomis-visit-missing"}


@pytest.mark.parametrize("generation", ["2023", "today"])
def test_prisons_of_the_service_or_of_the_setting(world: World, generation: str) -> None:
    """Every prison where staff or the public can book, unless the setting names others."""
    world.reset(generation=generation)
    reads = PlainReads()
    prisons = {unit.id for unit in world.reconciliation(Scope()).population(reads).units}
    assert len(prisons) == 120
    chosen = world.reconciliation(Scope(), VISIT_PRISONS="BLI,HEI").population(reads)
    assert [unit.id for unit in chosen.units] == ["BLI", "HEI"]
    ahead = world.reconciliation(Scope(), VISIT_PRISONS="HEI", VISIT_RECONCILIATION_DAYS_AHEAD="7").population(reads)
    assert ahead.detail == {
        "from": (TODAY - timedelta(days=1)).isoformat(),
        "to": (TODAY + timedelta(days=7)).isoformat(),
    }


def test_events(world: World) -> None:
    """The names and properties of the events of a run."""
    world.book("aa-aa", TODAY + timedelta(days=4))
    visit_id = world.write("aa-aa", person_ids=[SECOND])
    compared = world.compare()
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
        "offenderNo": world.prisoner["offenderNo"],
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


def test_how_a_difference_is_shown() -> None:
    """With the start of the visit and the weight, and kept so in the stored result."""
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

"""The comparison of appointments, with both generations of the services and mostly without the engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, TypeVar

import pytest

from reports.engine.causes import Difference
from reports.engine.frame import records
from reports.engine.reconciliation import ServiceTooOld
from reports.engine.run_start import ReconciliationParameters
from reports.engine.units import Scope
from reports.reconciliations.appointments.reconciliation import Appointments
from sandbox import Sandbox
from sandbox.clock import london_today
from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.store.telemetry import read_events
from tests.harness.appointments import DAY, PRISON, make_worked_example, put_in_dps, put_in_nomis, room_of
from tests.harness.comparisons import Compared, compare
from tests.harness.faults import faulty
from tests.harness.reads import PlainReads
from tests.harness.reconciliations import OpenApp
from tests.harness.sandboxes import Caller

Value = TypeVar("Value")
#: The cause that a report gives for each planted cause.
CAUSES = {
    **dict.fromkeys(
        (
            "change of time failed",
            "change of end failed",
            "change of date failed",
            "change of location failed",
            "change of category failed",
        ),
        "the event of the change was lost, or failed",
    ),
    "made on the NOMIS screen": "the appointment was made on the NOMIS screen",
    "creation failed": "the event of the creation was lost, or failed",
    "creation under way": "the event of the creation was lost, or failed",
    "deleted in NOMIS": "the appointment was deleted in NOMIS",
    "created twice": "the appointment was created twice",
    "mapping lost": "the mapping is missing",
    "cancellation failed": "the event of the cancellation was lost, or failed",
    "cancelled in NOMIS": "the appointment is cancelled only in NOMIS",
    "deletion failed": "the event of the deletion was lost, or failed",
    "prisoner on another booking": "the prisoner has another booking",
    "at another prison in NOMIS": "the appointment is at another prison in NOMIS",
    "outside the window in NOMIS": "the event of the change was lost, or failed",
}
GENERATIONS = pytest.mark.parametrize("generation", ["2023", "today"])


@pytest.fixture
def prisoner(upstream: Sandbox) -> dict[str, Any]:
    """A prisoner at a prison to which appointments in DPS have been rolled out."""
    found: dict[str, Any] = upstream.receive(PRISON)
    return found


def appointments(open_app: OpenApp, scope: Scope | None = None, **settings: str) -> Appointments:
    """The reconciliation of appointments in the sandbox, for one prison unless a scope is given."""
    app = open_app(**settings)
    return Appointments(app.services, app.settings, scope or Scope(prisons=(PRISON,)))


def kinds(found: Compared) -> set[tuple[Any, ...]]:
    """The NOMIS id, the DPS id and the kind of each difference."""
    return found.found("nomis_id", "dps_id", "kind")


@GENERATIONS
def test_the_worked_example_has_a_difference_for_each_rule(
    upstream: Sandbox, open_app: OpenApp, generation: str
) -> None:
    """In the worked example, exactly three differences are found, each with the command that fixes it."""
    upstream.reset(prisoners=20, generation=generation)
    make_worked_example(upstream, upstream.receive(PRISON))
    reconciliation = appointments(open_app)
    found = compare(reconciliation)
    assert (found.population.total, len(found.frame), found.unread, found.gaps) == (4, 5, (), ())
    rows = {each["nomis_id"]: each for each in found.differing}
    assert {number: (each["dps_id"], each["kind"]) for number, each in rows.items()} == {
        9003: (73, "different"),
        9004: (None, "duplicate"),
        None: (75, "dps-only"),
    }
    assert rows[9003]["differs"] == ("start_time",)
    assert (rows[9003]["nomis_start_time"], rows[9003]["dps_start_time"]) == ("14:00", "14:15")
    assert rows[9004]["nomis_duplicate_of"] == 9002
    explained = reconciliation.explain(
        [Difference(row, row["kind"], row["differs"]) for row in rows.values()], PlainReads()
    )
    commands = {number: each.diagnosis.commands for number, each in zip(rows, explained, strict=True) if each.diagnosis}
    assert commands == {
        9003: ("prisoner-to-nomis resync appointment 73",),
        9004: ("prisoner-to-nomis duplicates remove appointment 9004 --of 9002",),
        None: ("prisoner-to-nomis resync appointment 75",),
    }


@pytest.mark.parametrize(
    ("generation", "seed", "prisons"), [("today", 1, 24), ("today", 2, 24), ("today", 3, 120), ("2023", 1, 24)]
)
def test_exactly_the_planted_differences_of_appointments_are_found(
    upstream: Sandbox, open_app: OpenApp, generation: str, seed: int, prisons: int
) -> None:
    """The planted differences of appointments are found with their kinds and causes, or ignored, exactly as planted."""
    world: dict[str, Any] = {"prisoners": 60, "prisons": prisons, "seed": seed, "generation": generation}
    upstream.reset(**world, plant=["appointments"], every_cause=True)
    planted = upstream.planted()["reconciliations"]["appointments"]
    held = {each["prisonId"] for each in upstream.prisoners()}
    settings = {"appointment_prisons": ",".join(sorted(held))} if generation == "2023" else {}
    found = compare(appointments(open_app, Scope(), **settings))
    assert found.unread == ()
    assert kinds(found) == {(*each["key"], each["kind"]) for each in planted if each["outcome"] == "reported"}
    assert [each["key"] for each in planted if each["outcome"] == "ignored"] == [list(key) for key in found.ignored]
    assert len(found.frame) > 100
    causes = {key: each.diagnosis and each.diagnosis.cause for key, each in found.explained().items()}
    assert causes == {
        tuple(each["key"]): CAUSES[each["cause"]] for each in planted if each["outcome"] in ("reported", "in flight")
    }


def test_a_run_of_an_old_service_needs_the_prisons(upstream: Sandbox, open_app: OpenApp) -> None:
    """The 2023 services cannot list the prisons, so a run without chosen prisons fails."""
    upstream.reset(prisoners=20, generation="2023")
    with pytest.raises((UpstreamError, ServiceTooOld)):
        compare(appointments(open_app, Scope()))


def test_each_field_is_compared(upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]) -> None:
    """A difference in a compared field is found, and no other field is named.

    An appointment does not differ merely because its prisoner is now at another prison.
    """
    other = upstream.receive(PRISON)
    elsewhere = upstream.receive("LEI")
    changes: dict[str, dict[str, Any]] = {
        "category": {"subtype": "GOVE"},
        "date": {"day": (DAY + timedelta(days=1)).isoformat()},
        "start_time": {"start": "09:05"},
        "end_time": {"end": "10:05"},
        "location": {"location_id": room_of(upstream) + 1},
        "prison": {"prison_id": "LEI"},
        "cancelled": {"status": "CANC"},
    }
    for number, change in enumerate(changes.values(), start=71):
        put_in_dps(upstream, prisoner, number, "09:00", "10:00")
        values = {"start": "09:00", "end": "10:00"} | change
        put_in_nomis(upstream, prisoner, 9000 + number, mapped_to=number, **values)
    put_in_dps(upstream, prisoner, 81, "11:00", "12:00")
    put_in_nomis(upstream, other, 9081, "11:00", "12:00", 81)
    put_in_dps(upstream, elsewhere, 82, "11:00", "12:00", prison_id=PRISON)
    put_in_nomis(upstream, elsewhere, 9082, "11:00", "12:00", 82)
    found = compare(appointments(open_app))
    assert found.found("dps_id", "differs") == {
        *((number, (name,)) for number, name in enumerate(changes, start=71)),
        (81, ("offender_no", "booking_id")),
    }


@pytest.mark.parametrize(
    ("booking", "cause"), [(None, "the prisoner has another number in NOMIS"), (7, "the prisoner has another booking")]
)
def test_another_number_is_not_another_booking(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any], booking: int | None, cause: str
) -> None:
    """If only the prisoner's number differs, as after a merge, the cause does not say that the booking differs."""
    old = {**prisoner, "offenderNo": "A0001AA", "bookingId": booking or prisoner["bookingId"]}
    put_in_dps(upstream, old, 71, "09:00", "10:00")
    put_in_nomis(upstream, prisoner, 9071, "09:00", "10:00", 71)
    ((_, explanation),) = compare(appointments(open_app)).explained().items()
    assert explanation.diagnosis is not None
    assert explanation.diagnosis.cause == cause


def test_locations_are_translated_or_in_a_cell(upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]) -> None:
    """If DPS gives a location by its DPS id, that id is translated into the NOMIS id before the comparison.

    For an appointment in a cell, NOMIS may have any location.
    """
    put_in_dps(upstream, prisoner, 71, "09:00", "10:00", room_by_uuid=True)
    put_in_nomis(upstream, prisoner, 9071, "09:00", "10:00", 71)
    put_in_dps(upstream, prisoner, 72, "11:00", "12:00", room_by_uuid=True)
    put_in_nomis(upstream, prisoner, 9072, "11:00", "12:00", 72, location_id=room_of(upstream) + 1)
    put_in_dps(upstream, prisoner, 73, "13:00", "14:00", in_cell=True, location_id=None)
    put_in_nomis(upstream, prisoner, 9073, "13:00", "14:00", 73, location_id=5_000_123)
    found = compare(appointments(open_app))
    assert found.found("dps_id", "differs", "nomis_location", "dps_location") == {
        (72, ("location",), room_of(upstream) + 1, room_of(upstream))
    }


def test_a_mapping_to_a_missing_record_is_a_difference(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any], caller: Any
) -> None:
    """If only one of two mapped records exists, the mapping is a difference.

    If neither record exists, there is no difference.
    """
    for number in (71, 72, 73):
        put_in_dps(upstream, prisoner, number, f"{number - 62:02}:00", None)
        put_in_nomis(upstream, prisoner, 9000 + number, f"{number - 62:02}:00", None, number)
    services = appointments(open_app).services
    services.nomis.call("DELETE", "/appointments/9071")
    upstream.drop("appointment", 72)
    services.nomis.call("DELETE", "/appointments/9073")
    upstream.drop("appointment", 73)
    found = compare(appointments(open_app))
    assert kinds(found) == {(9071, 71, "mapping-without-nomis"), (9072, 72, "mapping-without-dps")}


def test_an_appointment_deleted_in_dps_needs_no_record(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]
) -> None:
    """NOMIS need not have an appointment that is deleted in DPS, even if a search of DPS still finds it.

    An appointment that is cancelled on both sides does not differ.
    """
    put_in_dps(upstream, prisoner, 71, "09:00", None, deleted=True)
    put_in_dps(upstream, prisoner, 72, "09:00", None, cancelled=True)
    put_in_nomis(upstream, prisoner, 9072, "09:00", None, 72, status="CANC")
    assert kinds(compare(appointments(open_app))) == set()


def test_equal_records_without_a_mapping_name_each_other(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]
) -> None:
    """If equal records on the two sides are not mapped, the difference of each names the other record.

    Both differences have the same resync command.
    """
    put_in_dps(upstream, prisoner, 71, "09:00", None)
    put_in_nomis(upstream, prisoner, 9071, "09:00", None)
    reconciliation = appointments(open_app)
    found = compare(reconciliation)
    assert found.found("nomis_id", "dps_id", "kind", "like") == {
        (9071, None, "nomis-only", 71),
        (None, 71, "dps-only", 9071),
    }
    differences = [Difference(row, row["kind"], row["differs"]) for row in found.differing]
    diagnoses = [each.diagnosis for each in reconciliation.explain(differences, PlainReads())]
    assert {(each.cause, each.commands) for each in diagnoses if each} == {
        ("the mapping is missing", ("prisoner-to-nomis resync appointment 71",))
    }


@pytest.mark.parametrize("count", [8, 9])
def test_all_pages_of_ids_are_listed(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any], count: int
) -> None:
    """All ids are listed, even if the last page is full."""
    for number in range(count):
        put_in_nomis(upstream, prisoner, 9000 + number, f"09:{number:02}", None)
    found = compare(appointments(open_app, reports_appointments_reconciliation_page_size="4"))
    assert {number for number, *_ in kinds(found)} == set(range(9000, 9000 + count))
    assert (found.population.total, found.gaps) == (count, ())


def test_an_unread_page_of_ids_is_a_gap(upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]) -> None:
    """If a page of NOMIS ids cannot be read, it is a gap.

    The records on that page that DPS also has are found through their mappings.
    """
    for number in range(8):
        put_in_dps(upstream, prisoner, 70 + number, f"09:{number:02}", None)
        start = "14:00" if number == 5 else f"09:{number:02}"
        put_in_nomis(upstream, prisoner, 9000 + number, start, "15:00" if number == 5 else None, 70 + number)
    with faulty(upstream, "nomis", "GET", "/appointments/ids", kind="status", status=500, query="page=2"):
        found = compare(appointments(open_app, reports_appointments_reconciliation_page_size="2"))
    assert [each.detail for each in found.gaps] == [{"page": 2, "prisonId": PRISON}]
    assert kinds(found) == {(9005, 75, "different")}
    assert len(found.frame) == 8


@pytest.mark.parametrize(
    ("service", "path", "key"),
    [
        ("nomis", "/appointments/9071", {"nomis_id": 9071}),
        ("mapping", "/mapping/appointments/nomis-event-id/9071", {"nomis_id": 9071}),
        ("appointments", "/appointment-instances/72", {"nomis_id": 9072, "dps_id": 72}),
        ("mapping", "/mapping/appointments/appointment-instance-id/73", {"dps_id": 73}),
    ],
)
def test_an_unread_appointment_is_neither_equal_nor_different(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any], service: str, path: str, key: dict[str, int]
) -> None:
    """If an appointment or its mapping cannot be read, it is unread, with its key.

    The other appointments are compared.
    """
    put_in_dps(upstream, prisoner, 71, "09:00", None)
    put_in_nomis(upstream, prisoner, 9071, "09:15", None, 71)
    put_in_dps(upstream, prisoner, 72, "10:00", None, prison_id="LEI")
    put_in_nomis(upstream, prisoner, 9072, "10:00", None, 72)
    put_in_dps(upstream, prisoner, 73, "11:00", None)
    with faulty(upstream, service, "GET", path, kind="status", status=500):
        found = compare(appointments(open_app))
    assert [each.key for each in found.unread] == [key]
    unread = set(key.values())
    assert kinds(found) == {
        each
        for each in ((9071, 71, "different"), (9072, 72, "different"), (None, 73, "dps-only"))
        if not unread & set(each)
    }


def test_a_prison_without_appointments_in_dps_is_a_gap(upstream: Sandbox, open_app: OpenApp) -> None:
    """If appointments have not been rolled out to a chosen prison, the prison is a gap.

    Its NOMIS records are not compared.
    """
    prison_id = next(
        each["prisonCode"]
        for each in Caller(upstream).get("activities", "/rollout?prisonsLive=false")
        if not each["appointmentsRolledOut"]
    )
    person = upstream.receive(prison_id)
    put_in_nomis(upstream, person, 9001, "09:00", None, prison_id=prison_id)
    found = compare(appointments(open_app, Scope(prisons=(prison_id, PRISON))))
    assert [each.detail for each in found.gaps] == [{"prisonId": prison_id}]
    assert [unit.id for unit in found.population.units] == [PRISON]


def test_a_prison_that_dps_does_not_search_is_a_gap(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]
) -> None:
    """If DPS refuses to search a prison because the prison is not active, the prison is a gap."""
    put_in_nomis(upstream, prisoner, 9001, "09:00", None)
    body = {"status": 400, "userMessage": "not active", "developerMessage": "not active"}
    with faulty(
        upstream, "appointments", "POST", f"/appointments/{PRISON}/search", kind="status", status=400, body=body
    ):
        found = compare(appointments(open_app))
    assert [each.detail for each in found.gaps] == [{"prisonId": PRISON}]
    assert len(found.frame) == 0


def test_a_long_window_is_searched_in_parts(upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]) -> None:
    """DPS refuses to search more than a month at once, so a longer window is searched in parts.

    The first and the last day of the window are included.
    """
    first, last = date(2026, 1, 31), date(2026, 4, 1)
    for number, day in enumerate((first - timedelta(days=1), first, last, last + timedelta(days=1)), start=71):
        put_in_dps(upstream, prisoner, number, "09:00", None, day=day.isoformat())
        put_in_nomis(upstream, prisoner, 9000 + number, "10:00", None, day=day.isoformat())
    found = compare(appointments(open_app, Scope(prisons=(PRISON,), from_date=first, to_date=last)))
    assert kinds(found) == {
        (None, 72, "dps-only"),
        (None, 73, "dps-only"),
        (9072, None, "nomis-only"),
        (9073, None, "nomis-only"),
    }


class _ChangingReads(PlainReads):
    """Makes the next of `changes` after reading each page from NOMIS, until none is left."""

    def __init__(self, changes: list[Callable[[], object]]) -> None:
        super().__init__()
        self._changes = changes

    def page(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """Reads the page, makes the next change if the page is from NOMIS, and returns the page."""
        found = super().page(service, read)
        if service is UpstreamName.NOMIS and self._changes:
            self._changes.pop(0)()
        return found


def test_records_are_found_although_the_list_moves(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]
) -> None:
    """A record that a deletion moves to a page already read is found, and so is a record created in the meantime."""
    for number in range(6):
        put_in_nomis(upstream, prisoner, 9000 + number, f"09:{number:02}", None)
    reconciliation = appointments(open_app, reports_appointments_reconciliation_page_size="2")
    nomis = reconciliation.services.nomis
    reads = _ChangingReads(
        [
            lambda: nomis.call("DELETE", "/appointments/9000"),
            lambda: put_in_nomis(upstream, prisoner, 9100, "12:00", None),
        ]
    )
    found = compare(reconciliation, reads)
    assert {number for number, *_ in kinds(found)} == {9001, 9002, 9003, 9004, 9005, 9100}
    assert found.gaps == ()


def test_a_list_that_keeps_changing_is_a_gap(upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]) -> None:
    """If the list of NOMIS ids keeps changing, it is a gap, and the records that were seen are compared."""
    for number in range(4):
        put_in_nomis(upstream, prisoner, 9000 + number, f"09:{number:02}", None)

    def put(number: int) -> Callable[[], None]:
        return lambda: put_in_nomis(upstream, prisoner, number, "12:00", f"12:{number % 50:02}")

    reconciliation = appointments(open_app, reports_appointments_reconciliation_page_size="2")
    found = compare(reconciliation, _ChangingReads([put(9100 + turn) for turn in range(40)]))
    assert [each.detail["page"] for each in found.gaps] == [0]
    assert len(found.frame) > 4


def test_differences_that_agree_at_the_second_reading_are_gone(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]
) -> None:
    """If a mapping or a cancellation arrives late, its appointment no longer differs at the second reading.

    Other differences remain. Messages about an appointment are found by its DPS id.
    """
    put_in_dps(upstream, prisoner, 71, "09:00", None)
    put_in_dps(upstream, prisoner, 72, "10:00", None, cancelled=True)
    put_in_nomis(upstream, prisoner, 9072, "10:00", None, 72)
    put_in_dps(upstream, prisoner, 73, "11:00", None)
    put_in_nomis(upstream, prisoner, 9073, "11:15", None, 73)
    reconciliation, reads = appointments(open_app), PlainReads()
    units = reconciliation.population(reads).units
    first = reconciliation.differing(reconciliation.read(units[0], reads).rows)
    assert len(first) == 3
    put_in_nomis(upstream, prisoner, 9071, "09:00", None, 71)
    put_in_nomis(upstream, prisoner, 9072, "10:00", None, 72, status="CANC")
    again = reconciliation.reread(first, reads)
    assert [(row["dps_id"], row["differs"]) for row in records(reconciliation.differing(again.rows))] == [
        (73, ("start_time",))
    ]
    assert reconciliation.entities({"dps_id": 73, "nomis_id": 9073}) == ("appointment:73",)
    assert reconciliation.entities({"dps_id": None, "nomis_id": 9073}) == ()


def test_appointments_a_year_ahead_are_left_out(upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]) -> None:
    """A run does not report a mapped pair whose date in NOMIS is a year or more ahead, nor does the summary count it.

    A pair whose date is a little nearer is reported.
    """
    for number, days in ((71, 364), (72, 367)):
        put_in_dps(upstream, prisoner, number, "09:00", None)
        day = (london_today() + timedelta(days=days)).isoformat()
        put_in_nomis(upstream, prisoner, 9000 + number, "09:00", None, number, day=day)
    app = open_app()
    result = app.reconcile(ReconciliationParameters(prisons=(PRISON,)), kind=Appointments).result
    assert result is not None
    assert (result.status, result.compared) == ("complete", 2)
    assert [each.key for each in result.mismatches] == [{"nomis_id": 9071, "dps_id": 71}]
    app.telemetry.flush()
    (success,) = read_events(app.database, "appointments-reports-reconciliation-success")
    assert success["properties"]["mismatch-count"] == "1"


def test_a_row_that_cannot_be_read_again_is_unread(
    upstream: Sandbox, open_app: OpenApp, prisoner: dict[str, Any]
) -> None:
    """At the second reading, a duplicate is unread if the mapped record that it duplicates cannot be read.

    The other rows are read.
    """
    make_worked_example(upstream, prisoner)
    reconciliation, reads = appointments(open_app), PlainReads()
    units = reconciliation.population(reads).units
    first = reconciliation.differing(reconciliation.read(units[0], reads).rows)
    with faulty(upstream, "nomis", "GET", "/appointments/9002", kind="status", status=500):
        again = reconciliation.reread(first, reads)
    assert [each.key for each in again.unread] == [{"nomis_id": 9004}]
    rows = records(reconciliation.differing(again.rows))
    assert {(row["nomis_id"], row["dps_id"], row["prison_id"]) for row in rows} == {
        (9003, 73, PRISON),
        (None, 75, PRISON),
    }

"""Which results of a search in NOMIS count after an unknown outcome, and which records are claimed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial

import pytest

from sandbox import Sandbox
from sync.errors import LeaseBusy, NotUnderstood, UpstreamError
from sync.events.context import Outcome
from sync.store import tables
from tests.harness import activities, adjustments, appointments
from tests.harness.creations import (
    consuming,
    deliver_in_a_process,
    mapped_to,
    visits_of,
)
from tests.harness.faults import faulty, held, hits
from tests.harness.handlers import Harness, Prisoner
from tests.harness.processes import child, kill
from tests.harness.publishing import visit_booked
from tests.harness.waiting import failure_of, in_thread, until

VISITS = "/prisoners/{offenderNo}/visits"
INSERTED = "release-date-adjustments.adjustment.inserted"
ONE, OTHER = "05b332ad-58eb-4ec2-963c-c9c927856780", "05b332ad-58eb-4ec2-963c-c9c927856781"


def test_the_request_of_a_dead_process_is_waited_for(upstream: Sandbox, database_url: str) -> None:
    """If a process is killed during a create, the next deliveries wait while the call may still reach NOMIS.

    Afterwards, the visit is mapped, and NOMIS has it once.
    """
    booking = visit_booked(upstream)
    with held(upstream, "nomis", "POST", VISITS) as create:
        with child(deliver_in_a_process, upstream.environment(), database_url, booking.event) as process:
            create.wait_for_request()
            kill(process)
        with consuming(upstream, database_url, call_seconds=600) as survivor:
            with pytest.raises(LeaseBusy, match="unknown"):
                survivor.deliver_now(booking)
            create.release()
            assert survivor.deliver_when_free(booking) is Outcome.APPLIED
            assert [mapped_to(upstream, booking)] == visits_of(upstream, booking)


def test_a_record_whose_mapping_is_pending_is_not_claimed(harness: Harness, prisoner: Prisoner) -> None:
    """After a lost create, a NOMIS record is not claimed while a message waits to map it to an equal one.

    A separate record is created.
    """
    one, other = appointments.INSTANCE, appointments.INSTANCE + 1
    for instance_id in (one, other):
        appointments.put_appointment(harness, prisoner, instance_id)
    with (
        faulty(harness.sandbox, "nomis", "POST", "/appointments", kind="reset"),
        pytest.raises(UpstreamError),
    ):
        appointments.handle(harness, "created", one)
    with faulty(harness.sandbox, "mapping", "POST", "/mapping/appointments", status=500):
        assert appointments.handle(harness, "created", other) is Outcome.RETRY_QUEUED
    assert appointments.handle(harness, "created", one) is Outcome.APPLIED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    assert len({each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}) == 2


@pytest.mark.parametrize("generation", ["2023", "today"])
def test_a_record_that_is_mapped_to_another_is_not_claimed(
    harness: Harness, prisoner: Prisoner, generation: str
) -> None:
    """After a lost create, a NOMIS record that is mapped to an equal appointment is not claimed.

    A separate record is created.
    """
    harness.sandbox.reset(generation=generation)
    one, other = appointments.INSTANCE, appointments.INSTANCE + 1
    for instance_id in (one, other):
        appointments.put_appointment(harness, prisoner, instance_id)
    with (
        faulty(harness.sandbox, "nomis", "POST", "/appointments", kind="reset"),
        pytest.raises(UpstreamError),
    ):
        appointments.handle(harness, "created", one)
    assert appointments.handle(harness, "created", other) is Outcome.APPLIED
    with harness.database.begin() as connection:
        connection.execute(tables.creations.delete().where(tables.creations.c.dps_id == str(other)))
    assert appointments.handle(harness, "created", one) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    assert len({each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}) == 2


def test_equal_adjustments_have_separate_records(harness: Harness, prisoner: Prisoner) -> None:
    """Equal adjustments never share a NOMIS record, since a missing record would make a release date wrong."""
    for adjustment_id in (ONE, OTHER):
        adjustments.put_adjustment(harness, prisoner, adjustment_id)
    with faulty(harness.sandbox, "nomis", "POST", kind="reset"), pytest.raises(UpstreamError):
        harness.handle(INSERTED, id=ONE, offenderNo=prisoner.offender_no, source="DPS")
    with faulty(harness.sandbox, "mapping", "POST", status=500):
        assert harness.handle(INSERTED, id=OTHER, offenderNo=prisoner.offender_no, source="DPS") is Outcome.RETRY_QUEUED
    assert harness.handle(INSERTED, id=ONE, offenderNo=prisoner.offender_no, source="DPS") is Outcome.APPLIED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    assert {each["adjustmentId"] for each in harness.sandbox.mappings("adjustments")} == {ONE, OTHER}
    assert len({each["nomisAdjustmentId"] for each in harness.sandbox.mappings("adjustments")}) == 2


def test_an_unknown_outcome_waits_for_creates_of_the_same_booking(harness: Harness, prisoner: Prisoner) -> None:
    """A record is not claimed for a create while another create for the same booking may still be under way."""
    one, other = appointments.INSTANCE, appointments.INSTANCE + 1
    for instance_id, kind in ((one, "reset"), (other, "reset_after_write")):
        appointments.put_appointment(harness, prisoner, instance_id)
        with (
            faulty(harness.sandbox, "nomis", "POST", "/appointments", kind=kind),
            pytest.raises(UpstreamError),
        ):
            appointments.handle(harness, "created", instance_id)
    harness.set_grace_period(600)
    with pytest.raises(LeaseBusy):
        appointments.handle(harness, "created", one)
    harness.set_grace_period(0)
    for instance_id in (one, other):
        assert appointments.handle(harness, "created", instance_id) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    assert len({each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}) == 2


def test_a_create_that_began_after_the_look_up_keeps_its_record(harness: Harness, prisoner: Prisoner) -> None:
    """A record that a search finds is not claimed while an equal appointment is being created."""
    one, other = appointments.INSTANCE, appointments.INSTANCE + 1
    for instance_id in (one, other):
        appointments.put_appointment(harness, prisoner, instance_id)
    with (
        faulty(harness.sandbox, "nomis", "POST", "/appointments", kind="reset"),
        pytest.raises(UpstreamError),
    ):
        appointments.handle(harness, "created", one)
    with (
        held(harness.sandbox, "nomis", "GET", "/appointments/booking/") as look_up,
        held(harness.sandbox, "nomis", "POST", "/appointments", kind="timeout_after_write") as create,
    ):
        resolving = in_thread(appointments.handle, harness, "created", one)
        look_up.wait_for_request()
        creating = in_thread(appointments.handle, harness, "created", other)
        until(lambda: harness.sandbox.nomis("appointment"))
        look_up.release()
        assert isinstance(failure_of(resolving), LeaseBusy)
        create.release()
        assert isinstance(failure_of(creating), UpstreamError)
    for instance_id in (one, other):
        assert appointments.handle(harness, "created", instance_id) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    assert len({each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}) == 2


def test_an_upsert_with_an_unknown_outcome_keeps_its_lease(harness: Harness, prisoner: Prisoner) -> None:
    """While NOMIS may still apply a lost upsert, no other upsert for its booking and activity is sent."""
    activities.put_schedule(harness, prisoner)
    activities.create(harness)
    activities.put_allocation(harness, prisoner)
    harness.set_grace_period(600)
    fault = harness.sandbox.fault("nomis", "PUT", "/activities/{id}/allocation", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        activities.allocate(harness, "allocated")
    assert hits(harness.sandbox, fault) == 1
    with pytest.raises(LeaseBusy):
        activities.allocate(harness, "allocation-amended")
    assert harness.sandbox.nomis("allocation") == []


NO_PAGES: list[object] = [
    {"items": []},
    [],
    "ok",
    {"content": None, "totalElements": 0, "last": True},
    {"content": []},
    {"content": [], "last": True},
    {"content": [], "totalElements": 3, "last": False},
    {"content": [], "totalElements": -1, "last": True},
]


@pytest.mark.parametrize("response", [*NO_PAGES, None])
def test_a_malformed_list_is_not_empty(harness: Harness, prisoner: Prisoner, response: object) -> None:
    """After a create without a response, only a complete and consistent list shows that NOMIS lacks the record."""
    booking = visit_booked(harness.sandbox)
    appointments.put_appointment(harness, prisoner)
    adjustments.put_adjustment(harness, prisoner)
    tries = (
        lambda: harness.handle("prison-visit.booked", booking.prisoner_id, datetime.now(UTC), reference=booking.dps_id),
        lambda: adjustments.handle(harness, prisoner, "inserted"),
        lambda: appointments.handle(harness, "created"),
    )
    for attempt in tries:
        with faulty(harness.sandbox, "nomis", "POST", kind="reset_after_write"), pytest.raises(UpstreamError):
            attempt()
        text = "" if response is None else None
        with (
            faulty(harness.sandbox, "nomis", "GET", r"/ids$", status=200, kind="status", body=response, text=text),
            pytest.raises(NotUnderstood),
        ):
            attempt()
        assert attempt() is Outcome.APPLIED
    assert len(visits_of(harness.sandbox, booking)) == 1
    assert len(harness.sandbox.nomis("appointment")) == len(harness.sandbox.nomis("adjustment")) == 1


@pytest.fixture(params=["2023", "today"])
def generation(request: pytest.FixtureRequest, upstream: Sandbox) -> Iterator[None]:
    """Sets the generation of the services. A test with this fixture runs with the 2023 services and with today's."""
    upstream.reset(prisoners=20, generation=request.param)
    yield
    upstream.reset(prisoners=20)


@pytest.mark.usefixtures("generation")
def test_a_lost_adjustment_is_found(harness: Harness, prisoner: Prisoner) -> None:
    """After a lost response, an adjustment is found in a NOMIS list and mapped.

    In the 2023 NOMIS, this is the list of new adjustments. In today's, it is the list of the booking's adjustments.
    """
    adjustments.put_adjustment(harness, prisoner)
    with faulty(harness.sandbox, "nomis", "POST", kind="reset_after_write"), pytest.raises(UpstreamError):
        adjustments.handle(harness, prisoner, "inserted")
    assert adjustments.handle(harness, prisoner, "inserted") is Outcome.APPLIED
    [made] = harness.sandbox.nomis("adjustment")
    assert [each["nomisAdjustmentId"] for each in harness.sandbox.mappings("adjustments")] == [made["id"]]


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "page object"])
def test_a_lost_create_is_found_on_either_form_of_page(harness: Harness, nested: bool) -> None:
    """After a lost response, a visit is found on the second page of a list, in either page format."""
    booking = visit_booked(harness.sandbox)
    deliver = partial(harness.handle, "prison-visit.booked", booking.prisoner_id, datetime.now(UTC))
    with faulty(harness.sandbox, "nomis", "POST", kind="reset_after_write"), pytest.raises(UpstreamError):
        deliver(reference=booking.dps_id)
    [visit_id] = visits_of(harness.sandbox, booking)
    strangers = [{"visitId": 10_000_000 + each} for each in range(2)]
    for number, content in enumerate((strangers, [{"visitId": visit_id}])):
        counts = {"number": number, "size": 2, "totalElements": 3, "totalPages": 2}
        body = {"content": content, **({"page": counts} if nested else counts)}
        harness.sandbox.fault(
            "nomis", "GET", r"/visits/ids$", kind="status", status=200, body=body, query=f"page={number}"
        )
    assert deliver(reference=booking.dps_id) is Outcome.APPLIED
    assert mapped_to(harness.sandbox, booking) == visit_id
    assert len(visits_of(harness.sandbox, booking)) == 1

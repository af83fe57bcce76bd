"""Changes to appointments in the activities API reach NOMIS, even if their events arrive out of order."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox import Sandbox
from sync.creation.creation import creation_lease
from sync.errors import LeaseBusy, NeverAccepted, UpstreamError
from sync.events.context import Outcome
from sync.repair.creations import search_text
from sync.store import creations
from tests.harness.appointments import INSTANCE, handle, put_appointment
from tests.harness.faults import faulty
from tests.harness.handlers import Harness, Prisoner


def held(harness: Harness) -> dict[str, Any]:
    """The only appointment in NOMIS."""
    (appointment,) = harness.sandbox.nomis("appointment")
    return dict(appointment)


def test_an_appointment_is_created_and_mapped(harness: Harness, prisoner: Prisoner) -> None:
    """An appointment is created in NOMIS with every field, and mapped without a mapping type.

    The creation is tracked with all its properties.
    """
    put_appointment(harness, prisoner)
    assert handle(harness, "created") is Outcome.APPLIED
    sent, mapped = (each["body"] for each in harness.sandbox.journal())
    assert sent == {
        "bookingId": prisoner.booking_id,
        "internalLocationId": prisoner.rooms[0],
        "eventDate": "2023-06-05",
        "startTime": "09:05",
        "endTime": "10:00",
        "eventSubType": "CHAP",
    }
    event_id = held(harness)["event_id"]
    assert mapped == {"appointmentInstanceId": INSTANCE, "nomisEventId": event_id}
    assert harness.tracked() == [
        (
            "appointment-create-success",
            {
                "appointmentInstanceId": str(INSTANCE),
                "bookingId": str(prisoner.booking_id),
                "locationId": str(prisoner.rooms[0]),
                "date": "2023-06-05",
                "start": "09:05",
                "nomisEventId": str(event_id),
            },
        )
    ]


def test_appointment_without_end_is_synchronised(harness: Harness, prisoner: Prisoner) -> None:
    """NOMIS requires an end time, so an appointment without an end time is written with its start time as its end."""
    put_appointment(harness, prisoner, end=None)
    assert handle(harness, "created") is Outcome.APPLIED
    assert (held(harness)["start"], held(harness)["end"]) == ("09:05:00", "09:05:00")
    put_appointment(harness, prisoner, end=None, start="11:00")
    assert handle(harness, "updated") == "appointment-update-success"
    assert (held(harness)["start"], held(harness)["end"]) == ("11:00:00", "11:00:00")


def test_appointment_in_a_cell_fails_with_its_reason(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS refuses an appointment in a cell, the failure is tracked, and the error is not recoverable."""
    put_appointment(harness, prisoner, in_cell=True)
    with pytest.raises(NeverAccepted, match="accepts no appointment without a location") as caught:
        handle(harness, "created")
    assert not caught.value.recoverable
    ((name, properties),) = harness.tracked()
    assert (name, properties["locationId"]) == ("appointment-create-failed", "null")


def test_an_appointment_in_a_cell_is_created_once_nomis_accepts_it(harness: Harness, prisoner: Prisoner) -> None:
    """An appointment in a cell is sent to NOMIS like any other. If NOMIS accepts it, the event is applied."""
    put_appointment(harness, prisoner, in_cell=True)
    harness.sandbox.fault("nomis", "POST", kind="status", status=201, body={"eventId": 5})
    assert handle(harness, "created") is Outcome.APPLIED


@pytest.mark.parametrize("kind", ["reset_after_write", "truncated"])
def test_a_lost_response_is_found_again(harness: Harness, prisoner: Prisoner, kind: str) -> None:
    """After a lost response, the next attempt finds the created appointment among those of its day, and maps it.

    It is not created twice.
    """
    put_appointment(harness, prisoner, INSTANCE + 1, start="13:00", end="14:00")
    handle(harness, "created", INSTANCE + 1)
    put_appointment(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind=kind, times=1)
    with pytest.raises(UpstreamError):
        handle(harness, "created")
    assert handle(harness, "created") is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    mapped = {each["appointmentInstanceId"]: each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}
    ours = next(each for each in harness.sandbox.nomis("appointment") if each["start"] == "09:05:00")
    assert mapped[INSTANCE] == ours["event_id"]


def test_a_record_mapped_to_another_appointment_is_not_claimed(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS has an equal record that is mapped to another DPS appointment, a new record is created."""
    put_appointment(harness, prisoner, INSTANCE + 1)
    handle(harness, "created", INSTANCE + 1)
    put_appointment(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        handle(harness, "created")
    assert handle(harness, "created") is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    assert len({each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}) == 2


def test_the_unmapped_record_of_two_equal_ones_is_claimed(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS has two equal appointments after a lost response, the one without a mapping is mapped."""
    put_appointment(harness, prisoner, INSTANCE + 1)
    handle(harness, "created", INSTANCE + 1)
    put_appointment(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        handle(harness, "created")
    assert handle(harness, "created") is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 2
    assert len({each["nomisEventId"] for each in harness.sandbox.mappings("appointments")}) == 2


def test_a_lost_response_about_an_appointment_in_a_cell_needs_a_person(harness: Harness, prisoner: Prisoner) -> None:
    """After a lost response, NOMIS cannot be searched for an appointment in a cell, so a person has to decide."""
    put_appointment(harness, prisoner, in_cell=True)
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        handle(harness, "created")
    assert handle(harness, "created") is Outcome.AMBIGUOUS


def test_retry_saves_the_ids_of_the_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """A mapping retry saves both ids from its message, with the mapping type, and tracks its success."""
    put_appointment(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    assert handle(harness, "created") is Outcome.RETRY_QUEUED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    (mapping,) = harness.sandbox.mappings("appointments")
    assert (mapping["appointmentInstanceId"], mapping["nomisEventId"]) == (INSTANCE, held(harness)["event_id"])
    assert mapping["mappingType"] == "APPOINTMENT_CREATED"
    assert harness.tracked("appointment-create-mapping-retry-success") == [
        ("appointment-create-mapping-retry-success", {"appointmentInstanceId": str(INSTANCE)}),
    ]


def test_conflict_in_the_retry_is_a_duplicate(harness: Harness, prisoner: Prisoner) -> None:
    """If a mapping retry finds that a different mapping exists, a duplicate is tracked and the retry ends."""
    put_appointment(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    handle(harness, "created")
    other = {"appointmentInstanceId": INSTANCE, "nomisEventId": 1}
    harness.services.mapping.call("POST", "/mapping/appointments", body=other)
    assert harness.handle_retry(*harness.retries[0]) is Outcome.DUPLICATE
    ((_, properties),) = harness.tracked("to-nomis-synch-appointment-duplicate")
    assert (properties["existingNomisEventId"], properties["duplicateNomisEventId"]) == (
        "1",
        str(held(harness)["event_id"]),
    )


def test_a_change_is_written_to_nomis(harness: Harness, prisoner: Prisoner) -> None:
    """A change to an appointment writes its day, times, room and subtype to NOMIS."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    put_appointment(harness, prisoner, day="2023-06-06", start="11:00", end="11:30", category="MEDO",
                    location_id=prisoner.rooms[1])  # fmt: skip
    assert handle(harness, "updated") == "appointment-update-success"
    record = held(harness)
    assert (record["day"], record["start"], record["end"]) == ("2023-06-06", "11:00:00", "11:30:00")
    assert (record["subtype"], record["location_id"]) == ("MEDO", prisoner.rooms[1])
    assert harness.tracked("appointment-update-success")[0][1] == {
        "appointmentInstanceId": str(INSTANCE),
        "nomisEventId": str(record["event_id"]),
    }


def test_a_cancellation_needs_only_the_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """A mapped appointment can be cancelled even if DPS no longer has it. The cancellation can safely be repeated."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    assert handle(harness, "cancelled") == "appointment-cancel-success"
    assert handle(harness, "cancelled") == "appointment-cancel-success"
    assert held(harness)["status"] == "CANC"


def test_cancellation_waits_for_the_update(harness: Harness, prisoner: Prisoner) -> None:
    """A cancellation waits while the appointment is being written elsewhere, so NOMIS never gets two writes at once."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    with harness.leases.held(f"write:appointment:{INSTANCE}"), pytest.raises(LeaseBusy):
        handle(harness, "cancelled")
    assert held(harness)["status"] == "SCH"
    handle(harness, "cancelled")
    assert held(harness)["status"] == "CANC"


def test_a_cancellation_before_the_creation_fails_until_the_record_exists(harness: Harness, prisoner: Prisoner) -> None:
    """A cancellation that overtakes the creation fails because there is no mapping, and succeeds after the creation."""
    put_appointment(harness, prisoner)
    with pytest.raises(UpstreamError, match="404"):
        handle(harness, "cancelled")
    handle(harness, "created")
    handle(harness, "cancelled")
    assert held(harness)["status"] == "CANC"


def test_deleted_with_its_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """A deletion deletes the NOMIS record and its mapping."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    assert handle(harness, "deleted") == "appointment-delete-success"
    assert harness.sandbox.nomis("appointment") == []
    assert harness.sandbox.mappings("appointments") == []


def test_deleted_again_is_ignored(harness: Harness, prisoner: Prisoner) -> None:
    """A second delivery of a deletion finds neither the mapping nor the DPS record, and is ignored."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    handle(harness, "deleted")
    assert handle(harness, "deleted") == "appointment-delete-ignored"
    names = ["appointment-delete-missing-mapping-ignored", "appointment-delete-ignored"]
    assert [name for name, _ in harness.tracked()][-2:] == names


def test_a_record_already_deleted_in_nomis_counts_as_deleted(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS no longer has the appointment, its deletion deletes the mapping and succeeds.

    The missing record and the success are both tracked.
    """
    put_appointment(harness, prisoner)
    handle(harness, "created")
    event_id = held(harness)["event_id"]
    harness.services.nomis.call("DELETE", f"/appointments/{event_id}")
    assert handle(harness, "deleted") == "appointment-delete-success"
    assert harness.sandbox.mappings("appointments") == []
    properties = {"appointmentInstanceId": str(INSTANCE), "nomisEventId": str(event_id)}
    assert harness.tracked()[-2:] == [
        ("appointment-delete-missing-nomis-ignored", properties),
        ("appointment-delete-success", properties),
    ]


def test_a_404_of_a_gateway_deletes_no_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """A gateway's 404 proves nothing about the appointment.

    The deletion and the cancellation of the appointment fail, and the mapping stays.
    """
    put_appointment(harness, prisoner)
    handle(harness, "created")
    with faulty(harness.sandbox, "nomis", status=404, text="default backend - 404"):
        for word in ("deleted", "cancelled"):
            with pytest.raises(UpstreamError, match="404"):
                handle(harness, word)
    assert len(harness.sandbox.mappings("appointments")) == 1


def test_a_cancellation_of_a_record_gone_from_nomis_succeeds(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS no longer has the appointment, its cancellation counts as done."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    harness.services.nomis.call("DELETE", f"/appointments/{held(harness)['event_id']}")
    assert handle(harness, "cancelled") == "appointment-cancel-success"
    properties = harness.tracked("appointment-cancel-success")[0][1]
    assert properties["nomis-error"].startswith("nomis: PUT /appointments/")
    assert "status 404" in properties["nomis-error"]


@pytest.mark.parametrize(
    ("word", "name"),
    [("updated", "appointment-amend-missing-ignored"), ("cancelled", "appointment-cancel-missing-ignored")],
)
def test_a_change_of_a_record_gone_on_both_sides_is_ignored(
    harness: Harness, prisoner: Prisoner, word: str, name: str
) -> None:
    """A change or cancellation is ignored if neither DPS nor the mapping service has the appointment.

    Both errors are tracked. If only DPS has it, the event fails. If only the mapping service has it, a change fails.
    """
    assert handle(harness, word) == name
    ((_, properties),) = harness.tracked()
    assert properties.keys() == {"appointmentInstanceId", "dps-error", "mapping-error"}
    assert properties["dps-error"].startswith(f"appointments: GET /appointment-instances/{INSTANCE}: status 404")
    assert properties["mapping-error"].startswith("mapping: GET /mapping/appointments/appointment-instance-id/")
    assert harness.sandbox.journal() == []
    put_appointment(harness, prisoner)
    with pytest.raises(UpstreamError, match="mapping: GET"):
        handle(harness, word)
    handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    if word == "updated":
        with pytest.raises(UpstreamError, match="appointments: GET"):
            handle(harness, word)


@pytest.mark.parametrize("word", ["updated", "cancelled"])
@pytest.mark.parametrize("service", ["appointments", "mapping"])
def test_a_404_of_a_gateway_is_not_a_missing_record(harness: Harness, service: str, word: str) -> None:
    """If a gateway responds with 404, or a response is empty, the event fails and is not ignored."""
    for status, text in ((404, "default backend - 404"), (200, ""), (200, "null")):
        with (
            faulty(harness.sandbox, service, "GET", kind="status", status=status, text=text),
            pytest.raises(UpstreamError),
        ):
            handle(harness, word)
    assert [name for name, _ in harness.tracked() if name.endswith("-ignored")] == []


def test_a_change_is_not_ignored_while_the_creation_is_open(harness: Harness, prisoner: Prisoner) -> None:
    """While it is unknown whether NOMIS has the appointment, its cancellation fails instead of being ignored."""
    put_appointment(harness, prisoner)
    with faulty(harness.sandbox, "nomis", "POST", kind="reset_after_write"), pytest.raises(UpstreamError):
        handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    with pytest.raises(UpstreamError, match="mapping: GET"):
        handle(harness, "cancelled")
    assert handle(harness, "created") is Outcome.APPLIED
    assert handle(harness, "cancelled") == "appointment-cancel-success"
    assert held(harness)["status"] == "CANC"


def test_a_deletion_before_the_creation_leaves_nothing(harness: Harness) -> None:
    """If DPS does not have the record, a deletion that overtakes the creation is ignored.

    A later delivery of the creation is ignored too.
    """
    with pytest.raises(UpstreamError, match=r"appointments: GET .* 404"):
        handle(harness, "created")
    assert handle(harness, "deleted") == "appointment-delete-ignored"
    assert handle(harness, "created") is Outcome.IGNORED
    assert harness.tracked()[-1] == ("appointment-create-ignored", {"appointmentInstanceId": str(INSTANCE)})
    assert handle(harness, "deleted") == "appointment-delete-ignored"
    assert harness.sandbox.nomis("appointment") == []
    with harness.database.read() as connection:
        record = creations.find_record(connection, "appointment", str(INSTANCE))
    assert record is not None
    assert search_text(record) == "nothing: the DPS record was deleted before it was created in NOMIS"


def test_a_record_that_dps_has_is_created_despite_a_recorded_deletion(harness: Harness, prisoner: Prisoner) -> None:
    """An appointment that DPS has is created in NOMIS, even if its deletion was recorded earlier."""
    assert handle(harness, "deleted") == "appointment-delete-ignored"
    put_appointment(harness, prisoner)
    assert handle(harness, "created") is Outcome.APPLIED
    assert len(harness.sandbox.nomis("appointment")) == 1


def test_a_deletion_waits_for_the_mapping_while_dps_has_the_record(harness: Harness, prisoner: Prisoner) -> None:
    """While DPS has the appointment and there is no mapping yet, its deletion fails instead of being ignored."""
    put_appointment(harness, prisoner)
    with pytest.raises(UpstreamError, match=r"mapping: GET .* status 404"):
        handle(harness, "deleted")
    assert [name for name, _ in harness.tracked()] == ["appointment-delete-failed"]


def test_a_deletion_waits_for_a_pending_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """While the mapping of a NOMIS record still has to be saved, a deletion fails instead of being ignored."""
    put_appointment(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    with pytest.raises(UpstreamError, match="404"):
        handle(harness, "deleted")
    harness.handle_retry(*harness.retries[0])
    assert handle(harness, "deleted") == "appointment-delete-success"
    assert harness.sandbox.nomis("appointment") == []
    assert harness.sandbox.mappings("appointments") == []


def test_a_record_deleted_after_a_lost_response_is_not_created(harness: Harness, prisoner: Prisoner) -> None:
    """While it is unknown whether NOMIS has the record, a deletion fails instead of being ignored."""
    put_appointment(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    with pytest.raises(UpstreamError, match="404"):
        handle(harness, "deleted")
    handle(harness, "created")
    assert handle(harness, "deleted") == "appointment-delete-success"
    assert harness.sandbox.nomis("appointment") == []


def test_deletion_waits_for_a_creation_under_way(harness: Harness) -> None:
    """A deletion waits while another process holds the lease of the appointment's creation."""
    with harness.leases.held(creation_lease("appointment", str(INSTANCE))), pytest.raises(LeaseBusy):
        handle(harness, "deleted")


def test_created_again_after_the_deletion_makes_nothing(harness: Harness, prisoner: Prisoner) -> None:
    """If the creation is delivered again after the deletion, nothing is created or mapped."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    harness.sandbox.drop("appointment", INSTANCE)
    handle(harness, "deleted")
    assert handle(harness, "created") is Outcome.DUPLICATE
    assert harness.sandbox.nomis("appointment") == []
    assert harness.sandbox.mappings("appointments") == []


def test_a_failed_update_is_tracked_with_the_known_ids(harness: Harness, prisoner: Prisoner, sandbox: Sandbox) -> None:
    """The telemetry event about a failed change has the NOMIS id that was found before the failure."""
    put_appointment(harness, prisoner)
    handle(harness, "created")
    sandbox.fault("nomis", "PUT", kind="status", status=500)
    with pytest.raises(UpstreamError):
        handle(harness, "updated")
    assert harness.tracked("appointment-update-failed")[0][1]["nomisEventId"] == str(held(harness)["event_id"])

"""Repairs of appointments."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from sync.creation.records import CreationRecord
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.repair import Advice, EventParts, Record, Repair, as_iso, as_text, refused
from sync.upstream.mappings import MappingIds
from sync.upstream.services import Services


class AppointmentRepair(Repair):
    """What an operator can do about appointments in NOMIS."""

    noun = "appointment"
    given = "event id"
    proof: ClassVar = {"start": True, "location": False, "type": True}

    def read(self, services: Services, ids: MappingIds) -> Record | None:
        found = nomis_appointments.find_appointment(services.nomis, int(ids.nomis_ids[0]))
        if found is None:
            return None
        return {
            "bookingId": str(found.booking_id),
            "prisonId": found.prison_id,
            "location": as_text(found.internal_location),
            "start": as_iso(found.start_date_time),
            "end": as_iso(found.end_date_time),
            "type": found.subtype,
            "status": found.status,
        }

    def remove(self, services: Services, ids: MappingIds, record: Record | None) -> None:
        nomis_appointments.delete_appointment(services.nomis, int(ids.nomis_ids[0]))

    def nomis_ids(self, number: int, request: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"nomisEventId": number}

    def look_for(self, request: Mapping[str, Any]) -> str:
        body = request["body"]
        where = body.get("internalLocationId")
        return (
            f"an appointment of booking {body['bookingId']} on {body['eventDate']} at {body['startTime']}, type "
            f"{body['eventSubType']}, {'without a location' if where is None else f'in location {where}'}"
        )

    def owner_in(self, request: Mapping[str, Any]) -> str | None:
        return str(request["body"]["bookingId"])

    def expected(self, request: Mapping[str, Any]) -> Record:
        body = request["body"]
        start = datetime.fromisoformat(f"{body['eventDate']}T{body['startTime']}")
        return {
            "location": as_text(body.get("internalLocationId")),
            "start": start.isoformat(),
            "type": body["eventSubType"],
        }

    def event_parts(self, record: CreationRecord) -> EventParts:
        return {"appointmentInstanceId": int(record.dps_id)}, None, None


ADVICE = (
    Advice(
        refused("nomis", 500, words="without a location"),
        "NOMIS 500, no location",
        "NOMIS cannot hold an appointment in a cell: tell the prison, then purge the message",
    ),
)

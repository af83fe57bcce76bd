"""Reads the appointments of NOMIS and of DPS, and the mappings between them.

DPS is searched, because one search returns all the compared values of thousands of appointments. Single reads are for
appointments that a search does not find or does not describe fully, and for appointments that are read again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import pandas as pd

from reports.engine.moving_lists import ListPage
from reports.engine.parallel_reader import FailedRead
from reports.engine.unit_reader import UnitReader
from reports.engine.units import UnlistedPart
from reports.reconciliations.appointments.compare import dps_columns, join, nomis_columns
from sync.domains.appointments import dps as appointments_api
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.appointments.rules import MAPPINGS
from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream.mappings import nomis_location

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from sync.domains.appointments.dps import Attendee
    from sync.domains.appointments.nomis import NomisAppointment
    from sync.upstream.transport import ServiceClient

#: The first and the last day, both included.
Days = tuple[date, date]
#: The ids of a NOMIS record and of the DPS appointment that it is mapped to; None for a missing side.
Pair = tuple[int | None, int | None]

#: DPS refuses to search a calendar month or more at once, and February has 28 days.
_SEARCH_DAYS: Final = 28


class AppointmentReader(UnitReader):
    """Reads the appointments of one unit, or reads single appointments again."""

    dps = UpstreamName.APPOINTMENTS

    def event_ids(self, prison_id: str, days: Days, size: int) -> list[int]:
        """The event ids of a prison's NOMIS appointments, in ascending order.

        The list is read in pages of `size` ids. A page that cannot be read is a gap. Raises `SyncError` if the first
        page cannot be read.
        """

        def page(number: int) -> ListPage[int, None]:
            found = nomis_appointments.event_id_page(self.services.nomis, prison_id, days, number, size)
            return ListPage(dict.fromkeys(found.ids), found.pages)

        def gap(number: int | None, reason: str) -> UnlistedPart:
            what = f"page {number or 0} of the NOMIS appointments of {prison_id}"
            return UnlistedPart(what, reason, {"page": number or 0, "prisonId": prison_id})

        return sorted(self.list_whole(UpstreamName.NOMIS, page, gap))

    def search(self, prison_id: str, days: Days) -> dict[int, Attendee] | None:
        """The DPS appointments of a prison by instance id, or None if DPS refuses the search.

        A refusal adds a gap. Raises `SyncError` if the search fails in another way.
        """
        first, last = days
        found: dict[int, Attendee] = {}
        while first <= last:
            end = min(first + timedelta(days=_SEARCH_DAYS - 1), last)
            search = partial(appointments_api.search_attendees, self.services[self.dps], prison_id, first, end)
            try:
                attendees = self.reads.page(UpstreamName.APPOINTMENTS, search)
            except UpstreamError as error:
                if error.status != HTTPStatus.BAD_REQUEST or not error.from_service:
                    raise
                self.gaps.append(
                    UnlistedPart(f"the DPS appointments of {prison_id}", str(error), {"prisonId": prison_id})
                )
                return None
            found.update((each.id, each) for each in attendees)
            first = end + timedelta(days=1)
        return found

    def instances(self, instance_ids: Collection[int], cancellation_of: Collection[int]) -> dict[int, Attendee]:
        """Those of the appointments with the ids `instance_ids` that exist in DPS, by instance id, from single reads.

        Only a search shows whether an appointment is cancelled, so the days of the appointments in `cancellation_of`
        are also searched.
        """
        read = self._dps(dict.fromkeys(instance_ids))
        found = {number: each for number, each in read.items() if each is not None}
        places = {
            number: (each.prison_code, each.appointment_date)
            for number, each in found.items()
            if number in cancellation_of and each.prison_code is not None
        }

        def search(place: tuple[str, date]) -> list[Attendee]:
            return appointments_api.search_attendees(self.services[self.dps], *place, place[1])

        for place, attendees in self.reads.each(UpstreamName.APPOINTMENTS, search, sorted(set(places.values()))):
            if isinstance(attendees, FailedRead):
                for number in [number for number, each in places.items() if each == place]:
                    self.add_failed("DPS", number, {"dps_id": number}, attendees)
                    del found[number]
            else:
                found.update((each.id, each) for each in attendees if each.id in found)
        return found

    def rows(
        self,
        event_ids: Collection[int],
        attendees: Mapping[int, Attendee],
        is_read_elsewhere: Callable[[NomisAppointment | None], bool] = lambda _: False,
    ) -> pd.DataFrame:
        """The joined rows of the given NOMIS records and DPS appointments, and of the records that they are mapped to.

        event_ids: the ids of the NOMIS records. attendees: the DPS appointments, by instance id. is_read_elsewhere: if
        a DPS appointment is mapped to a NOMIS record that is not among `event_ids`, it is called with this record, or
        with None if NOMIS does not have it; it returns whether another reading includes the record.
        """
        records = self._nomis(event_ids)
        of_nomis = {each: {"nomis_id": each} for each in event_ids}
        dps_ids = self.mapped(MAPPINGS, "NOMIS", of_nomis, lambda ids: int(ids.dps_id))
        pairs: list[Pair] = [(each, dps_ids[each]) for each in event_ids if each in records and each in dps_ids]
        # No NOMIS record of the list is mapped to these appointments.
        others = sorted(attendees.keys() - set(dps_ids.values()))
        of_dps = {each: {"dps_id": each} for each in others}
        nomis_ids = self.mapped(MAPPINGS, "DPS", of_dps, lambda ids: int(ids.nomis_ids[0]))
        unlisted = self._nomis(sorted({each for each in nomis_ids.values() if each is not None} - set(event_ids)))
        for instance_id, event_id in nomis_ids.items():
            if event_id is None or (event_id in unlisted and not is_read_elsewhere(unlisted[event_id])):
                pairs.append((event_id, instance_id))
        dps = self._with_rooms(self._dps_side(pairs, attendees))
        known = [pair for pair in pairs if pair[1] is None or pair[1] in dps]
        return join(
            pd.DataFrame(known, columns=["nomis_id", "dps_id"], dtype="Int64"),
            nomis_columns({**records, **unlisted}),
            dps_columns(dps),
        )

    def _dps_side(self, pairs: Iterable[Pair], attendees: Mapping[int, Attendee]) -> dict[int, Attendee | None]:
        """The DPS appointments of `pairs`, from `attendees` or by single reads; None for one that does not exist."""
        partners = {instance_id: event_id for event_id, instance_id in pairs if instance_id is not None}
        # A search leaves out a location that it cannot describe.
        single = {each: event_id for each, event_id in partners.items() if not _has_place(attendees.get(each))}
        found: dict[int, Attendee | None] = {each: attendees[each] for each in partners.keys() - single.keys()}
        for number, read in self._dps(single).items():
            searched = attendees.get(number)
            found[number] = read if read is None or searched is None else replace(read, cancelled=searched.cancelled)
        return found

    def _with_rooms(self, found: Mapping[int, Attendee | None]) -> dict[int, Attendee | None]:
        """The appointments, with the NOMIS location added if only the DPS id of the location is known.

        If the mapping of a location cannot be read, the appointments there are left out and count as unread.
        """
        complete = dict(found)
        unnamed = {
            number: each.dps_location_id
            for number, each in found.items()
            if each is not None and each.internal_location_id is None and each.dps_location_id and not each.in_cell
        }
        mapping = self.services.mapping
        rooms = dict(
            self.reads.each(UpstreamName.MAPPING, partial(nomis_location, mapping), sorted(set(unnamed.values())))
        )
        for number, dps_location_id in unnamed.items():
            room, each = rooms[dps_location_id], found[number]
            if isinstance(room, FailedRead):
                self.add_failed("mapping", number, {"dps_id": number}, room)
                del complete[number]
            elif each is not None:
                complete[number] = replace(each, internal_location_id=room)
        return complete

    def _nomis(self, event_ids: Collection[int]) -> dict[int, NomisAppointment | None]:
        """NOMIS records by event id, with None for one that does not exist."""
        return self.each("NOMIS", nomis_appointments.find_appointment, {each: {"nomis_id": each} for each in event_ids})

    def _dps(self, instance_ids: Mapping[int, int | None]) -> dict[int, Attendee | None]:
        """DPS appointments by instance id, from single reads; None for one that does not exist.

        instance_ids: the instance ids to read, each with the event id that it is mapped to, or None.
        """

        def read(client: ServiceClient, number: int) -> Attendee | None:
            found = appointments_api.find_appointment(client, number)
            return None if found is None else found.attendee()

        keys = {
            number: {"dps_id": number} if event_id is None else {"nomis_id": event_id, "dps_id": number}
            for number, event_id in instance_ids.items()
        }
        return self.each("DPS", read, keys)


def _has_place(attendee: Attendee | None) -> bool:
    return attendee is not None and (
        attendee.in_cell or attendee.internal_location_id is not None or attendee.dps_location_id is not None
    )

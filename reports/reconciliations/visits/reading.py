"""Reads the visits of a prison or a prisoner on both sides, and reads single visits again.

The module reads every visit that DPS has in the window, its mapping, and the NOMIS visit that it is mapped to. For a
prison, it also reads the other recent NOMIS visits, to find duplicates and visits without a mapping or a DPS visit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import pandas as pd

from reports.engine.moving_lists import ListPage
from reports.engine.parallel_reader import failed_read
from reports.engine.unit_reader import UnitReader
from reports.engine.units import UnlistedPart
from reports.reconciliations.visits import compare
from sync.domains.visits import dps as visit_scheduler
from sync.domains.visits import nomis as nomis_visits
from sync.domains.visits.rules import MAPPINGS, NOMIS_VISIT_TYPES
from sync.errors import BreakerOpen, UpstreamError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import date, datetime

    from sync.domains.visits.dps import BookedVisit
    from sync.domains.visits.nomis import VisitDetails

Item = TypeVar("Item", int, str)

PAGE_SIZE: Final = 200
_SOCIAL: Final = NOMIS_VISIT_TYPES["SOCIAL"]


class VisitReader(UnitReader):
    """Reads the visits of one unit, or reads single visits again."""

    dps = UpstreamName.VISITS

    def read_prison(
        self, prison_id: str, days: tuple[date, date], created_from: datetime, known: Iterable[int], *, cut: bool
    ) -> pd.DataFrame:
        """The rows of a prison, as `compare.join` returns them.

        They are its DPS visits on `days`, with the NOMIS visits that they are mapped to, and its other NOMIS visits.

        days: the first and the last day. created_from: other NOMIS visits are examined if they were created at or after
        this time (London time). known: NOMIS visits to examine regardless of when they were created. cut: whether to
        leave out other NOMIS visits that are not on `days`. Raises `SyncError` if DPS cannot list the visits, or if
        NOMIS lacks the route that lists visits.
        """
        visits = self._list_visits({"prisonId": prison_id}, days)
        try:
            recent = self.reads.page(
                UpstreamName.NOMIS,
                lambda: list(nomis_visits.visit_ids(self.services.nomis, prison_id, _SOCIAL, created_from)),
            )
        except (UpstreamError, BreakerOpen) as error:
            if isinstance(error, UpstreamError) and error.no_route:
                raise
            self.gaps.append(_gap(str(error), {"prisonId": prison_id, "side": "NOMIS"}))
            recent = []
        others = {*recent, *known}
        if not visits and not others:
            return pd.DataFrame()
        return self._rows(visits, list(visits), others, days if cut else None)

    def read_prisoner(self, offender_no: str, days: tuple[date, date]) -> pd.DataFrame:
        """The rows of a prisoner's DPS visits; NOMIS cannot list a prisoner's visits.

        Raises `SyncError` if DPS cannot list the visits.
        """
        visits = self._list_visits({"prisonerId": offender_no}, days)
        return self._rows(visits, list(visits), (), None)

    def read_again(self, references: Iterable[str], visit_ids: Iterable[int]) -> pd.DataFrame:
        """The rows of the DPS visits with these references, and of the NOMIS visits with these ids.

        Visits that are no longer on either side are left out.
        """
        known = list(dict.fromkeys(references))
        rows = self._rows(self._find_visits(known), known, set(visit_ids), None)
        return rows[rows["in_dps"] | rows["in_nomis"]]

    def _list_visits(self, whose: Mapping[str, str], days: tuple[date, date]) -> dict[str, BookedVisit]:
        """The DPS visits of a prison or a prisoner on `days`, by reference.

        Raises `SyncError` if DPS cannot list the visits.
        """
        client = self.services[self.dps]

        def page(number: int) -> ListPage[str, object]:
            found = visit_scheduler.visits_page(client, whose, days, number, PAGE_SIZE)
            items = {_reference_of(each) or f"page {number} row {row}": each for row, each in enumerate(found.content)}
            return ListPage(items, found.total_pages)

        def gap(number: int | None, reason: str) -> UnlistedPart:
            return _gap(reason, {**whose, "page": number, "side": "DPS"})

        first, last = days
        found: dict[str, BookedVisit] = {}
        for reference, element in self.list_whole(self.dps, page, gap).items():
            try:
                visit = visit_scheduler.parse_booked_visit(client, element)
            except UpstreamError as error:
                self.add_failed("DPS", reference, {"visit": reference}, failed_read(error))
                continue
            if first <= visit.start_timestamp.date() <= last:
                found[reference] = visit
        return found

    def _rows(
        self,
        visits: dict[str, BookedVisit],
        references: Collection[str],
        others: Collection[int],
        days: tuple[date, date] | None,
    ) -> pd.DataFrame:
        """The rows of the DPS visits `visits`, the mappings of `references`, and the other NOMIS visits `others`.

        days: the first and the last day of the other NOMIS visits to include, or None to include those on any day.
        """
        mappings = self._find_mappings(references)
        handled = {*references, *self._unread_visits()}
        records = self._look_through(set(others).difference(mappings.values()), days)
        named = _pairs(records, "nomis_reference")
        owners = self._find_owners({visit_id: name for visit_id, name in named.items() if name})

        # Further references are those of duplicates, of unmapped visits, and of mappings.
        unmapped = {visit_id: name for visit_id, name in named.items() if not name or not owners.get(visit_id, "?")}
        further = {name for name in unmapped.values() if name}.difference(handled)
        owned = {name: visit_id for visit_id, name in owners.items() if name and name not in handled}
        found = self._find_visits({*further, *owned})
        mappings |= self._find_mappings(further)
        mappings |= {name: visit_id for name, visit_id in owned.items() if name not in found}
        visits = visits | {name: visit for name, visit in found.items() if name in further}

        details = self._find_details({visit_id: name for name, visit_id in mappings.items() if visit_id not in named})
        unread = self._unread_visits()
        # A comment made on the screen may mention some other reference.
        known = {*visits, *mappings}
        unmapped = {
            visit_id: name if name in known or compare.is_reference(name) else "" for visit_id, name in unmapped.items()
        }
        return compare.join(
            compare.dps_frame(visit for name, visit in visits.items() if name not in unread),
            pd.concat([records, compare.nomis_frame(details)], ignore_index=True),
            compare.pairs((name, visit_id) for name, visit_id in mappings.items() if name not in unread),
            compare.pairs((name, visit_id) for visit_id, name in unmapped.items() if name not in unread),
        )

    def _look_through(self, visit_ids: Collection[int], days: tuple[date, date] | None) -> pd.DataFrame:
        """The social visits among the NOMIS visits `visit_ids`, as `compare.nomis_frame` returns them.

        days: the first and the last day; visits on other days are left out. None if all days count.
        """
        found = compare.nomis_frame(self._find_details({visit_id: str(visit_id) for visit_id in sorted(visit_ids)}))
        social = found["nomis_type"] == _SOCIAL
        if days is not None:
            start, end = (pd.Timestamp(day) for day in days)
            social &= found["nomis_start"].between(start, end + pd.Timedelta(days=1), inclusive="left")
        return found[social]

    def _find_visits(self, references: Iterable[str]) -> dict[str, BookedVisit]:
        return self.existing("DPS", visit_scheduler.find_visit, _keys((each, each) for each in sorted(references)))

    def _find_mappings(self, references: Iterable[str]) -> dict[str, int]:
        """The NOMIS visits that references are mapped to, by reference; references without a mapping are left out."""
        keys = _keys((each, each) for each in references)
        found = self.mapped(MAPPINGS, "DPS", keys, lambda ids: int(ids.nomis_ids[0]))
        return {reference: visit_id for reference, visit_id in found.items() if visit_id is not None}

    def _find_owners(self, named: Mapping[int, str]) -> dict[int, str]:
        """The reference that each NOMIS visit is mapped to, by visit id; empty for a visit without a mapping."""
        keys = _keys((each, f"{name} {each}") for each, name in named.items())
        found = self.mapped(MAPPINGS, "NOMIS", keys, lambda ids: ids.dps_id)
        return {visit_id: reference or "" for visit_id, reference in found.items()}

    def _find_details(self, visits: Mapping[int, str]) -> list[VisitDetails]:
        return [*self.existing("NOMIS", nomis_visits.find_details, _keys(visits.items())).values()]

    def _unread_visits(self) -> set[str]:
        return {record.key["visit"] for record in self.unread}


def _keys(items: Iterable[tuple[Item, str]]) -> dict[Item, dict[str, str]]:
    """The items with the keys of their rows; an item that cannot be read is listed as unread under its key."""
    return {item: {"visit": name} for item, name in items}


def _gap(reason: str, detail: Mapping[str, Any]) -> UnlistedPart:
    """The gap for a list, or for a page of it, that cannot be read."""
    known = {name: value for name, value in detail.items() if value is not None}
    whose = known.get("prisonId") or known.get("prisonerId")
    page = f"page {known['page']} of " if "page" in known else ""
    return UnlistedPart(f"{whose}: {page}the visits in {known['side']}", reason, known)


def _reference_of(element: object) -> str | None:
    reference = element.get("reference") if isinstance(element, dict) else None
    return reference if isinstance(reference, str) else None


def _pairs(records: pd.DataFrame, name: str) -> dict[int, str]:
    """The text in the column `name` for each NOMIS visit; empty for NA."""
    texts = records[name].fillna("").astype(str)
    return {int(visit_id): text for visit_id, text in zip(records["visit_id"], texts, strict=True)}

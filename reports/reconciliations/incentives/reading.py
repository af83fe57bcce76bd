"""Reads the levels of many bookings: from NOMIS one by one, and from DPS in bulk or, where that fails, one by one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import structlog

from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives.nomis import current_iep_body
from sync.errors import RuleError, SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from reports.engine.reconciliation import Reads
    from reports.reconciliations.incentives.result import MatrixCell
    from sync.upstream.services import Services
    from sync.upstream.transport import ServiceClient


#: The greatest lengths of a level code and of a prison code.
LONGEST_LEVEL = 12
LONGEST_PRISON = 6


def names_to_codes(incentives: ServiceClient) -> dict[str, str]:
    """The level codes of DPS by level name, including those of inactive levels.

    A name is left out if two levels share it, or if its code is not valid. Raises `UpstreamError` if the levels cannot
    be read.
    """
    codes: dict[str, str] = {}
    shared: set[str] = set()
    for level in incentives_api.levels(incentives):
        if level.name in codes:
            shared.add(level.name)
        if is_code(level.code, LONGEST_LEVEL):
            codes[level.name] = level.code
        else:
            # A prisoner with this level is read by a call for the booking alone, and reported.
            shared.add(level.name)
    return {name: code for name, code in codes.items() if name not in shared}


@lru_cache(maxsize=4_000)
def is_code(text: str, longest: int) -> bool:
    """Whether a string is a valid code: 1 to `longest` printable characters, none of which is a space."""
    return 0 < len(text) <= longest and text.isprintable() and " " not in text


def level_code(code: object, response: str) -> str:
    """Returns `code` if it is a valid level code; otherwise raises a `RuleError` that names `response`."""
    if not isinstance(code, str) or not is_code(code, LONGEST_LEVEL):
        raise RuleError(f"{response}: the level is not a code of 1 to {LONGEST_LEVEL} characters")
    return code


def prison_code(code: object, response: str) -> str | None:
    """Returns `code` if it is None or a valid prison code; otherwise raises a `RuleError` that names `response`."""
    if code is None:
        return None
    if not isinstance(code, str) or not is_code(code, LONGEST_PRISON):
        raise RuleError(f"{response}: the prison is not a code of 1 to {LONGEST_PRISON} characters")
    return code


def level_of_record(body: object, booking_id: int) -> tuple[str, str | None]:
    """The level code and the prison code of an IEP record in a NOMIS response; the prison code may be None.

    Raises `RuleError` if the response is not a record of this booking, or if the record has an invalid code.
    """
    response = f"nomis: GET /incentives/booking-id/{booking_id}/current"
    if not isinstance(body, dict) or body.get("bookingId") != booking_id:
        raise RuleError(f"{response}: the response is not a record of this booking")
    level = body.get("iepLevel")
    code = level_code(level.get("code") if isinstance(level, dict) else None, response)
    return code, prison_code(body.get("prisonId"), response)


#: The name that the bulk call returns for a level without a name.
UNNAMED = "Unmapped"
#: The most bookings in one bulk call.
LARGEST_BULK = 1_000
_WITHDRAWN = frozenset({404, 405})


class LevelReader:
    """Reads the levels for one run. Threads can share a reader."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bulk_lock = threading.Lock()
        #: The codes of the levels by name, once they are read; None if the bulk call cannot be used.
        self._names: Mapping[str, str] | None = None
        self._names_read = False

    def nomis_level(self, booking_id: int) -> tuple[str | None, str | None]:
        """A booking's level in NOMIS and the prison of the current record; both are None if there is no record."""
        body = current_iep_body(self._services.nomis, booking_id)
        return (None, None) if body is None else level_of_record(body, booking_id)

    def dps_level(self, booking_id: int) -> str | None:
        """A booking's level in DPS, read by a call for this booking alone; None if there is none."""
        client = self._services[UpstreamName.INCENTIVES]
        summary = incentives_api.booking_summary(client, booking_id, with_details=False)
        if summary is None:
            return None
        return level_code(summary.iep_code, f"incentives: GET /iep/reviews/booking/{booking_id}")

    def bulk_levels(self, booking_ids: Sequence[int], reads: Reads) -> dict[int, str]:
        """The level codes of those bookings whose levels the bulk call identifies, by booking id.

        The other bookings must be read one by one: the bulk call omits a booking if none of its reviews has the flag
        that the call relies on, and it returns level names, some of which do not identify a level.
        """
        found: dict[int, str] = {}
        for start in range(0, len(booking_ids), LARGEST_BULK):
            codes = self._codes(reads)
            if codes is None:
                break
            for booking_id, name in self._bulk_call(booking_ids[start : start + LARGEST_BULK], reads).items():
                code = None if name == UNNAMED else codes.get(name)
                if code is not None:
                    found[booking_id] = code
        return found

    def _codes(self, reads: Reads) -> Mapping[str, str] | None:
        """The level codes by name, read once; None if they cannot be read or the bulk call has been withdrawn."""
        with self._bulk_lock:
            if not self._names_read:
                try:
                    client = self._services[UpstreamName.INCENTIVES]
                    self._names = reads.one(UpstreamName.INCENTIVES, partial(names_to_codes, client))
                except SyncError as error:
                    structlog.get_logger().warning("level-names-not-read", reason=str(error))
                self._names_read = True
            return self._names

    def _bulk_call(self, booking_ids: Sequence[int], reads: Reads) -> Mapping[int, str]:
        """The level names from one bulk call, by booking id; empty if the call fails: levels are then read singly."""
        client = self._services[UpstreamName.INCENTIVES]
        try:
            return reads.one(UpstreamName.INCENTIVES, partial(incentives_api.current_levels, client, booking_ids))
        except SyncError as error:
            if isinstance(error, UpstreamError) and error.status in _WITHDRAWN:
                with self._bulk_lock:
                    self._names = None
            else:
                structlog.get_logger().warning("levels-not-read-in-bulk", bookings=len(booking_ids), reason=str(error))
            return {}


#: If at least this many prisoners have no level, their share may exceed that of the last run that did not fail by at
#: most `MOST_MORE`, or may be at most `MOST_AT_FIRST` in a first run.
FEWEST_WITHOUT = 20
MOST_MORE = 0.05
MOST_AT_FIRST = 0.10
#: If fewer prisoners than `FEWEST_WITHOUT` have no level, but at least this many, larger shares are plausible, but not
#: a share of 100%.
FEWEST_OF_ALL = 5
MOST_MORE_OF_FEW = 0.15
MOST_AT_FIRST_OF_FEW = 0.20


@dataclass(frozen=True, slots=True)
class MissingLevels:
    """How many prisoners a run compared, how many of them had no level in NOMIS, and how many had none in DPS."""

    compared: int
    nomis: int
    dps: int

    @classmethod
    def of(cls, cells: Iterable[MatrixCell]) -> MissingLevels:
        """The numbers of a run, added up from the cells of its matrix."""
        compared = nomis = dps = 0
        for cell in cells:
            compared += cell.count
            nomis += cell.count * (cell.nomis_level is None)
            dps += cell.count * (cell.dps_level is None)
        return cls(compared, nomis, dps)


def why_without_levels(frame: pd.DataFrame, before: MissingLevels | None) -> str | None:
    """Why the levels of a run are implausible (too many prisoners have no level on one side), or None if they are not.

    before: the numbers of the last run that did not fail, or None if there is no such run.
    """
    everyone = len(frame)
    sides = (
        ("NOMIS", int(frame["nomis_level"].isna().sum()), before.nomis if before else 0),
        ("DPS", int(frame["dps_level"].isna().sum()), before.dps if before else 0),
    )
    for side, without, earlier in sides:
        known = before is not None and before.compared > 0
        few = without < FEWEST_WITHOUT
        if known and before:
            believed = earlier / before.compared + (MOST_MORE_OF_FEW if few else MOST_MORE)
        else:
            believed = MOST_AT_FIRST_OF_FEW if few else MOST_AT_FIRST
        if without >= FEWEST_OF_ALL and without > believed * everyone:
            found = f"{side} has no level for {without:,} of {everyone:,} prisoners"
            if known and before:
                return f"{found}, compared with {earlier:,} of {before.compared:,} in the last run that did not fail"
            return f"{found}, more than the {believed:.0%} that a first run accepts"
    return None

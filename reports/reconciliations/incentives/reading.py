"""Reads the levels of many bookings: NOMIS one by one, DPS in bulk, and singly what the bulk call does not tell."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog

from reports.reconciliations.incentives.levels import level_code, level_of_record, names_to_codes
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives.nomis import current_iep_body
from sync.failures import SyncError, UpstreamError
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.contract import Reads
    from sync.upstream.services import Services

#: What the bulk call says of a level that has no name.
UNNAMED = "Unmapped"
#: Bookings of one bulk call at most.
LARGEST_BULK = 1_000
_WITHDRAWN = frozenset({404, 405})


class LevelReader:
    """Reads the levels of one run; safe to share between threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bulk_lock = threading.Lock()
        #: The codes of the levels by name, once they are read; None where the bulk call cannot be used.
        self._names: Mapping[str, str] | None = None
        self._names_read = False

    def nomis_level(self, booking_id: int) -> tuple[str | None, str | None]:
        """The level of a booking in NOMIS and the prison of its record; both None without one."""
        body = current_iep_body(self._services.nomis, booking_id)
        return (None, None) if body is None else level_of_record(body, booking_id)

    def dps_level(self, booking_id: int) -> str | None:
        """The level of a booking in DPS by the single call; None without one."""
        client = self._services[UpstreamName.INCENTIVES]
        summary = incentives_api.booking_summary(client, booking_id, with_details=False)
        if summary is None:
            return None
        return level_code(summary.iep_code, f"incentives: GET /iep/reviews/booking/{booking_id}")

    def bulk_levels(self, booking_ids: Sequence[int], reads: Reads) -> dict[int, str]:
        """The levels that the bulk call gives; the others have to be read singly: missing, or a level without a name.

        The flag that the bulk call goes by may be missing from every review of a booking.
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
        """The codes of the levels by name, read once; None when they cannot be read, or the bulk call is withdrawn."""
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
        """One bulk call; empty when the levels have to be read singly."""
        client = self._services[UpstreamName.INCENTIVES]
        try:
            return reads.one(UpstreamName.INCENTIVES, partial(incentives_api.current_levels, client, booking_ids))
        except SyncError as error:
            if isinstance(error, UpstreamError) and error.status in _WITHDRAWN:
                with self._bulk_lock:
                    self._names = None
            return {}

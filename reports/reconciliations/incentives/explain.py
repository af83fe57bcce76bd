"""Why one prisoner differs: the same evidence and diagnosis as in the report, at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from reports.engine.find_bookings import find_chosen
from reports.engine.history import read_baseline
from reports.reconciliations.incentives.diagnosis import diagnose
from reports.reconciliations.incentives.evidence import gather, read_pair
from reports.reconciliations.incentives.pending_messages import no_pending_messages
from reports.reconciliations.incentives.view import portray
from sync.failures import SyncError

if TYPE_CHECKING:
    from reports.engine.result import Mismatch
    from reports.reconciliations.incentives.pending_messages import FindPendingMessages
    from sync.store.database import Database
    from sync.upstream.prisoners import PrisonerId
    from sync.upstream.services import Services

_SEARCHED_AT_ONCE = 1_000


class UnknownPrisoner(SyncError):
    """No active prisoner has this number."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Both levels and histories of a prisoner. `mismatch.diagnosis` is None where both sides agree."""

    mismatch: Mismatch
    equal: bool


def explain(
    services: Services,
    database: Database,
    find_pending: FindPendingMessages,
    offender_no: str,
    near: timedelta,
    moment: datetime,
) -> Explanation:
    """Reads both sides of a prisoner, whole histories included, and says why they differ. Raises `SyncError`."""
    booking = active_booking(services, offender_no)
    pair = read_pair(services, booking.booking_id, offender_no)
    pending = no_pending_messages() if pair.equal else find_pending()
    evidence = gather(services, pair, pending, near, whole=True)
    with database.read() as connection:
        standing, since = read_baseline(connection, moment).standing(pair.booking_id, moment)
    diagnosis = None if pair.equal else diagnose(evidence, near)
    return Explanation(portray(evidence, diagnosis, standing, since), pair.equal)


def active_booking(services: Services, offender_no: str) -> PrisonerId:
    """The active booking of a prisoner. Raises `UnknownPrisoner`, and `SyncError` when a service cannot be read."""
    found = find_chosen(services, [offender_no], _SEARCHED_AT_ONCE).prisoners
    if not found:
        raise UnknownPrisoner(f"no active prisoner has the number {offender_no}")
    return found[0]

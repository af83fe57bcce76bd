"""Single prisoners, for a run that looks at them alone: which booking of theirs is the active one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.engine.bookings import StillListed
from reports.engine.listing import PageFailure, list_prisoners
from sync.domains.incentives import dps as incentives_api
from sync.upstream.prisoners import PrisonerId, UnusableRow

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sync.upstream.services import Services

#: Pages of this size are read to find one booking among tens of thousands.
_SEARCHED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Chosen:
    """The active bookings of the prisoners asked for, who has none, and pages that could not be searched for them.

    unusable: rows of the list that are theirs, or may be, and by which they cannot be compared.
    """

    prisoners: tuple[PrisonerId, ...]
    not_found: tuple[str, ...]
    failed_pages: tuple[PageFailure, ...] = ()
    unusable: tuple[UnusableRow, ...] = ()


def find_chosen(services: Services, offender_nos: Iterable[str], page_size: int) -> Chosen:
    """Finds the active booking of each prisoner: that of the newest DPS review if still active, else by the list.

    Raises `SyncError` when a service cannot be read.
    """
    size = max(page_size, _SEARCHED_AT_ONCE)
    still_listed = StillListed(services.nomis, size)
    found: dict[str, PrisonerId] = {}
    searched = list(dict.fromkeys(offender_nos))
    for offender_no in searched:
        summary = incentives_api.prisoner_summary(services.incentives, offender_no)
        if summary is not None and still_listed(summary.booking_id):
            found[offender_no] = PrisonerId(summary.booking_id, offender_no)
    missing = {offender_no for offender_no in searched if offender_no not in found}
    failed_pages: tuple[PageFailure, ...] = ()
    unusable: tuple[UnusableRow, ...] = ()
    if missing:
        # No review, or one of an earlier booking: the list of active bookings knows, and it has to be searched whole.
        listing = list_prisoners(services.nomis, size)
        for prisoner in listing.prisoners:
            if prisoner.offender_no in missing:
                found[prisoner.offender_no] = prisoner
        missing -= found.keys()
        if missing:
            failed_pages = listing.failed_pages
            unusable = tuple(row for row in listing.unusable if row.offender_no is None or row.offender_no in missing)
            missing -= {row.offender_no for row in unusable}
    ordered = tuple(found[offender_no] for offender_no in searched if offender_no in found)
    not_found = tuple(offender_no for offender_no in searched if offender_no in missing)
    return Chosen(ordered, not_found, failed_pages, unusable)

"""What an interrupted run has read: its population and its finished pages."""

from __future__ import annotations

import zlib
from array import array
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, delete, func, insert, select, update

from reports.engine.listing import Listing, PageFailure
from reports.engine.parallel_reader import FailedRead
from reports.reconciliations.incentives.levels import NONE, Codebook
from reports.reconciliations.incentives.snapshot import PageLevels
from sync.clock import now
from sync.store.tables import reconciliation_pages, reconciliation_runs
from sync.store.types import written_json
from sync.upstream.prisoners import PrisonerId, UnusableRow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RUNS = reconciliation_runs.c
_PAGES = reconciliation_pages.c


def save_population(connection: Connection, run_id: str, listing: Listing) -> None:
    """Records the prisoners to read."""
    content = {
        "bookings": [each.booking_id for each in listing.prisoners],
        "offenders": [each.offender_no for each in listing.prisoners],
        "total": listing.total_elements,
        "failedPages": [[each.page, each.reason] for each in listing.failed_pages],
        "repeats": listing.repeats,
        "foundAgain": listing.found_again,
        "lookedAgain": listing.looked_again,
        "notFound": list(listing.not_found),
        "unusable": [
            [each.page, each.row, each.booking_id, each.offender_no, each.reason] for each in listing.unusable
        ],
    }
    values = {"total_elements": listing.total_elements, "population": _packed(content)}
    connection.execute(update(reconciliation_runs).where(_RUNS.id == run_id).values(values))


def load_population(connection: Connection, run_id: str) -> Listing | None:
    """The prisoners to read; None before they are listed."""
    packed = connection.execute(select(_RUNS.population).where(_RUNS.id == run_id)).scalar_one()
    if packed is None:
        return None
    content = _unpacked(packed)
    prisoners = zip(content["bookings"], content["offenders"], strict=True)
    failures = tuple(PageFailure(page, reason) for page, reason in content["failedPages"])
    return Listing(
        tuple(PrisonerId(booking_id, offender_no) for booking_id, offender_no in prisoners),
        content["total"],
        failures,
        content["repeats"],
        content["foundAgain"],
        content["lookedAgain"],
        tuple(content["notFound"]),
        # Runs begun by an earlier version kept none.
        tuple(UnusableRow(*each) for each in content.get("unusable", ())),
    )


def save_page(
    connection: Connection, run_id: str, shard: int, page: PageLevels, levels: Codebook, prisons: Codebook
) -> None:
    """Records a finished page, which is not read again."""
    content = {
        "bookings": [each.booking_id for each in page.prisoners],
        "offenders": [each.offender_no for each in page.prisoners],
        "nomis": page.nomis.tolist(),
        "dps": page.dps.tolist(),
        "prisons": page.prisons.tolist(),
        "levelCodes": list(levels.texts),
        "prisonCodes": list(prisons.texts),
        "unreadable": [[booking, why.reason, why.network] for booking, why in page.failed.items()],
    }
    values = {"run_id": run_id, "shard": shard, "page": page.number, "finished_at": now(), "rows": _packed(content)}
    connection.execute(insert(reconciliation_pages), values)


def next_page(connection: Connection, run_id: str, shard: int) -> int:
    """The number of the next page of a shard."""
    query = select(func.max(_PAGES.page)).where(_PAGES.run_id == run_id, _PAGES.shard == shard)
    last = connection.execute(query).scalar()
    return 0 if last is None else last + 1


def load_pages(connection: Connection, run_id: str, levels: Codebook, prisons: Codebook) -> Iterator[PageLevels]:
    """The finished pages of a run, oldest first, in the numbers of the given codebooks."""
    query = select(_PAGES.page, _PAGES.rows).where(_PAGES.run_id == run_id)
    for number, packed in connection.execute(query.order_by(_PAGES.finished_at, _PAGES.shard, _PAGES.page)):
        content = _unpacked(packed)
        level_numbers = [*(levels.number(code) for code in content["levelCodes"]), NONE]
        prison_numbers = [*(prisons.number(code) for code in content["prisonCodes"]), NONE]
        yield PageLevels(
            number,
            [PrisonerId(*each) for each in zip(content["bookings"], content["offenders"], strict=True)],
            nomis=array("h", [level_numbers[each] for each in content["nomis"]]),
            dps=array("h", [level_numbers[each] for each in content["dps"]]),
            prisons=array("h", [prison_numbers[each] for each in content["prisons"]]),
            failed={booking: FailedRead(reason, network) for booking, reason, network in content["unreadable"]},
        )


def forget_pages(connection: Connection, run_id: str) -> None:
    """Drops the pages of a run, so that a resumed run reads everyone again."""
    connection.execute(delete(reconciliation_pages).where(_PAGES.run_id == run_id))


def _packed(content: Mapping[str, Any]) -> bytes:
    return zlib.compress(written_json(content).encode(), 1)


def _unpacked(packed: bytes) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(zlib.decompress(packed))
    return content

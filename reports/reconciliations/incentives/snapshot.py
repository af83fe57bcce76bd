"""The level of every prisoner in each system: NOMIS one by one, DPS in bulk, both side by side."""

from __future__ import annotations

import queue
import threading
from array import array
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from reports.engine.parallel_reader import OUTAGE_SECONDS, FailedRead, ParallelReader, get_with_heartbeat, retry
from reports.reconciliations.incentives.levels import NONE, Codebook, level_code, level_of_record, names_to_codes
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives.nomis import current_iep_body
from sync.failures import SyncError, UpstreamError
from sync.settings.declaration import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from concurrent.futures import Future

    from sync.upstream.prisoners import PrisonerId
    from sync.upstream.services import Services

#: Bookings of one bulk call at most.
LARGEST_BULK = 1_000
#: Bulk calls under way at once; each stands for hundreds of single ones.
BULK_AHEAD = 4
#: What the bulk call says of a level that has no name.
UNNAMED = "Unmapped"
#: The item that stands for the witness, who is on no page.
_WITNESS = -1
_WITHDRAWN = frozenset({404, 405})


@dataclass(slots=True)
class PageLevels:
    """The levels of one page of prisoners, as numbers of the codebooks (`NONE` for none).

    failed: bookings whose level could not be read, by booking id; their level numbers are meaningless.
    """

    number: int
    prisoners: Sequence[PrisonerId]
    nomis: array[int]
    dps: array[int]
    prisons: array[int]
    failed: dict[int, FailedRead] = field(default_factory=dict)


class Snapshot:
    """Reads the levels of many prisoners, page by page.

    Good for one round. `levels` and `prisons` are the codebooks.
    """

    def __init__(
        self,
        services: Services,
        page_size: int,
        outage_seconds: float = OUTAGE_SECONDS,
        tick: Callable[[str | None], None] = lambda _waits_for: None,
    ) -> None:
        """`tick` is called periodically while a page is waited for, and may raise to end the reading."""
        self.levels = Codebook()
        self.prisons = Codebook()
        self._services = services
        self._page_size = page_size
        self._outage_seconds = outage_seconds
        self._tick = tick
        self._finished: queue.SimpleQueue[PageLevels | Exception] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._bulk_withdrawn = False
        self._stopped = threading.Event()
        self._pages: list[PageLevels] = []
        self._witness = 0
        #: Each prisoner is finished when both sides are read, so a page counts down from twice its size.
        self._left: list[int] = []
        self._nomis = self._nomis_reader()
        self._dps = self._dps_reader()
        self._bulk = ThreadPoolExecutor(BULK_AHEAD, thread_name_prefix="dps-bulk")

    def trust(self, prisoner: PrisonerId) -> None:
        """Sets the witness: a prisoner who could be read, which tells a bad booking from a service that is down."""
        self._witness = prisoner.booking_id
        self._nomis.witness = self._dps.witness = _WITNESS

    def begin(self, prisoners: Sequence[PrisonerId], first_number: int = 0) -> None:
        """Begins to read these in NOMIS; `pages` continues, `stop` ends it."""
        size = self._page_size
        for start in range(0, len(prisoners), size):
            place, some = len(self._pages), prisoners[start : start + size]
            self._pages.append(_new_page(first_number + place, some))
            self._left.append(2 * len(some))
            self._nomis.add(range(place * size, place * size + len(some)))

    def pages(self, prisoners: Sequence[PrisonerId], first_number: int = 0) -> Generator[PageLevels, None, None]:
        """Reads everyone and yields each page when it is finished, in any order; numbered from `first_number`.

        Those whose reading was begun before are read once. Closing the iterator stops the reading.
        """
        try:
            begun = {each.booking_id for page in self._pages for each in page.prisoners}
            self.begin([each for each in prisoners if each.booking_id not in begun], first_number)
            self._nomis.close()
            # NOMIS is busy with the first prisoners while the names of the levels are asked for.
            names = self._names() if self._pages else {}
            bulk_calls = [self._bulk.submit(self._read_bulk, place, names) for place in range(len(self._pages))]
            self._bulk.submit(_close_after, bulk_calls, self._dps)
            for _ in self._pages:
                finished = get_with_heartbeat(self._finished, self._tick, self._nomis, self._dps)
                if isinstance(finished, Exception):
                    raise finished
                yield finished
        finally:
            self.stop()

    def stop(self) -> None:
        """Ends the reading: calls under way finish, the rest is left unread."""
        self._stopped.set()
        self._bulk.shutdown(wait=True, cancel_futures=True)
        for reader in (self._nomis, self._dps):
            reader.stop()
        for reader in (self._nomis, self._dps):
            reader.join()

    def _names(self) -> Mapping[str, str]:
        """The codes of the levels by name; none when they cannot be read, and then everyone is read singly."""
        try:
            return retry(lambda: names_to_codes(self._services[UpstreamName.INCENTIVES]), self._stopped.wait)
        except SyncError as error:
            structlog.get_logger().warning("level-names-not-read", reason=str(error))
            self._bulk_withdrawn = True
            return {}

    def _booking(self, item: int) -> int:
        if item == _WITNESS:
            return self._witness
        return self._pages[item // self._page_size].prisoners[item % self._page_size].booking_id

    def _nomis_reader(self) -> ParallelReader[int, Any]:
        client, size, pages = self._services.nomis, self._page_size, self._pages
        levels, prisons = self.levels, self.prisons

        def read(item: int) -> tuple[int, int]:
            booking_id = self._booking(item)
            body = current_iep_body(client, booking_id)
            if body is None:
                return NONE, NONE
            code, prison = level_of_record(body, booking_id)
            return levels.number(code), prisons.number(prison)

        def on_result(item: int, value: tuple[int, int] | FailedRead) -> None:
            place, within = divmod(item, size)
            page = pages[place]
            if isinstance(value, FailedRead):
                self._note_failed(page, within, value)
            else:
                page.nomis[within], page.prisons[within] = value
            self._count_down(place, 1)

        return ParallelReader("nomis", read, on_result, client.limit, self._outage_seconds)

    def _dps_reader(self) -> ParallelReader[int, Any]:
        client, size, pages = self._services[UpstreamName.INCENTIVES], self._page_size, self._pages
        levels = self.levels

        def read(item: int) -> int:
            booking_id = self._booking(item)
            summary = incentives_api.booking_summary(client, booking_id, with_details=False)
            if summary is None:
                return NONE
            return levels.number(level_code(summary.iep_code, f"incentives: GET /iep/reviews/booking/{booking_id}"))

        def on_result(item: int, value: int | FailedRead) -> None:
            place, within = divmod(item, size)
            page = pages[place]
            if isinstance(value, FailedRead):
                self._note_failed(page, within, value)
            else:
                page.dps[within] = value
            self._count_down(place, 1)

        return ParallelReader("dps", read, on_result, client.limit, self._outage_seconds)

    def _read_bulk(self, place: int, names: Mapping[str, str]) -> None:
        """Reads the DPS levels of a page in bulk; what the bulk call lacks is read one by one."""
        page = self._pages[place]
        try:
            unknown = self._bulk_levels(page, names)
        except Exception as error:  # a page must be finished somehow, or the run would wait for ever
            self._finished.put(error)
            return
        self._dps.add(place * self._page_size + within for within in unknown)
        self._count_down(place, len(page.prisoners) - len(unknown))

    def _bulk_levels(self, page: PageLevels, names: Mapping[str, str]) -> list[int]:
        """Fills in the levels; returns the places to be read singly: not in the response, or a level without a name.

        The flag that the bulk call goes by may be missing from every review of a booking.
        """
        places = {prisoner.booking_id: place for place, prisoner in enumerate(page.prisoners)}
        ids = list(places)
        unknown: list[int] = []
        for start in range(0, len(ids), LARGEST_BULK):
            chunk = ids[start : start + LARGEST_BULK]
            names_by_booking = self._bulk_call(chunk)
            for booking_id in chunk:
                name = names_by_booking.get(booking_id, UNNAMED)
                code = None if name == UNNAMED else names.get(name)
                if code is None:
                    unknown.append(places[booking_id])
                else:
                    page.dps[places[booking_id]] = self.levels.number(code)
        return unknown

    def _bulk_call(self, booking_ids: Sequence[int]) -> Mapping[int, str]:
        """One bulk call with retries; empty when the levels have to be read singly."""

        def read() -> Mapping[int, str]:
            if self._bulk_withdrawn or self._stopped.is_set():
                return {}
            return incentives_api.current_levels(self._services[UpstreamName.INCENTIVES], booking_ids)

        try:
            return retry(read, self._stopped.wait)
        except SyncError as error:
            if isinstance(error, UpstreamError) and error.status in _WITHDRAWN:
                self._bulk_withdrawn = True
            return {}

    def _note_failed(self, page: PageLevels, within: int, why: FailedRead) -> None:
        with self._lock:
            page.failed.setdefault(page.prisoners[within].booking_id, why)

    def _count_down(self, place: int, by: int) -> None:
        with self._lock:
            self._left[place] -= by
            finished = not self._left[place] and by
        if finished:
            self._finished.put(self._pages[place])


def _new_page(number: int, prisoners: Sequence[PrisonerId]) -> PageLevels:
    def unset() -> array[int]:
        return array("h", [NONE]) * len(prisoners)

    return PageLevels(number, prisoners, nomis=unset(), dps=unset(), prisons=unset())


def _close_after(bulk_calls: Sequence[Future[None]], reader: ParallelReader[int, Any]) -> None:
    """Closes the reader of single levels once all bulk calls are done."""
    for each in bulk_calls:
        each.result()
    reader.close()

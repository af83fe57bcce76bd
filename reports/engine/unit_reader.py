"""Reads the records of one unit by their ids and mappings, and keeps what could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from reports.engine.moving_lists import read_moving_list
from reports.engine.parallel_reader import FailedRead
from reports.engine.units import UnreadRecord
from sync.settings.upstreams import UpstreamName

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from reports.engine.moving_lists import ListPage
    from reports.engine.reconciliation import Reads
    from reports.engine.units import SideName, UnlistedPart
    from sync.upstream.mappings import MappingIds, Mappings
    from sync.upstream.services import Services
    from sync.upstream.transport import ServiceClient

Id = TypeVar("Id", int, str)
Item = TypeVar("Item")
Record = TypeVar("Record", bound="Hashable")
Value = TypeVar("Value")


class UnitReader:
    """Reads the records of one unit in parallel. `gaps`: the parts of lists that could not be read."""

    #: The service that has the records of DPS.
    dps: ClassVar[UpstreamName]

    def __init__(self, services: Services, reads: Reads) -> None:
        self.services = services
        self.reads = reads
        self.gaps: list[UnlistedPart] = []
        self._unread: dict[tuple[SideName, Hashable], UnreadRecord] = {}

    @property
    def unread(self) -> tuple[UnreadRecord, ...]:
        """The records that could not be read, once for each side that failed."""
        return tuple(self._unread.values())

    def each(
        self,
        side: SideName,
        read: Callable[[ServiceClient, Record], Value],
        items: Mapping[Record, Mapping[str, Any]],
        offender_no: Callable[[Record], str | None] = lambda _: None,
    ) -> dict[Record, Value]:
        """What `read` returns for each item. Items that fail are left out and become unread, under their row keys.

        read: called with the client of the side, and the item. An item that failed before and can now be read is no
        longer unread. items: the items with the keys of their rows. offender_no: the prisoner number of an item.
        """
        service = {"NOMIS": UpstreamName.NOMIS, "DPS": self.dps, "mapping": UpstreamName.MAPPING}[side]
        client = self.services[service]
        values: dict[Record, Value] = {}
        for item, value in self.reads.each(service, lambda item: read(client, item), items):
            if isinstance(value, FailedRead):
                self.add_failed(side, item, items[item], value, offender_no(item))
            else:
                self._unread.pop((side, _identity(item, items[item])), None)
                values[item] = value
        return values

    def existing(
        self,
        side: SideName,
        read: Callable[[ServiceClient, Record], Value | None],
        items: Mapping[Record, Mapping[str, Any]],
        offender_no: Callable[[Record], str | None] = lambda _: None,
    ) -> dict[Record, Value]:
        """Like `each`, without the items for which `read` returns None, since the side does not have them."""
        found = self.each(side, read, items, offender_no)
        return {item: value for item, value in found.items() if value is not None}

    def mapped(
        self,
        mappings: Mappings,
        side: Literal["NOMIS", "DPS"],
        items: Mapping[Id, Mapping[str, Any]],
        partner: Callable[[MappingIds], Value],
    ) -> dict[Id, Value | None]:
        """The id that `partner` takes from the mapping of each record, with None for a record without a mapping.

        side: the side that has the records.
        """
        find = mappings.find if side == "DPS" else mappings.find_by_nomis_ids
        found = self.each("mapping", find, items)
        return {item: None if mapping is None else partner(mappings.ids(mapping)) for item, mapping in found.items()}

    def list_whole(
        self,
        service: UpstreamName,
        read_page: Callable[[int], ListPage[Id, Item]],
        gap: Callable[[int | None, str], UnlistedPart],
    ) -> dict[Id, Item]:
        """Every item of a list that may change while it is read; raises the errors of `read_moving_list`.

        gap: makes the gap for a page from its number (None: the list changed each time) and the reason.
        """
        listed = read_moving_list(self.reads, service, read_page)
        self.gaps += [gap(number, reason) for number, reason in listed.failed.items()]
        return listed.items

    def add_failed(
        self, side: SideName, item: Hashable, key: Mapping[str, Any], why: FailedRead, offender_no: str | None = None
    ) -> None:
        """Notes an item that could not be read, with the key of its row."""
        self._unread[side, _identity(item, key)] = UnreadRecord(key, offender_no, side, why.reason, why.network)


def _identity(item: Hashable, key: Mapping[str, Any]) -> tuple[str, Hashable]:
    """An item and the last column of its key, as reads of equal ids from different columns are different reads."""
    return [*key][-1], item

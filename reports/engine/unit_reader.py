"""Reads the records of one unit by their ids and mappings, and notes what could not be read."""

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
        """The records that could not be read. A record that could not be read on two sides is listed twice."""
        return tuple(self._unread.values())

    def each(
        self,
        side: SideName,
        read: Callable[[ServiceClient, Record], Value],
        items: Mapping[Record, Mapping[str, Any]],
        offender_no: Callable[[Record], str | None] = lambda _: None,
    ) -> dict[Record, Value]:
        """The values that `read` returns, by item.

        An item that cannot be read is left out, and is among `unread` until a later call reads it. read: called with
        the client of `side` and the item. items: the key of each item's row, by item. offender_no: returns the prisoner
        number of an item, or None if the number is unknown.
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
        """Like `each`, but without the items for which `read` returns None because the side does not have them."""
        found = self.each(side, read, items, offender_no)
        return {item: value for item, value in found.items() if value is not None}

    def mapped(
        self,
        mappings: Mappings,
        side: Literal["NOMIS", "DPS"],
        items: Mapping[Id, Mapping[str, Any]],
        partner: Callable[[MappingIds], Value],
    ) -> dict[Id, Value | None]:
        """What `partner` returns for the mapping of each record, by record id; None for a record without a mapping.

        side: the side that has the records. items: the key of each record's row, by the id of the record. partner:
        called with the ids in a mapping. A record whose mapping cannot be read is left out.
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
        """Every item, by id, of a list that may change while it is read. Pages that cannot be read are added to `gaps`.

        gap: makes a gap from the number of the page (None if the list changed each time it was read) and the reason.
        Raises the same errors as `read_moving_list`.
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
    """What identifies an item among the unread ones: the name of the last column in `key`, and `item` itself.

    Equal ids in different columns identify different records.
    """
    return [*key][-1], item

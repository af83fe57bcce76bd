"""Reads of single records, for one reading of a unit, which keep what could not be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from reports.engine.parallel_reader import FailedRead
from reports.engine.units import UnreadRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from reports.engine.contract import Reads
    from reports.engine.units import SideName
    from sync.settings.declaration import UpstreamName

Item = TypeVar("Item", bound="Hashable")
Value = TypeVar("Value")


class RecordReads:
    """Reads records in parallel. `services` are those that are asked for each side."""

    def __init__(self, reads: Reads, services: Mapping[SideName, UpstreamName]) -> None:
        self._reads = reads
        self._services = services
        self._unread: dict[tuple[SideName, Hashable], UnreadRecord] = {}

    @property
    def unread(self) -> tuple[UnreadRecord, ...]:
        """The records of which a side could not be read, each side once."""
        return tuple(self._unread.values())

    def each(
        self,
        side: SideName,
        read: Callable[[Item], Value],
        items: Mapping[Item, Mapping[str, Any]],
        offender_no: Callable[[Item], str | None] = lambda _: None,
    ) -> dict[Item, Value]:
        """What `read` returns for each item, without those that fail: they are unread, by the keys of their rows.

        An item that failed before and can be read now is no longer unread. offender_no: whose record an item is.
        """
        values: dict[Item, Value] = {}
        for item, value in self._reads.each(self._services[side], read, items):
            if isinstance(value, FailedRead):
                self.add_failed(side, item, items[item], value, offender_no(item))
            else:
                self._unread.pop((side, _identity(item, items[item])), None)
                values[item] = value
        return values

    def add_failed(
        self, side: SideName, item: Hashable, key: Mapping[str, Any], why: FailedRead, offender_no: str | None = None
    ) -> None:
        """Notes an item that could not be read."""
        self._unread[side, _identity(item, key)] = UnreadRecord(key, offender_no, side, why.reason, why.network)


def _identity(item: Hashable, key: Mapping[str, Any]) -> tuple[str, Hashable]:
    """An item and the column that it stands for, the last one of its key: a read by another id is another read."""
    return [*key][-1], item

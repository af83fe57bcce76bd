"""What a reconciliation supplies: what to read and how, what counts as a difference, and why records differ.

Everything else belongs to the engine and is the same for all reconciliations: parallel reading, checkpoints, resuming,
shards, the recheck, differences in flight, exclusions, history, the trend, plausibility, the result and its reports.
"""

# ruff: noqa: ARG002, ARG003 - default methods ignore arguments that the overriding methods use

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, cast

from reports.engine.units import Population, UnreadRecord
from sync.clock import london_now
from sync.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    import pandas as pd

    from reports.engine.causes import Difference, Explanation
    from reports.engine.fields import Field
    from reports.engine.parallel_reader import FailedRead
    from reports.engine.result import Part, ReconciliationResult
    from reports.engine.telemetry import Events
    from reports.engine.units import Reading, Scope, SideName, Unit, UnlistedPart
    from sync.settings.declaration import Settings
    from sync.settings.upstreams import UpstreamName
    from sync.upstream.services import Services

Item = TypeVar("Item")
Value = TypeVar("Value")


class ServiceTooOld(SyncError):
    """A service lacks a route, so nothing can be compared: the run fails instead of reporting that both sides agree."""

    def __init__(self, service: str, method: str, path: str) -> None:
        super().__init__(
            f"{service} has no {method} {path}: it is too old for this reconciliation, or its address is wrong"
        )


class Reads(Protocol):
    """Makes a run's calls to services. It retries them, keeps within the limit of each service, and waits out outages.

    The engine reads several units at a time and shares the permitted calls to a service among them, so a reconciliation
    can make one call after another and still keep the services busy.
    """

    def each(
        self, service: UpstreamName, read: Callable[[Item], Value], items: Iterable[Item]
    ) -> list[tuple[Item, Value | FailedRead]]:
        """Calls `read` for every item in parallel.

        Returns each item, in the given order, with the value that `read` returned or a `FailedRead`. `read` may call
        other services too, but must not call this method. Raises `ServiceTooOld` if a service lacks the route of a
        call.
        """
        ...

    def one(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """Makes a single call; raises the `SyncError` of the last attempt if all attempts fail.

        If the service lacks the route, the `UpstreamError` (with `no_route`) is raised at once, so that another route
        can be tried. If that error is not caught, the run fails because the service is too old.
        """
        ...

    def page(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """Like `one`, for a page of a list. Retries for longer, because the run would miss records without the page."""
        ...

    def begin(self, unit: Unit) -> None:
        """Begins to read a unit while other units are still being listed.

        The reading is dropped if the final population does not contain the unit.
        """
        ...

    def listed(self, done: int, total: int) -> None:
        """Reports that `done` of the population's `total` records have been listed."""
        ...


class Reconciliation(ABC):
    """A comparison of NOMIS with a DPS service, constructed for one run. Several threads call its methods."""

    #: The name of its command, job, leases and files, such as `suspended-allocations`.
    name: ClassVar[str]
    #: What reports call it, such as "Suspended allocations".
    title: ClassVar[str]
    #: What is counted as compared, in the plural and in the singular, such as "bookings" and "booking".
    counted: ClassVar[str]
    counted_singular: ClassVar[str]
    #: The columns that identify a row, with their dtypes. A `date` among them (`string`, ISO) is the day of a record: a
    #: run says nothing about records of days outside its window.
    key: ClassVar[Mapping[str, str]]
    fields: ClassVar[tuple[Field, ...]]
    #: Further columns of the frame, with their dtypes: what `explain` and the evidence need.
    extra: ClassVar[Mapping[str, str]] = {}
    #: The codes of the kinds of difference, with the words that follow "the record is". The first three are those that
    #: `differing` uses below: only NOMIS has the record, only DPS has it, or both have it and it differs.
    kinds: ClassVar[Mapping[str, str]] = {
        "nomis-only": "not in DPS",
        "dps-only": "not in NOMIS",
        "different": "different",
    }
    #: The domain (`sync.domains.registry`) with the failures, creations and dead-letter messages that put a difference
    #: in flight.
    domain: ClassVar[str]
    #: The column with the DPS id of the record that the domain's events create and update, or None if there is none.
    dps_id_column: ClassVar[str | None] = None
    #: What reports call the record of each side, such as "NOMIS record" and "DPS review".
    nouns: ClassVar[Mapping[SideName, str]] = {"NOMIS": "NOMIS record", "DPS": "DPS record"}
    #: What a result says about an earlier mismatch if its record no longer exists.
    gone: ClassVar[Literal["gone", "released"]] = "gone"
    #: The reason that a result gives if an entry on the list of exclusions is no longer needed.
    exclusion_unneeded: ClassVar[str] = "both sides now agree: remove the record from the list of exclusions"
    #: Whether `explain` itself says that a message may be pending (`Difference.doubt`).
    explains_doubt: ClassVar[bool] = False
    #: The reconciliation's subclasses of the parts of a result (`reports.engine.result`), by the general class.
    parts: ClassVar[Mapping[type[Part], type[Part]]] = {}

    def __init__(self, services: Services, settings: Settings, scope: Scope) -> None:
        self.services = services
        self.settings = settings
        self.scope = scope
        #: The population of the run; empty until it has been listed.
        self.listed = Population((), None)
        #: The result of the last complete run for everyone, or None if there is none.
        self.earlier: ReconciliationResult | None = None

    @classmethod
    def result_class(cls) -> type[ReconciliationResult]:
        """The class of the reconciliation's results."""
        from reports.engine.result import ReconciliationResult

        return cast("type[ReconciliationResult]", cls.parts.get(ReconciliationResult, ReconciliationResult))

    @classmethod
    def window(cls, settings: Settings, today: date) -> tuple[date, date] | None:
        """The first and the last day that a run begun `today` covers by default, or None if there is no window."""
        return None

    @property
    def days(self) -> tuple[date, date]:
        """The first and the last day that the run covers, each from the run's scope or else from today's window.

        Raises `TypeError` for a reconciliation without a window.
        """
        window = self.window(self.settings, london_now().date())
        if window is None:
            raise TypeError(f"{self.name} has no window of days")
        return self.scope.from_date or window[0], self.scope.to_date or window[1]

    @abstractmethod
    def population(self, reads: Reads) -> Population:
        """Lists what to read. Raises `SyncError` if that is impossible."""

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """Lists the population again, and adds the units that were missed before.

        Called for a `moving` population, possibly while its units are being read, and for the population of a resumed
        run. By default, only a population with gaps or unread records is listed again.
        """
        return self.population(reads) if population.gaps or population.unread else population

    @abstractmethod
    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Reads both sides of a unit. If this method raises a `SyncError`, the whole unit is unread."""

    def unread_part(self, unit: Unit, unread: Sequence[UnreadRecord]) -> Unit | None:
        """A unit with the id of `unit` and only its `unread` records; None if the whole unit is to be read again."""
        return None

    def unread_unit(self, unit: Unit, why: FailedRead) -> Sequence[UnreadRecord]:
        """What is unread if a unit could not be read at all: by default the unit itself, with its id in `detail`."""
        return (UnreadRecord({}, None, None, why.reason, why.network, {"unit": unit.id}),)

    @abstractmethod
    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Reads the differing records in `rows` again; a record that no longer exists has no row in the reading."""

    def differing(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows that differ, with the columns `kind` (`string`) and `differs` (a tuple of field names) added.

        By default, a row differs if its record is on one side only, or if any compared field differs between the sides.
        """
        from reports.engine.compare import differing

        nomis_only, dps_only, different, *_ = self.kinds
        return differing(frame, self.fields, (nomis_only, dps_only, different))

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        """Adds to differing rows the values that take further calls, such as the prisoner number and the location.

        A column `ignored` (`string`) may be added. It gives the reason why a row must not be reported, and is NA for
        the other rows.
        """
        return rows

    def entities(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that identify the record in the domain's failures, messages and creations; empty if there are none.

        They are written like the `entity` of the domain's events in `sync/domains/<domain>/rules.py`; a creation is
        `<record>:<DPS id>`, such as `visit:bq-te-ke-ol`. By default, the only name is that of the creation for the id
        in `dps_id_column`.
        """
        from sync.domains.registry import DOMAINS

        if self.dps_id_column is None or row[self.dps_id_column] is None:
            return ()
        return (f"{DOMAINS[self.domain].record}:{row[self.dps_id_column]}",)

    def record_values(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Further values of a record in the result, for classes in `parts` that add fields."""
        return {}

    def result_values(self, frame: pd.DataFrame, gaps: Sequence[UnlistedPart]) -> Mapping[str, Any]:
        """Further values of the result, for a class in `parts` that adds fields; `frame` holds all compared records."""
        return {}

    def why_implausible(self, frame: pd.DataFrame, earlier: ReconciliationResult | None) -> str | None:
        """Why the values that were read are implausible, as a clause, or None if they are plausible.

        A run with implausible values fails. earlier: the result of the last run for everyone that did not fail, or None
        if there is none.
        """
        return None

    @abstractmethod
    def explain(self, differences: Sequence[Difference], reads: Reads) -> Sequence[Explanation | FailedRead | None]:
        """The cause and the fix of each confirmed difference, in the same order.

        An element is None if the cause is not known, and a `FailedRead` if the evidence could not be read.

        Usually returns `[found for _, found in reads.each(UpstreamName.NOMIS, self._explain, differences)]`.
        """

    @abstractmethod
    def events(self) -> Events:
        """The telemetry events of a run."""

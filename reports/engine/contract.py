"""What a reconciliation supplies: what to read, how, what counts as a difference, and why records differ.

Everything else belongs to the engine and is the same for all of them: parallel reading, checkpoints, resume, shards,
recheck, in flight, exclusions, history, trend, plausibility, the result and its reports.
"""

# ruff: noqa: ARG002, ARG003 - what a method without effect is given is for those that override it

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, cast

from reports.engine.units import Population, UnreadRecord
from sync.clock import london_now
from sync.failures import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    import pandas as pd

    from reports.engine.causes import Difference, Explanation
    from reports.engine.events import Events
    from reports.engine.fields import Field
    from reports.engine.parallel_reader import FailedRead
    from reports.engine.result import Part, ReconciliationResult
    from reports.engine.units import Reading, Scope, SideName, Unit, UnlistedPart
    from sync.settings.declaration import Settings
    from sync.settings.upstreams import UpstreamName
    from sync.upstream.services import Services

Item = TypeVar("Item")
Value = TypeVar("Value")


class ServiceTooOld(SyncError):
    """A service lacks a route, so that nothing can be compared: the run has failed, and equality is not claimed."""

    def __init__(self, service: str, method: str, path: str) -> None:
        super().__init__(
            f"{service} has no {method} {path}: it is too old for this reconciliation, or its address is wrong"
        )


class Reads(Protocol):
    """Parallel calls for a run: retried, within the limits of the services, waiting for a service that is down.

    The engine reads several units at a time and shares the calls of a service among them, so a reconciliation writes
    one call after another and still keeps the services busy.
    """

    def each(
        self, service: UpstreamName, read: Callable[[Item], Value], items: Iterable[Item]
    ) -> list[tuple[Item, Value | FailedRead]]:
        """Calls `read` for every item in parallel; returns items and values, in the order of the items.

        `read` may call other services itself, but not this method. Raises `ServiceTooOld` when the service lacks the
        route.
        """
        ...

    def one(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """A single call; raises the `SyncError` of the last attempt when it fails in the end.

        A missing route raises its `UpstreamError` (`no_route`) at once, so that another route can be tried. The engine
        ends the run as too old a service where that is not caught.
        """
        ...

    def page(self, service: UpstreamName, read: Callable[[], Value]) -> Value:
        """As `one`, for a page of a list: without it part of the population is missing, so it is retried for longer."""
        ...

    def begin(self, unit: Unit) -> None:
        """Begins to read a unit while the others are still being listed; it must be one of the population then."""
        ...

    def listed(self, done: int, total: int) -> None:
        """Reports how much of the population is listed."""
        ...


class Reconciliation(ABC):
    """One comparison of NOMIS with a DPS service, constructed for a run. Methods are called from several threads."""

    #: Command, job, lease and file names: `suspended-allocations`.
    name: ClassVar[str]
    #: What reports call it: "Suspended allocations".
    title: ClassVar[str]
    #: What is counted as compared: "bookings", "visits", "appointments".
    counted: ClassVar[str]
    #: The columns that identify a row, with their dtypes. A `date` among them (`string`, ISO) is the day of a record: a
    #: run says nothing about records of days outside its window.
    key: ClassVar[Mapping[str, str]]
    fields: ClassVar[tuple[Field, ...]]
    #: Further columns of the frame, with their dtypes: what `explain` and the evidence need.
    extra: ClassVar[Mapping[str, str]] = {}
    #: The kinds of difference, and what each says of a record, after "is" or "are". The first three are those of
    #: `differing` below: a record that only NOMIS has, that only DPS has, and that differs.
    kinds: ClassVar[Mapping[str, str]] = {
        "nomis-only": "not in DPS",
        "dps-only": "not in NOMIS",
        "different": "different",
    }
    #: The domain (`sync.domains.registry`) whose failures, creations and dead-letter messages put a difference in
    #: flight.
    domain: ClassVar[str]
    #: What reports call the record of each side: "NOMIS record", "DPS review".
    nouns: ClassVar[Mapping[SideName, str]] = {"NOMIS": "NOMIS record", "DPS": "DPS record"}
    #: How a result says that an earlier mismatch is no longer among the records: `gone`, `released`.
    gone: ClassVar[Literal["gone", "released"]] = "gone"
    #: What a result says of an entry on the list of exclusions that is no longer needed.
    exclusion_unneeded: ClassVar[str] = "both sides agree now: remove the record from the list of exclusions"
    #: Whether `explain` itself says that a message may be pending (`Difference.doubt`).
    explains_doubt: ClassVar[bool] = False
    #: Own subclasses of the parts of a result (`reports.engine.result`), by the general class.
    parts: ClassVar[Mapping[type[Part], type[Part]]] = {}

    def __init__(self, services: Services, settings: Settings, scope: Scope) -> None:
        self.services = services
        self.settings = settings
        self.scope = scope
        #: What the run reads, once that is known.
        self.listed = Population((), None)
        #: The last complete run over everyone.
        self.earlier: ReconciliationResult | None = None

    @classmethod
    def result_class(cls) -> type[ReconciliationResult]:
        """The class of its results."""
        from reports.engine.result import ReconciliationResult

        return cast("type[ReconciliationResult]", cls.parts.get(ReconciliationResult, ReconciliationResult))

    @classmethod
    def window(cls, settings: Settings, today: date) -> tuple[date, date] | None:
        """The first and the last day that a run begun `today` covers by default; None where it covers no window."""
        return None

    @property
    def days(self) -> tuple[date, date]:
        """The first and the last day that the run covers: those of its scope, else those of the window of today.

        Raises `TypeError` for a reconciliation without a window.
        """
        window = self.window(self.settings, london_now().date())
        if window is None:
            raise TypeError(f"{self.name} has no window of days")
        return self.scope.from_date or window[0], self.scope.to_date or window[1]

    @abstractmethod
    def population(self, reads: Reads) -> Population:
        """What to read. Raises `SyncError` if that cannot be found out."""

    def listed_again(self, population: Population, reads: Reads) -> Population:
        """The population of a run that is resumed, or that was `moving`: with all units known, and those missed before.

        A moving population is listed again while its units are read. By default a list with gaps is made anew.
        """
        return self.population(reads) if population.gaps or population.unread else population

    @abstractmethod
    def read(self, unit: Unit, reads: Reads) -> Reading:
        """Reads both sides of a unit. A `SyncError` means that the whole unit is unread."""

    def unread_part(self, unit: Unit, unread: Sequence[UnreadRecord]) -> Unit | None:
        """The part of a unit with the records that were unread, with the same id; None: it is read again as a whole."""
        return None

    def unread_unit(self, unit: Unit, why: FailedRead) -> Sequence[UnreadRecord]:
        """What counts as unread of a unit that was not read at all: by default the unit, in `detail` by its id."""
        return (UnreadRecord({}, None, None, why.reason, why.network, {"unit": unit.id}),)

    @abstractmethod
    def reread(self, rows: pd.DataFrame, reads: Reads) -> Reading:
        """Reads the records of these rows, which differ, again; rows that are gone are left out of the reading."""

    def differing(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows that differ, with the columns `kind` (`string`) and `differs` (a tuple of field names) added.

        By default: a record on one side only, or any compared field that is not the same on both; vectorised.
        """
        from reports.engine.compare import differing

        nomis_only, dps_only, different, *_ = self.kinds
        return differing(frame, self.fields, (nomis_only, dps_only, different))

    def describe(self, rows: pd.DataFrame, reads: Reads) -> pd.DataFrame:
        """Completes rows that differ with what costs further calls, such as the prisoner number and the location.

        A column `ignored` (`string`) may give a reason for each row that is not to be reported, NA otherwise.
        """
        return rows

    def entities(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """How failures, messages and creations of the domain name the record of this row; empty if they cannot.

        As the `entity` of its events in `sync/domains/<domain>/rules.py`; a creation is `<record>:<DPS id>`, such as
        `visit:bq-te-ke-ol`.
        """
        return ()

    def record_values(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Further values of the records in the result, where `parts` has classes with more fields."""
        return {}

    def result_values(self, frame: pd.DataFrame, gaps: Sequence[UnlistedPart]) -> Mapping[str, Any]:
        """Further values of the result, where `parts` has a class with more fields; `frame`: everything compared."""
        return {}

    def why_implausible(self, frame: pd.DataFrame, earlier: ReconciliationResult | None) -> str | None:
        """Why what was read of everyone cannot be right, so that nothing is concluded; `earlier`: the last run."""
        return None

    @abstractmethod
    def explain(self, differences: Sequence[Difference], reads: Reads) -> Sequence[Explanation | FailedRead | None]:
        """Why each confirmed difference is there and what fixes it, in the same order; None where that is not known.

        Usually `[found for _, found in reads.each(UpstreamName.NOMIS, self._explain, differences)]`.
        """

    @abstractmethod
    def events(self) -> Events:
        """The telemetry events of a run."""

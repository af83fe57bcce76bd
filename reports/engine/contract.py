"""What a reconciliation supplies: what to read, how, what counts as a difference, and why records differ.

Everything else belongs to the engine and is the same for all of them: parallel reading, checkpoints, resume, shards,
recheck, in flight, exclusions, history, trend, plausibility, the result and its reports.
"""

# ruff: noqa: ARG002, ARG003 - what a method without effect is given is for those that override it

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, cast

from sync.clock import london_now
from sync.failures import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import date

    import pandas as pd

    from reports.engine.parallel_reader import FailedRead
    from reports.engine.result import Diagnosis, EvidenceRow, Excluded, Mismatch, Part, ReconciliationResult, Unread
    from sync.settings.declaration import Settings, UpstreamName
    from sync.upstream.services import Services

SideName = Literal["NOMIS", "DPS", "mapping"]
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Field:
    """Something that is compared: the columns `nomis_<name>` and `dps_<name>` of the frame.

    label: what reports call it. dtype: the pandas dtype of both columns, one that knows NA (`Int64`, `string`,
    `category`, `datetime64[s]`). compared: false for what is only shown with a difference.
    """

    name: str
    label: str
    dtype: str
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Scope:
    """What a run covers. Empty prisons and prisoners: everyone.

    from_date, to_date: both inclusive, London days. days_chosen: whether somebody chose them; otherwise they are those
    of the window when the run began, which may have been yesterday.
    """

    prisons: tuple[str, ...] = ()
    offender_nos: tuple[str, ...] = ()
    from_date: date | None = None
    to_date: date | None = None
    days_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What is read as a whole, and is a checkpoint when it is read: a prison, a page of bookings.

    id: unique in a run and the same when the run is resumed. content: plain JSON, kept with the run. size: how many
    records it has, for the progress and for the share that could not be read; 1 where that is not known.
    """

    id: str
    content: Mapping[str, Any] = field(default_factory=dict)
    size: int = 1


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of the population that could not be listed: a page, a prison, a range of bookings.

    detail: the same as plain JSON, for events, such as the number of the page.
    """

    what: str
    reason: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnreadRecord:
    """A record, or a whole unit (`key` empty), of which one side could not be read: it is neither equal nor different.

    key: the identifying columns as far as they are known. side: None where it is not known, or both. network: no
    response came at all. detail: what else reports say of it, as plain JSON.
    """

    key: Mapping[str, Any]
    offender_no: str | None
    side: SideName | None
    reason: str
    network: bool = False
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Population:
    """What a run reads.

    total: how many the services say there are, in the things that `Reconciliation.counted` names; None where no
    service says. gaps: what could not be listed. unread: what is known not to be readable, such as an invalid row.
    moving: whether units may be missing because the list changed while it was read, so that `listed_again` is called.
    """

    units: tuple[Unit, ...]
    total: int | None
    gaps: tuple[Gap, ...] = ()
    unread: tuple[UnreadRecord, ...] = ()
    moving: bool = False
    #: What else the reconciliation wants to know of it when it is resumed or listed again, as plain JSON.
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What reading a unit gave.

    rows: a frame of `reports.engine.frame.typed`: the key columns; `prison_id` and `offender_no` (`string`) and
    `booking_id` (`Int64`), NA where unknown; `in_nomis` and `in_dps` (`boolean`); `nomis_changed_at` and
    `dps_changed_at` (`datetime64[us, UTC]`), when the record of a side was last changed, NaT where unknown;
    `nomis_<field>` and `dps_<field>` for each field, NA throughout for a side without the record; and the further
    columns that the reconciliation names in `extra`.
    """

    rows: pd.DataFrame
    unread: tuple[UnreadRecord, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """A confirmed difference, to be explained.

    row: all columns of the frame, None for NA. kind: its kind. differs: the names of the fields that differ. pending:
    the queue that holds a message of its record. given_up: why nothing sends that message back from the dead letter
    queue. doubt: why a message may be pending although nothing is known of it.
    """

    row: Mapping[str, Any]
    kind: str
    differs: tuple[str, ...]
    pending: Literal["queue", "dlq"] | None = None
    given_up: str | None = None
    doubt: str | None = None

    @property
    def given_up_text(self) -> str:
        """That a message stays on the dead letter queue, and why, as a sentence; empty where that is not so."""
        return f"Its message is not sent back from the dead letter queue: {self.given_up}." if self.given_up else ""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a difference is there, what fixes it, and the evidence.

    diagnosis: None where the cause is not known. evidence_missing: why the evidence could not be read. values:
    further values of the mismatch in the result, as for `Reconciliation.record_values`.
    """

    diagnosis: Diagnosis | None
    evidence: tuple[EvidenceRow, ...] = ()
    evidence_missing: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)


class Event(NamedTuple):
    """A telemetry event: its name and its properties, which are written as text."""

    name: str
    properties: Mapping[str, object]


class Events(ABC):
    """The telemetry events of a run, with the names and properties of the replaced service where it has them.

    The engine decides how many events of mismatches are sent. None stands for no event.
    """

    #: The event of the summary, by which the report is known in alerts.
    report: ClassVar[str]
    #: Says how many more mismatches there are than have an event each (`mismatch-count`, `not-listed`), or instead of
    #: them why there are more than is plausible (`reason`).
    more: ClassVar[str]
    #: Whether the engine limits the events of mismatches; false: each has one, however many there are.
    limited: ClassVar[bool] = True

    def requested(self, population: Population) -> Event | None:
        """A run over everyone has listed what it will read."""
        return None

    @abstractmethod
    def mismatch(self, mismatch: Mismatch) -> Event | None:
        """A confirmed difference."""

    def unread(self, unread: Unread) -> Event | None:
        """A record or a unit could not be read."""
        return None

    def gap(self, gap: Gap) -> Event | None:
        """A part of the population could not be listed."""
        return None

    def excluded(self, excluded: Excluded) -> Event | None:
        """A record on the list of exclusions was read, or not."""
        return None

    @abstractmethod
    def summary(self, result: ReconciliationResult, units: Sequence[Unit]) -> Iterable[Event]:
        """The run has ended, also if it failed; `units` are all units of its population."""

    def crashed(self) -> Event | None:
        """The run broke off without a result."""
        return None


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
    #: Whether every prison has records, so that a chosen prison without any is probably mistyped.
    in_every_prison: ClassVar[bool] = False
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

    def result_values(self, frame: pd.DataFrame, gaps: Sequence[Gap]) -> Mapping[str, Any]:
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

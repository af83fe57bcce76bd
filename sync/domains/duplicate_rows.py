"""Recognises that NOMIS has two rows where only one is allowed, and finds those that the program's telemetry names.

If two calls create such a row at the same moment, NOMIS keeps both rows, and refuses every later change to either.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from sync.alerting import SHOW_DUPLICATE, Severity
from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.store import findings
from sync.store.column_types import storable
from sync.store.findings import Finding, FindingKind, record_finding
from sync.store.tables import telemetry_events
from sync.store.telemetry import text_properties
from sync.upstream.transport import ServiceClient

_SEVERITY = Severity.SERIOUS
#: The property of a finding that lists the numbers of the rows.
CANDIDATES = "candidateIds"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind:
    """A kind of row of which NOMIS should hold only one for each key, although NOMIS does not enforce this.

    domain: the word for the domain in findings. what: the word that people use for a row.
    key: the telemetry properties that identify the one row that is allowed. number, dps: the telemetry properties with
        the number of a row and with the id of the DPS record.
    pair: a phrase for the key, with the names of the properties in braces.
    tracked_by: the telemetry events that name a row. path: a pattern for the paths of the calls that fail if there are
        two rows.
    delete: deletes a row by its number. column: the database column that holds the number of a row. statements: makes,
        from the values of the properties in `key`, the SQL that shows the rows, since no service lists them; raises
        `ValueError` for an invalid value.
    alert: the title of the alert, without the environment.
    """

    domain: str
    what: str
    key: tuple[str, ...]
    number: str
    dps: str
    pair: str
    tracked_by: tuple[str, ...]
    path: re.Pattern[str]
    delete: Callable[[ServiceClient, int], None]
    column: str
    statements: Callable[[Mapping[str, str]], tuple[str, ...]]
    alert: str

    @property
    def event_name(self) -> str:
        """The name of the telemetry event for a finding about rows of this kind."""
        return f"{self.domain}-{self.what}-non-unique"

    @property
    def key_prefix(self) -> str:
        """The prefix of the keys for findings about rows of this kind."""
        return f"non-unique:{self.what}:"


@dataclass(frozen=True, slots=True)
class DuplicateRows:
    """A key for which NOMIS has several rows; `key` maps the properties in `RowKind.key` to their values as text."""

    kind: RowKind
    key: Mapping[str, str]

    @property
    def sql(self) -> tuple[str, ...]:
        """The statements that show the rows in the NOMIS database; empty if a value of the key is invalid."""
        try:
            return self.kind.statements(self.key)
        except ValueError:
            return ()

    @property
    def finding_key(self) -> str:
        """The key of the first finding about these rows."""
        return self.kind.key_prefix + ":".join(self.key[name] for name in self.kind.key)


def recognise(kind: RowKind, error: Exception, properties: Mapping[str, object]) -> DuplicateRows | None:
    """The key for which NOMIS has several rows according to `error`.

    properties: the telemetry properties that the handler bound. Returns None if `error` means something else, or if one
    of the properties in the key is missing.
    """
    if not isinstance(error, UpstreamError) or error.service != UpstreamName.NOMIS or not error.non_unique:
        return None
    known = text_properties(properties)
    if kind.path.match(error.path) is None or any(name not in known for name in kind.key):
        return None
    return DuplicateRows(kind, {name: known[name] for name in kind.key})


def read_duplicate_rows(kind: RowKind, finding: Finding) -> DuplicateRows:
    """The key of the rows that a finding of kind `non-unique` is about."""
    return DuplicateRows(kind, {name: finding.properties[name] for name in kind.key})


def known_rows(connection: Connection, rows: DuplicateRows) -> list[int]:
    """The numbers of `rows`, as far as the program's telemetry names them, in ascending order."""
    columns, number = telemetry_events.c, rows.kind.number
    query = select(columns.properties[number].as_string()).where(columns.name.in_(rows.kind.tracked_by)).distinct()
    for name, value in rows.key.items():
        query = query.where(columns.properties[name].as_string() == storable(value))
    return sorted({int(found) for found in connection.execute(query).scalars() if found and found.isdigit()})


def free_key(connection: Connection, rows: DuplicateRows) -> str | None:
    """The key for a new finding about `rows`, or None while a finding about them is open.

    The keys of the second and later findings end with a number, since rows may be duplicated again after a repair.
    """
    key, times = rows.finding_key, 1
    while (found := findings.find(connection, key)) is not None:
        if found.status == "open":
            return None
        times += 1
        key = f"{rows.finding_key}:{times}"
    return key


def record_duplicate_rows(
    connection: Connection, key: str, kind: RowKind, properties: Mapping[str, object], rows: list[int]
) -> bool:
    """Records a finding under `key`, with its alert and with `rows`, the numbers of the known rows.

    key: a key from `free_key`. Returns False if the key is already taken.
    """
    stated = {**text_properties(properties), CANDIDATES: ", ".join(map(str, rows))}
    return record_finding(
        connection, key, FindingKind.NON_UNIQUE, kind.domain, _SEVERITY, kind.event_name, stated, SHOW_DUPLICATE
    )

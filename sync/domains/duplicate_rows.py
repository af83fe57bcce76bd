"""Two rows in NOMIS where one is allowed: recognised from its refusal, with the rows that our telemetry knows.

Two creations of such a row at the same moment make two rows; every later change of the pair fails.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from sync.alerting import SHOW_DUPLICATE, Severity
from sync.failures import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.store import findings
from sync.store.findings import Finding, FindingKind, record_finding
from sync.store.tables import telemetry_events
from sync.store.telemetry import text_properties
from sync.store.types import storable
from sync.upstream.transport import ServiceClient

_SEVERITY = Severity.SERIOUS
#: The property of a finding that lists the numbers of the rows.
CANDIDATES = "candidateIds"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowKind:
    """A kind of row of which NOMIS should hold one for each key, but does not enforce it.

    domain: the word for the domain in findings. what: what a person calls a row.
    key: the telemetry properties that identify the one row that is allowed. number, dps: the properties that have the
    number of a row and the id of the DPS record.
    pair: what the key names, in words, with the names of the properties in braces.
    tracked_by: the telemetry events that name a row. path: the path of the calls that fail if there are two rows.
    delete: deletes a row by its number. column: the column of that number. statements: the SQL that shows the rows,
        which no service lists, made from the values of `key`; raises `ValueError` for values that are not ids.
    alert: the text by which operators recognise the alert.
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
        """The telemetry event of a finding."""
        return f"{self.domain}-{self.what}-non-unique"

    @property
    def key_prefix(self) -> str:
        """How the keys of its findings begin."""
        return f"non-unique:{self.what}:"


@dataclass(frozen=True, slots=True)
class DuplicateRows:
    """A key for which NOMIS has several rows; `key` has the properties that `RowKind.key` names, as text."""

    kind: RowKind
    key: Mapping[str, str]

    @property
    def sql(self) -> tuple[str, ...]:
        """The statements that show the rows in the NOMIS database; none where a value is not an id."""
        try:
            return self.kind.statements(self.key)
        except ValueError:
            return ()

    @property
    def finding_key(self) -> str:
        """The key of its first finding."""
        return self.kind.key_prefix + ":".join(self.key[name] for name in self.kind.key)


def recognise(kind: RowKind, error: Exception, properties: Mapping[str, object]) -> DuplicateRows | None:
    """The key on which NOMIS failed, or None for any other failure; `properties` are those that the handler bound."""
    if not isinstance(error, UpstreamError) or error.service != UpstreamName.NOMIS or not error.non_unique:
        return None
    known = text_properties(properties)
    if kind.path.match(error.path) is None or any(name not in known for name in kind.key):
        return None
    return DuplicateRows(kind, {name: known[name] for name in kind.key})


def read_duplicate_rows(kind: RowKind, finding: Finding) -> DuplicateRows:
    """The key of a finding of kind `non-unique`."""
    return DuplicateRows(kind, {name: finding.properties[name] for name in kind.key})


def known_rows(connection: Connection, rows: DuplicateRows) -> list[int]:
    """The numbers of the rows that our telemetry knows, the oldest row first."""
    columns, number = telemetry_events.c, rows.kind.number
    query = select(columns.properties[number].as_string()).where(columns.name.in_(rows.kind.tracked_by)).distinct()
    for name, value in rows.key.items():
        query = query.where(columns.properties[name].as_string() == storable(value))
    return sorted({int(found) for found in connection.execute(query).scalars() if found and found.isdigit()})


def free_key(connection: Connection, rows: DuplicateRows) -> str | None:
    """The key for a new finding; None while one is open. Rows may be repaired, and duplicated again later."""
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
    """Records a finding under a `free_key`, with its alert and the known rows; False if the key is taken."""
    stated = {**text_properties(properties), CANDIDATES: ", ".join(map(str, rows))}
    return record_finding(
        connection, key, FindingKind.NON_UNIQUE, kind.domain, _SEVERITY, kind.event_name, stated, SHOW_DUPLICATE
    )

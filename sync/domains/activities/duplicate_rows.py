"""Two rows in NOMIS where there may be one: recognised from its refusal, with the rows that our own telemetry knows.

Two creations of an allocation or attendance at the same moment make two rows; every later change of the pair fails.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, select

from sync.failures import UpstreamError
from sync.proposed import SHOW_DUPLICATE
from sync.settings.declaration import UpstreamName
from sync.store.findings import Finding, FindingKind, find, record_finding
from sync.store.tables import telemetry_events
from sync.store.telemetry import text_properties
from sync.store.types import storable

What = Literal["allocation", "attendance"]

SEVERITY = "serious"
#: What tells the pair apart, by the names of telemetry properties.
PAIR: Mapping[What, tuple[str, ...]] = {
    "allocation": ("nomisCourseActivityId", "bookingId"),
    "attendance": ("nomisCourseActivityId", "bookingId", "sessionDate", "sessionStartTime", "sessionEndTime"),
}
#: The events that tell of a row, and the property that has its number.
_TOLD_BY: Mapping[What, tuple[tuple[str, ...], str]] = {
    "allocation": (("activity-allocation-success",), "nomisAllocationId"),
    "attendance": (
        ("activity-attendance-create-success", "activity-attendance-update-success"),
        "nomisAttendanceEventId",
    ),
}
_PATHS: Mapping[What, re.Pattern[str]] = {
    "allocation": re.compile(r"^/activities/\d+/allocation$"),
    "attendance": re.compile(r"^/activities/\d+/booking/\d+/attendance(-status)?$"),
}
#: The property of a finding that lists the numbers of the rows.
CANDIDATES = "candidateIds"


@dataclass(frozen=True, slots=True)
class NonUnique:
    """A pair of which NOMIS has several rows; `pair` has the properties that `PAIR` names, as text."""

    what: What
    pair: Mapping[str, str]

    @property
    def event_name(self) -> str:
        """The telemetry event of its finding."""
        return f"activity-{self.what}-non-unique"

    @property
    def key(self) -> str:
        """The key of its first finding."""
        return f"non-unique:{self.what}:{':'.join(self.pair[name] for name in PAIR[self.what])}"


def recognise(error: Exception, properties: Mapping[str, object]) -> NonUnique | None:
    """The pair NOMIS stumbled over, None for every other failure; `properties` are those that the handler bound."""
    if not isinstance(error, UpstreamError) or error.service != UpstreamName.NOMIS or not error.non_unique:
        return None
    told = text_properties(properties)
    for what, path in _PATHS.items():
        if path.match(error.path) and all(name in told for name in PAIR[what]):
            return NonUnique(what, {name: told[name] for name in PAIR[what]})
    return None


def known_rows(connection: Connection, non_unique: NonUnique) -> list[int]:
    """The numbers of the pair's rows that our telemetry knows, the oldest row first."""
    names, number = _TOLD_BY[non_unique.what]
    columns = telemetry_events.c
    query = select(columns.properties[number].as_string()).where(columns.name.in_(names)).distinct()
    for name, value in non_unique.pair.items():
        query = query.where(columns.properties[name].as_string() == storable(value))
    return sorted({int(found) for found in connection.execute(query).scalars() if found and found.isdigit()})


def free_key(connection: Connection, non_unique: NonUnique) -> str | None:
    """The key for a new finding of the pair; None while one is open. A pair may be mended and come again."""
    key, times = non_unique.key, 1
    while (found := find(connection, key)) is not None:
        if found.status == "open":
            return None
        times += 1
        key = f"{non_unique.key}:{times}"
    return key


def record_non_unique(
    connection: Connection, key: str, non_unique: NonUnique, properties: Mapping[str, object], rows: list[int]
) -> bool:
    """Records a finding under a `free_key`, with its alert and the rows that are known; False when it was there."""
    told = {**text_properties(properties), CANDIDATES: ", ".join(map(str, rows))}
    return record_finding(
        connection, key, FindingKind.NON_UNIQUE, "activity", SEVERITY, non_unique.event_name, told, SHOW_DUPLICATE
    )


def read_non_unique(finding: Finding) -> NonUnique:
    """The pair of a finding of kind `non-unique`."""
    what: What = "allocation" if finding.key.startswith("non-unique:allocation:") else "attendance"
    return NonUnique(what, {name: finding.properties[name] for name in PAIR[what]})

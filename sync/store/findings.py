"""Findings: what a person has to look at. Each is recorded once and alerted once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, select, update

from sync.clock import now
from sync.store import outbox
from sync.store.tables import findings
from sync.store.upserts import insert_into


class FindingKind(StrEnum):
    """What is wrong."""

    #: NOMIS has a record too many, or two DPS records claim one NOMIS record.
    DUPLICATE = "duplicate"
    #: Nobody can tell whether NOMIS has the record.
    AMBIGUOUS = "ambiguous"
    #: NOMIS has two rows where there may be one, and refuses all further changes of the pair.
    NON_UNIQUE = "non-unique"
    #: A message on a dead letter queue that no retry alone can heal.
    DEAD_LETTER = "dead-letter"


#: What to type first, by kind; `{id}` is the number of the finding.
_COMMANDS = {
    FindingKind.DUPLICATE: "prisoner-to-nomis duplicates show {id}",
    FindingKind.AMBIGUOUS: "prisoner-to-nomis creations list",
    FindingKind.NON_UNIQUE: "prisoner-to-nomis duplicates show {id}",
    FindingKind.DEAD_LETTER: "prisoner-to-nomis dlq list",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of `findings`. `status` is `open` or `resolved`; `properties` are those of the telemetry event."""

    id: int
    key: str
    kind: FindingKind
    domain: str
    severity: str
    event_name: str
    properties: Mapping[str, str]
    status: str
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


def record_finding(
    connection: Connection,
    key: str,
    kind: FindingKind | str,
    domain: str,
    severity: str,
    event_name: str,
    properties: Mapping[str, str],
    alert: bool,
    command: str | None = None,
) -> bool:
    """Records a finding and, with `alert`, its alert, in the transaction of `connection`. False when `key` is known.

    `command` is what the alert proposes to type, where it is not the usual one of the kind; `{id}` in it becomes the
    number of the finding.
    """
    kind = FindingKind(kind)
    moment = now()
    values = {
        "key": key,
        "kind": kind,
        "domain": domain,
        "severity": severity,
        "event_name": event_name,
        "properties": dict(properties),
        "status": "open",
        "created_at": moment,
    }
    statement = (
        insert_into(connection.dialect.name, findings).values(values).on_conflict_do_nothing().returning(findings.c.id)
    )
    finding_id = connection.execute(statement).scalar()
    if finding_id is None:
        return False
    if alert:
        payload = {
            "kind": "alert",
            "event": event_name,
            "time": moment.isoformat(timespec="milliseconds"),
            "properties": dict(properties),
            "domain": domain,
            "severity": severity,
            "command": (command or _COMMANDS[kind]).replace("{id}", str(finding_id)),
        }
        outbox.enqueue(connection, f"finding:{finding_id}", "slack", payload)
    return True


def list_findings(
    connection: Connection, status: str | None = "open", kind: FindingKind | None = None, domain: str | None = None
) -> list[Finding]:
    """The findings, newest first; `status` None lists resolved ones too."""
    query = select(findings).order_by(findings.c.id.desc())
    for column, value in ((findings.c.status, status), (findings.c.kind, kind), (findings.c.domain, domain)):
        if value is not None:
            query = query.where(column == value)
    return [_finding(row) for row in connection.execute(query)]


def get(connection: Connection, finding_id: int) -> Finding | None:
    """The finding with this number, None when there is none."""
    row = connection.execute(select(findings).where(findings.c.id == finding_id)).one_or_none()
    return None if row is None else _finding(row)


def find(connection: Connection, key: str) -> Finding | None:
    """The finding with this key, None when there is none."""
    row = connection.execute(select(findings).where(findings.c.key == key)).one_or_none()
    return None if row is None else _finding(row)


def resolve(connection: Connection, finding_id: int, who: str, resolution: str) -> bool:
    """Closes a finding; False when it is not open."""
    statement = update(findings).where(findings.c.id == finding_id, findings.c.status == "open")
    values = {"status": "resolved", "resolved_at": now(), "resolved_by": who, "resolution": resolution}
    return connection.execute(statement.values(values)).rowcount == 1


def reopen(connection: Connection, key: str) -> bool:
    """Opens a resolved finding again; False when there is none of this key."""
    values = {"status": "open", "resolved_at": None, "resolved_by": None, "resolution": None}
    return connection.execute(update(findings).where(findings.c.key == key).values(values)).rowcount == 1


def _finding(row: Row[Any]) -> Finding:
    values = dict(row._mapping)
    return Finding(**values | {"kind": FindingKind(values["kind"])})

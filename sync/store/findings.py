"""Findings: problems that a person has to resolve. Each is recorded once and causes at most one alert.

A dead-letter message that housekeeping has given up on is also a finding, until a person redrives or removes it, or SQS
deletes it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, select, update

from sync.alerting import Severity
from sync.clock import now
from sync.store import outbox
from sync.store.tables import findings, insert_into


class FindingKind(StrEnum):
    """The kinds of finding."""

    #: NOMIS has one record too many, or two DPS records claim one NOMIS record.
    DUPLICATE = "duplicate"
    #: It is unknown whether NOMIS has the record.
    AMBIGUOUS = "ambiguous"
    #: NOMIS has two rows where only one is allowed, and rejects all further changes to them.
    NON_UNIQUE = "non-unique"
    #: A message on a dead letter queue that a retry alone cannot fix.
    DEAD_LETTER = "dead-letter"


#: The telemetry event about a message that housekeeping has given up on.
GIVEN_UP_EVENT = "dead-letter-given-up"
_GIVEN_UP_SEVERITY = Severity.MEDIUM


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `status` is `open` or `resolved`; `properties` are those of its telemetry event."""

    id: int
    key: str
    kind: FindingKind
    domain: str
    severity: Severity
    event_name: str
    properties: Mapping[str, str]
    status: str
    created_at: datetime
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: str | None


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A message to give up on after `redrives` redrives. `key` stays the same when the message is sent back."""

    queue: str
    key: str
    redrives: int
    properties: Mapping[str, str]


def record_finding(
    connection: Connection,
    key: str,
    kind: FindingKind | str,
    domain: str,
    severity: Severity,
    event_name: str,
    properties: Mapping[str, str],
    alert_command: str | None,
) -> bool:
    """Records a finding and its alert in the transaction of `connection`.

    Returns False if there is already a finding with `key`. `alert_command` is the command that the alert proposes;
    `{id}` in it stands for the number of the finding. If `alert_command` is None, there is no alert.
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
    if alert_command is not None:
        payload = {
            "kind": "alert",
            "event": event_name,
            "time": moment.isoformat(timespec="milliseconds"),
            "properties": dict(properties),
            "domain": domain,
            "severity": severity,
            "command": alert_command.replace("{id}", str(finding_id)),
        }
        outbox.enqueue(connection, f"finding:{finding_id}", "slack", payload)
    return True


def list_findings(
    connection: Connection, status: str | None = "open", kind: FindingKind | None = None, domain: str | None = None
) -> list[Finding]:
    """The findings with `status`, `kind` and `domain`, newest first. None stands for any value."""
    query = select(findings).order_by(findings.c.id.desc())
    for column, value in ((findings.c.status, status), (findings.c.kind, kind), (findings.c.domain, domain)):
        if value is not None:
            query = query.where(column == value)
    return [_finding(row) for row in connection.execute(query)]


@dataclass(frozen=True, slots=True)
class OpenFindings:
    """The number of open findings of one kind and severity, and the time of the oldest."""

    kind: FindingKind
    severity: Severity
    number: int
    oldest: datetime


def count_open(connection: Connection) -> list[OpenFindings]:
    """Counts the open findings by kind and severity, most serious first."""
    kind, severity = findings.c.kind, findings.c.severity
    query = select(kind, severity, func.count(), func.min(findings.c.created_at)).where(findings.c.status == "open")
    found: dict[tuple[Severity, FindingKind], OpenFindings] = {}
    for of_kind, stored, number, oldest in connection.execute(query.group_by(kind, severity)).tuples():
        # Earlier versions stored different words for the same level.
        key = Severity(stored), FindingKind(of_kind)
        known = found.get(key) or OpenFindings(key[1], key[0], 0, oldest)
        found[key] = OpenFindings(key[1], key[0], known.number + number, min(known.oldest, oldest))
    levels = list(Severity)
    return [found[key] for key in sorted(found, key=lambda key: (levels.index(key[0]), key[1]))]


def get(connection: Connection, finding_id: int) -> Finding | None:
    """The finding with the id `finding_id`, or None if there is no such finding."""
    row = connection.execute(select(findings).where(findings.c.id == finding_id)).one_or_none()
    return None if row is None else _finding(row)


def find(connection: Connection, key: str) -> Finding | None:
    """The finding with `key`, or None if there is no such finding."""
    row = connection.execute(select(findings).where(findings.c.key == key)).one_or_none()
    return None if row is None else _finding(row)


def resolve(connection: Connection, finding_id: int, who: str, resolution: str) -> bool:
    """Resolves a finding. Returns False if it is not open."""
    return _resolve(connection, findings.c.id == finding_id, who, resolution) == 1


def reopen(connection: Connection, key: str) -> bool:
    """Reopens the finding with `key` if it was resolved. Returns False if there is no such finding."""
    values = {"status": "open", "resolved_at": None, "resolved_by": None, "resolution": None}
    return connection.execute(update(findings).where(findings.c.key == key).values(values)).rowcount == 1


def record_given_up(connection: Connection, message: GivenUp, alert_command: str | None) -> bool:
    """Records a finding about a message that is given up on, with an alert if `alert_command` is not None.

    Returns False if the finding is already recorded. A message that a person has sent back and that has failed again
    gets a new finding.
    """
    key = f"{_given_up_prefix(message.queue)}{message.key}:{message.redrives}"
    kind, severity = FindingKind.DEAD_LETTER, _GIVEN_UP_SEVERITY
    return record_finding(
        connection, key, kind, message.queue, severity, GIVEN_UP_EVENT, message.properties, alert_command
    )


def given_up_messages(connection: Connection, queue: str) -> dict[str, Finding]:
    """The open findings about messages of `queue` that were given up on, by the key of the message."""
    found = list_findings(connection, kind=FindingKind.DEAD_LETTER, domain=queue)
    return {each.key.removeprefix(_given_up_prefix(queue)).rpartition(":")[0]: each for each in found}


def resolve_given_up(connection: Connection, queue: str, keys: Collection[str], who: str, resolution: str) -> None:
    """Resolves the findings about messages of `queue` that a person sends back or removes, by their `keys`."""
    known = given_up_messages(connection, queue)
    numbers = [known[key].id for key in keys if key in known]
    if numbers:
        _resolve(connection, findings.c.id.in_(numbers), who, resolution)


def resolve_expired(connection: Connection, before: datetime) -> None:
    """Resolves the findings about messages given up on before `before` (an aware time), which SQS has since deleted."""
    expired = (findings.c.kind == FindingKind.DEAD_LETTER.value) & (findings.c.created_at < before)
    _resolve(connection, expired, "housekeeping", "SQS no longer keeps the message")


def _resolve(connection: Connection, which: ColumnElement[bool], who: str, resolution: str) -> int:
    values = {"status": "resolved", "resolved_at": now(), "resolved_by": who, "resolution": resolution}
    return connection.execute(update(findings).where(findings.c.status == "open", which).values(values)).rowcount


def _given_up_prefix(queue: str) -> str:
    return f"dead-letter:{queue}:"


def _finding(row: Row[Any]) -> Finding:
    values = dict(row._mapping)
    return Finding(**values | {"kind": FindingKind(values["kind"]), "severity": Severity(values["severity"])})

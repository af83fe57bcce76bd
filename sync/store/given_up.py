"""Dead letters that the housekeeping has given up: each is an open finding until a person takes its message up."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, update

from sync.clock import now
from sync.store.findings import Finding, FindingKind, list_findings, record_finding
from sync.store.tables import findings

EVENT = "dead-letter-given-up"
_SEVERITY = "medium"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A message to give up. `key` is what stays the same when it is sent back; `returns` counts how often it was."""

    queue: str
    key: str
    returns: int
    properties: Mapping[str, str]


def record_given_up(connection: Connection, letter: GivenUp, *, alert: bool, command: str) -> bool:
    """Records the finding of a message, with its alert where wanted; False when it was recorded before.

    A message that was sent back by a person since, and failed again, has a finding of its own.
    """
    key = f"{_prefix(letter.queue)}{letter.key}:{letter.returns}"
    return record_finding(
        connection,
        key,
        FindingKind.DEAD_LETTER,
        letter.queue,
        _SEVERITY,
        EVENT,
        letter.properties,
        alert=alert,
        command=command,
    )


def given_up(connection: Connection, queue: str) -> dict[str, Finding]:
    """The messages of `queue` that are given up, by their keys, with their findings."""
    found = list_findings(connection, kind=FindingKind.DEAD_LETTER, domain=queue)
    return {each.key.removeprefix(_prefix(queue)).rpartition(":")[0]: each for each in found}


def take_up(connection: Connection, queue: str, keys: Collection[str], who: str, resolution: str) -> None:
    """Closes the findings of messages that a person sends back or removes."""
    known = given_up(connection, queue)
    numbers = [known[key].id for key in keys if key in known]
    if numbers:
        _resolve(connection, findings.c.id.in_(numbers), who, resolution)


def close_old(connection: Connection, before: datetime) -> None:
    """Closes findings that were recorded before `before` (aware), when SQS keeps their messages no longer."""
    old = (findings.c.kind == FindingKind.DEAD_LETTER.value) & (findings.c.created_at < before)
    _resolve(connection, old, "housekeeping", "SQS does not keep the message any longer")


def _resolve(connection: Connection, which: ColumnElement[bool], who: str, resolution: str) -> None:
    values = {"status": "resolved", "resolved_at": now(), "resolved_by": who, "resolution": resolution}
    connection.execute(update(findings).where(findings.c.status == "open", which).values(values))


def _prefix(queue: str) -> str:
    return f"dead-letter:{queue}:"

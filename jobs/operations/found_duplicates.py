"""Describes and records the finding about a *copy*: a duplicate that a reconciliation found, and no event reported."""

from jobs.errors import UsageError
from jobs.operations.duplicates import NOT_RECORDED
from jobs.runtime.application import Application
from sync import clock
from sync.creation.conflicts import Conflict
from sync.creation.store import duplicate_event, duplicate_key
from sync.domains.registry import DOMAINS, domain_of_record
from sync.store import findings
from sync.store.findings import Finding, FindingKind


def copy_kinds() -> tuple[str, ...]:
    """The kinds of records of which `duplicates remove` can remove a single one.

    NOMIS identifies such a record by one number, which a person can type, and can show it, so that it can be proved to
    be a duplicate.
    """
    return tuple(
        domain.record for domain in DOMAINS.values() if len(domain.mappings.nomis) == 1 and domain.repair.readable
    )


def describe_copy(application: Application, kind: str, copy: int, original: int) -> Finding:
    """The open finding about the NOMIS record `copy` as a duplicate of `original`.

    If there is no such finding, returns one that is not recorded and has no number. Raises `UsageError` if `kind` is
    not one of `copy_kinds()`, if both numbers are equal, or if `original` is not mapped, and `SyncError`.
    """
    if kind not in copy_kinds():
        raise UsageError(f"{kind!r} is not a kind of record that can be named here: choose {' or '.join(copy_kinds())}")
    if copy == original:
        raise UsageError(f"{kind} {copy} cannot be a duplicate of itself: give two different numbers")
    creation = domain_of_record(kind).creation
    mappings = creation.mappings
    existing = mappings.find_by_nomis_ids(application.services.mapping, original)
    if existing is None:
        raise UsageError(f"{kind} {original} is not mapped, so nothing shows which DPS record {kind} {copy} belongs to")
    duplicate = {mappings.dps: existing[mappings.dps], mappings.nomis[0]: copy}
    key = duplicate_key(creation, duplicate)
    with application.database.read() as connection:
        recorded = findings.find(connection, key)
    if recorded is not None and recorded.status == "open":
        return recorded
    return Finding(
        id=NOT_RECORDED,
        key=key,
        kind=FindingKind.DUPLICATE,
        domain=kind,
        severity=creation.severity,
        event_name=duplicate_event(creation),
        properties=Conflict(existing, duplicate).properties(),
        status="open",
        created_at=clock.now(),
        resolved_at=None,
        resolved_by=None,
        resolution=None,
    )


def record_copy(application: Application, described: Finding) -> Finding:
    """Records the finding `described`, or reopens it if it was resolved. Sends no alert.

    Returns the finding with its number.
    """
    with application.database.begin() as connection:
        findings.record_finding(
            connection,
            described.key,
            described.kind,
            described.domain,
            described.severity,
            described.event_name,
            described.properties,
            alert_command=None,
        )
        findings.reopen(connection, described.key)
        recorded = findings.find(connection, described.key)
    assert recorded is not None
    return recorded

"""Copies: NOMIS records without a mapping that are the double of a mapped one, as a reconciliation finds them."""

from jobs.errors import UsageError
from jobs.runtime.application import Application
from sync.clock import now
from sync.creation.conflicts import Conflict
from sync.creation.store import duplicate_event, duplicate_key
from sync.domains.registry import DOMAINS, domain_of_record
from sync.store import findings
from sync.store.findings import Finding, FindingKind


def kinds() -> tuple[str, ...]:
    """The records that have one number in NOMIS, by which a person can name them."""
    return tuple(domain.record for domain in DOMAINS.values() if len(domain.mappings.nomis) == 1)


def describe_copy(application: Application, kind: str, copy: int, original: int) -> Finding:
    """A finding about the NOMIS record `copy` as the double of `original`; it is not recorded and has no number.

    Raises `UsageError` for a kind that is not one of `kinds()` and for an original without a mapping, and `SyncError`.
    """
    if kind not in kinds():
        raise UsageError(f"{kind!r} is not a kind of record with one number in NOMIS: {', '.join(kinds())}")
    creation = domain_of_record(kind).creation
    mappings = creation.mappings
    existing = mappings.find_by_nomis_ids(application.services.mapping, original)
    if existing is None:
        raise UsageError(f"{kind} {original} is not mapped, so nothing shows whose double {kind} {copy} is")
    duplicate = {mappings.dps: existing[mappings.dps], mappings.nomis[0]: copy}
    return Finding(
        id=0,
        key=duplicate_key(creation, duplicate),
        kind=FindingKind.DUPLICATE,
        domain=kind,
        severity=creation.severity,
        event_name=duplicate_event(creation),
        properties=Conflict(existing, duplicate).properties(),
        status="open",
        created_at=now(),
        resolved_at=None,
        resolved_by=None,
        resolution=None,
    )


def record_copy(application: Application, described: Finding) -> Finding:
    """The finding with its number: recorded now, opened again, or known already. Nobody is alerted."""
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

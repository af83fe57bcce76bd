"""Compares every operation that the program calls on one service with the document that the service publishes.

The last findings about each service are kept in the database, so that an alert is sent only if the findings have
changed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, select

from sync.clock import now
from sync.contracts.compare import DriftLevel, OperationDifference, compare
from sync.contracts.document import Document
from sync.contracts.known_faults import known_reason
from sync.domains.registry import mapped_values
from sync.settings.upstreams import UpstreamName
from sync.store.tables import contract_checks, insert_into
from sync.upstream.operation import Operation


@dataclass(frozen=True, slots=True, order=True)
class ContractFinding:
    """What a check found: a difference, a problem that a probe showed, or the reason why a document cannot be read.

    level: how serious the finding is. kind: its kind, for programs, such as `field-gone`. field: the field, parameter
    or status that it is about, or empty. text: the finding in words. operations: the operations that it is about, such
    as `GET /visits/{visitId}`.
    """

    level: DriftLevel
    kind: str
    field: str
    text: str
    operations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownDifference:
    """A difference that does not count as drift, and the reason why it does not."""

    finding: ContractFinding
    reason: str


@dataclass(frozen=True, slots=True)
class ServiceResult:
    """The result for one service. version: the version of its document. compared: the number of operations compared."""

    service: UpstreamName
    version: str
    compared: int
    findings: tuple[ContractFinding, ...]
    known: tuple[KnownDifference, ...] = ()


def check_service(service: UpstreamName, raw: object, operations: Iterable[Operation[Any]]) -> ServiceResult:
    """Compares the operations of `service` with its document, `raw` (decoded JSON).

    Operations of other services are ignored. Raises `ValueError` if `raw` is not an OpenAPI document.
    """
    document = Document(raw)
    called = [each for each in operations if each.service is service]
    # The client certainly has these roles. A call works if the service accepts any of these roles, even if the program
    # declares a different role for the operation.
    roles = frozenset(each.role for each in called if each.role is not None and not each.since and not each.until)
    mapped = mapped_values()
    found = {each for operation in called for each in compare(operation, document, roles, mapped, called)}
    drift, known = [], []
    for difference in sorted(found):
        reason = known_reason(service, document.month, difference)
        if reason is None:
            drift.append(difference)
        else:
            known.append(KnownDifference(_finding(difference), reason))
    compared = len({(each.method, each.path) for each in called})
    return ServiceResult(service, document.version, compared, _merged(drift), tuple(known))


def _finding(difference: OperationDifference) -> ContractFinding:
    return ContractFinding(
        difference.level, difference.kind, difference.field, difference.text, (difference.operation,)
    )


def _merged(differences: Iterable[OperationDifference]) -> tuple[ContractFinding, ...]:
    """The findings, most serious first. Operations with the same difference in role or page size share one finding."""
    merged: dict[ContractFinding, tuple[str, ...]] = {}
    for each in differences:
        alike = replace(_finding(each), operations=())
        # Two operations may lose a field for different reasons, but a role or a page size differs for one reason.
        key = alike if each.kind in ("role", "page-size") else _finding(each)
        merged[key] = (*merged.get(key, ()), each.operation)
    order = list(DriftLevel)
    found = (replace(finding, operations=operations) for finding, operations in merged.items())
    return tuple(sorted(found, key=lambda each: (order.index(each.level), each.kind, each.operations, each.field)))


def last_findings(connection: Connection) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The recorded findings, by service. Each finding has the fields of `ContractFinding`."""
    rows = connection.execute(select(contract_checks.c.service, contract_checks.c.findings))
    return {row.service: row.findings for row in rows}


def record_findings(connection: Connection, service: str, version: str, findings: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the recorded findings about `service`. `version` is the version of the service's document."""
    values = {"version": version, "findings": list(findings), "checked_at": now()}
    statement = insert_into(connection.dialect.name, contract_checks).values(service=service, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["service"], set_=values))

"""The last comparison of each upstream service with what the program relies on."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from sync.clock import now
from sync.store.tables import contract_checks, insert_into


def last_findings(connection: Connection) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """What the last check of each service found, by service."""
    rows = connection.execute(select(contract_checks.c.service, contract_checks.c.findings))
    return {row.service: row.findings for row in rows}


def record(connection: Connection, service: str, version: str, findings: Sequence[Mapping[str, Any]]) -> None:
    """Replaces the result of the last check of the service."""
    values = {"version": version, "findings": list(findings), "checked_at": now()}
    statement = insert_into(connection.dialect.name, contract_checks).values(service=service, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["service"], set_=values))

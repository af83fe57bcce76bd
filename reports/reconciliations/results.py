"""Loads stored results, each with the result class of its reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from reports.engine.result import ReconciliationResult
from reports.engine.runs import result_text
from reports.reconciliations.registry import RECONCILIATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from reports.engine.runs import EndedRun


class _Name(BaseModel):
    #: Results of versions that had only the incentive reconciliation do not name it.
    reconciliation: str = "incentives"


def parse_result(text: str | bytes) -> ReconciliationResult:
    """The result that `text` contains as JSON. Raises `pydantic.ValidationError` if it is not a valid result."""
    entry = RECONCILIATIONS.get(_Name.model_validate_json(text).reconciliation)
    of = ReconciliationResult if entry is None else entry.load_result()
    return of.model_validate_json(text)


def load_result(connection: Connection, run_id: str) -> ReconciliationResult | None:
    """The result of a run of any reconciliation, or None if the run has no result yet or is unknown."""
    text = result_text(connection, run_id)
    return None if text is None else parse_result(text)


def newest_results(connection: Connection, ended: Iterable[EndedRun]) -> dict[str, ReconciliationResult]:
    """The result of each reconciliation's newest run for everyone, by run id; runs without a result are left out.

    ended: runs that have ended, newest first.
    """
    newest: dict[str, str] = {}
    for run in ended:
        if run.covers_everyone:
            newest.setdefault(run.reconciliation, run.run_id)
    found = {run_id: load_result(connection, run_id) for run_id in newest.values()}
    return {run_id: result for run_id, result in found.items() if result is not None}

"""Stored results, loaded as the class of their reconciliation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel

from reports.engine.result import ReconciliationResult
from reports.reconciliations.incentives.result import NAME, IncentiveResult

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The reconciliations whose results hold more than the general ones, by name.
CLASSES: Mapping[str, type[ReconciliationResult]] = {NAME: IncentiveResult}


class _Name(BaseModel):
    #: Results of versions that had the incentive reconciliation alone do not name it.
    reconciliation: str = NAME


def parse_result(text: str | bytes) -> ReconciliationResult:
    """A result from its JSON, also one that an earlier version stored; raises `pydantic.ValidationError`."""
    name = _Name.model_validate_json(text).reconciliation
    return CLASSES.get(name, ReconciliationResult).model_validate_json(text)

"""Stored results, loaded as the class of their reconciliation; those of earlier versions too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from reports.engine.result import ReconciliationResult
from reports.reconciliations.incentives.result import COUNTED, NAME, TITLE, IncentiveResult
from reports.reconciliations.visits.result import NAME as VISITS
from reports.reconciliations.visits.result import VisitResult

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The reconciliations whose results hold more than the general ones, by name.
CLASSES: Mapping[str, type[ReconciliationResult]] = {NAME: IncentiveResult, VISITS: VisitResult}


class _Name(BaseModel):
    #: Results of versions that had the incentive reconciliation alone do not name it.
    reconciliation: str = NAME


def parse_result(text: str | bytes) -> ReconciliationResult:
    """A result from its JSON; raises `pydantic.ValidationError`."""
    name = _Name.model_validate_json(text).reconciliation
    return CLASSES.get(name, ReconciliationResult).model_validate_json(text)


def completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A result as parsed JSON, with the fields that every result has but those of earlier versions lack."""
    of_earlier_versions = {"reconciliation": NAME, "title": TITLE, "counted": COUNTED, "suspicious": None}
    return {**of_earlier_versions, "gaps": content.get("unreadPages", []), **content}

"""The OpenAPI documents of the services, as they were in a given month.

The documents say what the real services offered. The sandbox also serves some endpoints that the real services had
already removed by then, because the program still needs them.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Final

from sandbox.documents import dps, hmpps, nomis
from sandbox.documents.notation import Endpoint, document

#: The endpoints of each service that has a document. The activities API also serves appointments.
ENDPOINTS: Final[dict[str, tuple[Endpoint, ...]]] = {
    "nomis": nomis.ENDPOINTS,
    "mapping": hmpps.MAPPING,
    "visits": dps.VISITS,
    "incentives": dps.INCENTIVES,
    "activities": dps.ACTIVITIES,
    "appointments": dps.ACTIVITIES,
    "adjustments": dps.ADJUSTMENTS,
    "prisoner-search": hmpps.PRISONER_SEARCH,
}
#: The month from which a service's document is in OpenAPI 3.1.
_NEWER_FORM: Final = {"activities": "2025-01", "appointments": "2025-01"}
_TODAY: Final = "9999"


def document_of(service: str, month: str, today: date) -> dict[str, Any] | None:
    """Returns the document of a service as it was in a given month, or None if the service has no document."""
    if service not in ENDPOINTS:
        return None
    built = today.isoformat() if month.startswith(_TODAY) else f"{month}-15"
    newer = month >= _NEWER_FORM.get(service, _TODAY + "-99")
    return document(service, ENDPOINTS[service], month, built, "3.1.0" if newer else "3.0.1")

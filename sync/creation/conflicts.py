"""Saves a mapping.

If the mapping service refuses the mapping, this module finds out whether the service had already saved it, or has a
different mapping that conflicts with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sync.creation.creation import Creation, Json
from sync.errors import NotUnderstood, SyncError, UpstreamError
from sync.store.telemetry import as_text
from sync.upstream.services import Services

_CONFLICT = 409
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Conflict:
    """The mapping service refused `duplicate` because of `existing`, which is None if it could not be found."""

    existing: Json | None
    duplicate: Json

    def properties(self) -> dict[str, str]:
        """The telemetry properties for the fields of both mappings, with names such as `existingNomisId`.

        Values are text; a null value becomes the text `null`.
        """
        found: dict[str, str] = {}
        for prefix, mapping in (("duplicate", self.duplicate), ("existing", self.existing or {})):
            for name, value in mapping.items():
                found[prefix + name[:1].upper() + name[1:]] = "null" if value is None else as_text(value)
        return found


def save_mapping(creation: Creation, dps_id: str, mapping: Json, services: Services) -> Conflict | None:
    """Saves the mapping of a DPS record. Returns a conflict if a different mapping has one of the same ids, else None.

    If the service refuses the mapping because it already has the same mapping, the refusal counts as a success: the
    mapping was saved before, and only the response was lost. A response that is not understood also counts as a success
    if the service has the mapping afterwards. Raises `SyncError` for any other failure.
    """
    try:
        creation.mappings.post(services.mapping, mapping)
    except NotUnderstood:
        saved = creation.mappings.find(services.mapping, dps_id)
        if saved is None or not creation.same_records(saved, mapping):
            raise
    except UpstreamError as error:
        conflict = _conflict(creation, dps_id, mapping, error, services)
        if conflict is None:
            raise
        if conflict.existing is None or not creation.same_records(conflict.existing, mapping):
            return conflict
    return None


def _conflict(
    creation: Creation, dps_id: str, mapping: Json, error: UpstreamError, services: Services
) -> Conflict | None:
    """The conflict that caused the refusal `error`, or None if there is no conflict or a look-up fails."""
    posted = {name: value for name, value in mapping.items() if value is not None}
    pair = error.more_info if isinstance(error.more_info, Mapping) else {}
    try:
        if error.conflict or (error.status == _CONFLICT and pair):
            # If two processes save mappings at the same time, the service does not say which mapping it has.
            existing = _related(creation, posted, pair.get("existing"))
            existing = existing or creation.mappings.find(services.mapping, dps_id)
            return Conflict(existing, _related(creation, posted, pair.get("duplicate")) or posted)
        if error.status == _BAD_REQUEST and error.from_service:
            existing = creation.find_conflicting(mapping, services)
            return None if existing is None else Conflict(existing, posted)
    except SyncError:
        # The mapping retry tries again later.
        return None
    return None


def _related(creation: Creation, posted: Json, value: object) -> Json | None:
    """`value` if it is a mapping with the same id fields as `posted` and at least one of its ids, otherwise None."""
    if not isinstance(value, Mapping):
        return None
    own, other = creation.ids_in(posted), creation.ids_in(value)
    return value if own.keys() == other.keys() and own.items() & other.items() else None

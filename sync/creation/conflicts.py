"""What it means when the mapping service refuses a pair: ours after all, or a conflict and with which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.creation.creation import Creation
from sync.failures import NotUnderstood, SyncError, UpstreamError
from sync.store.telemetry import as_text
from sync.upstream.services import Services

_CONFLICT = 409
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Conflict:
    """The mapping service holds another pair: `existing` (None where it does not say which), against `duplicate`."""

    existing: Mapping[str, Any] | None
    duplicate: Mapping[str, Any]

    def properties(self) -> dict[str, str]:
        """`existing…` and `duplicate…` for each field, as text, null as `null`."""
        found: dict[str, str] = {}
        for prefix, mapping in (("duplicate", self.duplicate), ("existing", self.existing or {})):
            for name, value in mapping.items():
                found[prefix + name[:1].upper() + name[1:]] = "null" if value is None else as_text(value)
        return found


def post_mapping(creation: Creation, dps_id: str, mapping: Mapping[str, Any], services: Services) -> Conflict | None:
    """Saves the mapping of a DPS record; the conflict when another pair with one of its ids is there.

    A refusal because the very same pair exists is none: it was saved, and only the answer was lost. Raises `SyncError`
    for everything else.
    """
    try:
        creation.post_mapping(mapping, services)
    except NotUnderstood:
        saved = creation.find_mapping(dps_id, services)
        if saved is None or not creation.same_records(saved, mapping):
            raise
    except UpstreamError as error:
        conflict = _conflict(creation, dps_id, mapping, error, services)
        if conflict is None:
            raise
        same = conflict.existing is not None and creation.same_records(conflict.existing, mapping)
        return None if same else conflict
    return None


def _conflict(
    creation: Creation, dps_id: str, mapping: Mapping[str, Any], error: UpstreamError, services: Services
) -> Conflict | None:
    posted = {name: value for name, value in mapping.items() if value is not None}
    try:
        told = error.more_info if isinstance(error.more_info, Mapping) else {}
        if error.conflict or (error.status == _CONFLICT and told):
            # When two saves raced, the service does not say which pair it has.
            existing = _akin(creation, posted, told.get("existing")) or creation.find_mapping(dps_id, services)
            return Conflict(existing, _akin(creation, posted, told.get("duplicate")) or posted)
        if error.status == _BAD_REQUEST and error.from_service:
            existing = creation.find_conflicting(mapping, services)
            return None if existing is None else Conflict(existing, posted)
    except SyncError:
        # Whether it is a duplicate can be asked again when the retry message is handled.
        return None
    return None


def _akin(creation: Creation, posted: Mapping[str, Any], value: object) -> Mapping[str, Any] | None:
    """`value` where it is a mapping with all ids of the posted one, of which it shares at least one; else None."""
    if not isinstance(value, Mapping):
        return None
    ours, theirs = creation.ids_in(posted), creation.ids_in(value)
    return value if ours.keys() == theirs.keys() and ours.items() & theirs.items() else None

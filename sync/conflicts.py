"""What it means when the mapping service refuses a pair: ours after all, or a conflict and with which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.failures import SyncError, UpstreamError
from sync.handling import Creation
from sync.telemetry import as_text, text_properties
from sync.upstream.services import Services

_CONFLICT = 409
_BAD_REQUEST = 400
#: Fields of a mapping that say nothing of which records it ties together.
_BESIDE_THE_PAIR = frozenset({"label", "mappingType", "whenCreated"})


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


def pair_of(mapping: Mapping[str, Any]) -> dict[str, str]:
    """The ids that a mapping ties together, as text."""
    return text_properties({name: value for name, value in mapping.items() if name not in _BESIDE_THE_PAIR})


def same_pair(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two mappings tie the same records together, whatever else they say."""
    return pair_of(one) == pair_of(other)


def post_mapping(creation: Creation, mapping: Mapping[str, Any], services: Services) -> Conflict | None:
    """Saves a mapping; the conflict when another pair with one of its ids is there. Raises `SyncError` otherwise.

    A refusal because the very same pair exists is none: it was saved, and only the answer was lost.
    """
    try:
        creation.post_mapping(mapping, services)
    except UpstreamError as error:
        conflict = _conflict(creation, mapping, error, services)
        if conflict is None:
            raise
        same = conflict.existing is not None and same_pair(conflict.existing, mapping)
        return None if same else conflict
    return None


def _conflict(
    creation: Creation, mapping: Mapping[str, Any], error: UpstreamError, services: Services
) -> Conflict | None:
    posted = {name: value for name, value in mapping.items() if value is not None}
    if error.status == _CONFLICT:
        told = error.more_info if isinstance(error.more_info, Mapping) else {}
        return Conflict(_object(told.get("existing")), _object(told.get("duplicate")) or posted)
    if error.status == _BAD_REQUEST and creation.duplicate_of is not None:
        try:
            existing = creation.duplicate_of(mapping, services)
        except SyncError:
            # Whether it is a duplicate can be asked again when the retry message is handled.
            return None
        return None if existing is None else Conflict(existing, posted)
    return None


def _object(value: object) -> Mapping[str, Any] | None:
    return value if isinstance(value, Mapping) else None

"""What it means when the mapping service refuses a pair: ours after all, or a conflict and with which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.domains.declaration import Creation
from sync.failures import NotUnderstood, SyncError, UpstreamError
from sync.store.telemetry import as_text, text_properties
from sync.upstream.services import Services

_CONFLICT = 409
_BAD_REQUEST = 400
#: The fields of mappings, of whichever kind, that tell which records they tie together.
_OF_THE_PAIR = frozenset(
    {
        "vsipId",
        "nomisId",
        "incentiveId",
        "nomisBookingId",
        "nomisIncentiveSequence",
        "activityScheduleId",
        "nomisCourseActivityId",
        "appointmentInstanceId",
        "nomisEventId",
        "adjustmentId",
        "nomisAdjustmentId",
        "nomisAdjustmentCategory",
    }
)


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
    return text_properties({name: value for name, value in mapping.items() if name in _OF_THE_PAIR})


def same_pair(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two mappings tie the same records together, whatever else they say."""
    return pair_of(one) == pair_of(other)


def post_mapping(creation: Creation, dps_id: str, mapping: Mapping[str, Any], services: Services) -> Conflict | None:
    """Saves the mapping of a DPS record; the conflict when another pair with one of its ids is there.

    A refusal because the very same pair exists is none: it was saved, and only the answer was lost. Raises `SyncError`
    for everything else.
    """
    try:
        creation.post_mapping(mapping, services)
    except NotUnderstood:
        saved = creation.find_mapping(dps_id, services)
        if saved is None or not same_pair(saved, mapping):
            raise
    except UpstreamError as error:
        conflict = _conflict(creation, dps_id, mapping, error, services)
        if conflict is None:
            raise
        same = conflict.existing is not None and same_pair(conflict.existing, mapping)
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
            existing = _beside(posted, told.get("existing")) or creation.find_mapping(dps_id, services)
            return Conflict(existing, _beside(posted, told.get("duplicate")) or posted)
        if error.status == _BAD_REQUEST and error.from_service and creation.duplicate_of is not None:
            existing = creation.duplicate_of(mapping, services)
            return None if existing is None else Conflict(existing, posted)
    except SyncError:
        # Whether it is a duplicate can be asked again when the retry message is handled.
        return None
    return None


def _beside(posted: Mapping[str, Any], value: object) -> Mapping[str, Any] | None:
    """`value` where it is a mapping with all ids of the posted one, of which it shares at least one; else None."""
    if not isinstance(value, Mapping):
        return None
    ours, theirs = pair_of(posted), pair_of(value)
    return value if ours.keys() == theirs.keys() and ours.items() & theirs.items() else None

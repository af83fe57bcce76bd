"""Explains a finding in sentences: what happened to which record, and what follows until a person acts.

The sentences are made from the properties of the finding's event, so that alerts, lists and `show` use the same words.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial

from sync.domains.declaration import Domain
from sync.domains.duplicate_rows import RowKind
from sync.domains.registry import DOMAINS, row_kinds
from sync.repair.duplicates import Duplicate, Verdict, pair_in
from sync.repair.hints import UNRECOVERABLE
from sync.store.findings import GIVEN_UP_EVENT

Properties = Mapping[str, str]


def finding_text(event: str, properties: Properties) -> str | None:
    """The sentences about a finding, or None if `event` is not the event of a finding."""
    text = _TEXTS.get(event)
    return None if text is None else text(properties)


def prisoner_in(properties: Properties) -> str | None:
    """The prisoner number in the properties of a finding, or None if there is none."""
    offender_no = properties.get("offenderNo")
    return None if offender_no in (None, "", "null", "unknown") else offender_no


def _duplicate(domain: Domain, properties: Properties) -> str:
    repair = domain.repair
    duplicate = pair_in(domain.mappings, properties, "duplicate")
    if duplicate is None:
        return f"The mapping service refused the mapping of a new {repair.noun}. {repair.harm}"
    existing = pair_in(domain.mappings, properties, "existing")
    who, new = _of_whom(properties), f"{repair.noun} {duplicate.nomis_text}"
    verdict = Duplicate(duplicate, existing).verdict
    if existing is None or verdict is Verdict.NOT_MAPPED:
        return (
            f"The mapping service refused to map {new}{who} to {domain.noun} {duplicate.dps_id} in DPS, and did "
            f"not name the mapping that it has instead. {repair.harm}"
        )
    if verdict is Verdict.DUPLICATE:
        return (
            f"NOMIS has two records of {domain.noun} {duplicate.dps_id}{who}{_when(repair.time_of, properties)}: "
            f"{repair.noun} {existing.nomis_text} is mapped, and {new} is one too many. {repair.harm}"
        )
    if verdict is Verdict.TWO_CLAIMS:
        return (
            f"Two DPS records claim {new}{who}: {existing.dps_id} has it, and {duplicate.dps_id} was refused. Until "
            f"this is resolved, changes to {duplicate.dps_id} do not reach NOMIS. Check both before you delete "
            f"anything."
        )
    return (
        f"The mapping service refused to map {new}{who} to {domain.noun} {duplicate.dps_id} in DPS, because it has "
        f"already mapped {existing.dps_id} to {repair.noun} {existing.nomis_text}. Investigate before you delete "
        f"anything."
    )


def _ambiguous(domain: Domain, properties: Properties) -> str:
    dps_id = properties.get(domain.repair.dps_property) or properties.get(domain.mappings.dps)
    record = f"{domain.noun} {dps_id}" if dps_id else f"a new {domain.noun}"
    return (
        f"NOMIS did not respond to the request to create {record}{_of_whom(properties)}"
        f"{_when(domain.repair.time_of, properties)}, and no look-up shows whether it exists. Until a person checks "
        f"NOMIS, the {domain.repair.noun} may be missing there, and later changes to it fail."
    )


def _two_rows(kind: RowKind, properties: Properties) -> str:
    try:
        pair = kind.pair.format(**properties)
    except KeyError:
        pair = "one booking"
    offender_no = prisoner_in(properties)
    whose = "" if offender_no is None else f" (prisoner {offender_no})"
    return (
        f"NOMIS has two {kind.what}s for {pair}{whose} but should have only one. Until one of them is deleted, NOMIS "
        f"refuses every change to either {kind.what}."
    )


def _given_up(properties: Properties) -> str:
    number = properties.get("messages", "1")
    one = number == "1"
    kind = f" {properties['eventType']}" if properties.get("eventType") else ""
    messages = f"{number}{kind} message{'' if one else 's'}"
    # If there are several messages, the properties are those of the first.
    about = f" about {properties['entity'].replace(':', ' ')}" if one and properties.get("entity") else ""
    offender_no = prisoner_in(properties)
    whose = f" of prisoner {offender_no}" if one and offender_no is not None and offender_no not in about else ""
    example = "" if one else "for example "
    reason = f" ({example}{properties['reason'].rstrip('.')})" if properties.get("reason") else ""
    queue, advice = properties.get("queue", "dead letter"), properties.get("advice", UNRECOVERABLE)
    return (
        f"{messages}{about}{whose} from the {queue} queue cannot be applied to NOMIS{reason}. Housekeeping no "
        f"longer sends {'it' if one else 'them'} back, so NOMIS lacks {'this change' if one else 'these changes'}. "
        f"What to do: {advice}."
    )


def _of_whom(properties: Properties) -> str:
    offender_no, booking_id = prisoner_in(properties), properties.get("bookingId")
    if offender_no is not None:
        return f" of prisoner {offender_no}"
    return f" of booking {booking_id}" if booking_id else ""


def _when(time_of: tuple[str, ...], properties: Properties) -> str:
    """A phrase with the prison and the time of the record, each only if the properties have it; it may be empty."""
    where = f" at {properties['prisonId']}" if properties.get("prisonId") else ""
    values = [properties[name] for name in time_of if properties.get(name)]
    try:
        start = datetime.fromisoformat("T".join(values)) if values and len(values) == len(time_of) else None
    except ValueError:
        start = None
    return where if start is None else f"{where} on {start.day} {start:%B %Y} at {start:%H:%M}"


_TEXTS: Mapping[str, Callable[[Properties], str]] = {
    **{f"to-nomis-synch-{domain.record}-duplicate": partial(_duplicate, domain) for domain in DOMAINS.values()},
    **{f"{domain.record}-create-ambiguous": partial(_ambiguous, domain) for domain in DOMAINS.values()},
    **{kind.event_name: partial(_two_rows, kind) for kind in row_kinds().values()},
    GIVEN_UP_EVENT: _given_up,
}

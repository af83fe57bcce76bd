"""Helps a person to resolve a creation with an unknown outcome.

`search_text` and `search_sql` say what to search for, `compare_with_request` compares the request with a NOMIS record
that the person found, and `event_again` makes a message that starts the creation again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sync.domains.registry import domain_of_record
from sync.domains.repair_declaration import Record
from sync.events.envelope import write_domain_event
from sync.store.creations import CreationRecord
from sync.upstream.services import Services


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of comparing the request of a creation with a NOMIS record that a person found.

    found: the record, or None if NOMIS does not have it or no service can read it. objections: sentences that say why
    the record must not be mapped. differences: sentences that say how the record differs from the request; a person may
    know the reason.
    """

    found: Record | None
    objections: tuple[str, ...]
    differences: tuple[str, ...] = ()


def compare_with_request(services: Services, record: CreationRecord, nomis_ids: Mapping[str, Any]) -> Comparison:
    """Compares the request of a creation with the NOMIS record that has `nomis_ids`, if a service can read that record.

    A mapping of that record to another DPS record is an objection even if no service can read the record. Raises
    `UpstreamError`.
    """
    domain = domain_of_record(record.domain)
    mappings, repair = domain.mappings, domain.repair
    ids = mappings.ids({mappings.dps: record.dps_id, **nomis_ids})
    what, objections = f"{repair.noun} {ids.nomis_text}", []
    mapping = mappings.find_by_nomis_ids(services.mapping, *ids.nomis_ids)
    belongs_to = None if mapping is None else mappings.ids(mapping).dps_id
    if belongs_to not in (None, record.dps_id):
        objections.append(f"{what} is mapped to {belongs_to}")
    if not repair.readable:
        return Comparison(None, tuple(objections))
    found = repair.read(services, ids)
    owner = repair.owner_in(record.request)
    if found is None:
        objections.append(f"NOMIS has no {what}")
    elif found.get(repair.owner) != owner:
        objections.append(f"{what} belongs to {repair.owner} {found.get(repair.owner)}, not {owner}")
    if objections or found is None:
        return Comparison(found, tuple(objections))
    return Comparison(found, (), tuple(repair.differences(record.dps_id, record.request, found)))


def search_text(record: CreationRecord) -> str:
    """A line that says what to search for in NOMIS."""
    if not record.request:
        return "nothing: the DPS record was deleted before it was created in NOMIS"
    return domain_of_record(record.domain).repair.search_text(record.request)


def search_sql(record: CreationRecord) -> str | None:
    """The SQL that shows the record in the NOMIS database.

    None if a service can show the record, if no request was recorded, or if a value in the request is not an id.
    """
    if not record.request:
        return None
    try:
        return domain_of_record(record.domain).repair.search_sql(record.request)
    except ValueError:
        return None


def event_again(record: CreationRecord) -> str:
    """The body of a message with the event that started the creation, so that the creation is tried again."""
    domain = domain_of_record(record.domain)
    return write_domain_event(domain.creation.event_type, *domain.repair.event_parts(record))

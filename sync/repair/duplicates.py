"""Decides whether the NOMIS record of a refused mapping is a duplicate, and lists the reasons not to remove it.

A finding of kind `duplicate` has two pairs, each of a DPS id and NOMIS ids: the pair that the mapping service refused
(`duplicate…`), and the pair that it has instead (`existing…`), which may be missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from sync.domains.registry import domain_of_record
from sync.domains.repair_declaration import AdvisingRepair, Record, RemovingRepair, Repair
from sync.store.findings import Finding
from sync.upstream.mappings import MappingIds, Mappings


class Verdict(StrEnum):
    """The relation between the refused pair of ids and the existing one."""

    #: One DPS record has two NOMIS records, and the refused one is the duplicate.
    DUPLICATE = "surplus"
    #: Two DPS records claim one NOMIS record. Nothing may be deleted, and a person has to investigate.
    TWO_CLAIMS = "two claims"
    #: Both ids are equal, so there is no duplicate.
    SAME = "no duplicate"
    #: Both ids differ, or the refused NOMIS record is mapped to another DPS record, so it is not a duplicate.
    UNRELATED = "unrelated"
    #: The finding does not say which mapping exists.
    NOT_MAPPED = "not mapped"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The refused pair of ids, and the existing one (None if it is not known).

    belongs_to: the id of the DPS record to which the refused NOMIS record is mapped. None if this NOMIS record is not
    mapped, or if its mapping is not known.
    """

    duplicate: MappingIds
    existing: MappingIds | None
    belongs_to: str | None = None

    @property
    def verdict(self) -> Verdict:
        """The relation between the two pairs, regardless of the current records in NOMIS."""
        if self.existing is None:
            return Verdict.NOT_MAPPED
        same_dps = self.duplicate.dps_id == self.existing.dps_id
        same_nomis = self.duplicate.nomis_ids == self.existing.nomis_ids
        if same_nomis:
            return Verdict.SAME if same_dps else Verdict.TWO_CLAIMS
        return Verdict.DUPLICATE if same_dps and self.belongs_to is None else Verdict.UNRELATED


def read_duplicate(finding: Finding) -> Duplicate:
    """The two pairs of a finding of kind `duplicate`. Raises `ValueError` if the refused pair is missing."""
    mappings = domain_of_record(finding.domain).mappings
    duplicate = pair_in(mappings, finding.properties, "duplicate")
    if duplicate is None:
        raise ValueError(f"finding {finding.id} does not say which {finding.domain} was refused")
    return Duplicate(duplicate, pair_in(mappings, finding.properties, "existing"))


def pair_in(mappings: Mappings, properties: Mapping[str, str], prefix: str) -> MappingIds | None:
    """The pair whose property names begin with `prefix` (`existing` or `duplicate`); None if an id is missing."""
    names = (mappings.dps, *mappings.nomis)
    values = {name: properties.get(prefix + name[:1].upper() + name[1:]) for name in names}
    if any(value in (None, "null") for value in values.values()):
        return None
    return mappings.ids(values)


@dataclass(frozen=True, slots=True)
class NomisView:
    """The current state of both NOMIS records.

    duplicate: the refused record. mapped: the record with the existing mapping. Each is None if NOMIS does not have it,
    or if no service can read such records. readable: whether a service can read such records.
    """

    duplicate: Record | None
    mapped: Record | None
    readable: bool


def obstacles(repair: Repair, duplicate: MappingIds, existing: MappingIds, view: NomisView) -> list[str]:
    """Sentences that say why the refused record must never be removed, or why this program cannot remove it."""
    found = [*_reasons_to_keep(repair, duplicate, existing, view)]
    is_gone = view.readable and repair.is_gone(view.duplicate)
    if found or is_gone or not isinstance(repair, AdvisingRepair) or repair.is_harmless(view.duplicate, view.mapped):
        return found
    advice = repair.advice(view.duplicate, view.mapped)
    what = f"this program cannot remove {repair.noun} {duplicate.nomis_text}"
    return [f"{what}: {advice}. When there is nothing more to do, close the finding with --by-hand"]


def _reasons_to_keep(repair: Repair, duplicate: MappingIds, existing: MappingIds, view: NomisView) -> list[str]:
    found: list[str] = []
    if not view.readable:
        return found
    if view.mapped is None:
        found.append(
            f"NOMIS has no {repair.noun} {existing.nomis_text}, so the other record may be the only one: investigate"
        )
    if view.duplicate is not None and view.mapped is not None:
        whose, owner = view.duplicate.get(repair.owner), view.mapped.get(repair.owner)
        if whose is None and owner is None:
            found.append(f"neither record has a value for {repair.owner}: investigate")
        elif whose != owner:
            found.append(f"the two records do not have the same {repair.owner} ({whose} and {owner}): investigate")
    if view.duplicate is not None:
        found.extend(repair.objections(duplicate, view.duplicate))
    return found


def unproved(repair: Repair, duplicate: MappingIds, existing: MappingIds, view: NomisView) -> list[str]:
    """Sentences that say why it is not proved that the refused record is a duplicate of the mapped one.

    A person may know better, since the mapped record may have been changed after the duplicate was created.
    """
    if view.duplicate is None or view.mapped is None or not isinstance(repair, RemovingRepair):
        return []
    if repair.is_gone(view.duplicate):
        return []
    found = []
    for name, required in repair.proof.items():
        value, mapped = view.duplicate.get(name), view.mapped.get(name)
        if value != mapped:
            found.append(f"the two records differ in {name} ({value} and {mapped})")
        elif required and value is None:
            found.append(f"neither record has a value for {name}")
    return [*found, *repair.doubts(duplicate, view.duplicate), *repair.doubts(existing, view.mapped)]


def differences(view: NomisView) -> dict[str, tuple[str | None, str | None]]:
    """The fields in which the two records differ, each with its values in the duplicate and in the mapped record.

    Empty if either record is missing.
    """
    if view.duplicate is None or view.mapped is None:
        return {}
    names = dict.fromkeys((*view.duplicate, *view.mapped))
    pairs = {name: (view.duplicate.get(name), view.mapped.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

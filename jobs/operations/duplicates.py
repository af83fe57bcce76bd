"""Examines records that NOMIS has twice, removes the duplicate, and verifies and records the removal.

A duplicate whose mapping was refused has a finding. A duplicate that a reconciliation found gets its finding in
`jobs.operations.found_duplicates`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import structlog

from jobs.errors import OutcomeUnknown, UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from sync.creation.creation import creation_lease
from sync.domains.registry import domain_of_record
from sync.domains.repair_declaration import AdvisingRepair, RemovingRepair, Repair
from sync.errors import SyncError, one_line
from sync.repair.duplicates import Duplicate, NomisView, Verdict, obstacles, read_duplicate, unproved
from sync.repair.finding_text import finding_text, prisoner_in
from sync.store import findings
from sync.store.findings import Finding, FindingKind
from sync.upstream.mappings import MappingIds

#: The commands that remove a duplicate, as their actions are recorded: the second is for copies.
RESOLVE, REMOVE = "duplicates resolve", "duplicates remove"
#: The option with which an operator confirms that a record is a duplicate although it differs from the mapped one.
DESPITE = "--although-different"
_KINDS = (FindingKind.DUPLICATE, FindingKind.NON_UNIQUE)
#: The number of a finding about a copy while the finding is not recorded.
NOT_RECORDED = 0
_MEANINGS = {
    Verdict.DUPLICATE: "one DPS record has two NOMIS records, and the one that is not mapped is the duplicate",
    Verdict.TWO_CLAIMS: "two DPS records claim one NOMIS record",
    Verdict.SAME: "the record is correctly mapped: it is no longer a duplicate",
    Verdict.NOT_MAPPED: "neither record is mapped now",
}
#: What to do for the verdicts that leave no two records to compare.
_ADVICE = {
    Verdict.TWO_CLAIMS: (
        "delete nothing in NOMIS and investigate. If the existing mapping is older than a refresh of the data, have "
        "that mapping deleted and the event published again, which saves the refused mapping"
    ),
    Verdict.NOT_MAPPED: "delete nothing. Have the event published again, which saves the refused mapping",
}

_UNRELATED_FINDING = "if both mappings are right, close the finding with --by-hand; otherwise, inform the DPS team"


@dataclass(frozen=True, slots=True)
class Examination:
    """A duplicate as it is now.

    view: what NOMIS has, or None if nothing was read. obstacles: why nothing may be removed, whatever a person says.
    unproved: why it is not proved that the record is a duplicate of the mapped one. A person may overrule these
    reasons.
    """

    finding: Finding
    duplicate: Duplicate
    view: NomisView | None
    obstacles: tuple[str, ...]
    unproved: tuple[str, ...] = ()

    @property
    def repair(self) -> Repair:
        """How duplicates of this domain are removed."""
        return domain_of_record(self.finding.domain).repair

    @property
    def verdict(self) -> Verdict:
        """The relation between the pair of ids of the duplicate and the pair that is mapped now."""
        return self.duplicate.verdict

    @property
    def meaning(self) -> str:
        """The verdict as a sentence for operators."""
        existing, belongs_to = self.duplicate.existing, self.duplicate.belongs_to
        if self.verdict is Verdict.UNRELATED and existing is not None:
            mapped = f"{self.repair.noun} {existing.nomis_text}"
            return f"{_target(self)} is mapped to {belongs_to}, so it is not a duplicate of {mapped}"
        advice = f": {_ADVICE[self.verdict]}" if self.verdict in _ADVICE else ""
        return f"{_MEANINGS[self.verdict]}{advice}"

    @property
    def is_recorded(self) -> bool:
        """Whether the finding is recorded; False if it is about a copy and `duplicates remove` has yet to record it."""
        return self.finding.id != NOT_RECORDED

    @property
    def is_supported(self) -> bool:
        """Whether more than a person's claim supports the verdict that the record is a duplicate.

        A recorded finding does: the mapping service refused to map the record, since its DPS record was already mapped.
        Without a recorded finding, the comparison of both records must prove that the record is a duplicate.
        """
        doubtful = self.obstacles or self.unproved or self.harmless is not None
        return self.is_recorded or self.verdict is not Verdict.DUPLICATE or not doubtful

    @property
    def gone(self) -> bool:
        """Whether NOMIS shows that the duplicate is gone or cancelled; False if the records were not read."""
        view = self.view
        return view is not None and view.readable and self.repair.is_gone(view.duplicate)

    @property
    def request(self) -> str | None:
        """The text to send to the NOMIS support team if only that team can delete the duplicate; otherwise None."""
        existing, repair = self.duplicate.existing, self.repair
        if not isinstance(repair, AdvisingRepair) or self.verdict is not Verdict.DUPLICATE or existing is None:
            return None
        return repair.support_request(self.duplicate.duplicate, existing, self.finding.properties.get("offenderNo"))

    @property
    def harmless(self) -> str | None:
        """A clause that says why the finding can be closed without a change in NOMIS; None if it cannot."""
        if self.obstacles:
            return None
        if self.verdict is Verdict.SAME:
            return self.meaning
        if self.gone:
            exists = self.view is not None and self.view.duplicate is not None
            return f"{_target(self)} no longer does any harm" if exists else f"NOMIS has no {_target(self)}"
        if isinstance(self.repair, AdvisingRepair) and self.view is not None:
            return self.repair.advice(self.view.duplicate, self.view.mapped)
        return None

    @property
    def proposal(self) -> str:
        """What to do about the duplicate, on one line that begins with a verb."""
        if self.verdict in _ADVICE:
            return _ADVICE[self.verdict]
        if self.obstacles:
            return "remove nothing: " + "; ".join(self.obstacles)
        if self.unproved:
            command = RESOLVE if self.is_recorded else REMOVE
            return (
                f"compare both records, since {_target(self)} is not proved to be the duplicate: "
                f"{'; '.join(self.unproved)}. If it is the duplicate, `{command}` with {DESPITE} will "
                f"{self.repair.removal_of(_target(self))}"
            )
        if self.harmless is not None:
            done = "close the finding, without a change in NOMIS" if self.is_recorded else "do nothing"
            return f"{done}: {self.harmless}"
        return self.repair.removal_of(_target(self))

    @property
    def resolvable(self) -> bool:
        """Whether `duplicates resolve` closes the finding without an override by a person."""
        return self.finding.status == "open" and not self.obstacles and not self.unproved

    def as_dict(self) -> dict[str, Any]:
        """The examination as a JSON object."""
        view, existing = self.view, self.duplicate.existing
        return {
            **finding_as_dict(self.finding),
            "dpsId": self.duplicate.duplicate.dps_id,
            "surplusNomisId": self.duplicate.duplicate.nomis_text,
            "mappedNomisId": None if existing is None else existing.nomis_text,
            "mappedDpsId": None if existing is None else existing.dps_id,
            "verdict": self.verdict,
            "meaning": self.meaning,
            "surplus": None if view is None or view.duplicate is None else dict(view.duplicate),
            "mapped": None if view is None or view.mapped is None else dict(view.mapped),
            "obstacles": [*self.obstacles, *self.unproved],
            "unproved": list(self.unproved),
            "gone": self.gone,
            "proposal": self.proposal,
            "supportRequest": self.request,
        }


def list_duplicates(application: Application, *, resolved_too: bool) -> list[Finding]:
    """The findings about records that NOMIS has twice, newest first: the open ones or, with `resolved_too`, all."""
    with application.database.read() as connection:
        every = findings.list_findings(connection, status=None if resolved_too else "open")
    return [finding for finding in every if finding.kind in _KINDS]


def find_prisoner(application: Application, finding: Finding) -> str | None:
    """The prisoner whom a finding is about, from its properties or else from the NOMIS record.

    None if neither names a prisoner, or if the NOMIS record cannot be read.
    """
    recorded = prisoner_in(finding.properties)
    if recorded is not None or finding.kind != FindingKind.DUPLICATE:
        return recorded
    try:
        duplicate = read_duplicate(finding)
        return _prisoner_in_nomis(application, finding, duplicate.existing or duplicate.duplicate)
    except (SyncError, ValueError) as error:
        structlog.get_logger("jobs.operations.duplicates").warning(
            "prisoner-not-known", finding=finding.id, reason=one_line(error)
        )
        return None


def _prisoner_in_nomis(application: Application, finding: Finding, ids: MappingIds) -> str | None:
    repair = domain_of_record(finding.domain).repair
    record = repair.read(application.services, ids) if repair.readable else None
    return None if record is None else record.get("offenderNo")


def find_duplicate(application: Application, finding_id: int) -> Finding:
    """The finding `finding_id`. Raises `UsageError` if it is unknown or not about a duplicate."""
    with application.database.read() as connection:
        finding = findings.get(connection, finding_id)
    if finding is None or finding.kind not in _KINDS:
        raise UsageError(f"there is no duplicate {finding_id}; see `prisoner-to-nomis duplicates list`")
    return finding


def find_open(application: Application, finding_id: int) -> Finding:
    """The finding `finding_id`, as `find_duplicate` returns it. Raises `WorkError` if it is already resolved."""
    finding = find_duplicate(application, finding_id)
    if finding.status != "open":
        raise WorkError(f"finding {finding_id} was resolved by {finding.resolved_by} before you confirmed")
    return finding


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """A finding as a JSON object."""
    return {
        "id": finding.id,
        "kind": finding.kind,
        "domain": finding.domain,
        "severity": finding.severity,
        "status": finding.status,
        "since": finding.created_at.isoformat(timespec="seconds"),
        "event": finding.event_name,
        "text": finding_text(finding.event_name, finding.properties),
        "properties": dict(finding.properties),
        "resolvedAt": None if finding.resolved_at is None else finding.resolved_at.isoformat(timespec="seconds"),
        "resolvedBy": finding.resolved_by,
        "resolution": finding.resolution,
    }


def examine(application: Application, finding: Finding) -> Examination:
    """Reads the current mappings and NOMIS records of the duplicate that a finding is about. Raises `SyncError`."""
    recorded = read_duplicate(finding)
    domain = domain_of_record(finding.domain)
    mappings, repair, services = domain.mappings, domain.repair, application.services
    pair = recorded.duplicate
    mapping = mappings.find(services.mapping, pair.dps_id)
    mapping_of_nomis = mappings.find_by_nomis_ids(services.mapping, *pair.nomis_ids)
    existing: MappingIds | None = None
    if mapping is not None:
        existing = mappings.ids(mapping)
    elif mapping_of_nomis is not None:
        existing = mappings.ids(mapping_of_nomis)
    belongs_to = None if mapping_of_nomis is None else mappings.ids(mapping_of_nomis).dps_id
    duplicate = replace(recorded, existing=existing, belongs_to=belongs_to)
    verdict = duplicate.verdict
    if existing is None or verdict in (Verdict.SAME, Verdict.TWO_CLAIMS):
        found = Examination(finding, duplicate, None, ())
        return found if verdict is Verdict.SAME else replace(found, obstacles=(found.meaning,))
    view = NomisView(
        duplicate=repair.read(services, pair), mapped=repair.read(services, existing), readable=repair.readable
    )
    if verdict is Verdict.UNRELATED:
        found = Examination(finding, duplicate, view, ())
        advice = _UNRELATED_FINDING if found.is_recorded else "check both numbers"
        return replace(found, obstacles=(f"{found.meaning}: {advice}",))
    objections = tuple(obstacles(repair, pair, existing, view))
    return Examination(finding, duplicate, view, objections, tuple(unproved(repair, pair, existing, view)))


def check_resolvable(found: Examination, accepted: Collection[str] = ()) -> None:
    """Raises `WorkError` if there is an objection to resolving the finding, other than those in `accepted`.

    accepted: the `unproved` reasons that a person saw and overruled.
    """
    objections = found.obstacles or tuple(each for each in found.unproved if each not in accepted)
    if objections:
        remedy = "" if found.obstacles or accepted else f"; {DESPITE} removes it anyway"
        kept = f"finding {found.finding.id} is left as it is" if found.is_recorded else "nothing was removed"
        raise WorkError(f"{kept}: {'; '.join(objections)}{remedy}")


def resolve(
    application: Application, seen: Examination, who: str, accepted: Collection[str] = (), action: str = RESOLVE
) -> str:
    """Removes the duplicate, verifies the removal, and closes the finding in the name of `who`. Returns what was done.

    The mapped record must still exist. seen: what a person confirmed; nothing is done if it has changed since.
    accepted: the `unproved` reasons that a person saw and overruled. action: the command that the person typed, under
    which the action is recorded: `RESOLVE` or `REMOVE`. Raises `WorkError` if there is an objection or the removal
    failed, `LeaseBusy` if the record is being worked on, and `SyncError`. A failed attempt is also recorded.
    """
    finding = seen.finding
    dps_id = read_duplicate(finding).duplicate.dps_id
    with application.leases.held(creation_lease(finding.domain, dps_id)):
        # The duplicate is examined again, since it may have changed before the person confirmed.
        found = examine(application, find_open(application, finding.id))
        check_resolvable(found, accepted)
        if found.as_dict() != seen.as_dict():
            raise WorkError(
                f"finding {finding.id} changed before you confirmed: nothing was done; run the command again"
            )
        details = {**found.as_dict(), "accepted": list(found.unproved)}
        return close_finding(
            application, finding, action, _target(found), details, who, lambda: _remove(application, found)
        )


def close_by_hand(application: Application, finding: Finding, note: str, who: str) -> str:
    """Closes, in the name of `who`, a finding that was dealt with elsewhere. Returns what was recorded.

    note: how it was dealt with.
    """
    with application.leases.held(f"write:finding:{finding.id}"):
        find_open(application, finding.id)
        return close_finding(
            application, finding, RESOLVE, f"finding {finding.id}", {}, who, lambda: f"closed by hand: {note}"
        )


def close_finding(
    application: Application,
    finding: Finding | None,
    action: str,
    target: str,
    details: Mapping[str, Any],
    who: str,
    act: Callable[[], str],
) -> str:
    """Calls `act`, records who did what and the outcome, and closes `finding`, if there is one, with this outcome.

    Returns the outcome. Raises what `act` raises. act: does the work, and returns the outcome as text.
    """
    with recorded_action(application, who, action, target, details) as ongoing:
        outcome = ongoing.outcome = act()
        if finding is not None:
            number = finding.id
            ongoing.also.append(lambda connection: findings.resolve(connection, number, who, outcome))
    return outcome


def _target(found: Examination) -> str:
    return f"{found.repair.noun} {found.duplicate.duplicate.nomis_text}"


def _remove(application: Application, found: Examination) -> str:
    repair, pair, existing, view = found.repair, found.duplicate.duplicate, found.duplicate.existing, found.view
    if found.harmless is not None or not isinstance(repair, RemovingRepair):
        return f"nothing done: {found.harmless or found.proposal}"
    assert view is not None
    assert existing is not None
    repair.remove(application.services, pair, view.duplicate)
    if repair.readable:
        try:
            now, kept = repair.read(application.services, pair), repair.read(application.services, existing)
        except SyncError as error:
            raise OutcomeUnknown(
                f"the request to {repair.removal_of(_target(found))} was sent, but its effect is not verified: {error}"
            ) from error
        if not repair.is_gone(now):
            raise WorkError(f"{_target(found)} is still there (status {(now or {}).get('status')}): see NOMIS")
        if kept is None:
            raise WorkError(f"the mapped {repair.noun} {existing.nomis_text} is gone too: see NOMIS")
        although = f", although {'; '.join(found.unproved)}" if found.unproved else ""
        return f"done and verified: {repair.removal_of(_target(found))}{although}"
    return f"done: {repair.removal_of(_target(found))}; NOMIS cannot show whether it is gone"

"""The two fixes that this program offers: publishing a received event again, and writing the DPS level to NOMIS again.

A received event reports a prisoner's arrival. Each fix is planned first: the plan shows what would be sent, and any
objection. The fix is verified afterwards by reading both sides.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from reports.reconciliations.incentives.bookings import active_booking
from reports.reconciliations.incentives.diagnosis import diagnose
from reports.reconciliations.incentives.evidence import collect_evidence, entities, message_of, read_levels
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.incentives.rules import MAPPINGS as INCENTIVE_MAPPINGS
from sync.errors import RuleError
from sync.settings.upstreams import UpstreamName
from sync.store.actions import ActionState
from sync.store.creations import CreationState
from sync.upstream import prisoners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reports.engine.pending_messages import PendingMessages
    from reports.reconciliations.incentives.evidence import PrisonerLevels
    from reports.reconciliations.incentives.result import Arrival
    from sync.store.actions import Action
    from sync.store.creations import CreationRecord
    from sync.upstream.services import Services

_POLL_SECONDS = 1.0
#: How soon DPS makes the review for a received event; until then a second event would lead to a second review.
_REVIEW_EXPECTED = timedelta(hours=1)
#: The start of the objection that a message is pending; the rest of its text may change at any moment.
_PENDING = "the message of review"
#: The reasons of a received event that make DPS write a review.
REASONS = prisoners.REVIEWED_REASONS


@dataclass(frozen=True, slots=True)
class Plan:
    """What a fix would send, as a dry run shows it.

    review_id: the current review in DPS, or None if there is none. review_is_mapped: whether that review has already
    been written to NOMIS. objection: why the call should not be sent, or None if there is no objection.
    """

    action: str
    offender_no: str
    booking_id: int | None
    service: str
    method: str
    path: str
    body: Mapping[str, Any]
    nomis_level: str | None
    dps_level: str | None
    review_id: int | None
    review_is_mapped: bool = False
    objection: str | None = None

    @property
    def request(self) -> str:
        """The service, method and path of the call."""
        return f"{self.service}: {self.method} {self.path}"

    @property
    def waits_for_message(self) -> bool:
        """Whether the objection is that the message of the review is, or may be, pending."""
        return self.objection is not None and self.objection.startswith(_PENDING)

    def change_to(self, again: Plan, *, force: bool) -> str | None:
        """Why this confirmed plan must no longer be carried out, or None if it still may be.

        again: a new plan for the same fix. force: whether to accept the objection of the confirmed plan; any other
        objection still counts.
        """
        accepted = force and (again.objection == self.objection or (again.waits_for_message and self.waits_for_message))
        if again.objection is not None and not accepted:
            return again.objection
        if replace(again, objection=None) != replace(self, objection=None):
            levels = f"NOMIS {again.nomis_level or 'none'}, DPS {again.dps_level or 'none'}"
            return f"the levels are now {levels}: run the command again"
        return None


@dataclass(frozen=True, slots=True)
class Verification:
    """Both levels after a fix, and whether they agree."""

    nomis_level: str | None
    dps_level: str | None

    @property
    def equal(self) -> bool:
        """Whether both sides agree."""
        return self.nomis_level == self.dps_level


def plan_received(services: Services, offender_no: str, prison_id: str, reason: str, occurred_at: datetime) -> Plan:
    """Returns the plan for publishing a received event again.

    Raises `RuleError` if DPS writes no review for `reason`, and `SyncError` if a service cannot be read.
    """
    if reason not in REASONS:
        raise RuleError(f"{reason} leads to no review: give one of {', '.join(REASONS)}")
    booking = active_booking(services, offender_no)
    pair = read_levels(services, booking.booking_id, offender_no)
    review, body = pair.newest_review, prisoners.received_event(reason, prison_id, occurred_at).as_json()
    return Plan(
        action="reconcile fix received",
        offender_no=offender_no,
        booking_id=pair.booking_id,
        service=UpstreamName.PRISONER_SEARCH,
        method="PUT",
        path=f"/events/prisoner/received/{offender_no}",
        body=body,
        nomis_level=pair.nomis_level,
        dps_level=pair.dps_level,
        review_id=None if review is None else review.id,
        review_is_mapped=review is not None and _is_mapped(services, review.id),
        objection=_objection_to_receiving(pair, prison_id, occurred_at),
    )


def propose_received(
    services: Services, find_pending: Callable[[], PendingMessages], offender_no: str, near: timedelta
) -> Arrival | None:
    """The arrival that, according to the diagnosis, DPS missed.

    None if the diagnosis gives another cause, or if the levels agree. Raises `SyncError` if a service cannot be read.
    """
    booking = active_booking(services, offender_no)
    pair = read_levels(services, booking.booking_id, offender_no)
    if pair.equal:
        return None
    review = pair.newest_review
    message = message_of(find_pending(), review.id if review else None, offender_no)
    return diagnose(collect_evidence(services, pair, message, near), near).arrival


def plan_repair(services: Services, offender_no: str) -> Plan:
    """Returns the plan for writing the current DPS level to NOMIS again.

    Raises `RuleError` if the prisoner has no DPS review, and `SyncError` if a service cannot be read.
    """
    booking = active_booking(services, offender_no)
    pair = read_levels(services, booking.booking_id, offender_no)
    review = pair.newest_review
    if review is None:
        raise RuleError(f"{offender_no} has no review in DPS, so there is nothing to write to NOMIS")
    body = nomis_incentives.CreateIep(
        iep_level=review.iep_code,
        iep_date_time=f"{review.iep_date.isoformat()}T{review.iep_time.strftime('%H:%M:%S')}",
        prison_id=review.agency_id or "",
        user_id=review.user_id,
        comments=review.comments,
    )
    objection = None
    if pair.equal:
        objection = f"both sides already have {pair.dps_level}"
    elif not review.agency_id:
        objection = "the DPS review names no prison, but NOMIS requires one"
    elif pair.nomis is not None and pair.nomis.iep_date_time.date() > review.iep_date:
        objection = (
            f"the NOMIS record of {pair.nomis.iep_date_time:%d/%m/%Y} is dated after the DPS review of "
            f"{review.iep_date:%d/%m/%Y}, so the new record would not become current"
        )
    return Plan(
        action="incentives repair",
        offender_no=offender_no,
        booking_id=pair.booking_id,
        service=UpstreamName.NOMIS,
        method="POST",
        path=f"/prisoners/booking-id/{pair.booking_id}/incentives",
        body=body.as_json(),
        nomis_level=pair.nomis_level,
        dps_level=pair.dps_level,
        review_id=review.id,
        review_is_mapped=_is_mapped(services, review.id),
        objection=objection,
    )


def _is_mapped(services: Services, review_id: int) -> bool:
    """Whether a review has already been written to NOMIS: if so, it has a mapping."""
    return INCENTIVE_MAPPINGS.find(services.mapping, str(review_id)) is not None


def pending_objection(plan: Plan, pending: PendingMessages) -> str | None:
    """The objection that the review's message, which has the same effect, is or may be pending; otherwise None."""
    if plan.review_id is None:
        return None
    where = pending.where(entities(plan.review_id, plan.offender_no))
    if where is not None:
        place = "the incentive queue" if where == "queue" else "the dead letter queue: run `dlq retry incentive`"
        return f"{_PENDING} {plan.review_id} is waiting on {place}"
    if pending.doubt is None or plan.review_is_mapped:
        # The message of a mapped review has been handled; if it is delivered again, it changes nothing.
        return None
    return f"{_PENDING} {plan.review_id} may be waiting: {pending.doubt}"


def publication_objection(plan: Plan, earlier: Iterable[Action], now: datetime) -> str | None:
    """The objection that this event was already published, or another in the hour before `now`; None if neither was.

    earlier: actions of the same kind on this prisoner that were, or may have been, carried out.
    """
    for action in earlier:
        same = action.details.get("body") == dict(plan.body)
        if same or action.time > now - _REVIEW_EXPECTED:
            how = "published" if action.state is ActionState.DONE else "possibly published"
            return f"a received event was {how} by {action.who} at {action.time:%H:%M:%S} UTC on {action.time:%d/%m/%Y}"
    return None


def unfinished_repair_objection(earlier: Iterable[Action], longest: timedelta, now: datetime) -> str | None:
    """The objection that NOMIS may still be working on an earlier repair, or None if that is impossible.

    longest: the longest time that a repair can take.
    """
    for action in earlier:
        if action.state is not ActionState.DONE and action.time > now - longest:
            return (
                f"NOMIS may still be working on the repair that {action.who} began at {action.time:%H:%M:%S} UTC: wait "
                f"{longest.total_seconds():.0f} s"
            )
    return None


def ambiguous_creation_objection(plan: Plan, creation: CreationRecord | None) -> str | None:
    """The objection that nobody knows whether NOMIS has the review; None unless its creation in NOMIS is ambiguous."""
    if creation is None or creation.state is not CreationState.AMBIGUOUS:
        return None
    return f"nobody knows whether NOMIS has review {plan.review_id}: run `creations settle {creation.id}` first"


def verify(services: Services, offender_no: str, booking_id: int, within_seconds: float = 0.0) -> Verification:
    """Reads both sides until they agree or `within_seconds` have passed. Raises `SyncError`."""
    deadline = time.monotonic() + within_seconds
    while True:
        pair = read_levels(services, booking_id, offender_no)
        if pair.equal or time.monotonic() >= deadline:
            return Verification(pair.nomis_level, pair.dps_level)
        time.sleep(min(_POLL_SECONDS, max(0.05, deadline - time.monotonic())))


def _objection_to_receiving(pair: PrisonerLevels, prison_id: str, occurred_at: datetime) -> str | None:
    if pair.equal:
        return f"both sides already have {pair.dps_level or 'no level'}"
    moment = occurred_at.replace(tzinfo=None)
    if pair.nomis is not None and moment.date() < pair.nomis.iep_date_time.date():
        return (
            f"the current NOMIS record is dated {pair.nomis.iep_date_time:%d/%m/%Y}, after the given arrival, so the "
            f"new record would not become current"
        )
    if pair.nomis is not None and pair.nomis.prison_id != prison_id:
        return f"the current NOMIS record was made at {pair.nomis.prison_id}, not at {prison_id}"
    again = [each for each in (pair.dps.iep_details if pair.dps else ()) if each.iep_time == moment]
    if again:
        return f"DPS already has a review dated at the given time: review {again[0].id}"
    return None

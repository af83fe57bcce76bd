"""The probable causes of a difference, and the commands and requests that fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.engine.causes import Cause
from sync.alerting import command
from sync.domains.repair_declaration import SUPPORT_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.reconciliations.incentives.evidence import PrisonerLevels
    from reports.reconciliations.incentives.result import Arrival
    from sync.domains.incentives.nomis import IepRecord


#: The rows of the decision table by their numbers, in the order in which they are tried. The actions are general; each
#: difference has a more specific action, with its commands.
CAUSES: Mapping[int, Cause] = {
    1: Cause(
        "the review has not been written to NOMIS yet: its message is waiting",
        "DPS",
        "Retry the dead letter queue.",
    ),
    2: Cause(
        "the event of the review was lost, or failed",
        "DPS",
        "Look for the message on the dead letter queue; if it is not there, write the DPS level to NOMIS.",
    ),
    3: Cause(
        "DPS missed the admission",
        "DPS",
        "Publish the received event of the admission again.",
    ),
    4: Cause(
        "DPS never got the received event of an arrival",
        "DPS",
        "Publish the received event of the arrival again.",
    ),
    5: Cause(
        "the prisoner was received twice in NOMIS",
        "DPS",
        "Ask NOMIS support to delete the duplicate record.",
        who="NOMIS support",
    ),
    6: Cause(
        "two reviews in quick succession were written in the wrong order",
        "DPS",
        "Write the DPS level to NOMIS again.",
    ),
    7: Cause(
        "the level was changed on the NOMIS screen, and DPS missed the change",
        "NOMIS",
        "Hand the difference over to the incentives team.",
        who="the DPS team",
    ),
    8: Cause(
        "a review was edited or deleted in DPS",
        "DPS",
        "Write the DPS level to NOMIS again, or ask NOMIS support to delete the leftover record.",
    ),
    9: Cause(
        "the histories belong to different bookings: a prisoner merge",
        "unknown",
        "Check both histories by hand.",
    ),
    10: Cause(
        "unknown",
        "unknown",
        "Check both histories by hand.",
    ),
}

SHOW_DLQ = command("dlq", "show", "incentive")
RETRY_DLQ = command("dlq", "retry", "incentive")


def reconcile_again(pair: PrisonerLevels) -> str:
    """The command that compares the prisoner's levels again, without sending a report."""
    return command("reconcile", "incentives", "--prisoner", pair.offender_no, "--no-notify")


def explain(pair: PrisonerLevels) -> str:
    """The command that shows both histories of the prisoner."""
    return command("reconcile", "explain", pair.offender_no)


def receive_again(pair: PrisonerLevels, arrival: Arrival) -> tuple[str, ...]:
    """The commands that publish the received event for a missed arrival, and then compare the levels again."""
    moment = arrival.occurred_at.isoformat(timespec="seconds")
    of_arrival = ("--prison", arrival.prison_id, "--reason", arrival.reason, "--occurred-at", moment)
    return command("reconcile", "fix", "received", pair.offender_no, *of_arrival), reconcile_again(pair)


def repair(pair: PrisonerLevels) -> tuple[str, ...]:
    """The commands that write the current DPS level to NOMIS again, and then compare the levels again."""
    return command("incentives", "repair", pair.offender_no), reconcile_again(pair)


def support_request(pair: PrisonerLevels, duplicates: Sequence[IepRecord], why: str | None = None) -> str:
    """The text of a request to the NOMIS support team to delete `duplicates`: only that team can delete IEP records.

    why: the reason for the request, as a sentence without a full stop; by default, that NOMIS made the records itself.
    """
    records = "; ".join(
        f"sequence {each.incentive_sequence} ({each.iep_level.code}, {each.iep_date_time:%d/%m/%Y %H:%M:%S}, "
        f"{each.prison_id}, made by {each.audit_module or 'an unknown module'})"
        for each in sorted(duplicates, key=lambda each: each.incentive_sequence)
    )
    noun, them = ("IEP record", "it") if len(duplicates) == 1 else ("IEP records", "them")
    level = pair.dps_level or "none"
    return (
        f"To {SUPPORT_CHANNEL}: please delete the following {noun} of prisoner {pair.offender_no}, booking "
        f"{pair.booking_id}: {records}. {why or f'NOMIS made {them} itself'}; the correct level is {level}, as in DPS."
    )

"""The commands and requests that mend a difference, as they are to be typed or sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync.proposed import command
from sync.repair.surplus import SUPPORT_CHANNEL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.engine.result import Arrival
    from reports.reconciliations.incentives.evidence import Pair
    from sync.domains.incentives.nomis import IepRecord

SHOW_DLQ = command("dlq", "show", "incentive")
RETRY_DLQ = command("dlq", "retry", "incentive")


def reconcile_again(pair: Pair) -> str:
    """Looks again whether the levels agree, and tells nobody else."""
    return command("reconcile", "incentives", "--prisoner", pair.offender_no, "--no-notify")


def explain(pair: Pair) -> str:
    """Shows both histories."""
    return command("reconcile", "explain", pair.offender_no)


def receive_again(pair: Pair, arrival: Arrival) -> tuple[str, ...]:
    """Publishes a received event that was missed, then looks again."""
    moment = arrival.occurred_at.isoformat(timespec="seconds")
    of_arrival = ("--prison", arrival.prison_id, "--reason", arrival.reason, "--occurred-at", moment)
    return command("reconcile", "fix", "received", pair.offender_no, *of_arrival), reconcile_again(pair)


def repair(pair: Pair) -> tuple[str, ...]:
    """Writes the current DPS level to NOMIS again, then looks again."""
    return command("incentives", "repair", pair.offender_no), reconcile_again(pair)


def support_request(pair: Pair, surplus: Sequence[IepRecord], why: str = "NOMIS made them by itself") -> str:
    """The text of a request to the NOMIS support team to delete IEP records, which only they can."""
    records = "; ".join(
        f"sequence {each.incentive_sequence} ({each.iep_level.code}, {each.iep_date_time:%d/%m/%Y %H:%M:%S}, "
        f"{each.prison_id}, made by {each.audit_module or 'an unknown module'})"
        for each in sorted(surplus, key=lambda each: each.incentive_sequence)
    )
    level = pair.dps_level or "none"
    return (
        f"To {SUPPORT_CHANNEL}: please delete the following IEP record(s) of prisoner {pair.offender_no}, booking "
        f"{pair.booking_id}: {records}. {why}; the right level is {level}, as in DPS."
    )

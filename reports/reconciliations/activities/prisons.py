"""The prisons to compare: those in `ACTIVITY_PRISONS`, else those that NOMIS lists, else those that DPS lists."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from reports.engine.parallel_reader import FailedRead
from reports.engine.units import UnlistedPart
from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream import prisons

if TYPE_CHECKING:
    from reports.engine.reconciliation import Reads
    from sync.settings.declaration import Settings
    from sync.upstream.services import Services


def prisons_with_activities(
    services: Services, settings: Settings, reads: Reads
) -> tuple[tuple[str, ...], tuple[UnlistedPart, ...]]:
    """The prisons that use activities, in alphabetical order, and gaps for prisons in the setting that do not use them.

    Raises `SyncError` if the prisons cannot be listed: an `UpstreamError` with `no_route` if no service has such a
    list.
    """
    if settings.activity_prisons:
        return _checked(settings.activity_prisons, services, reads)
    switched_on = _switched_on(services, reads)
    if switched_on is None or prisons.EVERY_PRISON in switched_on:
        plans = reads.one(UpstreamName.ACTIVITIES, lambda: prisons.rollout_plans(services[UpstreamName.ACTIVITIES]))
        switched_on = tuple(plan.prison_code for plan in plans if plan.activities_rolled_out)
    return tuple(sorted(set(switched_on))), ()


def _switched_on(services: Services, reads: Reads) -> tuple[str, ...] | None:
    """The agencies for which NOMIS has switched activities on, or None if NOMIS is too old to list them."""
    for read in (prisons.switched_on, prisons.service_prisons):
        try:
            return reads.one(UpstreamName.NOMIS, partial(read, services.nomis, prisons.ACTIVITY))
        except UpstreamError as error:
            if not error.no_route:
                raise
    return None


def _checked(
    wanted: tuple[str, ...], services: Services, reads: Reads
) -> tuple[tuple[str, ...], tuple[UnlistedPart, ...]]:
    """The `wanted` prisons that use activities, and the others as gaps.

    A prison is kept if its rollout plan cannot be read.
    """
    client = services[UpstreamName.ACTIVITIES]
    found, gaps = [], []
    for prison_id, plan in reads.each(
        UpstreamName.ACTIVITIES, lambda prison_id: prisons.rollout_plan(client, prison_id), sorted(set(wanted))
    ):
        if isinstance(plan, FailedRead) or (plan is not None and plan.activities_rolled_out):
            found.append(prison_id)
            continue
        reason = "DPS does not know the prison" if plan is None else "DPS has no activities at the prison yet"
        gaps.append(UnlistedPart(f"prison {prison_id} in ACTIVITY_PRISONS", reason, {"prison": prison_id}))
    return tuple(found), tuple(gaps)

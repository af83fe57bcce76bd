"""Decides whether a run is plausible, from how much is unread, how small the population is, and how much differs.

If everything is gone, the service has probably lost its data, or something else responds in its place. If too much
differs, the likely cause is a deployment, a data refresh, a changed contract or wrong credentials, rather than a
separate cause for each difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync.errors import SyncError

if TYPE_CHECKING:
    from reports.engine.units import Population
    from sync.settings.declaration import Settings

#: A population that is not empty is plausible if it has at least this share of the records that an earlier run listed,
#: or if that run listed fewer records than `FEWEST_LISTED`.
SMALLEST_SHARE = 0.5
FEWEST_LISTED = 20
#: The share of unread records is checked if at least this many records, or all of them, are unread.
_SHARE_CHECKED_FROM = 20


class RunGaveUp(SyncError):
    """Too much could not be read for the result to be of use."""


def check_unread_share(unread: int, total: int, counted: str, settings: Settings, down: str | None) -> None:
    """Raises `RunGaveUp` if too many records of a run could not be read for its result to be of use.

    counted: what is counted, in the plural. down: why a service did not respond, or None if every service
    responded.
    """
    most = settings.reconciliation_max_unreadable_percent
    if unread >= min(_SHARE_CHECKED_FROM, total) and unread * 100 > most * total:
        why = f": {down}" if down else ""
        raise RunGaveUp(f"more than {most:g}% of {total:,} {counted} could not be read{why}")


def why_emptied(population: Population, counted: str, earlier: int | None, listed_before: int | None) -> str | None:
    """Why a population is implausible, as a clause, or None if it is plausible.

    It is implausible if it is empty although an earlier one was not, or if it is less than half as large as an earlier
    one of at least `FEWEST_LISTED` records. Accepting it would resolve every difference of the records that are missing
    from it. If no service says how many records there are, there must be at least one unit, unless `earlier` is 0. A
    population with gaps is not judged.

    counted: what is counted, in the plural. earlier: how many records an earlier run listed, or None if there is no
    such run. listed_before: how many records were listed by the last run that began at least a day before this run, or
    None if there is no such run. If that run also listed less than half of `earlier`, a population that is not empty is
    plausible.
    """
    if population.gaps:
        return None
    if population.total is None and all(unit.size == 1 for unit in population.units):
        counted = f"parts with {counted}"
    listed = sum(unit.size for unit in population.units) + len(population.unread)
    total = listed if population.total is None else population.total
    if not total and listed:
        return f"no {counted} are listed, but this run had found {listed:,} before"
    if not total and earlier:
        return f"no {counted} are listed, but an earlier run listed {earlier:,}"
    if not listed and population.total is None and earlier != 0:
        # A prison may have no records, but there must be a prison.
        return f"no {counted} are listed"
    least = SMALLEST_SHARE * (earlier or 0)
    if (earlier or 0) >= FEWEST_LISTED and listed < least and (listed_before is None or listed_before >= least):
        return f"{listed:,} {counted} are listed, but an earlier run listed {earlier:,}"
    return None


def why_suspicious(different: int, compared: int, settings: Settings) -> str | None:
    """Why a run has unusually many differences, as a clause, or None if it does not.

    different: the number of confirmed differences. compared: the number of records with both sides known.
    """
    percent = settings.reconciliation_suspicious_percent
    if different <= settings.reconciliation_suspicious_count or different * 100 <= percent * compared:
        return None
    return (
        f"{different:,} of {compared:,} differ, more than {percent:g}%: look for one common cause first, such as a "
        "deployment, a data refresh, a changed contract or wrong credentials"
    )

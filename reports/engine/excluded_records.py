"""The records on the list of exclusions, as a run found them, and the entries that can be removed from the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.engine import result as results
from reports.engine.frame import keys_of, records
from reports.engine.units import key_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from reports.engine.exclusions import Exclusion, Exclusions
    from reports.engine.recheck import Rechecked
    from reports.engine.reconciliation import Reconciliation
    from reports.engine.result_parts import ResultParts
    from reports.engine.units import UnreadRecord


def excluded_records(
    parts: ResultParts,
    exclusions: Exclusions,
    final: pd.DataFrame,
    rechecked: Rechecked,
    unread: Sequence[UnreadRecord],
    first: pd.DataFrame,
) -> list[results.Excluded]:
    """The excluded records that a run compared or could not read, sorted by booking id, then by the key of the entry.

    final: all rows that were compared. unread: all records and units that could not be read. first: the rows that
    differed in the first reading, with the columns `kind` and `differs`.
    """
    if not exclusions:
        return []
    reconciliation = parts.reconciliation
    differing = {**rechecked.confirmed, **{key: each for key, (each, _) in rechecked.in_flight.items()}}
    found: dict[str, tuple[Exclusion, dict[str, Any]]] = {}
    for row in records(final[exclusions.among(final, reconciliation.key)]):
        key = {column: row[column] for column in reconciliation.key}
        exclusion = exclusions.find(key)
        if exclusion is None:
            continue
        difference = differing.get(key_text(key))
        if difference is not None:
            values = parts.record(difference.row, difference.kind, difference.differs)
            values |= {"reason": exclusion.reason, "still_differs": True}
        elif key_text(key) in rechecked.ignored:
            values = parts.record(row) | {"reason": exclusion.reason, "still_differs": True}
        else:
            values = parts.record(row) | {"reason": reconciliation.exclusion_unneeded, "still_differs": False}
        found[key_text(key)] = (exclusion, values)
    seen = dict(zip(keys_of(first, reconciliation.key), records(first), strict=True)) if unread else {}
    for each in unread:
        exclusion = exclusions.find(each.key)
        if exclusion is None:
            continue
        known = seen.get(key_text(each.key))
        values = {} if known is None else parts.record(known, known["kind"], known["differs"])
        values |= {"key": each.key, "offender_no": each.offender_no, "booking_id": each.key.get("booking_id")}
        values |= {"reason": exclusion.reason, "still_differs": True, "unread": each.reason}
        found[key_text(each.key)] = (exclusion, values)
    in_order = sorted(found.values(), key=lambda each: (each[1].get("booking_id") or 0, str(each[0].key)))
    return [parts.part(results.Excluded, {**values, "since": exclusion.since}) for exclusion, values in in_order]


def unneeded_exclusions(
    reconciliation: Reconciliation,
    exclusions: Exclusions,
    excluded: Sequence[results.Excluded],
    listed: pd.DataFrame | None,
    rechecked: Rechecked,
    unread: Sequence[UnreadRecord],
) -> tuple[str, ...]:
    """A line for each entry that can be removed from the list.

    An entry can be removed if the sides agree on its record, or if the record is certainly no longer in the population.

    excluded: what `excluded_records` found. listed: all rows that were read, or None if they are not the whole
    population. unread: all records and units that could not be read.
    """
    by_booking = list(reconciliation.key) == ["booking_id"]

    def named(each: results.Excluded) -> str:
        key = f"booking {each.booking_id}" if by_booking else "/".join(str(value) for value in each.key.values())
        return f"{each.offender_no}, {key}" if each.offender_no else key

    agree = [named(each) for each in excluded if not each.still_differs]
    if not exclusions or listed is None:
        return tuple(agree)
    here = listed[exclusions.among(listed, reconciliation.key)]
    keys = [{column: row[column] for column in reconciliation.key} for row in records(here)]
    found = [exclusions.find(key) for key in keys if key_text(key) not in rechecked.gone]
    found += [exclusions.find(each.key) for each in unread]
    gone = sorted((each for each in exclusions if each not in found), key=lambda each: str(each.key).rjust(40))
    if by_booking:
        return (*agree, *(f"booking {each.key}, which is not active" for each in gone))
    return (*agree, *(f"{each.key}, which is not among the {reconciliation.counted}" for each in gone))

"""Makes the parts of a result from the rows of a frame."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pandas as pd

from reports.engine import result as results

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reports.engine.reconciliation import Reconciliation
    from reports.engine.result import Part
    from reports.engine.units import UnreadRecord

_APart = TypeVar("_APart", bound="Part")


class ResultParts:
    """Makes the parts of a reconciliation's results, using the reconciliation's own classes if it declares any."""

    def __init__(self, reconciliation: Reconciliation) -> None:
        self.reconciliation = reconciliation

    def part(self, kind: type[_APart], values: Mapping[str, Any]) -> _APart:
        """A part of a result.

        kind: the general class of the part; if the reconciliation declares a subclass, the part is of that subclass.
        values: the values of the part's fields, by name.
        """
        return cast("_APart", self.reconciliation.parts.get(kind, kind).model_validate(values))

    def record(self, row: Mapping[str, Any], kind: str = "", differs: Sequence[str] = ()) -> dict[str, Any]:
        """The values of a `Record`, by the names of its fields.

        row: the values of a row of the frame by column, with None for NA. kind: a code of `Reconciliation.kinds`, or
        empty if nothing differs. differs: the names of the fields that differ.
        """
        reconciliation = self.reconciliation
        fields = [
            (
                each.name in differs,
                results.FieldValues(
                    field=each.name, nomis=_shown(row[f"nomis_{each.name}"]), dps=_shown(row[f"dps_{each.name}"])
                ),
            )
            for each in reconciliation.fields
        ]
        missing = None if not kind or row["in_nomis"] == row["in_dps"] else "DPS" if row["in_nomis"] else "NOMIS"
        return {
            "key": {column: row[column] for column in reconciliation.key if row[column] is not None},
            "offender_no": row["offender_no"],
            "booking_id": row["booking_id"],
            "prison_id": row["prison_id"],
            "kind": kind,
            "missing_in": missing,
            "differences": tuple(values for different, values in fields if different),
            "other_fields": tuple(values for different, values in fields if not different),
            **reconciliation.record_values(row),
        }

    def unread(self, unread: UnreadRecord) -> results.Unread:
        """A record or unit that could not be read, as a part of a result."""
        values = {
            "key": unread.key,
            "offender_no": unread.offender_no,
            "booking_id": unread.key.get("booking_id"),
            "prison_id": unread.key.get("prison_id"),
            "side": unread.side,
            "reason": unread.reason,
            "network": unread.network,
        }
        return self.part(results.Unread, {**values, **unread.detail})


def _shown(value: Any) -> Any:
    """`value` as results show it: dates and date-times in ISO 8601, other values unchanged."""
    return value.isoformat() if isinstance(value, date) else value


def prison_counts(final: pd.DataFrame, mismatches: Sequence[results.Mismatch]) -> tuple[results.PrisonCount, ...]:
    """The numbers of compared records, mismatches and new mismatches at each prison, sorted by prison code.

    The numbers for an unknown prison come last. final: the rows of all compared records; only the column `prison_id`
    (`string`) is read.
    """
    found = pd.Series([each.prison_id for each in mismatches], dtype="string")
    new = pd.Series([each.prison_id for each in mismatches if each.standing == "new"], dtype="string")
    compared, differing, fresh = (_counts(each) for each in (final["prison_id"], found, new))
    names = sorted({*compared, *differing}, key=lambda name: (name is None, name or ""))
    return tuple(
        results.PrisonCount(
            prison_id=name, compared=compared.get(name, 0), mismatches=differing.get(name, 0), new=fresh.get(name, 0)
        )
        for name in names
    )


def _counts(prisons: pd.Series[str]) -> dict[str | None, int]:
    counted: dict[str | None, int] = {str(name): int(count) for name, count in prisons.value_counts().items()}
    unknown = int(prisons.isna().sum())
    return counted | {None: unknown} if unknown else counted

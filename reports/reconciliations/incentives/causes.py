"""The probable causes of a difference: one text for each, wherever it is named, and what is generally done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reports.engine.result import RightSide


@dataclass(frozen=True, slots=True)
class Cause:
    """A row of the decision table; `action` is general, each difference has its own with its commands."""

    text: str
    right_side: RightSide
    action: str


#: By their numbers, in the order in which they are tried.
CAUSES: Mapping[int, Cause] = {
    1: Cause(
        "the review is not written to NOMIS yet: its message waits",
        "DPS",
        "Retry the dead letter queue.",
    ),
    2: Cause(
        "the event of the review was lost, or failed",
        "DPS",
        "Look on the dead letter queue; else write the DPS level to NOMIS.",
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
        "Ask NOMIS support to delete the surplus record.",
    ),
    6: Cause(
        "two reviews in quick succession were written in the wrong order",
        "DPS",
        "Write the DPS level to NOMIS again.",
    ),
    7: Cause(
        "the level was changed on the NOMIS screen, and DPS missed the change",
        "NOMIS",
        "Hand over to the incentives team.",
    ),
    8: Cause(
        "a review was edited or deleted in DPS",
        "DPS",
        "Write the DPS level to NOMIS again, or ask NOMIS support to delete what is left over.",
    ),
    9: Cause(
        "the histories belong to different bookings: a prisoner merge",
        "unknown",
        "Look at both histories by hand.",
    ),
    10: Cause(
        "unknown",
        "unknown",
        "Look at both histories by hand.",
    ),
}

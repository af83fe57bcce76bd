"""What a person has to do about an alert, a finding or a report: how soon to act, and which command to type.

The names of the severity levels come from the replaced service's runbook for duplicates, and are stored with findings.
"""

from __future__ import annotations

import shlex
from enum import StrEnum


class Severity(StrEnum):
    """The severity levels, most serious first.

    Earlier versions of the program stored some alerts with `high` instead of `serious`.
    """

    #: Somebody is harmed, or nothing is compared or written at all.
    SERIOUS = "serious"
    #: Something is wrong and will stay wrong.
    MEDIUM = "medium"
    #: Something is untidy, but harms nobody.
    LOW = "low"
    #: Nothing is wrong.
    INFO = "info"

    @classmethod
    def _missing_(cls, value: object) -> Severity | None:
        return cls.SERIOUS if value == "high" else None

    @property
    def act(self) -> str:
        """A phrase that says how soon a person has to act, such as `act today`."""
        return _ACT[self]


_ACT = {
    Severity.SERIOUS: "act now",
    Severity.MEDIUM: "act today",
    Severity.LOW: "act this week",
    Severity.INFO: "nothing to do",
}


#: The command that shows a finding about duplicates; `{id}` is the number of the finding.
SHOW_DUPLICATE = "prisoner-to-nomis duplicates show {id}"


def command(*words: object) -> str:
    """The command `prisoner-to-nomis` with the arguments `words`, as a person types it.

    Arguments are quoted where necessary, so that a shell never runs text that came from outside the program.
    """
    return shlex.join(["prisoner-to-nomis", *map(str, words)])


def arguments_of(text: str) -> tuple[str, ...]:
    """The arguments in `text`, a line that the function `command` made. The name of the program is left out."""
    return tuple(shlex.split(text)[1:])

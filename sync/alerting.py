"""What a person has to do about an alert, a finding or a report: how soon to act, and which command to type.

The words for the levels come from the replaced service's runbook for duplicates, and are stored with findings.
"""

from __future__ import annotations

import shlex
from enum import StrEnum


class Severity(StrEnum):
    """The levels of severity, most serious first.

    Earlier versions stored some alerts with `high` instead of `serious`.
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
        """When a person has to act."""
        return _ACT[self]

    @property
    def raised(self) -> Severity:
        """The next more serious level; `serious` stays as it is."""
        levels = list(Severity)
        return levels[max(levels.index(self) - 1, 0)]


_ACT = {
    Severity.SERIOUS: "act now",
    Severity.MEDIUM: "act today",
    Severity.LOW: "act this week",
    Severity.INFO: "nothing to do",
}


#: The command that shows a finding about duplicates; `{id}` is the number of the finding.
SHOW_DUPLICATE = "prisoner-to-nomis duplicates show {id}"


def command(*words: object) -> str:
    """A command as a person types it. Its words are quoted, so that a shell cannot run text from outside."""
    return shlex.join(["prisoner-to-nomis", *map(str, words)])


def arguments_of(text: str) -> tuple[str, ...]:
    """The words of a command that `command` made, without the name of the program."""
    return tuple(shlex.split(text)[1:])

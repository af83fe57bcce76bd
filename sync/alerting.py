"""What an alert, a finding or a report asks of a person: how soon to act, and which command to type.

The words of the scale are those of the replaced service's runbook for duplicates, and are stored with findings.
"""

from __future__ import annotations

import shlex
from enum import StrEnum


class Severity(StrEnum):
    """A level of the scale, the most serious first. Earlier versions stored `high` for `serious` with some alerts."""

    #: Somebody is harmed, or nothing is compared or written at all.
    SERIOUS = "serious"
    #: Something is wrong and stays so.
    MEDIUM = "medium"
    #: Something is untidy and harms nobody.
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


#: Shows a finding about duplicates; `{id}` is its number.
SHOW_DUPLICATE = "prisoner-to-nomis duplicates show {id}"


def command(*words: object) -> str:
    """A command as it is typed; words from elsewhere are quoted, so that a shell cannot run them."""
    return shlex.join(["prisoner-to-nomis", *map(str, words)])


def arguments_of(text: str) -> tuple[str, ...]:
    """The words of a text that `command` made, without the program."""
    return tuple(shlex.split(text)[1:])

"""How serious something is: the one scale of alerts, findings and reports, each level by when a person has to act.

The words are those of the runbook of the replaced service for duplicates, and are stored with findings.
"""

from __future__ import annotations

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

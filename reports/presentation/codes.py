"""What the codes of other systems mean that occur in a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of a kind that occur, each with its meaning, which is empty where it is not known."""

    title: str
    rows: tuple[tuple[str, str], ...]
    note: str = ""

    @property
    def known(self) -> tuple[tuple[str, str], ...]:
        """The codes with a meaning."""
        return tuple((code, meaning) for code, meaning in self.rows if meaning)

    @property
    def unknown(self) -> tuple[str, ...]:
        """The codes without one."""
        return tuple(code for code, meaning in self.rows if not meaning)


def named_codes(title: str, meanings: Mapping[str, str], found: Iterable[str | None]) -> Codes:
    """The codes of `found`, those with a meaning first and in its order; None and empty texts do not count as codes."""
    occurring = {code for code in found if code}
    usual = [code for code in meanings if code in occurring]
    return Codes(title, tuple((code, meanings.get(code, "")) for code in [*usual, *sorted(occurring - {*usual})]))

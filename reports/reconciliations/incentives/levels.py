"""Codes of levels and prisons, validated before they are compared."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from sync.domains.incentives import dps as incentives_api
from sync.failures import RuleError

if TYPE_CHECKING:
    from sync.upstream.transport import ServiceClient

#: The longest code of a level, and of a prison.
LONGEST_LEVEL = 12
LONGEST_PRISON = 6


def names_to_codes(incentives: ServiceClient) -> dict[str, str]:
    """The code of each level name of DPS, inactive levels included; names that two levels share are left out.

    Raises `UpstreamError` when the levels cannot be read.
    """
    codes: dict[str, str] = {}
    shared: set[str] = set()
    for level in incentives_api.levels(incentives):
        if level.name in codes:
            shared.add(level.name)
        if is_code(level.code, LONGEST_LEVEL):
            codes[level.name] = level.code
        else:
            # A prisoner with this level is read singly, and reported.
            shared.add(level.name)
    return {name: code for name, code in codes.items() if name not in shared}


@lru_cache(maxsize=4_000)
def is_code(text: str, longest: int) -> bool:
    """Whether a text is a code: printable, without blanks, and no longer than the columns that keep it."""
    return 0 < len(text) <= longest and text.isprintable() and " " not in text


def level_code(code: object, response: str) -> str:
    """A valid level code; raises `RuleError`, which names the `response`, for anything else."""
    if not isinstance(code, str) or not is_code(code, LONGEST_LEVEL):
        raise RuleError(f"{response}: the level is not a code of 1 to {LONGEST_LEVEL} characters")
    return code


def prison_code(code: object, response: str) -> str | None:
    """A valid prison code, or None; raises `RuleError` as `level_code` does."""
    if code is None:
        return None
    if not isinstance(code, str) or not is_code(code, LONGEST_PRISON):
        raise RuleError(f"{response}: the prison is not a code of 1 to {LONGEST_PRISON} characters")
    return code


def level_of_record(body: object, booking_id: int) -> tuple[str, str | None]:
    """Level code and prison of an IEP record as NOMIS gives it.

    Raises `RuleError` for the record of another booking, or an invalid code.
    """
    response = f"nomis: GET /incentives/booking-id/{booking_id}/current"
    if not isinstance(body, dict) or body.get("bookingId") != booking_id:
        raise RuleError(f"{response}: the response is not a record of this booking")
    level = body.get("iepLevel")
    code = level_code(level.get("code") if isinstance(level, dict) else None, response)
    return code, prison_code(body.get("prisonId"), response)

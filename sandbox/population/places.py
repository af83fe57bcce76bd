"""Rooms, visitors, sentences and visit balances that follow from the one population.

They are worked out from ids instead of being stored, so a large population costs nothing until it is read.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

LETTERS: Final = string.ascii_uppercase
FIRST_LOCATION: Final = 21_000
LOCATIONS_OF_A_PRISON: Final = 20
#: The living units, one for each booking; nothing but their numbers is known.
FIRST_LIVING_UNIT: Final = 5_000_000
#: How the DPS id of a location continues after its number.
DPS_ID: Final = "-7c1e-4b0a-9d52-3f6a8e214c70"
FIRST_PERSON: Final = 4_700_000
PERSONS: Final = 60_000
ROOMS: Final = (
    ("EDU-ROOM-1", "Education - R1"),
    ("EDU-ROOM-2", "Education - R2"),
    ("WORKSHOP-1", "Workshop 1"),
    ("WORKSHOP-2", "Workshop 2"),
    ("KITCHEN", "Kitchen"),
    ("GYM", "Gymnasium"),
    ("CHAPEL", "Chapel"),
    ("LIBRARY", "Library"),
    ("HEALTH", "Health Care"),
    ("VCC-ROOM-1", "Video Court Room 1"),
    ("OMU", "Offender Management Unit"),
    ("INDUCTION", "Induction Room"),
)


@dataclass(frozen=True, slots=True)
class Location:
    """A room inside a prison."""

    id: int
    code: str
    description: str
    prison_id: str


@dataclass(slots=True)
class Balance:
    """How many visit orders a booking has left: ordinary and privileged."""

    ordinary: int
    privileged: int


class Places:
    """The internal locations of every prison, and which visitors, sentences and balances exist."""

    def __init__(self) -> None:
        """Start with every balance as it was given out."""
        self._balances: dict[int, Balance | None] = {}

    def in_prison(self, prison_id: str) -> list[Location]:
        """The rooms of a prison; the code alone decides their ids."""
        first = FIRST_LOCATION + _place_of(prison_id) * LOCATIONS_OF_A_PRISON
        return [
            Location(first + offset, f"{prison_id}-{code}", description, prison_id)
            for offset, (code, description) in enumerate(ROOMS)
        ]

    def location(self, location_id: int) -> Location | None:
        """The room with this id, None when there is none."""
        place, offset = divmod(location_id - FIRST_LOCATION, LOCATIONS_OF_A_PRISON)
        if not 0 <= place < len(LETTERS) ** 3 or offset >= len(ROOMS):
            return None
        code, description = ROOMS[offset]
        prison_id = _code_of(place)
        return Location(location_id, f"{prison_id}-{code}", description, prison_id)

    def living_unit(self, booking_id: int) -> int:
        """Where the prisoner of a booking lives: the number of a location that is not a room."""
        return FIRST_LIVING_UNIT + booking_id

    def dps_location_id(self, location_id: int) -> str:
        """The id by which DPS knows a room."""
        return f"{location_id:08x}{DPS_ID}"

    def location_of_dps(self, dps_location_id: str) -> Location | None:
        """The room that DPS knows by this id, None when there is none."""
        number, rest = dps_location_id[:8], dps_location_id[8:]
        known = rest == DPS_ID and all(each in string.hexdigits for each in number)
        return self.location(int(number, 16)) if known else None

    def person_exists(self, person_id: int) -> bool:
        """Tell whether NOMIS knows this visitor."""
        return FIRST_PERSON <= person_id < FIRST_PERSON + PERSONS

    def sentence_exists(self, booking_id: int, sequence: int) -> bool:
        """Tell whether a booking has this sentence; bookings have one to three."""
        return 1 <= sequence <= self.sentences(booking_id)

    def sentences(self, booking_id: int) -> int:
        """How many sentences a booking has."""
        return 1 + booking_id % 3

    def balance(self, booking_id: int) -> Balance | None:
        """The visit balance of a booking, None for one on remand (about a fifth)."""
        if booking_id not in self._balances:
            remand = booking_id % 5 == 0
            self._balances[booking_id] = None if remand else Balance(booking_id % 7, booking_id % 3)
        return self._balances[booking_id]


def _place_of(prison_id: str) -> int:
    first, second, third = (LETTERS.index(letter) for letter in prison_id)
    return (first * len(LETTERS) + second) * len(LETTERS) + third


def _code_of(place: int) -> str:
    rest, third = divmod(place, len(LETTERS))
    first, second = divmod(rest, len(LETTERS))
    return LETTERS[first] + LETTERS[second] + LETTERS[third]

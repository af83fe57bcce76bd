"""The population, generated from a seed: people with bookings in prisons of different sizes, and related records.

The related records are the prisons' rooms, the visitors, and the sentences and visit balances of the bookings.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sandbox.population.levels import nomis_copy, prison_levels

if TYPE_CHECKING:
    from sandbox.world import World

OLD_BOOKINGS = range(600_001, 1_100_000)
NEW_BOOKINGS = range(1_100_000, 1_250_000)
OLD_SHARE = 0.3
SMALLEST_PRISON, LARGEST_PRISON, USUAL_PRISON = 10, 1700, 400
PRISONERS_TO_OPEN_ANOTHER_PRISON = 10
FEWEST_PRISONS = 5
#: Prisoner numbers have no I and no O.
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_PRISONS = """
    ACI AGI AKI ALI ASI AWI AYI BAI BCI BDI BFI BHI BKI BLI BMI BNI BRI BSI BTI BUI BWI BXI BZI CDI CFI
    CHI CKI CLI CSI CWI CYI DAI DHI DMI DNI DRI DTI DVI DWI EEI EHI ESI EVI EWI EXI EYI FBI FDI FHI FKI
    FMI FNI FSI FWI FYI GHI GLI GMI GNI GPI GTI HBI HCI HDI HEI HGI HHI HII HLI HMI HOI HPI HRI HVI HYI
    ISI IWI KMI KTI KVI LAI LCI LEI LFI LHI LII LLI LMI LNI LPI LTI LWI LYI MDI MHI MRI MSI MTI MWI NEI
    NHI NLI NMI NNI NSI NWI ONI OWI PBI PDI PFI PKI PNI PRI PTI PVI PYI RCI RDI RHI RNI RSI SDI SFI SHI
    SKI SLI SMI SNI SPI STI SUI SWI SYI TCI TSI UKI UPI VEI WBI WCI WDI WEI WHI WII WLI WMI WNI WOI WRI
    WSI WTI WWI WYI
"""
PRISON_CODES = tuple(_PRISONS.split())
ALWAYS_OPEN = (
    "MDI",
    "LEI",
    "PVI",
    "BXI",
    "BMI",
    "RNI",
    "HEI",
    "BLI",
    "PDI",
    "GNI",
    "SLI",
    "AGI",
    "ISI",
    "WNI",
    "BHI",
    "FDI",
)
CLOSED = ("SYI",)


@dataclass(frozen=True, slots=True)
class Prison:
    """A prison; `open` is false for a prison that holds nobody, although NOMIS and DPS still know it."""

    code: str
    open: bool


@dataclass(slots=True)
class Prisoner:
    """A person with a booking. `prison_id` is the person's latest prison; `active` is false after a release."""

    offender_no: str
    booking_id: int
    prison_id: str
    active: bool = True

    @property
    def agency(self) -> str:
        """The agency at which NOMIS has the person now: the prison, or `OUT` after a release."""
        return self.prison_id if self.active else "OUT"


def make_prisons(chance: random.Random, count: int) -> dict[str, Prison]:
    """Returns all prisons by code; `count` of them are open."""
    others = [code for code in PRISON_CODES if code not in ALWAYS_OPEN and code not in CLOSED]
    chosen = {*ALWAYS_OPEN, *chance.sample(others, count - len(ALWAYS_OPEN))}
    return {code: Prison(code, code in chosen) for code in PRISON_CODES}


def set_up_levels(world: World, chance: random.Random) -> None:
    """Sets up every prison's levels in the incentives API, and in NOMIS those levels that NOMIS knows."""
    for prison_id in world.prisons:
        for level in prison_levels(prison_id, chance):
            world.incentives.prison_levels[prison_id, level.code] = level
            if level.code in world.nomis_incentives.codes:
                world.nomis_incentives.prison_levels[prison_id, level.code] = nomis_copy(level)


def make_people(world: World, count: int, chance: random.Random) -> None:
    """Adds `count` people with active bookings to the world; a small `count` leaves some open prisons empty."""
    open_prisons = [prison.code for prison in world.prisons.values() if prison.open]
    wanted = min(len(open_prisons), max(FEWEST_PRISONS, count // PRISONERS_TO_OPEN_ANOTHER_PRISON))
    used = chance.sample(open_prisons, wanted)
    weights = [chance.triangular(SMALLEST_PRISON, LARGEST_PRISON, USUAL_PRISON) for _ in used]
    places = chance.choices(used, weights, k=count)
    old = int(count * OLD_SHARE)
    bookings = sorted([*chance.sample(OLD_BOOKINGS, old), *chance.sample(NEW_BOOKINGS, count - old)])
    for booking_id, prison_id in zip(bookings, places, strict=True):
        world.add_prisoner(Prisoner(new_offender_no(world, chance), booking_id, prison_id))


def new_offender_no(world: World, chance: random.Random) -> str:
    """Returns an unused prisoner number, such as `A1234BC`."""
    while True:
        first = "A" if chance.random() < 0.6 else "G"
        drawn = int(chance.random() * 5_760_000)
        digits, letters = divmod(drawn, 576)
        one, two = divmod(letters, 24)
        found = f"{first}{digits:04d}{LETTERS[one]}{LETTERS[two]}"
        if found not in world.by_offender:
            return found


CODE_LETTERS: Final = string.ascii_uppercase
FIRST_LOCATION: Final = 21_000
LOCATIONS_OF_A_PRISON: Final = 20
#: The first number of a living unit; each booking has one living unit, of which only the number is known.
FIRST_LIVING_UNIT: Final = 5_000_000
#: The end of a location's DPS id, after its number.
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
    """A room inside a prison; `id` is its NOMIS id."""

    id: int
    code: str
    description: str
    prison_id: str


@dataclass(slots=True)
class Balance:
    """How many ordinary and privileged visit orders a booking has left."""

    ordinary: int
    privileged: int


class Places:
    """The internal locations of every prison, and which visitors, sentences and balances exist."""

    def __init__(self) -> None:
        """Starts with no visit orders used up."""
        self._balances: dict[int, Balance | None] = {}

    def in_prison(self, prison_id: str) -> list[Location]:
        """The rooms of a prison; their ids depend only on the prison's code."""
        first = FIRST_LOCATION + _place_of(prison_id) * LOCATIONS_OF_A_PRISON
        return [
            Location(first + offset, f"{prison_id}-{code}", description, prison_id)
            for offset, (code, description) in enumerate(ROOMS)
        ]

    def location(self, location_id: int) -> Location | None:
        """The room with this NOMIS id, or None if there is none."""
        place, offset = divmod(location_id - FIRST_LOCATION, LOCATIONS_OF_A_PRISON)
        if not 0 <= place < len(CODE_LETTERS) ** 3 or offset >= len(ROOMS):
            return None
        code, description = ROOMS[offset]
        prison_id = _code_of(place)
        return Location(location_id, f"{prison_id}-{code}", description, prison_id)

    def living_unit(self, booking_id: int) -> int:
        """The NOMIS id of the location where a booking's prisoner lives; this location is not one of the `ROOMS`."""
        return FIRST_LIVING_UNIT + booking_id

    def dps_location_id(self, location_id: int) -> str:
        """The id that DPS uses for a room."""
        return f"{location_id:08x}{DPS_ID}"

    def location_of_dps(self, dps_location_id: str) -> Location | None:
        """The room with this DPS id, or None if there is none."""
        number, rest = dps_location_id[:8], dps_location_id[8:]
        known = rest == DPS_ID and all(each in string.hexdigits for each in number)
        return self.location(int(number, 16)) if known else None

    def person_exists(self, person_id: int) -> bool:
        """Whether NOMIS has a visitor with this person id."""
        return FIRST_PERSON <= person_id < FIRST_PERSON + PERSONS

    def sentence_exists(self, booking_id: int, sequence: int) -> bool:
        """Whether a booking has a sentence with this sequence number; each booking has one to three sentences."""
        return 1 <= sequence <= self.sentences(booking_id)

    def sentences(self, booking_id: int) -> int:
        """Returns how many sentences a booking has; each sentence adjustment applies to one of them."""
        return 1 + booking_id % 3

    def balance(self, booking_id: int) -> Balance | None:
        """The visit balance of a booking, or None for a booking on remand (about a fifth of all bookings)."""
        if booking_id not in self._balances:
            remand = booking_id % 5 == 0
            self._balances[booking_id] = None if remand else Balance(booking_id % 7, booking_id % 3)
        return self._balances[booking_id]


def _place_of(prison_id: str) -> int:
    first, second, third = (CODE_LETTERS.index(letter) for letter in prison_id)
    return (first * len(CODE_LETTERS) + second) * len(CODE_LETTERS) + third


def _code_of(place: int) -> str:
    rest, third = divmod(place, len(CODE_LETTERS))
    first, second = divmod(rest, len(CODE_LETTERS))
    return CODE_LETTERS[first] + CODE_LETTERS[second] + CODE_LETTERS[third]

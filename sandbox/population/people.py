"""The population: people with a booking in prisons of uneven size, drawn from the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.population.levels import nomis_copy, prison_levels

if TYPE_CHECKING:
    from sandbox.world import World

OLD_BOOKINGS = range(600_001, 1_100_000)
NEW_BOOKINGS = range(1_100_000, 1_250_000)
OLD_SHARE = 0.3
SMALLEST_PRISON, LARGEST_PRISON, USUAL_PRISON = 10, 1700, 400
PRISONERS_TO_OPEN_ANOTHER_PRISON = 10
FEWEST_PRISONS = 5
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
    """A prison; `open` is false for one that NOMIS and DPS still know but that holds nobody."""

    code: str
    open: bool


@dataclass(slots=True)
class Prisoner:
    """A person with a booking. `prison_id` is where the person is now; `active` is false after a release."""

    offender_no: str
    booking_id: int
    prison_id: str
    active: bool = True


def make_prisons(chance: random.Random, count: int) -> dict[str, Prison]:
    """Return every prison by code, that many of them open."""
    others = [code for code in PRISON_CODES if code not in ALWAYS_OPEN and code not in CLOSED]
    chosen = {*ALWAYS_OPEN, *chance.sample(others, count - len(ALWAYS_OPEN))}
    return {code: Prison(code, code in chosen) for code in PRISON_CODES}


def set_up_levels(world: World, chance: random.Random) -> None:
    """Set up the levels of every prison in the incentives API, and in NOMIS those that NOMIS knows."""
    for prison_id in world.prisons:
        for level in prison_levels(prison_id, chance):
            world.incentives.prison_levels[prison_id, level.code] = level
            if level.code in world.nomis_incentives.codes:
                world.nomis_incentives.prison_levels[prison_id, level.code] = nomis_copy(level)


def make_people(world: World, count: int, chance: random.Random) -> None:
    """Take that many people with an active booking into the world; a small world uses fewer prisons."""
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
    """Return a number that nobody has yet, such as `A1234BC`."""
    while True:
        first = "A" if chance.random() < 0.6 else "G"
        drawn = int(chance.random() * 5_760_000)
        digits, letters = divmod(drawn, 576)
        one, two = divmod(letters, 24)
        found = f"{first}{digits:04d}{LETTERS[one]}{LETTERS[two]}"
        if found not in world.by_offender:
            return found

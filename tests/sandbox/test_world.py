"""The population of a world: it is the same for the same seed, and changes with releases and receptions.

Prisoners are spread unevenly over the prisons.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from datetime import date

import pytest

from sandbox import Sandbox
from sandbox.options import Options
from sandbox.world import World
from tests.harness.sandboxes import Caller

DAY = date(2023, 5, 22)


def contents(seed: int, prisoners: int = 300) -> dict[str, object]:
    """Returns the people, incentives, mappings and planted differences of a new world."""
    world = World(Options(prisoners=prisoners, seed=seed, today=DAY, every_cause=True))
    return {
        "people": [asdict(each) for each in world.prisoners],
        "records": [asdict(each) for records in world.nomis_incentives.records.values() for each in records],
        "reviews": [asdict(each) for each in world.incentives.reviews.values()],
        "mappings": {row.dps_id: row.nomis_id for row in world.mapping.rows("incentives")},
        "prison levels": [asdict(each) for each in world.incentives.prison_levels.values()],
        "planted": world.plan.view(),
    }


def test_the_same_seed_gives_the_same_world() -> None:
    """Equal options, including the day, give equal worlds. Another seed gives another world."""
    assert contents(7) == contents(7)
    assert contents(7)["people"] != contents(8)["people"]


def test_population_looks_like_the_real_one() -> None:
    """Prisoner numbers have the right format, and the 120 prisons differ in size.

    The shares of the levels are roughly the usual ones.
    """
    world = World(Options(prisoners=12_000, today=DAY))
    assert all(re.fullmatch(r"[AG]\d{4}[A-Z]{2}", each.offender_no) for each in world.prisoners)
    assert len(world.by_offender) == len(world.by_booking) == 12_000
    assert [each.booking_id for each in world.prisoners] == sorted(world.by_booking)
    sizes = Counter(each.prison_id for each in world.prisoners)
    assert len(sizes) == 120
    assert max(sizes.values()) > 4 * min(sizes.values())
    levels = Counter(
        record.level if (record := world.nomis_incentives.current(each.booking_id)) else None
        for each in world.prisoners
    )
    assert 0.40 < levels["STD"] / 12_000 < 0.60
    assert 0.32 < levels["ENH"] / 12_000 < 0.52
    assert 0.005 < levels[None] / 12_000 < 0.011
    records = list(world.nomis_incentives.records.values())
    assert max(map(len, records)) <= 18
    modules = Counter(record.module for history in records for record in history)
    assert 0.6 < modules["JDBC Thin Client"] / modules.total() < 0.8
    assert {"OIDADMIS", "OIDITRAN", "OIDOIEPS", "MERGE"} < set(modules)


def test_few_prisons_can_be_open() -> None:
    """The number of open prisons can be set to any number from 20 to 120.

    Not all open prisons use appointments, and even fewer use activities.
    """
    world = World(Options(prisoners=100, today=DAY, prisons=24))
    held = {code for code, prison in world.prisons.items() if prison.open}
    assert len(held) == 24
    assert {each.prison_id for each in world.prisoners} <= held
    assert world.rollout.activities < world.rollout.appointments < held
    with pytest.raises(ValueError, match="give a number from 20 to 120"):
        Options.read({"prisons": 10})


def test_levels_differ_between_the_sides_as_in_reality() -> None:
    """The level Entry is active only in NOMIS, and EN3 exists only in DPS.

    Each prison has one default level, and the remand limits of its levels are the same on both sides.
    """
    world = World(Options(prisoners=10, today=DAY))
    assert (world.incentives.levels["ENT"].active, world.nomis_incentives.codes["ENT"].active) == (False, True)
    assert "EN3" in world.incentives.levels
    assert "EN3" not in world.nomis_incentives.codes
    defaults = Counter(
        level.prison_id for level in world.incentives.prison_levels.values() if level.default_on_admission
    )
    assert set(defaults) == set(world.prisons)
    assert set(defaults.values()) == {1}
    for key, level in world.nomis_incentives.prison_levels.items():
        assert level.remand_transfer == world.incentives.prison_levels[key].remand_transfer


def test_pages_cover_everybody_in_order(caller: Caller) -> None:
    """Together, the pages list all prisoners by ascending booking id. The page after the last one is empty."""
    everybody = [each["bookingId"] for each in caller.sandbox.prisoners()]
    found = []
    for number in range(5):
        page = caller.get("nomis", f"/prisoners/ids?active=true&page={number}&size=50")
        found += [each["bookingId"] for each in page["content"]]
        assert (page["number"], page["size"], page["totalElements"], page["totalPages"]) == (number, 50, 200, 4)
        assert (page["first"], page["empty"]) == (number == 0, number == 4)
    assert found == sorted(everybody)


def test_size_of_a_page_has_a_default_and_a_cap(caller: Caller) -> None:
    """A page has 20 prisoners by default, and at most 20,000. A request for inactive prisoners gets 500."""
    assert caller.get("nomis", "/prisoners/ids")["numberOfElements"] == 20
    assert caller.get("nomis", "/prisoners/ids?size=90000")["size"] == 20_000
    assert caller.call("nomis", "GET", "/prisoners/ids?active=false").status_code == 500


def test_population_moves_while_it_is_paged(sandbox: Sandbox) -> None:
    """Prisoners are released and received while pages are read, so the pages do not list exactly the initial prisoners.

    A received prisoner has the same level on both sides.
    """
    sandbox.reset(prisoners=100, moving=2)
    caller = Caller(sandbox)
    before = {each["bookingId"] for each in sandbox.prisoners()}
    pages = [caller.get("nomis", f"/prisoners/ids?page={number}&size=10")["content"] for number in range(10)]
    seen = [each["bookingId"] for page in pages for each in page]
    moved = sandbox.planted()["movements"]
    assert [each["movement"] for each in moved] == ["release", "reception"] * 10
    after = {each["bookingId"] for each in sandbox.prisoners()}
    gone, new = before - after, after - before
    assert gone == {
        each["bookingId"] for each in moved if each["movement"] == "release" and each["bookingId"] in before
    }
    assert all(booking > max(before) for booking in new)
    assert set(seen) != before
    received = next(iter(new))
    nomis = caller.get("nomis", f"/incentives/booking-id/{received}/current")
    assert nomis["iepLevel"]["code"] == caller.get("incentives", f"/iep/reviews/booking/{received}")["iepCode"]

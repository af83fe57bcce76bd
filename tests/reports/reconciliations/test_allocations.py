"""Allocations and suspended allocations against the sandbox: worked examples, planted differences, old services."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reports.engine.frame import records
from reports.engine.reconciliation import ServiceTooOld
from reports.engine.units import Scope, Unit
from reports.reconciliations.activities.allocations import Allocations, SuspendedAllocations
from reports.reconciliations.activities.counting import DIFFERENT, DPS_ONLY, NOMIS_ONLY
from sandbox import Sandbox
from sync.errors import RuleError, UpstreamError
from tests.harness.activity_counts import respond, respond_with_bookings, respond_with_counts
from tests.harness.comparisons import compare, open_reconciliation
from tests.harness.reads import PlainReads

#: Seeds of worlds, each with the number of open prisons that are read.
WORLDS = ((1, 24), (2, 24), (3, 120))
PLANTED: dict[str, Any] = {
    "prisoners": 150,
    "prisons": 24,
    "plant": ["allocations", "suspended-allocations"],
    "every_cause": True,
}
NOMIS_LIST = "^/allocations/reconciliation/LEI$"


def test_bookings_with_different_counts_differ(upstream: Sandbox) -> None:
    """A booking is a difference if only one side counts it or the counts differ, wherever the booking is now."""
    respond_with_counts(upstream, {1204417: 2, 1204420: 1, 1204431: 1}, {1204417: 1, 1204431: 1, 1204455: 1})
    respond_with_bookings(upstream, b1204417="LEI", b1204420="MDI", b1204455="LEI")
    with open_reconciliation(Allocations, upstream) as allocations:
        found = compare(allocations)
    differences = [(each.row["booking_id"], each.kind, each.row["nomis_location"]) for each in found.differences]
    assert differences == [(1204417, DIFFERENT, "LEI"), (1204420, NOMIS_ONLY, "MDI"), (1204455, DPS_ONLY, "LEI")]
    assert len(found.frame) == 4
    assert not found.ignored


@pytest.mark.parametrize("location", ["WWI", "PVI"])
def test_a_suspended_allocation_elsewhere_does_not_differ(upstream: Sandbox, location: str) -> None:
    """A suspended allocation is not a difference if its booking is now at another prison. The reason is recorded."""
    counts = {1301001: 1}, {1301001: 1, 1301002: 1, 1301003: 1}
    respond_with_counts(upstream, *counts, prison="WWI", what="suspended-allocations")
    respond_with_bookings(upstream, b1301002=location, b1301003="PVI")
    with open_reconciliation(SuspendedAllocations, upstream) as suspended:
        found = compare(suspended, again=False)
    assert found.kinds == ({("WWI", 1301002): DPS_ONLY} if location == "WWI" else {})
    assert found.ignored["WWI", 1301003] == "the booking is at PVI now"
    asked = [each["path"] for each in upstream.requests("nomis") if "/allocations/" in each["path"]]
    assert asked == ["/allocations/reconciliation/WWI?suspended=true"]


def test_a_booking_that_nomis_does_not_know_is_reported(upstream: Sandbox) -> None:
    """A booking that NOMIS does not have is reported with that cause, but without a prisoner number or a location."""
    respond_with_counts(upstream, {}, {1301002: 1}, prison="WWI", what="suspended-allocations")
    respond_with_bookings(upstream)
    with open_reconciliation(SuspendedAllocations, upstream) as suspended:
        found = compare(suspended)
    (difference,) = found.differences
    assert (difference.row["offender_no"], difference.row["nomis_location"]) == (None, None)
    diagnosis = found.explanation().diagnosis
    assert diagnosis is not None
    assert diagnosis.cause == "NOMIS does not have the booking"


@pytest.mark.parametrize(("seed", "prisons"), WORLDS)
@pytest.mark.parametrize("kind", [SuspendedAllocations, Allocations])
def test_planted_differences_of_allocations_are_found(
    upstream: Sandbox, kind: type[Allocations], seed: int, prisons: int
) -> None:
    """The planted differences of allocations are reported with their causes, or ignored, exactly as planted."""
    upstream.reset(**PLANTED | {"seed": seed, "prisons": prisons})
    planted = upstream.planted()["reconciliations"][kind.name]
    with open_reconciliation(kind, upstream) as reconciliation:
        found = compare(reconciliation)
    by_outcome: dict[str, dict[tuple[Any, ...], str]] = {"reported": {}, "ignored": {}}
    for each in planted:
        by_outcome[each["outcome"]][tuple(each["key"])] = each["kind"]
    assert found.kinds == by_outcome["reported"]
    assert found.ignored.keys() == by_outcome["ignored"].keys()
    causes = {key: each.diagnosis and each.diagnosis.cause for key, each in found.explained().items()}
    reported = (each for each in planted if each["outcome"] == "reported")
    assert causes == {tuple(each["key"]): CAUSES[kind][each["cause"]] for each in reported}


@pytest.mark.parametrize(("counts", "kind"), [((1, 0), NOMIS_ONLY), ((2, 1), DIFFERENT)])
def test_an_allocation_in_nomis_alone_has_not_lost_its_end(
    upstream: Sandbox, counts: tuple[int, int], kind: str
) -> None:
    """If NOMIS has more allocations than DPS, and none in DPS has ended, the cause is not that an end was lost."""
    in_nomis, in_dps = counts
    respond_with_counts(upstream, {1204417: in_nomis}, {1204417: in_dps} if in_dps else {})
    respond_with_bookings(upstream, b1204417="LEI")
    with open_reconciliation(Allocations, upstream) as allocations:
        found = compare(allocations)
    assert [each.kind for each in found.differences] == [kind]
    diagnosis = found.explanation(booking_id=1204417).diagnosis
    assert diagnosis is not None
    assert diagnosis.cause == "NOMIS has an allocation that DPS does not have"
    assert f"NOMIS counts {in_nomis}." in diagnosis.explanation


CAUSES = {
    Allocations: {
        "creation failed": "the allocation did not reach NOMIS",
        "resumption failed": "the allocation did not reach NOMIS",
        "one of two creations failed": "the allocation did not reach NOMIS",
        "ending failed": "the end of the allocation did not reach NOMIS",
        "suspension failed": "the suspension of the allocation did not reach NOMIS",
        "moved, still open in DPS": "the prisoner moved or was released, and DPS still has the allocation",
        "moved, still open in NOMIS": "the prisoner moved or was released, and NOMIS did not end the allocation",
        "booking not in NOMIS": "NOMIS does not have the booking",
    },
    SuspendedAllocations: {
        "suspension failed": "the suspension of the allocation did not reach NOMIS",
        "resumption failed": "the end of the suspension did not reach NOMIS",
    },
}


@pytest.mark.parametrize("kind", [SuspendedAllocations, Allocations])
def test_each_difference_has_the_command_that_fixes_it(upstream: Sandbox, kind: type[Allocations]) -> None:
    """If a resync can fix a difference, its proposed commands resync the DPS allocations and compare the prison again.

    Other differences have no such commands.
    """
    upstream.reset(**PLANTED)
    allocations = {each["id"]: each for each in upstream.entities("allocation")}
    with open_reconciliation(kind, upstream) as reconciliation:
        found = compare(reconciliation)
    for planted in upstream.planted()["reconciliations"][kind.name]:
        if planted["outcome"] != "reported":
            continue
        prison, booking = planted["key"]
        explanation = found.explanation(prison_id=prison, booking_id=booking)
        assert explanation.diagnosis is not None
        commands = "\n".join(explanation.diagnosis.commands)
        named = {int(each) for each in re.findall(r"resync allocation (\d+)", commands)}
        assert all(allocations[each]["booking_id"] == booking for each in named)
        fixable = planted["cause"] not in {"moved, still open in DPS", "booking not in NOMIS"}
        assert len(named) == (0 if not fixable else 2 if planted["kind"] == DIFFERENT else 1)
        assert (f"reconcile {kind.name} --prison {prison} --no-notify" in commands) == fixable


def test_differences_are_found_without_the_role_for_allocation_ids(upstream: Sandbox) -> None:
    """Without the role for reading single allocations in DPS, all planted differences are still found.

    For each difference whose booking NOMIS has, the explanation says why no allocation is named.
    """
    upstream.reset(**PLANTED)
    upstream.grant("activities", ["NOMIS_ACTIVITIES"])
    with open_reconciliation(Allocations, upstream) as allocations:
        found = compare(allocations)
    planted = upstream.planted()["reconciliations"]["allocations"]
    assert found.kinds == {tuple(each["key"]): each["kind"] for each in planted}
    missing = [each.evidence_missing for each in found.explained().values()]
    assert sum(each is not None and "403" in each for each in missing) == len(missing) - 1  # one is unknown to NOMIS


def test_a_recheck_reads_only_prisons_with_differences(upstream: Sandbox) -> None:
    """At the recheck, each prison with differences is read once on each side, and other prisons are not read.

    A booking whose record arrived late no longer differs. If a prison cannot be read again, its bookings are unread.
    """
    upstream.reset(**PLANTED, in_flight=1, in_flight_seconds=0)
    late = next(each for each in upstream.planted()["reconciliations"]["allocations"] if each["outcome"] == "settles")
    with open_reconciliation(Allocations, upstream) as allocations:
        first = compare(allocations, again=False)
        rows = first.rows
        upstream.clear_records()
        again = allocations.reread(rows, PlainReads())
        prisons = sorted(set(rows["prison_id"]))
        assert len(prisons) < len(first.population.units)
        for service in ("nomis", "activities"):
            asked = [each["path"] for each in upstream.requests(service) if "/reconciliation/" in each["path"]]
            assert sorted(path.rpartition("/")[2].partition("?")[0] for path in asked) == prisons
        assert sorted(again.rows["booking_id"]) == sorted(rows["booking_id"])
        now = allocations.differing(again.rows)
        assert set(rows["booking_id"]) - set(now["booking_id"]) == {late["key"][1]}
        broken = str(now["prison_id"].iloc[0])
        upstream.fault("activities", path=f"/allocations/{broken}$", status=500)
        again = allocations.reread(now, PlainReads())
    there = now["prison_id"] == broken
    assert {each.key["booking_id"] for each in again.unread} == set(now.loc[there, "booking_id"])
    assert {each.side for each in again.unread} == {"DPS"}
    assert set(again.rows["booking_id"]) == set(now.loc[~there, "booking_id"])


@pytest.mark.parametrize(
    ("service", "body"),
    [
        ("nomis", {"prisonId": "MDI", "bookings": []}),
        ("nomis", {"prisonId": "LEI", "bookings": [{"bookingId": 1, "count": 1}] * 2}),
        ("nomis", {"prisonId": "LEI", "bookings": [{"bookingId": 1, "count": -1}]}),
        ("activities", {"prisonCode": "LEI", "bookings": None}),
    ],
)
def test_an_implausible_response_leaves_the_prison_unread(upstream: Sandbox, service: str, body: object) -> None:
    """Reading fails if a response is for another prison, or has a repeated booking, a negative count or no list."""
    respond_with_counts(upstream, {1: 1}, {1: 1})
    upstream.clear_faults()
    path = NOMIS_LIST if service == "nomis" else "^/synchronisation/reconciliation/allocations/LEI$"
    respond(upstream, service, path, body)
    with open_reconciliation(Allocations, upstream) as allocations, pytest.raises(UpstreamError):
        allocations.read(Unit("LEI"), PlainReads())


def test_only_a_chosen_prison_is_read(upstream: Sandbox) -> None:
    """Of the chosen prisons, only those with activities are read. A scope with a prisoner is refused."""
    scope = Scope(prisons=("LEI", "XYZ"))
    with open_reconciliation(Allocations, upstream, scope) as allocations:
        assert [unit.id for unit in allocations.population(PlainReads()).units] == ["LEI"]
    with (
        open_reconciliation(Allocations, upstream, Scope(offender_nos=("A1234AA",))) as allocations,
        pytest.raises(RuleError, match="allocations are compared by prison"),
    ):
        allocations.population(PlainReads())


def test_services_without_the_counts_are_too_old(upstream: Sandbox) -> None:
    """The 2023 services do not have the counts: reading them fails, and the error shows that the services are too old.

    The June 2024 services have the counts of active allocations, but their DPS lacks those of suspended ones.
    """
    upstream.reset(prisoners=20, generation="2023")
    with open_reconciliation(Allocations, upstream, activity_prisons="MDI") as allocations:
        assert [unit.id for unit in allocations.population(PlainReads()).units] == ["MDI"]
        with pytest.raises(UpstreamError) as caught:
            allocations.read(Unit("MDI"), PlainReads())
        assert caught.value.no_route
        with pytest.raises(ServiceTooOld, match="it is too old"):
            allocations.reread(Given({1: 1}, {}).read(Unit("LEI"), PlainReads()).rows, PlainReads())
    upstream.reset(prisoners=20, generation="2024-06")
    with open_reconciliation(Allocations, upstream) as allocations:
        assert not allocations.read(Unit("MDI"), PlainReads()).unread
    with open_reconciliation(SuspendedAllocations, upstream) as suspended, pytest.raises(UpstreamError) as caught:
        suspended.read(Unit("MDI"), PlainReads())
    assert (caught.value.no_route, caught.value.service) == (True, "activities")


class Given(Allocations):
    """The reconciliation of allocations, with counts from a test instead of from the services."""

    def __init__(self, nomis: dict[int, int], dps: dict[int, int]) -> None:
        """Takes the counts of both sides, so that no service is called."""
        self._given = nomis, dps

    def read_nomis(self, _: str) -> dict[int, int]:
        """Returns the counts in NOMIS."""
        return self._given[0]

    def read_dps(self, _: str) -> dict[int, int]:
        """Returns the counts in DPS."""
        return self._given[1]


@settings(deadline=None, max_examples=25)
@given(
    nomis=st.dictionaries(st.integers(1, 24), st.integers(1, 3), max_size=24),
    dps=st.dictionaries(st.integers(1, 24), st.integers(1, 3), max_size=24),
)
def test_differences_are_those_of_a_naive_comparison(nomis: dict[int, int], dps: dict[int, int]) -> None:
    """For any two lists, the differences are the bookings on only one side and the bookings with different counts."""
    made = Given(nomis, dps)
    frame = made.read(Unit("LEI"), PlainReads()).rows
    naive = dict.fromkeys(nomis.keys() - dps.keys(), NOMIS_ONLY)
    naive |= dict.fromkeys(dps.keys() - nomis.keys(), DPS_ONLY)
    naive |= {booking: DIFFERENT for booking in nomis.keys() & dps.keys() if nomis[booking] != dps[booking]}
    found = {row["booking_id"]: row["kind"] for row in records(made.differing(frame))}
    assert found == naive
    counts = {row["booking_id"]: (row["nomis_count"], row["dps_count"]) for row in records(frame)}
    assert counts == {each: (nomis.get(each), dps.get(each)) for each in nomis.keys() | dps.keys()}


# Each example is a run over HTTP, so a failing example is not made smaller.
@settings(
    deadline=None,
    max_examples=10,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    nomis=st.dictionaries(st.integers(1, 9), st.integers(1, 3)),
    dps=st.dictionaries(st.integers(1, 9), st.integers(1, 3)),
    elsewhere=st.sets(st.integers(1, 9)),
)
def test_suspended_allocations_differ_only_at_the_prison(
    upstream: Sandbox, nomis: dict[int, int], dps: dict[int, int], elsewhere: set[int]
) -> None:
    """For any two lists, the bookings with different counts are reported, except those that are elsewhere now."""
    upstream.clear_faults()
    respond_with_counts(upstream, nomis, dps, prison="WWI", what="suspended-allocations")
    differ = {each for each in nomis.keys() | dps.keys() if nomis.get(each) != dps.get(each)}
    respond_with_bookings(upstream, **{f"b{each}": "PVI" if each in elsewhere else "WWI" for each in differ})
    with open_reconciliation(SuspendedAllocations, upstream) as suspended:
        found = compare(suspended)
    assert found.kinds.keys() == {("WWI", each) for each in differ - elsewhere}
    assert found.ignored.keys() == {("WWI", each) for each in differ & elsewhere}

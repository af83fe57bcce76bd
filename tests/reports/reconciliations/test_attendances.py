"""Attendances with pay against the sandbox: the worked example, pairs of bookings, and planted differences."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from reports.engine.units import Scope
from reports.reconciliations.activities.attendances import Attendances
from reports.reconciliations.activities.counting import DIFFERENT, DPS_ONLY, NOMIS_ONLY
from sandbox import Sandbox
from sandbox.clock import london_today
from tests.harness.activity_counts import BOOKINGS, DAY, DPS, NOMIS, respond_with_attendances
from tests.harness.comparisons import Compared, compare, open_reconciliation
from tests.harness.reads import PlainReads

#: Seeds of worlds, each with the number of open prisons that are read.
WORLDS = ((1, 24), (2, 24), (3, 120))
PLANTED: dict[str, Any] = {"prisoners": 150, "prisons": 24, "plant": ["attendances"], "every_cause": True}


def compared(
    upstream: Sandbox,
    nomis: dict[int, int] = NOMIS,
    dps: dict[int, int] = DPS,
    bookings: dict[int, tuple[str, str]] = BOOKINGS,
) -> Compared:
    """Compares the attendances of one day at Moorland. bookings: the prisoner and the prison of each booking."""
    respond_with_attendances(upstream, nomis, dps, bookings)
    with open_reconciliation(Attendances, upstream, Scope(from_date=DAY, to_date=DAY)) as attendances:
        return compare(attendances)


def cause(found: Compared, **key: Any) -> str:
    """The cause of the difference with the values in `key`."""
    diagnosis = found.explanation(**key).diagnosis
    assert diagnosis is not None
    return diagnosis.cause


ANOTHER = "the prisoner was put back on another booking, and NOMIS paid on the first booking"


def test_the_worked_example_of_attendances(upstream: Sandbox) -> None:
    """In the worked example, two bookings of one prisoner count as one difference.

    A booking that is no longer at the prison is left out.
    """
    found = compared(upstream)
    day = DAY.isoformat()
    assert found.kinds == {("MDI", 1204440, day): DPS_ONLY, ("MDI", 1204470, day): DPS_ONLY}
    assert found.ignored == {
        ("MDI", 1204430, day): "shown with the prisoner's other booking",
        ("MDI", 1204499, day): "the booking is at OUT now",
    }
    (paired,) = [each for each in found.differences if each.row["booking_id"] == 1204440]
    assert paired.row["nomis_other_booking"] == 1204430
    assert cause(found, booking_id=1204440) == ANOTHER
    assert cause(found, booking_id=1204470) == "the attendance with pay did not reach NOMIS"


@pytest.mark.parametrize("over", [1204430, 1204440])
def test_a_pair_is_found_before_bookings_elsewhere_are_left_out(upstream: Sandbox, over: int) -> None:
    """If one booking of a pair is elsewhere, the pair is still one difference. If both are, it is not reported.

    Two bookings of a prisoner form a pair if NOMIS counts an attendance on one of them and DPS on the other.
    """
    found = compared(upstream, bookings=BOOKINGS | {over: ("A1111AA", "OUT")})
    assert cause(found, booking_id=1204440) == ANOTHER
    assert ("MDI", 1204430, DAY.isoformat()) in found.ignored
    upstream.clear_faults()
    gone = dict.fromkeys((1204430, 1204440), ("A1111AA", "OUT"))
    found = compared(upstream, bookings=BOOKINGS | gone)
    assert found.kinds.keys() == {("MDI", 1204470, DAY.isoformat())}
    assert len(found.ignored) == 3


def test_bookings_with_different_numbers_are_not_a_pair(upstream: Sandbox) -> None:
    """Two paid attendances on one booking in NOMIS, and one on another booking in DPS, are two differences."""
    found = compared(upstream, nomis={1204430: 2}, dps={1204440: 1})
    assert set(found.kinds.values()) == {NOMIS_ONLY, DPS_ONLY}
    assert not found.ignored


def test_each_difference_is_in_one_pair_at_most(upstream: Sandbox) -> None:
    """If three bookings of a prisoner differ, two form a pair, and the third is a separate difference."""
    bookings = dict.fromkeys((1, 2, 3), ("A1111AA", "MDI"))
    found = compared(upstream, nomis={1: 1}, dps={2: 1, 3: 1}, bookings=bookings)
    assert sorted(cause(found, booking_id=each) == ANOTHER for each in (2, 3)) == [False, True]
    found = compared(upstream, nomis={1: 1, 2: 1}, dps={3: 1}, bookings=bookings)
    assert len(found.kinds) == 2


# Each example is a run over HTTP, so a failing example is not made smaller.
@settings(
    deadline=None,
    max_examples=25,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([(1, None), (None, 1), (None, 2), (1, 1)]),
            st.sampled_from(["A1111AA", "A1111AA", "A2222BB"]),
            st.sampled_from(["MDI", "OUT"]),
        ),
        min_size=5,
        max_size=10,
    )
)
def test_differences_are_those_of_a_naive_comparison(
    upstream: Sandbox, bookings: list[tuple[tuple[int | None, int | None], str, str]]
) -> None:
    """For any bookings, the differences are those of a naive comparison.

    The naive comparison first finds pairs of one prisoner's bookings, and then drops the bookings that are not at the
    prison.
    """
    upstream.clear_faults()
    counts = {booking: each[0] for booking, each in enumerate(bookings, start=1)}
    nomis = {booking: of_nomis for booking, (of_nomis, _) in counts.items() if of_nomis is not None}
    dps = {booking: of_dps for booking, (_, of_dps) in counts.items() if of_dps is not None}
    left = {booking: (of_nomis, of_dps) for booking, (of_nomis, of_dps) in counts.items() if of_nomis != of_dps}
    known = {booking: (each[1], each[2]) for booking, each in enumerate(bookings, start=1) if booking in left}
    found = compared(upstream, nomis, dps, known)
    here = {booking for booking, (_, location) in known.items() if location == "MDI"}
    pairs = {}
    for booking, (of_nomis, of_dps) in list(left.items()):
        others = (
            other
            for other, of_both in left.items()
            if of_nomis is None and of_both == (of_dps, None) and known[other][0] == known[booking][0]
        )
        other = next(others, None)
        if other is not None:
            del left[booking], left[other]
            if here & {booking, other}:
                pairs[booking] = other
    reported = {booking for booking in left if booking in here} | pairs.keys()
    assert {booking for _, booking, _ in found.kinds} == reported
    paired = {each.row["booking_id"]: each.row["nomis_other_booking"] for each in found.differences}
    assert {booking: other for booking, other in paired.items() if other is not None} == pairs


def test_by_default_yesterday_is_compared(upstream: Sandbox) -> None:
    """By default, only yesterday's attendances are compared, since that day is over."""
    upstream.reset(prisoners=20, prisons=24)
    today = london_today()
    with open_reconciliation(Attendances, upstream) as attendances:
        assert attendances.window(attendances.settings, today) == (today - timedelta(days=1),) * 2
        compare(attendances)
    asked = {each["path"].partition("?")[2] for each in upstream.requests("nomis") if "/attendances/" in each["path"]}
    assert asked == {f"date={(today - timedelta(days=1)).isoformat()}"}


@pytest.mark.parametrize(("seed", "prisons"), WORLDS)
def test_planted_differences_of_attendances_are_found(upstream: Sandbox, seed: int, prisons: int) -> None:
    """The planted differences of attendances are reported with their causes, or ignored, exactly as planted."""
    upstream.reset(**PLANTED | {"seed": seed, "prisons": prisons})
    planted = upstream.planted()["reconciliations"]["attendances"]
    with open_reconciliation(Attendances, upstream) as attendances:
        found = compare(attendances)
    by_outcome: dict[str, dict[tuple[Any, ...], str]] = {"reported": {}, "ignored": {}}
    for each in planted:
        by_outcome[each["outcome"]][tuple(each["key"])] = each["kind"]
    assert found.kinds == by_outcome["reported"]
    assert found.ignored.keys() == by_outcome["ignored"].keys()
    causes = {key: each.diagnosis and each.diagnosis.cause for key, each in found.explained().items()}
    reported = (each for each in planted if each["outcome"] == "reported")
    assert causes == {tuple(each["key"]): CAUSES[each["cause"]] for each in reported}


CAUSES = {
    "attendance failed": "the attendance with pay did not reach NOMIS",
    "one of two attendances failed": "the attendance with pay did not reach NOMIS",
    "payroll ran": "DPS withdrew the pay, and NOMIS did not get the change or had already paid",
    "paid on another booking": ANOTHER,
    "booking not in NOMIS": "NOMIS does not have the booking",
}


def test_each_difference_has_its_fix(upstream: Sandbox) -> None:
    """If a resync can fix a difference, its proposed commands resync the DPS attendances and compare the day again.

    Other differences have no such commands.
    """
    upstream.reset(**PLANTED)
    attendances = {each["id"]: each["prisoner_number"] for each in upstream.entities("attendance")}
    numbers = {each["bookingId"]: each["offenderNo"] for each in upstream.prisoners()}
    with open_reconciliation(Attendances, upstream) as reconciliation:
        found = compare(reconciliation)
    for planted in upstream.planted()["reconciliations"]["attendances"]:
        if planted["outcome"] != "reported":
            continue
        prison, booking, day = planted["key"]
        diagnosis = found.explanation(booking_id=booking).diagnosis
        assert diagnosis is not None
        commands = "\n".join(diagnosis.commands)
        named = [int(each) for each in re.findall(r"resync attendance (\d+)", commands)]
        assert all(attendances[each] == numbers[booking] for each in named)
        fixable = planted["cause"] not in {"paid on another booking", "booking not in NOMIS"}
        assert len(named) == (0 if not fixable else 2 if planted["kind"] == DIFFERENT else 1)
        again = f"reconcile attendances --prison {prison} --date {day} --no-notify"
        assert (again in commands) == fixable


def test_an_attendance_in_nomis_alone_has_no_withdrawn_pay(upstream: Sandbox) -> None:
    """If NOMIS has more attendances with pay than DPS, and DPS has none without pay, the cause is not withdrawn pay."""
    found = compared(upstream, {1204430: 2}, {1204430: 1}, {1204430: ("A1111AA", "MDI")})
    assert cause(found, booking_id=1204430) == "NOMIS has an attendance with pay that DPS does not have"


def test_a_difference_that_payroll_has_paid_has_no_resync(upstream: Sandbox) -> None:
    """If NOMIS refused the change because payroll had paid, the cause says so and no resync is proposed."""
    upstream.reset(**PLANTED)
    planted = upstream.planted()["reconciliations"]["attendances"]
    booking = next(each["key"][1] for each in planted if each["cause"] == "payroll ran")
    with open_reconciliation(Attendances, upstream) as attendances:
        (entity,) = attendances.entities(
            next(each.row for each in compare(attendances).differences if each.row["booking_id"] == booking)
        )
        reason = "the attendance at the session of 2026-08-20 at 08:30 has already been paid"
        found = compare(attendances, given_up={entity: reason})
    diagnosis = found.explanation(booking_id=booking).diagnosis
    assert diagnosis is not None
    assert diagnosis.cause == "payroll had paid in NOMIS before DPS changed the pay"
    assert diagnosis.action.startswith("There is nothing to do in NOMIS")
    assert reason in diagnosis.explanation
    assert not diagnosis.commands


def test_a_recheck_reads_the_same_day(upstream: Sandbox) -> None:
    """At the recheck, the rows that are read again have the same keys as before, including the day."""
    upstream.reset(**PLANTED)
    with open_reconciliation(Attendances, upstream) as attendances:
        rows = compare(attendances, again=False).rows
        again = attendances.reread(rows, PlainReads()).rows
    keys = list(Attendances.key)
    assert sorted(map(tuple, again[keys].to_numpy())) == sorted(map(tuple, rows[keys].to_numpy()))

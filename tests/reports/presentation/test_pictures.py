"""The pictures of a result are in proportion, and have the same figures as the text."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reports.engine.result import PrisonCount, TrendPoint
from reports.presentation.chart import draw_trend, sparkline
from reports.presentation.counts import ages, causes_by_who_acts, most_affected, prison_rows
from reports.presentation.masking import UNMASKED, Masking
from reports.presentation.page import page_rows
from reports.presentation.view import view_of
from reports.presentation.what_to_do import what_to_do
from reports.reconciliations.incentives.result import IncentiveMismatch
from reports.reconciliations.incentives.view import IncentiveView
from tests.harness.results import STARTED, made_result, mismatch


def trend_points(*figures: tuple[int, int | None, int | None]) -> tuple[TrendPoint, ...]:
    """The trend points of weekly runs, each given as the numbers of all, of new and of resolved differences."""
    return tuple(
        TrendPoint(
            run_id=f"run-{week}",
            started_at=STARTED + timedelta(weeks=week),
            compared=9_000,
            mismatches=mismatches,
            new=new,
            resolved=resolved,
        )
        for week, (mismatches, new, resolved) in enumerate(figures)
    )


@pytest.mark.parametrize(
    ("values", "line"),
    [((), ""), ((0, 0), "▁▁"), ((0, 1, 5, 10), "▁▂▅█"), ((430, 11, 0), "█▂▁"), ((7,), "█")],
)
def test_text_bars_are_in_proportion(values: tuple[int, ...], line: str) -> None:
    """In a line of text bars, the largest value has a full bar, and any value above zero has a higher bar than zero.

    So even a single difference among hundreds can be seen.
    """
    assert sparkline(values) == line


def test_the_trend_shows_new_persisting_and_resolved_differences() -> None:
    """In the trend, the height of each part of a bar is in proportion to its number of differences.

    New differences are above persisting ones, and resolved differences are below the baseline. The text of the trend
    gives the same figures.
    """
    points = trend_points((10, 4, 0), (12, 12, 10), (3, 0, 9))
    trend = draw_trend(points)
    for bar, point in zip(trend.bars, points, strict=True):
        parts = {part.kind: part for part in bar.parts}
        unit = (trend.base - bar.top) / point.mismatches
        for kind, figure in (("new", point.new), ("persisting", point.persisting), ("resolved", point.resolved)):
            height = parts[kind].height if kind in parts else 0
            assert height == pytest.approx((figure or 0) * unit, abs=0.2), kind
        if {"new", "persisting"} <= set(parts):
            assert parts["new"].y + parts["new"].height == pytest.approx(parts["persisting"].y, abs=0.2)
        assert all(part.y == trend.base for part in bar.parts if part.kind == "resolved")
    assert trend.text.endswith(
        "22 May 2023: 10 (4 new, 0 resolved); 29 May 2023: 12 (12 new, 10 resolved); "
        "5 June 2023: 3 (0 new, 9 resolved)."
    )


def test_the_scale_of_the_trend_has_round_numbers_on_both_sides() -> None:
    """The scale of a trend has a few round numbers, above and below the base of the bars.

    One of the lines of the scale is at the base.
    """
    trend = draw_trend(trend_points((430, 430, 0), (20, 0, 410)))
    assert [tick.label for tick in trend.ticks] == ["400", "200", "0", "200", "400"]
    assert trend.base in [tick.y for tick in trend.ticks]
    assert draw_trend(()).bars == ()


def test_runs_of_earlier_versions_have_undivided_bars() -> None:
    """If a run made by an earlier version has no counts of new and resolved differences, its bar is undivided."""
    trend = draw_trend(trend_points((5, None, None), (4, 1, 2)))
    assert [part.kind for part in trend.bars[0].parts] == ["persisting"]
    assert "22 May 2023: 5; 29 May 2023: 4 (1 new, 2 resolved)." in trend.text


def test_differences_are_counted_by_age() -> None:
    """Differences are counted by age, from the new ones to the oldest.

    The ranges of age in between are included even if no difference is in them.
    """
    days = (None, 3, 7, 8, 400)
    found = tuple(
        mismatch(number, standing="new", since=STARTED)
        if age is None
        else mismatch(number, standing="persisting", since=STARTED - timedelta(days=age))
        for number, age in enumerate(days)
    )
    counted = ages(made_result(0).model_copy(update={"mismatches": found}))
    assert [(each.name, each.mismatches, each.new) for each in counted] == [
        ("New in this run", 1, 1),
        ("Up to 7 days", 2, 0),
        ("8 to 28 days", 1, 0),
        ("29 to 91 days", 0, 0),
        ("92 to 365 days", 0, 0),
        ("More than a year", 1, 0),
    ]
    assert ages(made_result(0)) == []


def test_each_prison_has_a_rate_per_thousand() -> None:
    """A prison has a number of differences per thousand prisoners, even if hardly any levels there differ.

    Only a prison where nobody was compared has no such rate.
    """
    prisons = (
        PrisonCount(prison_id="ACI", compared=0, mismatches=2, new=0),
        PrisonCount(prison_id="LEI", compared=400, mismatches=3, new=1),
        PrisonCount(prison_id="MDI", compared=50_000, mismatches=1, new=1),
        PrisonCount(prison_id="WII", compared=700, mismatches=0, new=0),
    )
    rows = prison_rows(made_result(0, prisons=prisons))
    assert [(each.name, each.rate_text) for each in rows] == [
        ("ACI", "–"),
        ("LEI", "7.5"),
        ("MDI", "under 0.1"),
        ("WII", "0.0"),
    ]
    assert [each.name for each in most_affected(rows)] == ["LEI", "ACI", "MDI"]


def test_causes_are_grouped_by_the_team_that_acts() -> None:
    """Causes are grouped by the team that acts on them, and the groups together have all differences."""
    result = made_result(30)
    actions = what_to_do(result).actions
    groups = causes_by_who_acts(page_rows(result, view_of(result), actions, UNMASKED), actions)
    assert [each.total.name for each in groups] == list(dict.fromkeys(each.who for each in actions))
    assert sum(each.total.mismatches for each in groups) == 30
    for each in groups:
        assert each.total.mismatches == sum(cause.count.mismatches for cause in each.causes)
        assert each.total.new == sum(cause.count.new for cause in each.causes)
    [support] = [each for each in groups if each.total.name == "NOMIS support"]
    assert [(each.slug, each.right_side) for each in support.causes] == [
        ("the-prisoner-was-received-twice-in-nomis", "DPS")
    ]


def with_levels(number: int, nomis: str | None, dps: str | None) -> IncentiveMismatch:
    """A mismatch with these levels. None means that the side has no level."""
    made = mismatch(number)
    assert made.nomis is not None
    sides = {"nomis": nomis, "dps": dps}
    levels = {
        name: None if level is None else made.nomis.model_copy(update={"level": level}) for name, level in sides.items()
    }
    return mismatch(number, **levels)


def test_the_picture_shows_which_level_is_higher() -> None:
    """The picture of the levels counts differences by which side is higher, and by how many levels.

    It begins with those whose level is far higher in NOMIS. Differences whose levels cannot be compared are counted
    separately. Standard counts as the level after Basic: DPS no longer awards Entry, which NOMIS has between the two.
    """
    pairs = [
        ("STD", "ENH"),
        ("ENH", "STD"),
        ("BAS", "ENH"),
        ("EN2", "STD"),
        ("BAS", "STD"),
        ("ENT", "STD"),
        (None, "STD"),
        ("STD", None),
        ("XXX", "STD"),
    ]
    found = tuple(with_levels(number, nomis, dps) for number, (nomis, dps) in enumerate(pairs))
    counted = IncentiveView(made_result(0).model_copy(update={"mismatches": found})).directions()
    assert [each.name for each in counted] == [
        "NOMIS is 2 levels higher",
        "NOMIS is 1 level higher",
        "DPS is 1 level higher",
        "DPS is 2 levels higher",
        "No level in NOMIS",
        "No level in DPS",
        "Levels without a known order",
    ]
    assert [each.mismatches for each in counted] == [1, 1, 2, 1, 1, 1, 2]


def test_rows_keep_their_address_from_run_to_run() -> None:
    """The address of a row contains the cause and the key of the difference, so it stays the same in later runs.

    On a masked page, the address contains the position of the row instead of the key.
    """
    result = made_result(7)
    view, actions = view_of(result), what_to_do(result).actions
    rows = {row.mismatch.booking_id: row.anchor for row in page_rows(result, view, actions, UNMASKED)}
    later = result.model_copy(update={"run_id": "run-of-next-week", "mismatches": result.mismatches[2:]})
    again = page_rows(later, view_of(later), what_to_do(later).actions, UNMASKED)
    assert {row.mismatch.booking_id: row.anchor for row in again}.items() <= rows.items()
    assert rows[1_200_001] == "the-prisoner-was-received-twice-in-nomis--1200001"
    assert len(set(rows.values())) == 7
    masked = page_rows(result, view, actions, Masking(on=True))
    assert masked[0].anchor == f"{masked[0].values['cause']}--row-1"

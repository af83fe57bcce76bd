"""`doc/report.md`, the page that documents the report, agrees with the program."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from reports.engine.result import ReconciliationResult
from reports.presentation.csv import render_csv
from reports.presentation.index import cards
from reports.presentation.page import render_report
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.view import COLUMNS
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync.settings.declaration import variables
from tests.harness.results import (
    STARTED,
    VISIT_FIELDS,
    ended_run,
    made_result,
    visit_result,
    visits_with_everything,
    with_everything,
)

PAGE = (Path(__file__).parents[3] / "doc" / "report.md").read_text(encoding="utf-8")
#: The type of a value in the JSON, by the word for it on the page.
JSON_TYPES: Mapping[str, type] = {
    "boolean": bool,
    "text": str,
    "time": str,
    "integer": int,
    "object": dict,
    "list": list,
}


def table(section: str) -> list[list[str]]:
    """The rows of the table in a section of `doc/report.md`, without the heading of the table."""
    text = re.split(r"\n##+ ", PAGE.split(f"# {section}\n")[1])[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip("`") for cell in row] for row in rows[2:]]


def test_every_column_of_incentive_levels_is_documented_in_order() -> None:
    """The CSV columns of incentive levels are documented in their order, with the meaning of each."""
    rows = table("The CSV of incentive levels")
    assert [row[0] for row in rows] == list(COLUMNS)
    assert all(len(row) == 3 and row[2] for row in rows)


def test_every_column_of_general_csvs_is_documented_in_order() -> None:
    """The CSV columns of reconciliations other than that of incentive levels are documented in order.

    The documentation shows where the columns of the key and of the fields are.
    """
    expected: list[str] = []
    for column in (row[0] for row in table("The CSV")):
        if column == "*the key*":
            expected.append("reference")
        elif column.startswith("nomis_…"):
            expected += [f"{side}_{field.name}" for field in VISIT_FIELDS for side in ("nomis", "dps")]
        else:
            expected.append(column)
    [heading, *_] = csv.reader(io.StringIO(render_csv(visit_result(1))))
    assert heading == expected


@pytest.mark.parametrize(
    ("section", "result"), [("The CSV of incentive levels", made_result(12)), ("The CSV", visit_result(12))]
)
def test_columns_have_the_documented_type(section: str, result: ReconciliationResult) -> None:
    """Every value in a CSV can be parsed as the type that is documented for its column.

    The columns documented as integers are those whose values contain only digits.
    """
    read: dict[str, Callable[[str], object]] = {"integer": int, "time": datetime.fromisoformat, "text": str}
    types = {name: kind for name, kind, _ in table(section) if kind in read}
    lines = list(csv.DictReader(io.StringIO(render_csv(result))))
    assert len(lines) == 12
    for line in lines:
        for name, cell in line.items():
            if cell and name in types:
                read[types[name]](cell)
    numbers = {
        name for name in types if lines[0].get(name) and all(line[name].isdigit() for line in lines if line[name])
    }
    assert {name for name, kind in types.items() if kind == "integer"} == numbers


def test_every_field_of_the_json_is_documented() -> None:
    """Every top-level field of the JSON of a result is documented in order, with its type and its meaning."""
    general, own = table("The JSON"), table("The JSON of incentive levels")
    assert [row[0] for row in general] == [field.alias for field in ReconciliationResult.model_fields.values()]
    for result, rows in ((with_everything(3), [*general, *own]), (visits_with_everything(3), general)):
        fields: dict[str, Any] = json.loads(result.to_json())
        assert [row[0] for row in rows] == list(fields)
        for name, kind, meaning in rows:
            assert meaning
            assert fields[name] is None or isinstance(fields[name], JSON_TYPES[kind]), name


def test_every_part_of_the_page_is_documented() -> None:
    """The headings of a report are documented in their order, and no other headings are."""
    named = [row[0] for row in table("The parts of the page")][1:]
    shown = set()
    for results in ((with_everything(3), made_result(3)), (visits_with_everything(3), visit_result(3))):
        page = "".join(map(render_report, results))
        headings = list(dict.fromkeys(re.findall(r"<h2 [^>]*>([^<]+)</h2>", page)))
        assert headings == [each for each in named if each in headings]
        shown |= set(headings)
    assert shown == set(named)


def test_every_state_of_a_card_is_documented() -> None:
    """The states of a card in the index are documented in order.

    A state that contains a number is documented by an example, `3 new`.
    """
    outcomes: tuple[dict[str, Any], ...] = (
        {"mismatches": 0, "new": 0},
        {"new": 0},
        {"new": 3},
        {"suspicious": True},
        {"status": "incomplete"},
        {"status": "failed"},
    )
    runs = [ended_run(reconciliation=f"number-{number}", **changes) for number, changes in enumerate(outcomes)]
    states = [card.state for card in cards({}, runs, {}, STARTED)] + [
        card.state for card in cards({"x": "X"}, [], {}, STARTED)
    ]
    assert [row[0] for row in table("The overview")] == states


@pytest.mark.parametrize("entry", RECONCILIATIONS.values(), ids=lambda each: each.name)
def test_every_kind_is_documented_with_the_text_of_the_report(entry: Entry) -> None:
    """For each reconciliation, a table documents every kind of difference: its code, its text and its usual cause."""
    rows = table(entry.title)
    assert {code: label for code, label, _ in rows} == dict(entry.load().kinds)
    assert all(cause for _, _, cause in rows)


def test_every_cause_is_documented_with_the_text_of_the_report() -> None:
    """The causes of differences in incentive levels are documented in the order of their numbers.

    The documentation gives the text, the right side and the fix of each.
    """
    rows = [[str(number), each.name, each.right_side, each.action] for number, each in CAUSES.items()]
    assert table("The causes of incentive levels") == rows


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z]{3,}_[A-Z_]+)`", PAGE)) - {"RUN_ID"}))
def test_documented_settings_exist(name: str) -> None:
    """All settings that are named in `doc/report.md` exist."""
    assert name in {variable.name for variable in variables()}

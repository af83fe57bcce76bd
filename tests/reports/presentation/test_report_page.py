"""The page that documents the report says what the code does."""

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

from reports.presentation.csv import COLUMNS, render_csv
from reports.presentation.html import render_report
from reports.reconciliations.incentives.causes import CAUSES
from reports.reconciliations.incentives.result import IncentiveResult
from sync.settings.listing import variables
from tests.harness.results import made_result, with_everything

PAGE = (Path(__file__).parents[3] / "doc" / "report.md").read_text(encoding="utf-8")
#: What a value in the JSON is, by the word that the page has for it.
JSON_TYPES: Mapping[str, type] = {"text": str, "time": str, "integer": int, "object": dict, "list": list}


def table(section: str) -> list[list[str]]:
    """The rows of the table of a section, without its heading."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip("`") for cell in row] for row in rows[2:]]


def test_names_every_column_in_its_place() -> None:
    """The columns of the CSV, all of them, in their order, each with a meaning."""
    rows = table("The CSV")
    assert [row[0] for row in rows] == list(COLUMNS)
    assert all(len(row) == 3 and row[2] for row in rows)


def test_columns_have_the_type_that_is_said() -> None:
    """Integers and times can be read as such, in every line that has them."""
    read: dict[str, Callable[[str], object]] = {"integer": int, "time": datetime.fromisoformat, "text": str}
    types = {name: kind for name, kind, _ in table("The CSV")}
    lines = list(csv.DictReader(io.StringIO(render_csv(made_result(12)))))
    assert len(lines) == 12
    for line in lines:
        for name, cell in line.items():
            if cell:
                read[types[name]](cell)
    numbers = {name for name in types if lines[0][name] and all(line[name].isdigit() for line in lines if line[name])}
    assert {name for name, kind in types.items() if kind == "integer"} == numbers


def test_names_every_field_of_the_json() -> None:
    """The top level of the result, all of it, with the types that are said."""
    fields: dict[str, Any] = json.loads(with_everything(3).to_json())
    rows = table("The JSON")
    assert [row[0] for row in rows] == list(fields)
    assert list(fields) == [field.alias for field in IncentiveResult.model_fields.values()]
    for name, kind, meaning in rows:
        assert meaning
        assert fields[name] is None or isinstance(fields[name], JSON_TYPES[kind]), name


def test_names_every_part_of_the_page() -> None:
    """Each heading of the report, in the order in which they stand there."""
    page = render_report(with_everything(3)) + render_report(made_result(3))
    headings = list(dict.fromkeys(re.findall(r"<h2 [^>]*>([^<]+)</h2>", page)))
    assert [row[0] for row in table("The parts of the page")][1:] == headings


def test_names_every_cause_in_the_words_of_the_report() -> None:
    """The causes by their numbers, each with its text, the right side and what is done about it."""
    rows = [[str(number), each.text, each.right_side, each.action] for number, each in CAUSES.items()]
    assert table("The causes") == rows


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([A-Z]{3,}_[A-Z_]+)`", PAGE)) - {"RUN_ID"}))
def test_names_settings_that_there_are(name: str) -> None:
    """No setting is named that the program does not know."""
    assert name in {variable.name for variable in variables()}

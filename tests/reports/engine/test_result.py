"""The JSON of a result has all parts of the result, and results from earlier versions can be read."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.result import FieldValues, Part, ReconciliationResult
from reports.presentation.page import render_report
from reports.reconciliations.incentives.result import IncentiveResult
from reports.reconciliations.results import parse_result
from tests.harness.results import (
    allocation_result,
    visit_mismatch,
    visit_result,
    visits_with_everything,
    with_everything,
)


@pytest.mark.parametrize(
    "result", [visits_with_everything(7), allocation_result(), with_everything(7)], ids=lambda each: each.title
)
def test_a_result_survives_a_round_trip_through_json(result: ReconciliationResult) -> None:
    """A round trip through JSON changes nothing in a result, and all names in the JSON are in camelCase."""
    text = result.to_json()
    assert parse_result(text) == result
    assert type(parse_result(text)) is type(result)
    content = json.loads(text)
    # The scope of a run is stored as it was recorded.
    del content["parameters"]
    assert not re.findall(r'"([a-z]+_[a-z_]+)":', json.dumps(content))


NAMES = st.from_regex(r"[a-z][a-z0-9]{0,4}(_[a-z][a-z0-9]{0,4}){0,3}", fullmatch=True)
VALUES = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
MOMENTS = st.datetimes(datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2100-01-01"))


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(NAMES, st.integers() | st.text(), min_size=1), VALUES, VALUES, st.none() | MOMENTS)
def test_json_keeps_column_names_and_types(
    key: dict[str, str | int], nomis: Any, dps: Any, moment: datetime | None
) -> None:
    """Column names survive a round trip through JSON, and values keep their types.

    For example, 1 does not become true, and "1" does not become a number.
    """
    differences = (FieldValues(field="field", nomis=nomis, dps=dps),)
    found = visit_mismatch(1, key=key, differences=differences)
    result = visit_result(0, mismatches=(found,), key_columns=tuple(key))
    back = parse_result(result.to_json())
    assert back == result
    [again] = back.mismatches
    assert (again.key, back.key_columns) == (key, tuple(key))
    assert [(type(each.nomis), type(each.dps)) for each in again.differences] == [(type(nomis), type(dps))]
    evidence = found.evidence[0].model_copy(update={"at": moment})
    with_time = result.model_copy(update={"mismatches": (found.model_copy(update={"evidence": (evidence,)}),)})
    assert parse_result(with_time.to_json()) == with_time


def test_no_part_has_a_field_that_json_would_lose() -> None:
    """Every field of every part of a result is in the JSON, under a name that no other field of the part has."""
    parts = [Part]
    for part in parts:
        parts += part.__subclasses__()
    assert len(parts) > 20
    for part in parts:
        aliases = [field.alias for field in part.model_fields.values()]
        assert None not in aliases
        assert len(aliases) == len(set(aliases)) == len(part.model_fields)
        assert not [name for name, field in part.model_fields.items() if field.exclude]


OF_ALL = ("reconciliation", "title", "counted", "keyColumns", "fields", "kinds", "suspicious", "gaps")
OF_RECORDS = ("key", "kind", "missingIn", "differences", "otherFields")


def test_results_of_earlier_versions_can_be_loaded() -> None:
    """A result from a version that reconciled only incentives can be loaded, and its general fields are filled in."""
    result = with_everything(7)
    stored = json.loads(result.to_json())
    for name in OF_ALL:
        del stored[name]
    for records in ("mismatches", "inFlight", "excluded", "resolved", "unconfirmed", "unread"):
        for record in stored[records]:
            for name in (*OF_RECORDS, *(("side", "unit", "prisonId") if records == "unread" else ())):
                record.pop(name, None)
    loaded = parse_result(json.dumps(stored))
    assert isinstance(loaded, IncentiveResult)
    assert loaded == result
    assert render_report(loaded) == render_report(result)

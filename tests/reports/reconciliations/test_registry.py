"""The registry of reconciliations agrees with the declaration of each reconciliation."""

from __future__ import annotations

import pytest

from reports.engine.compare import differing
from reports.engine.frame import columns_of, typed
from reports.presentation.view import View
from reports.reconciliations.registry import RECONCILIATIONS, Entry
from sync.domains.registry import DOMAINS
from sync.settings.loading import load_settings


@pytest.mark.parametrize("entry", RECONCILIATIONS.values(), ids=list(RECONCILIATIONS))
def test_each_reconciliation_matches_its_entry(entry: Entry) -> None:
    """Each reconciliation has the name, title, kind of key and result class that its entry in the registry gives.

    The entry also has a view, and the program synchronises the domain of the reconciliation.
    """
    kind = entry.load()
    assert (kind.name, kind.title) == (entry.name, entry.title)
    assert (list(kind.key) == ["booking_id"]) == entry.of_bookings
    assert entry.load_result() is kind.result_class()
    assert issubclass(entry.load_view(), View)
    assert kind.domain in DOMAINS


@pytest.mark.parametrize("entry", RECONCILIATIONS.values(), ids=list(RECONCILIATIONS))
def test_each_reconciliation_has_a_frame_that_can_be_compared(entry: Entry) -> None:
    """No two columns of a reconciliation have the same name. An empty frame with these columns has no differences."""
    kind = entry.load()
    columns = columns_of(kind)
    names = [*kind.key, *(f"{side}_{field.name}" for field in kind.fields for side in ("nomis", "dps")), *kind.extra]
    assert len(names) == len(set(names))
    assert set(names) <= columns.keys()
    assert len(differing(typed(kind, []), kind.fields, ("nomis-only", "dps-only", "different"))) == 0


@pytest.mark.parametrize(
    ("switches", "expected"),
    [
        ({}, {True}),
        ({"SCHEDULER_RECONCILIATION": "false"}, {False}),
        ({"SCHEDULER_RECONCILIATION": "false", "SCHEDULER_RECONCILIATION_VISITS": "true"}, {True, False}),
    ],
)
def test_a_reconciliation_without_a_switch_follows_the_general_one(
    switches: dict[str, str], expected: set[bool]
) -> None:
    """A reconciliation without its own switch follows the general switch. Its own switch overrides the general one."""
    settings = load_settings(switches)
    on = {entry.name: entry.is_on(settings) for entry in RECONCILIATIONS.values()}
    assert set(on.values()) == expected
    assert on["visits"] == (True in expected)

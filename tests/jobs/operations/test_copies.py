"""`duplicates remove` deletes an unmapped NOMIS record if it is proved to be a duplicate of a mapped record."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.app import App

COMMAND = ("duplicates", "remove", "appointment")


@pytest.fixture
def records(app: App) -> App:
    """An installation with three appointments in NOMIS, of which only 9001 is mapped.

    9002 is a duplicate of 9001, and 9003 starts at another time.
    """
    person = app.sandbox.prisoners()[0]
    room = app.sandbox.control("GET", f"/locations/{person['prisonId']}")[0]["id"]
    values: dict[str, Any] = {
        "booking_id": person["bookingId"],
        "prison_id": person["prisonId"],
        "location_id": room,
        "day": "2030-05-22",
        "start": "09:30",
        "end": None,
        "subtype": "CHAP",
        "created": "2023-05-01T10:00:00",
    }
    app.sandbox.control("POST", "/nomis/appointments", {"event_id": 9001, **values, "dpsId": 71})
    app.sandbox.control("POST", "/nomis/appointments", {"event_id": 9002, **values})
    app.sandbox.control("POST", "/nomis/appointments", {"event_id": 9003, **values, "start": "11:30"})
    return app


def in_nomis(app: App) -> set[int]:
    """The ids of the appointments in NOMIS."""
    return {each["event_id"] for each in app.sandbox.nomis("appointment")}


def test_the_duplicate_is_removed_and_recorded(records: App) -> None:
    """`duplicates remove` deletes the duplicate, records the action and a resolved finding, and alerts nobody.

    A dry run only shows the duplicate. The same command, run again, does nothing.
    """
    shown = records.run_ok(*COMMAND, "9002", "--of", "9001", "--dry-run")
    assert "delete appointment 9002" in shown
    assert in_nomis(records) == {9001, 9002, 9003}
    assert records.read_json("duplicates", "list", "--all") == []
    assert "done and verified" in records.run_ok(*COMMAND, "9002", "--of", "9001", "--yes", "--as", "A. Operator")
    assert in_nomis(records) == {9001, 9003}
    [finding] = records.read_json("duplicates", "list", "--all")
    assert (finding["status"], finding["resolvedBy"], finding["domain"]) == ("resolved", "A. Operator", "appointment")
    assert [(action, target) for action, target, _ in records.actions()] == [("duplicates resolve", "appointment 9002")]
    again = records.run_ok(*COMMAND, "9002", "--of", "9001", "--yes", "--as", "A. Operator")
    assert "nothing done" in again
    assert records.alerts() == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("9003", "--of", "9001"), "the two records differ in start"),
        (("9002", "--of", "9003"), "appointment 9003 is not mapped"),
        (("9001", "--of", "9001"), "no longer a duplicate"),
    ],
)
def test_a_record_that_is_not_a_proven_duplicate_is_kept(records: App, arguments: tuple[str, ...], reason: str) -> None:
    """A record that is not proved to be a duplicate of the `--of` record is kept, and the reason is shown."""
    ended = records.run(*COMMAND, *arguments, "--yes", "--as", "A. Operator")
    assert reason in ended.out + ended.err
    assert in_nomis(records) == {9001, 9002, 9003}


def test_kinds_with_ambiguous_numbers_are_refused(app: App) -> None:
    """`duplicates remove` refuses adjustments, since NOMIS has two kinds of them with overlapping numbers."""
    ended = app.run("duplicates", "remove", "sentencing-adjustment", "5", "--of", "6", "--yes")
    assert ended.code == 2
    assert "visit, " in ended.err

"""`duplicates remove` deletes an unmapped NOMIS record if it is proved to be a duplicate of a mapped record."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.sandboxes import Caller

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

    A dry run only shows the duplicate. The same command, run again, does nothing and records nothing.
    """
    shown = records.run_ok(*COMMAND, "9002", "--of", "9001", "--dry-run")
    assert "delete appointment 9002" in shown
    assert re.search("^verdict +surplus: one DPS record has two NOMIS records", shown, re.MULTILINE)
    assert in_nomis(records) == {9001, 9002, 9003}
    assert records.read_json("duplicates", "list", "--all") == []
    assert "done and verified" in records.run_ok(*COMMAND, "9002", "--of", "9001", "--yes", "--as", "A. Operator")
    assert in_nomis(records) == {9001, 9003}
    [finding] = records.read_json("duplicates", "list", "--all")
    assert (finding["status"], finding["resolvedBy"], finding["domain"]) == ("resolved", "A. Operator", "appointment")
    assert [(action, target) for action, target, _ in records.actions()] == [("duplicates remove", "appointment 9002")]
    again = records.run_ok(*COMMAND, "9002", "--of", "9001", "--yes", "--as", "A. Operator")
    assert "nothing done: NOMIS has no appointment 9002" in again
    assert len(records.actions()) == 1
    assert records.alerts() == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("9003", "--of", "9001"), "the two records differ in start"),
        (("9002", "--of", "9003"), "appointment 9003 is not mapped"),
        (("9001", "--of", "9001"), "appointment 9001 cannot be a duplicate of itself"),
    ],
)
def test_a_record_that_is_not_a_proven_duplicate_is_kept(records: App, arguments: tuple[str, ...], reason: str) -> None:
    """A record is kept if it is not proved to be a duplicate of the one given with `--of`, and the reason is shown."""
    ended = records.run(*COMMAND, *arguments, "--yes", "--as", "A. Operator")
    assert (ended.code != 0, reason in ended.error) == (True, True)
    assert in_nomis(records) == {9001, 9002, 9003}


def test_a_record_that_is_mapped_elsewhere_is_kept(records: App) -> None:
    """`duplicates remove` keeps a record that is itself mapped.

    The output names the DPS record to which it is mapped, and says what to do. It mentions no finding, since there is
    none, and does not say that a record was refused.
    """
    body = {"appointmentInstanceId": 72, "nomisEventId": 9003}
    assert Caller(records.sandbox).call("mapping", "POST", "/mapping/appointments", json=body).status_code == 201
    ended = records.run(*COMMAND, "9003", "--of", "9001", "--although-different", "--yes")
    assert ended.code == 1
    reason = "appointment 9003 is mapped to 72, so it is not a duplicate of appointment 9001"
    assert ended.error == f"prisoner-to-nomis: nothing was removed: {reason}: check both numbers"
    assert re.search(r"^record +appointment 9003, mapped to 72$", ended.out, re.MULTILINE)
    assert re.search(rf"^verdict +unrelated: {reason}$", ended.out, re.MULTILINE)
    assert not re.search("finding|refused", ended.out + ended.err)
    assert (in_nomis(records), records.actions()) == ({9001, 9002, 9003}, [])


def test_the_removal_without_proof_names_its_command(records: App) -> None:
    """For a record that differs, the output of `duplicates remove` names the command that removes it anyway.

    The output has no verdict, since only the operator says that the record is a duplicate.
    """
    shown = records.run(*COMMAND, "9003", "--of", "9001", "--dry-run")
    assert shown.code == 1
    assert "`duplicates remove` with --although-different will delete appointment 9003" in shown.out
    assert "--although-different removes it anyway" in shown.error
    assert "verdict" not in shown.out
    assert not re.search("finding|refused", shown.out + shown.err)


def test_an_open_finding_about_a_copy_is_used(records: App) -> None:
    """If a removal could not be verified, the same command, run again, closes the finding that was left open."""
    with faulty(records.sandbox, "nomis", "GET", "/appointments/{id}", kind="status", status=500, skip=6):
        assert records.run(*COMMAND, "9002", "--of", "9001", "--yes").code == 1
    (finding,) = records.read_json("duplicates", "list")
    assert in_nomis(records) == {9001, 9003}
    records.run_ok(*COMMAND, "9002", "--of", "9001", "--yes")
    assert records.read_json("duplicates", "list") == []
    assert [each["id"] for each in records.read_json("duplicates", "list", "--all")] == [finding["id"]]


@pytest.mark.parametrize("kind", ["sentencing-adjustment", "activity", "iep"])
def test_other_kinds_are_refused(app: App, kind: str) -> None:
    """`duplicates remove` refuses a kind of record whose numbers are ambiguous, or whose records cannot be read.

    NOMIS has two kinds of adjustment with overlapping numbers. NOMIS cannot show an activity, so nothing could prove
    that an activity is a duplicate.
    """
    ended = app.run("duplicates", "remove", kind, "5", "--of", "6", "--yes")
    assert ended.code == 2
    assert "choose visit or appointment" in ended.error

"""`resync --from RUN`: each record that the run proposes to resync is written once and verified."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.operations.bulk_fixes import proposed_fixes
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.results import visit_result


def reconciled(app: App, name: str) -> str:
    """Plants a difference for each cause of the reconciliation `name`, runs it, and returns the id of the run."""
    app.sandbox.reset(prisoners=60, prisons=20, every_cause=True, plant=[name])
    app.forget_queues()
    app.make_queues()
    return str(app.read_json("reconcile", name, "--no-notify")["runId"])


def states(done: Any) -> dict[str, int]:
    """The number of records in each state that occurs."""
    return {state: count for state, count in done["counts"].items() if count}


def test_records_of_a_run_are_written_and_agree_afterwards(app: App) -> None:
    """Every record for which the run says that DPS is right is written to NOMIS once.

    Each write is recorded as the operator's action. A dry run writes nothing. The next reconciliation proposes no
    resync of these records. A repeated command skips them.
    """
    run_id = reconciled(app, "appointments")
    resync = ["resync", "--from", run_id, "--as", "jane"]
    listed = app.run(*resync, "--dry-run")
    assert (listed.code, app.sandbox.journal("nomis"), app.read_json("actions")) == (0, [], [])
    assert "to write  create appointment (" in listed.out
    done = app.run(*resync, "--yes", "--json").json()
    written = states(done)["written"]
    assert states(done) == {"written": written}
    actions = app.read_json("actions", "--limit", "100")
    assert {(each["target"], each["who"], each["state"]) for each in actions} == {
        (each["target"], "jane", "done") for each in done["records"]
    }
    left = app.read_json("reconcile", "appointments", "--no-notify")
    proposed = {
        line
        for each in left["mismatches"]
        for line in each["diagnosis"]["commands"]
        if each["diagnosis"]["rightSide"] == "DPS"
    }
    assert not [line for line in proposed if "resync" in line]
    again = app.run(*resync, "--yes", "--json").json()
    assert states(again) == {"skipped": written}


def test_the_resync_stops_at_a_refusal_and_can_be_repeated(app: App) -> None:
    """`resync --from` stops at an allocation that NOMIS refuses, here that of a prisoner who has left the prison.

    A repeated command skips the records already written, leaves the refused one to a person, and writes the rest.
    """
    run_id = reconciled(app, "allocations")
    resync = ["resync", "--from", run_id, "--yes", "--json", "--as", "jane"]
    first = app.run(*resync)
    before = states(first.json())
    assert (first.code, before["failed"]) == (1, 1)
    assert "the Course activity prison" in first.errors[-1]
    writes = len(app.sandbox.journal("nomis"))
    second = app.run(*resync)
    found = second.json()
    assert (second.code, second.errors[-1]) == (
        1,
        "prisoner-to-nomis: 1 record is not fixed: a person has to decide, as the list says",
    )
    rest = {"skipped": before.get("written", 0), "left": 1, "written": before.get("ready", 0)}
    assert states(found) == {state: count for state, count in rest.items() if count}
    assert len(app.sandbox.journal("nomis")) == writes + rest["written"]
    (left,) = [each["text"] for each in found["records"] if each["state"] == "left"]
    assert all(
        "written after the run by jane at" in each["text"] for each in found["records"] if each["state"] == "skipped"
    )
    assert left.startswith("refused: nomis: PUT")


def test_a_record_with_an_objection_is_left_to_a_person(app: App) -> None:
    """If there is an objection to the resync of a visit, the visit is not written, and the list shows the objection.

    A visit is not listed if it is unknown which side is right. The command says how many such visits there are.
    """
    run_id = reconciled(app, "visits")
    listed = app.run("resync", "--from", run_id, "--dry-run", "--json")
    found = listed.json()
    (left,) = [each for each in found["records"] if each["state"] == "left"]
    single = app.run("resync", *left["target"].split(), "--dry-run")
    assert (listed.code, single.code) == (1, 1)
    assert left["text"] in single.error
    assert "skipped" not in states(found)
    changed = app.run("resync", "--from", run_id, "--cause", "the visit was changed on the NOMIS screen", "--yes")
    assert (changed.code, "2 more records are not on the list" in changed.out) == (0, True)
    assert app.sandbox.journal("nomis") == []


def test_a_command_that_is_proposed_for_two_rows_counts_once() -> None:
    """A command counts once, however many rows propose it, and as undecided only if no row says that DPS is right."""
    (mismatch,) = visit_result(1).mismatches
    assert mismatch.diagnosis is not None
    unknown = mismatch.diagnosis.model_copy(update={"right_side": "unknown"})
    other = unknown.model_copy(update={"commands": ("prisoner-to-nomis resync visit aa-bb",)})
    rows = (mismatch, *(mismatch.model_copy(update={"diagnosis": each}) for each in (unknown, other, other)))
    proposed = proposed_fixes(visit_result(0, mismatches=rows), None, "resync")
    assert [each.arguments for each in proposed.fixes] == [("visit", "bq-te-00-00")]
    assert proposed.undecided == 1


def test_a_mapping_that_cannot_be_saved_ends_the_command(app: App) -> None:
    """If the mapping of a new record cannot be saved, the record cannot be verified, so no other record is written."""
    run_id = reconciled(app, "visits")
    resync = ["resync", "--from", run_id, "--cause", "booking was lost", "--yes", "--json", "--as", "jane"]
    with faulty(app.sandbox, "mapping", "POST", kind="status", status=503):
        stopped = app.run(*resync)
    assert stopped.code == 1
    assert states(stopped.json())["failed"] == 1
    assert "its mapping could not be saved" in stopped.errors[-1]
    assert len(app.read_json("actions")) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either KIND and ID or --from RUN"),
        (["visit", "ab-cd-ef-gh", "--from", "x"], "give either KIND and ID or --from RUN"),
        (["visit"], "give both KIND and ID"),
        (["visit", "ab-cd-ef-gh", "--cause", "lost"], "add --from RUN"),
    ],
)
def test_wrong_arguments_are_bad_usage(app: App, arguments: list[str], message: str) -> None:
    """`resync` with missing or contradictory arguments is bad usage, and one line says what to give instead."""
    done = app.run("resync", *arguments)
    assert (done.code, message in done.error) == (2, True)

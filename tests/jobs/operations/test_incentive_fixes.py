"""`incentives repair` and `reconcile fix received` act only once, even if other operators or messages intervene."""

from __future__ import annotations

import os

import pytest

from reports.engine.runs import create_run, save_result
from sandbox import Sandbox
from sync.clock import LONDON, now
from tests.harness.app import App, differing, open_application
from tests.harness.commands import Terminal
from tests.harness.faults import faulty, held
from tests.harness.processes import start_command
from tests.harness.results import allocation_result

POST_IEP = "/prisoners/booking-id/{id}/incentives"


def writes(sandbox: Sandbox, service: str = "nomis") -> int:
    """The number of writes that `service` has received."""
    return len(sandbox.journal(service))


@pytest.mark.parametrize("cause", [2, 6])
def test_a_repair_writes_the_dps_level(app: App, cause: int) -> None:
    """A repair adds one record to NOMIS, after which both sides agree, and is refused if it is run again.

    The telemetry event and the recorded action name the sequence that was written.
    """
    offender_no = differing(app, cause)
    output = app.run_ok("incentives", "repair", offender_no, "--yes")
    assert "both sides have" in output
    assert writes(app.sandbox) == 1
    (event,) = app.telemetry("incentives-repair")
    (action,) = app.read_json("actions")
    sequence = event["nomisIncentiveSequence"]
    assert (action["state"], action["outcome"]) == ("done", f"written as sequence {sequence}")
    assert f"as sequence {sequence} of booking" in output
    assert "comments" not in action["details"]["body"]
    again = app.run("incentives", "repair", offender_no, "--yes")
    assert (again.code, "already" in again.error, writes(app.sandbox)) == (1, True, 1)


def test_an_explanation_says_where_other_differences_are(app: App) -> None:
    """`reconcile explain` explains incentive levels, and says where the other reports list the prisoner.

    It does so even if it finds no level to explain. If such a report has not been made, the output gives the command
    that makes it.
    """
    offender_no = app.sandbox.prisoners()[0]["offenderNo"]
    made = allocation_result()
    numbers = (offender_no, None, "A0000AA")
    mismatches = tuple(
        each.model_copy(update={"offender_no": number}) for each, number in zip(made.mismatches, numbers, strict=True)
    )
    result = made.model_copy(update={"mismatches": mismatches})
    database = app.settings["DATABASE_URL"]
    with open_application(app.settings, database) as opened, opened.database.begin() as connection:
        create_run(connection, "allocations", result.run_id, {"notify": False}, shards=1)
        save_result(connection, result)
    render = f"prisoner-to-nomis report render {result.run_id}"
    rows_of = {number: row for row, each in result.rows if (number := each.offender_no) is not None}

    def sentence(number: str) -> str:
        where = f"the last run of allocations lists {number} (row {rows_of[number]})"
        return f"{where}, with causes and commands; to make its report: {render}\n"

    assert app.run_ok("reconcile", "explain", offender_no).startswith(sentence(offender_no))
    (other,) = app.read_json("reconcile", "explain", offender_no)["otherDifferences"]
    assert other == {
        "reconciliation": "allocations",
        "runId": result.run_id,
        "rows": [rows_of[offender_no]],
        "report": None,
    }
    unknown = app.run("reconcile", "explain", "A0000AA")
    assert (unknown.code, unknown.out.startswith(sentence("A0000AA"))) == (1, True)
    app.run_ok("report", "render", result.run_id)


def test_an_explanation_needs_a_prisoner_number(app: App) -> None:
    """If the argument is the id of a visit, the error says that `reconcile explain` is for incentive levels."""
    refused = app.run("reconcile", "explain", "bq-te-ke-ol")
    assert refused.code == 2
    assert "`reconcile explain` is for incentive levels" in refused.error


def review_of(app: App, offender_no: str) -> dict[str, object]:
    """The details of the only recorded action that concerns the prisoner `offender_no`."""
    (action,) = [each for each in app.read_json("actions") if offender_no in each["target"]]
    return dict(action["details"])


def test_concurrent_repairs_write_once(app: App) -> None:
    """While NOMIS handles one operator's repair, another operator's repair for the same prisoner writes nothing.

    A later repair writes nothing either.
    """
    offender_no = differing(app, 2)
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | app.settings
    repair = ["incentives", "repair", offender_no, "--yes", "--as"]
    with held(app.sandbox, "nomis", "POST", POST_IEP) as hold:
        first = start_command([*repair, "jane"], environment, app.folder)
        hold.wait_for_request()
        second = app.run(*repair, "joe")
        hold.release()
        assert first.wait() == 0
    assert (second.code, "jane began" in second.error) == (1, True)
    assert app.run(*repair, "joe").code == 1
    assert writes(app.sandbox) == 1


@pytest.mark.parametrize("more", [[], ["--force"]], ids=["", "force"])
def test_a_repair_by_another_operator_is_not_repeated(app: App, more: list[str]) -> None:
    """A repair is planned again after the confirmation, so it does not repeat another operator's repair."""
    offender_no = differing(app, 6)

    def another_repairs() -> None:
        app.run_ok("incentives", "repair", offender_no, "--yes", "--as", "joe")

    typed = Terminal("y\n", before=another_repairs)
    done = app.run("incentives", "repair", offender_no, "--as", "jane", *more, answer=typed)
    assert (done.code, "changed before you confirmed" in done.error) == (1, True)
    assert writes(app.sandbox) == 1


def test_a_review_with_a_dead_letter_is_not_repaired(app: App) -> None:
    """A repair is refused while the message about the prisoner's review is on the DLQ.

    After a repair with `--force`, that message counts as a duplicate and writes nothing.
    """
    offender_no = differing(app, 1)
    assert app.sandbox.send_waiting() == 1
    refused = app.run("incentives", "repair", offender_no, "--yes")
    assert (refused.code, "is waiting on the dead letter queue" in refused.error) == (1, True)
    assert app.run("incentives", "repair", offender_no, "--dry-run").code == 1
    assert writes(app.sandbox) == 0
    app.run_ok("incentives", "repair", offender_no, "--yes", "--force")
    assert writes(app.sandbox) == 1
    app.run_ok("dlq", "retry", "incentive")
    assert app.drain("incentive")["duplicate"] == 1
    assert writes(app.sandbox) == 1
    review = review_of(app, offender_no)
    (mapping,) = [each for each in app.sandbox.mappings("incentives") if each["incentiveId"] == review["review"]]
    assert mapping["nomisIncentiveSequence"] == review["sequence"]


def test_a_review_that_may_have_a_dead_letter_is_not_repaired(app: App) -> None:
    """A repair is refused while another consumer holds a dead letter that may be about the prisoner's review."""
    offender_no = differing(app, 1)
    app.sandbox.send_waiting()
    letters = app.queues()["incentive"].dlq.receive()
    refused = app.run("incentives", "repair", offender_no, "--yes")
    assert (len(letters), refused.code, "may be waiting" in refused.error) == (1, 1, True)
    assert writes(app.sandbox) == 0


def test_a_repair_whose_response_was_lost_is_not_written_again(app: App) -> None:
    """If the response to a repair is lost, the next repair finds the record in NOMIS and writes nothing.

    Even with `--force`, a repair writes nothing while NOMIS may still be working on the first request.
    """
    offender_no = differing(app, 1)
    with held(app.sandbox, "nomis", "POST", POST_IEP, kind="timeout_after_write"):
        lost = app.run("incentives", "repair", offender_no, "--yes", "--force", API_TIMEOUT_SECONDS="1")
    assert lost.code == 1
    again = app.run("incentives", "repair", offender_no, "--yes")
    assert (again.code, "both sides already have" in again.error) == (1, True)
    forced = app.run("incentives", "repair", offender_no, "--yes", "--force")
    assert (forced.code, "is being handled elsewhere" in forced.error) == (1, True)
    assert writes(app.sandbox) == 1
    assert app.read_json("actions")[-1]["state"] == "unknown"


def test_a_received_event_is_published_once(app: App) -> None:
    """A received event that another operator publishes before the confirmation is not published again.

    For some time afterwards, a command for another arrival of the prisoner is refused.
    """
    offender_no = differing(app, 4)
    fix = ["reconcile", "fix", "received", offender_no, "--as"]
    (prison,) = {each["prisonId"] for each in app.sandbox.prisoners() if each["offenderNo"] == offender_no}
    moment = f"{now().astimezone(LONDON):%Y-%m-%dT%H:%M:%S}"
    arrival = ["--prison", prison, "--reason", "TRANSFERRED", "--occurred-at", moment]

    def another_publishes() -> None:
        app.run_ok(*fix, "joe", "--yes")

    done = app.run(*fix, "jane", answer=Terminal("y\n", before=another_publishes))
    assert (done.code, "changed before you confirmed" in done.error) == (1, True)
    again = app.run(*fix, "jane", "--yes", *arrival)
    assert (again.code, "a received event was published by joe at" in again.error) == (1, True)
    assert writes(app.sandbox, "prisoner-search") == 1


def test_a_received_event_without_a_response_is_not_published_again(app: App) -> None:
    """If the publication of a received event gets no response, the next command to publish it is refused.

    DPS may have received the event without showing its effect yet. The error names the operator of the first command.
    """
    offender_no = differing(app, 4)
    fix = ["reconcile", "fix", "received", offender_no, "--yes", "--as"]
    with faulty(app.sandbox, "prisoner-search", "PUT", kind="reset"):
        assert app.run(*fix, "joe").code == 1
    again = app.run(*fix, "jane")
    assert (again.code, "possibly published by joe at" in again.error) == (1, True)
    assert [each["state"] for each in app.read_json("actions")] == ["unknown"]
    assert writes(app.sandbox, "prisoner-search") == 0

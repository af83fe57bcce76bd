"""The text that `reconcile NAME` prints about a result."""

import pytest

from jobs.cli.reconciliation_text import show_reconciliation
from jobs.errors import WorkError
from jobs.operations.reconcile import Reconciled
from jobs.operations.report_delivery import Delivered
from reports.engine.result import Diagnosis, FieldValues, ReconciliationResult, Unread
from reports.engine.run import ReconciliationOutcome
from reports.presentation.what_to_do import what_to_do
from tests.harness.results import visit_result, visits_with_everything


def printed(
    result: ReconciliationResult, capsys: pytest.CaptureFixture[str], place: str | None = "reports-out/report.html"
) -> str:
    """The text for people that the command prints about `result`. `place`: where the report is (None: not made)."""
    outcome = ReconciliationOutcome(result.status, result, result.run_id)
    show_reconciliation(Reconciled(outcome, Delivered(place)), as_json=False)
    return capsys.readouterr().out


def advised(result: ReconciliationResult, *fixes: tuple[str, tuple[str, ...]]) -> ReconciliationResult:
    """`result` with a diagnosis for each mismatch. `fixes` has, in order, what to do about each, and the commands."""
    rows = [
        each.model_copy(
            update={
                "diagnosis": Diagnosis(
                    cause=f"cause {row}",
                    confidence="high",
                    right_side="DPS",
                    who="this team",
                    explanation="",
                    action=what,
                    commands=commands,
                )
            }
        )
        for row, (each, (what, commands)) in enumerate(zip(result.mismatches, fixes, strict=True), start=1)
    ]
    return result.model_copy(update={"mismatches": tuple(rows)})


@pytest.mark.parametrize(
    ("prisons", "right"), [(("LEX",), "is the prison id right?"), (("LEX", "MDJ"), "are the prison ids right?")]
)
def test_a_chosen_prison_without_records_fails(
    capsys: pytest.CaptureFixture[str], prisons: tuple[str, ...], right: str
) -> None:
    """If a chosen prison has no records, `reconcile` fails and asks whether the prison's id is right."""
    result = visit_result(0, status="incomplete", empty_prisons=prisons, parameters={"prisons": list(prisons)})
    with pytest.raises(WorkError) as error:
        printed(result, capsys)
    assert str(error.value).endswith(f"is incomplete: no visit was found at {', '.join(prisons)} ({right})")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ({"reference": "bq-te-{}"}, "bq-te-{}"),
        (
            {"appointment_instance_id": "70{}", "nomis_event_id": "50{}"},
            "appointment instance id 70{}, NOMIS event id 50{}",
        ),
    ],
)
def test_each_row_names_its_record(capsys: pytest.CaptureFixture[str], key: dict[str, str], name: str) -> None:
    """Each row of the table names its record by the complete key, which people need to fix the record by a command.

    So does the line about a record that could not be read. If a key has several columns, the values of all
    columns are shown.
    """

    def key_of(number: int) -> dict[str, str]:
        return {column: value.format(number) for column, value in key.items()}

    result = visit_result(2)
    mismatches = [each.model_copy(update={"key": key_of(row)}) for row, each in enumerate(result.mismatches, start=1)]
    unread = Unread(key=key_of(9), side="dps", reason="status 500")
    found = {"key_columns": tuple(key), "mismatches": tuple(mismatches), "unread": (unread,)}
    _, heads, *lines = printed(result.model_copy(update=found), capsys).splitlines()
    rows, last = lines[:2], lines[2]
    start, end = heads.index("VISIT"), heads.index("PRISONER")
    assert [row[start:end].strip() for row in rows] == [name.format(1, 1), name.format(2, 2)]
    assert last == f"{name.format(9, 9)}: status 500"


def test_a_record_on_one_side_shows_its_first_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """For a record that only one side has, the text shows the first three fields and how many more there are.

    All the fields together would not fit on a line.
    """
    result = visit_result(1)
    (mismatch,) = result.mismatches
    fields = tuple(FieldValues(field=name, nomis=name.upper(), dps=None) for name in ("a", "b", "c", "d", "e"))
    text = printed(
        result.model_copy(update={"mismatches": (mismatch.model_copy(update={"differences": fields}),)}), capsys
    )
    assert "a: NOMIS A, DPS none; b: NOMIS B, DPS none; c: NOMIS C, DPS none; 2 more  " in text


def test_the_text_says_what_to_do_as_the_report_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Below the table, the text says who acts on each group of differences and how, with the commands.

    These are the same as in the report. The last line says where the report is.
    """
    write = "prisoner-to-nomis resync visit bq-te-1"
    result = advised(visit_result(2), ("Write the visit to NOMIS.", (write,)), ("There is nothing to do.", ()))
    text = printed(result, capsys)
    todo = what_to_do(result)
    expected = ["What to do:"]
    for each in todo.actions:
        rows = "" if each.commands else " See row 2."
        expected += [f"{each.who}: {each.what}", f"  {each.figures}{rows}", *(f"  {one}" for one in each.commands)]
    assert f"  {write}" in expected
    assert text.splitlines()[-len(expected) - 1 :] == [*expected, "report: reports-out/report.html"]


def test_the_text_says_which_row_a_command_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    """If the differences of a group have different commands, the text says which row the shown command is for."""
    fixes = [("Cancel the visit.", (f"prisoner-to-nomis duplicates remove visit {each} --of 1",)) for each in (7, 8, 9)]
    text = printed(advised(visit_result(3), *fixes), capsys)
    assert " The command is for row 1; 2 more rows have their own.\n  prisoner-to-nomis duplicates remove " in text


def test_the_text_has_few_groups(capsys: pytest.CaptureFixture[str]) -> None:
    """The text shows five groups of differences, and says how many more the report has.

    If no report was made, the text gives the command that makes the report.
    """
    result = advised(visit_result(7), *((f"Do this {each}.", ()) for each in range(7)))
    text = printed(result, capsys, place=None)
    assert text.count("This team: Do this ") == 5
    assert text.endswith(
        "\nThe report has 2 more groups of differences, with what to do about each.\n"
        f"no report was made; to make it: prisoner-to-nomis report render {result.run_id}\n"
    )


def test_the_text_says_what_is_wrong_with_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """If a run is incomplete, the text gives the command that resumes the run.

    If suspiciously many records differ, the text says so too.
    """
    result = visits_with_everything()
    with pytest.raises(WorkError):
        printed(result, capsys)
    lines = capsys.readouterr().out.splitlines()
    assert f"The differences are suspicious: {result.suspicious}." in lines
    at = lines.index("Resume the run:")
    assert lines[at + 1] == f"  prisoner-to-nomis reconcile official-visits --resume {result.run_id}"
    assert lines.index("What to do:") > at


def test_a_run_in_doubt_proposes_no_fix(capsys: pytest.CaptureFixture[str]) -> None:
    """If the data of a run is implausible, the text gives the reason first, and no command that fixes a difference.

    The only commands are those that repeat or accept the run.
    """
    why = "99 visits are listed, but an earlier run listed 200"
    result = advised(
        visit_result(2, run_id="visits-1", status="failed", failure=why, implausible=True),
        ("Write the visit to NOMIS.", ("prisoner-to-nomis resync visit bq-te-1",)),
        ("Retry the dead letter queue.", ("prisoner-to-nomis dlq retry visit",)),
    )
    with pytest.raises(WorkError):
        printed(result, capsys)
    _, reason, *lines = capsys.readouterr().out.splitlines()
    assert reason == f"The run failed: {why}."
    at = lines.index("What to do:")
    assert lines[at + 1] == "This team: Do not fix anything until the data has been checked."
    assert lines[at + 2].endswith(" See rows 1 and 2.")
    commands = [line for line in lines if line.startswith("  prisoner-to-nomis ")]
    rerun, accept = "runs rerun visits-1", "reconcile official-visits --accept visits-1"
    assert commands == [f"  prisoner-to-nomis {rerun}", f"  prisoner-to-nomis {accept}"]


def test_equal_records_need_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """If nothing differs, the text has only two lines: one with the counts, and one with the place of the report."""
    first, last = printed(visit_result(0), capsys).splitlines()
    assert " complete: " in first
    assert "compared 40120, differences 0" in first
    assert last == "report: reports-out/report.html"

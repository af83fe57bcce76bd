"""The text that `reconcile NAME` prints about a result."""

import pytest

from jobs.cli.commands.reconcile import show_reconciliation
from jobs.errors import WorkError
from jobs.operations.reconcile import Reconciled
from jobs.operations.report_delivery import Delivered
from reports.engine.result import FieldValues, ReconciliationResult, Unread
from reports.engine.run import ReconciliationOutcome
from tests.harness.results import visit_result


def printed(result: ReconciliationResult, capsys: pytest.CaptureFixture[str]) -> str:
    """The text that the command prints for people about `result`."""
    outcome = ReconciliationOutcome(result.status, result, result.run_id)
    show_reconciliation(Reconciled(outcome, Delivered()), as_json=False)
    return capsys.readouterr().out


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
    """Each row of the text names its record by the complete key, which people need for a command that fixes it.

    So does the line about a record that could not be read. If a key has several columns, all their values are shown.
    """

    def key_of(number: int) -> dict[str, str]:
        return {column: value.format(number) for column, value in key.items()}

    result = visit_result(2)
    mismatches = [each.model_copy(update={"key": key_of(row)}) for row, each in enumerate(result.mismatches, start=1)]
    unread = Unread(key=key_of(9), side="dps", reason="status 500")
    found = {"key_columns": tuple(key), "mismatches": tuple(mismatches), "unread": (unread,)}
    _, heads, *rows, last = printed(result.model_copy(update=found), capsys).splitlines()
    start, end = heads.index("VISIT"), heads.index("PRISONER")
    assert [row[start:end].strip() for row in rows] == [name.format(1, 1), name.format(2, 2)]
    assert last == f"{name.format(9, 9)}: status 500"


def test_a_record_on_one_side_shows_its_first_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """For a record that only one side has, the text shows three fields and the number of further fields.

    All the fields together would not fit on a line.
    """
    result = visit_result(1)
    (mismatch,) = result.mismatches
    fields = tuple(FieldValues(field=name, nomis=name.upper(), dps=None) for name in ("a", "b", "c", "d", "e"))
    text = printed(
        result.model_copy(update={"mismatches": (mismatch.model_copy(update={"differences": fields}),)}), capsys
    )
    assert "a: NOMIS A, DPS none; b: NOMIS B, DPS none; c: NOMIS C, DPS none; 2 more  " in text

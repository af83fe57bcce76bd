"""The text that `reconcile NAME` prints about a result."""

import pytest

from jobs.cli.commands.reconcile import show_reconciliation
from jobs.errors import WorkError
from jobs.operations.reconcile import Reconciled
from jobs.operations.report_delivery import Delivered
from reports.engine.result import FieldValues, ReconciliationResult
from reports.engine.run import ReconciliationOutcome
from tests.harness.results import visit_result


def printed(result: ReconciliationResult, capsys: pytest.CaptureFixture[str]) -> str:
    """The text that the command prints for people."""
    outcome = ReconciliationOutcome(result.status, result, result.run_id)
    show_reconciliation(Reconciled(outcome, Delivered()), as_json=False)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("prisons", "right"), [(("LEX",), "is the prison id right?"), (("LEX", "MDJ"), "are the prison ids right?")]
)
def test_a_chosen_prison_without_records_fails(
    capsys: pytest.CaptureFixture[str], prisons: tuple[str, ...], right: str
) -> None:
    """If a chosen prison has no records, the command fails and says so, since the prison code may be mistyped."""
    result = visit_result(0, status="incomplete", empty_prisons=prisons, parameters={"prisons": list(prisons)})
    with pytest.raises(WorkError) as error:
        printed(result, capsys)
    assert str(error.value).endswith(f"is incomplete: no visit was found at {', '.join(prisons)} ({right})")


def test_a_record_on_one_side_shows_its_first_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """A record that only one side has is shown by its first fields, since not all of them would fit on a line."""
    result = visit_result(1)
    (mismatch,) = result.mismatches
    fields = tuple(FieldValues(field=name, nomis=name.upper(), dps=None) for name in ("a", "b", "c", "d", "e"))
    text = printed(
        result.model_copy(update={"mismatches": (mismatch.model_copy(update={"differences": fields}),)}), capsys
    )
    assert "a: NOMIS A, DPS none; b: NOMIS B, DPS none; c: NOMIS C, DPS none; 2 more  " in text

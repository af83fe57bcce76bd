"""`incentives repair --from RUN`, for the prisoners of a run whose level has to be written to NOMIS.

The repairs are listed and confirmed once, and then written and recorded one by one. A command that stopped can be
repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.app import App
from tests.harness.commands import Terminal
from tests.harness.faults import faulty

LOST = "the event of the review was lost, or failed"


@dataclass(frozen=True)
class Compared:
    """A sandbox world after a reconciliation: the id of the run, and the prisoners by cause number."""

    app: App
    run_id: str
    by_cause: dict[int, list[str]]

    def repair(self, *more: str, answer: str | Terminal = "") -> Any:
        """Runs `incentives repair` for the prisoners of the run, as the operator jane."""
        return self.app.run("incentives", "repair", "--from", self.run_id, "--as", "jane", *more, answer=answer)

    def written(self) -> int:
        """The number of IEP records that were written to NOMIS."""
        return len(self.app.sandbox.journal("nomis"))


@pytest.fixture
def compared(app: App) -> Compared:
    """A run that found six prisoners whose levels differ.

    For three, a review was lost; for two, reviews are in the wrong order; and one was received twice in NOMIS.
    """
    app.sandbox.reset(prisoners=60, mismatches={"2": 3, "6": 2, "5": 1})
    app.forget_queues()
    app.make_queues()
    result = app.read_json("reconcile", "incentives", "--no-notify")
    by_cause: dict[int, list[str]] = {}
    for each in app.sandbox.planted()["mismatches"]:
        by_cause.setdefault(each["cause"], []).append(each["offenderNo"])
    return Compared(app, result["runId"], by_cause)


def test_dry_run_shows_the_list_and_writes_nothing(compared: Compared) -> None:
    """A dry run of `incentives repair` lists every prisoner whose level has to be written, and no other prisoner.

    It writes nothing.
    """
    done = compared.repair("--dry-run")
    assert (done.code, compared.written(), compared.app.read_json("actions")) == (0, 0, [])
    listed = [line for line in done.out.splitlines() if "to write  level" in line]
    assert len(listed) == 5
    assert all(number in done.out for cause in (2, 6) for number in compared.by_cause[cause])
    assert compared.by_cause[5][0] not in done.out
    assert "5 to write" in done.out


def test_one_confirmation_writes_each_level_once(compared: Compared) -> None:
    """After one confirmation, `incentives repair` writes one record and records one action for each prisoner.

    The question says how many records will be written. The same command, run again, skips the prisoners for whom both
    sides now agree.
    """
    done = compared.repair(answer=Terminal("y\n"))
    assert (done.code, compared.written()) == (0, 5)
    assert "This writes 5 records, one by one, to NOMIS (" in done.out
    assert ", and stops at the first fix that does not end as expected. Continue? [y/N]" in done.out
    assert done.out.splitlines()[-1] == "5 written"
    actions = compared.app.read_json("actions")
    assert {(each["who"], each["action"], each["state"]) for each in actions} == {("jane", "incentives repair", "done")}
    numbers = {*compared.by_cause[2], *compared.by_cause[6]}
    assert {each["target"].split(",")[0].removeprefix("prisoner ") for each in actions} == numbers
    again = compared.repair("--yes")
    assert (again.code, compared.written()) == (0, 5)
    assert "5 skipped" in again.out


def test_the_answer_no_writes_nothing(compared: Compared) -> None:
    """If the operator answers no when `incentives repair` asks for confirmation, nothing is written to NOMIS."""
    assert compared.repair(answer=Terminal("n\n")).code == 1
    assert compared.written() == 0


def test_part_of_a_name_chooses_a_cause(compared: Compared) -> None:
    """If `--cause` gives part of a cause's name, `incentives repair` repairs only the differences with that cause.

    If several causes match, or none does, the command is refused with a list of the causes.
    """
    vague, unknown = compared.repair("--cause", "re", "--yes"), compared.repair("--cause", "moon", "--yes")
    assert (vague.code, unknown.code, compared.written()) == (2, 2, 0)
    assert f"{LOST} (3)" in unknown.error
    other = compared.repair("--cause", "received twice", "--yes")
    assert (other.code, "for no difference with the cause" in other.error) == (2, True)
    found = compared.repair("--cause", "wrong order", "--yes", "--json").json()
    assert found["counts"] == {"ready": 0, "written": 2, "skipped": 0, "left": 0, "failed": 0}
    assert [each["state"] for each in found["records"]] == ["written", "written"]
    assert {each["target"].split(",")[0].removeprefix("prisoner ") for each in found["records"]} == {
        *compared.by_cause[6]
    }
    assert "comments" not in str(found)


def test_the_command_stops_at_a_refusal_and_can_be_repeated(compared: Compared) -> None:
    """If NOMIS refuses a repair, the refusal is recorded, and no further repair is tried.

    The same command, run again, makes only the repairs that were not tried. A person has to decide about the refusal.
    """
    second = compared.repair("--dry-run", "--json").json()["records"][1]
    path = str(second["plan"]["request"]).removeprefix("nomis: POST ")
    with faulty(compared.app.sandbox, "nomis", "POST", path, kind="status", status=400):
        stopped = compared.repair("--yes")
    assert (stopped.code, compared.written()) == (1, 1)
    assert f"stopped at {second['target']}: nomis: POST {path}: status 400" in stopped.errors[-1]
    assert stopped.errors[-1].endswith("1 written; 3 not tried: run the same command again for the rest")
    assert [each["state"] for each in compared.app.read_json("actions")] == ["refused", "done"]
    rest = compared.repair("--yes")
    assert (rest.code, compared.written()) == (1, 4)
    assert rest.out.splitlines()[-1] == "1 skipped, 1 left, 3 written"
    assert rest.errors[-1].endswith("1 record is not fixed: a person has to decide, as the list says")
    assert "(jane at " in next(line for line in rest.out.splitlines() if second["target"] in line)


def test_a_prisoner_whose_levels_changed_is_skipped(compared: Compared) -> None:
    """A prisoner whose levels have changed since the run is skipped, and the output says why.

    This also applies to a change while the command waits for confirmation.
    """
    first, second = compared.by_cause[6]
    compared.app.sandbox.add_review(first, "BAS" if "BAS" not in level_of(compared, first) else "STD", publish=False)

    def another_repairs() -> None:
        compared.app.run_ok("incentives", "repair", second, "--yes", "--as", "joe")

    done = compared.repair("--cause", "wrong order", answer=Terminal("y\n", another_repairs))
    assert (done.code, compared.written()) == (0, 1)
    assert "now, but the run saw NOMIS" in done.out
    assert "the plan changed before you confirmed" in done.out
    assert [each["who"] for each in compared.app.read_json("actions")] == ["joe"]


def level_of(compared: Compared, offender_no: str) -> set[str]:
    """The levels of the prisoner in NOMIS and in DPS, according to the planted difference."""
    (found,) = [each for each in compared.app.sandbox.planted()["mismatches"] if each["offenderNo"] == offender_no]
    return {str(found["nomis"]), str(found["dps"])}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either OFFENDER_NO or --from RUN"),
        (["A1234BC", "--from", "x"], "give either OFFENDER_NO or --from RUN"),
        (["A1234BC", "--cause", "lost"], "add --from RUN"),
        (["--from", "x", "--force"], "--force is for one prisoner"),
        (["--from", "x", "--json"], "cannot ask"),
        (["--from", "20200101-000000-abcd", "--dry-run"], "there is no run"),
    ],
)
def test_wrong_arguments_are_bad_usage(app: App, arguments: list[str], message: str) -> None:
    """`incentives repair` refuses missing or contradictory arguments, and unknown runs, with a one-line error."""
    done = app.run("incentives", "repair", *arguments)
    assert (done.code, message in done.error) == (2, True)

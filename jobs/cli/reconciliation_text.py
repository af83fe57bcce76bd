"""What `reconcile NAME` prints about a run: its figures, its differences and what to do about them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from jobs.cli.output import counts_text, print_json, print_json_text, print_table, say
from jobs.errors import WorkError
from sync.alerting import command

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from jobs.operations.reconcile import Reconciled
    from reports.engine.interrupted_runs import InterruptedRun
    from reports.engine.result import Mismatch, ReconciliationResult
    from reports.presentation.view import View

#: The most differences and the most groups of actions on the screen; the report has all of them.
_MOST_LISTED = 50
_MOST_ACTIONS = 5
_MOST_UNREAD = 10
_MOST_FIELDS = 3
#: Counts that are shown even if they are zero.
_ALWAYS_SHOWN = ("compared", "mismatches")


def show_reconciliation(done: "Reconciled", *, as_json: bool) -> None:
    """Prints what was found, what to do about it, and where the report is.

    Raises `WorkError` if the run failed or is incomplete, or if its report is not archived although it should be.
    """
    outcome, delivered = done.outcome, done.delivered
    if outcome.result is None and as_json:
        print_json({"runId": outcome.run_id, "status": outcome.status})
    elif outcome.result is None:
        say(f"{outcome.run_id}: this shard has finished; other shards are still running")
    elif as_json:
        print_json_text(outcome.result.to_json())
    else:
        _print_result(outcome.result)
    if delivered.place is not None and not as_json:
        say(f"report: {delivered.place}")
    elif outcome.result is not None and outcome.result.mismatches and not (as_json or delivered.shortfall):
        say(f"no report was made; to make it: {command('report', 'render', outcome.run_id)}")
    for line in delivered.late:
        say(line, err=True)
    if done.problem:
        raise WorkError(done.problem)


def show_interrupted(run: "InterruptedRun", zone: "ZoneInfo") -> None:
    """Prints when a run was interrupted, how far it had got, and the command that resumes it. Times are in `zone`."""
    from jobs.operations.status_lines import interruption

    say(f"{run.run_id} {interruption(run, zone)}; to resume it: {run.command}")


def _print_result(result: "ReconciliationResult") -> None:
    from reports.presentation.view import view_of

    view = view_of(result)
    say(f"{result.run_id} {result.status}: {counts_text(result.counts(), always=_ALWAYS_SHOWN)}")
    if result.failure:
        say(f"The run failed: {result.failure}.")
    if result.mismatches:
        _print_mismatches(result, view)
    unread = [f"{view.name(each)}: {each.reason}" for each in result.unread]
    unread += [f"{each.what}: {each.reason}" for each in result.gaps]
    for line in unread[:_MOST_UNREAD]:
        say(line)
    if len(unread) > _MOST_UNREAD:
        say(f"and {len(unread) - _MOST_UNREAD} more that could not be read")
    for line in _what_to_do(result):
        say(line)


def _what_to_do(result: "ReconciliationResult") -> Iterator[str]:
    """What to do about the run and its differences, in the words of the report.

    It also says what is wrong with the run itself, unless the error message at the end of the command says so.
    """
    from reports.presentation import summary
    from reports.presentation.what_to_do import more_groups, what_to_do

    todo = what_to_do(result)
    yield from filter(None, (summary.suspicion(result), todo.jump))
    for step in summary.next_steps(result):
        yield step.text
        yield f"  {step.command}"
    if todo.actions:
        yield "What to do:"
    for each in todo.actions[:_MOST_ACTIONS]:
        yield f"{each.who}: {each.what}"
        yield "  " + " ".join(filter(None, (each.figures, each.elsewhere)))
        yield from (f"  {one}" for one in each.commands)
    if more := more_groups(todo, _MOST_ACTIONS):
        yield more


def _print_mismatches(result: "ReconciliationResult", view: "View") -> None:
    # A record that is identified by its prisoner or booking is already named in that column.
    is_named = view.heading != "Prisoner"
    rows = [
        (
            row,
            *([view.name(each)] if is_named else []),
            each.offender_no,
            each.booking_id,
            each.prison_id,
            each.kind,
            _differences(each),
            each.standing,
            _cause(each, view),
        )
        for row, each in result.rows[:_MOST_LISTED]
    ]
    record = (view.heading.upper(),) if is_named else ()
    others = ("PRISONER", "BOOKING", "PRISON", "KIND", "DIFFERENCES", "STANDING", "PROBABLE CAUSE")
    print_table(("ROW", *record, *others), rows)
    if len(result.mismatches) > _MOST_LISTED:
        say(f"and {len(result.mismatches) - _MOST_LISTED} more in the report")
    _print_missing_causes(result, view)


def _differences(mismatch: "Mismatch") -> str:
    parts = [f"{each.field}: NOMIS {_shown(each.nomis)}, DPS {_shown(each.dps)}" for each in mismatch.differences]
    more = len(parts) - _MOST_FIELDS
    return "; ".join([*parts[:_MOST_FIELDS], f"{more} more"] if more > 0 else parts)


def _print_missing_causes(result: "ReconciliationResult", view: "View") -> None:
    """If the causes of some differences could not be found, prints the command that tries again."""
    failed = [each for each in result.mismatches if view.look_up_failed(each)]
    if not failed:
        return
    again = command("runs", "rerun", result.run_id)
    if result.reconciliation == "incentives" and len(failed) == 1:
        again = command("reconcile", "explain", failed[0].offender_no)
    causes = "the cause of 1 difference was" if len(failed) == 1 else f"the causes of {len(failed)} differences were"
    say(f"{causes} not found; to try again: {again}")


def _cause(mismatch: "Mismatch", view: "View") -> str:
    found = mismatch.diagnosis
    if found is None:
        return view.missing_cause(mismatch)
    number = getattr(found, "number", None)
    return found.cause if number is None else f"{number}. {found.cause}"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)

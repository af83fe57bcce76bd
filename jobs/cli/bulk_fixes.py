"""Fixes many records that a reconciliation run reported.

It lists them, asks for confirmation once, and prints each outcome and the totals.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.completion import complete_reconciled
from jobs.cli.confirmation import confirm
from jobs.cli.output import live_progress, print_json, print_table, say
from jobs.errors import UsageError, WorkError
from reports.presentation.text import short_moment

if TYPE_CHECKING:
    from jobs.operations.bulk_fixes import BulkItem, ProposedFix, State, Wording
    from jobs.runtime.application import Application
    from reports.engine.result import ReconciliationResult

FromRun = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="RUN",
        help="Handle, one by one, all records of this reconciliation run for which its report proposes this command.",
        autocompletion=complete_reconciled,
    ),
]
OfCause = Annotated[
    str | None,
    typer.Option(
        "--cause",
        metavar="NAME",
        help="With --from: only differences with this cause. Give its text, or a part that no other cause contains.",
    ),
]


def check_choice(subject: object, from_run: str | None, cause: str | None, *, named: str) -> None:
    """Raises `UsageError` for both or neither of `subject` and `from_run`, and for `cause` without `from_run`.

    named: what the error calls `subject`.
    """
    if (subject is None) == (from_run is None):
        raise UsageError(f"give either {named} or --from RUN")
    if cause is not None and from_run is None:
        raise UsageError("--cause chooses among the differences of a run: add --from RUN")


def check_json(from_run: str | None, *, as_json: bool, yes: bool, dry_run: bool) -> None:
    """If `as_json` is set, raises `UsageError` unless `from_run` and either `yes` or `dry_run` are given."""
    if as_json and (from_run is None or not (yes or dry_run)):
        raise UsageError(
            "--json needs --from and either --yes or --dry-run, because a command that prints JSON cannot ask questions"
        )


def fix_all(
    application: "Application",
    run_id: str,
    cause: str | None,
    names: Sequence[str],
    plan: "Callable[[Application, ReconciliationResult, ProposedFix], BulkItem]",
    wording: "Wording",
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Plans every fix, asks for confirmation once, and carries out the fixes.

    It stops at the first fix that does not end as expected. The fixes are those for which the report of run `run_id`
    proposes the command that begins with the words `names`, limited to those with the cause `cause` if it is given.
    Raises `WorkError` if a fix did not end as expected, or if there is an objection to a fix.
    """
    from jobs.operations.bulk_fixes import State, carry_out, proposed_fixes
    from jobs.operations.report_delivery import find_result

    result = find_result(application, run_id)
    proposed = proposed_fixes(result, cause, *names)
    with live_progress() as progress:
        items = []
        for fix in proposed.fixes:
            items.append(plan(application, result, fix))
            progress("reading both sides", len(items), len(proposed.fixes))
    ready = [item for item in items if item.state is State.READY]
    if not as_json:
        _show(result, items, proposed.undecided, wording)
    if ready and not dry_run and (as_json or confirm(_question(ready, wording), yes=yes, dry_run=False)):
        ended = {}
        for item in carry_out(ready):
            ended[item.row, item.target] = item
            if not as_json:
                # If all went well, the text already begins with the word for the state.
                state = "" if item.state is State.WRITTEN else f"{wording.of(item.state)}: "
                say(f"{item.target}: {state}{item.text}")
        items = [ended.get((item.row, item.target), item) for item in items]
    counts = Counter(item.state for item in items)
    if as_json:
        print_json(
            {
                "runId": result.run_id,
                "reconciliation": result.reconciliation,
                "dryRun": dry_run,
                "counts": {state.name.lower(): counts[state] for state in State},
                "undecided": proposed.undecided,
                "records": [item.as_dict(wording) for item in items],
            }
        )
    elif dry_run:
        say("dry run: nothing was changed")
    elif ready:
        say(_counts_text(counts, wording))
    _check(items, counts, wording)


def _show(result: "ReconciliationResult", items: "list[BulkItem]", undecided: int, wording: "Wording") -> None:
    say(f"{result.title}, run {result.run_id} of {short_moment(result.started_at)}")
    if items:
        rows = [(each.row, each.target, wording.of(each.state), _shown(each)) for each in items]
        print_table(("ROW", "RECORD", "STATE", "WHAT"), rows)
    say(_counts_text(Counter(item.state for item in items), wording))
    if undecided:
        number = "1 more record is" if undecided == 1 else f"{undecided:,} more records are"
        say(f"{number} not on the list: nobody knows which side is right. Find out, then fix each record separately")


def _shown(item: "BulkItem") -> str:
    return f"{item.what} ({item.text})" if item.what else item.text


def _question(ready: "list[BulkItem]", wording: "Wording") -> str:
    kinds, (one, several) = Counter(item.what for item in ready), wording.records
    number = f"1 {one}" if len(ready) == 1 else f"{len(ready):,} {several}, one by one,"
    what = ", ".join(f"{count:,} × {kind}" for kind, count in kinds.most_common())
    end = "" if len(ready) == 1 else ", and stops at the first fix that does not end as expected"
    return f"This {wording.verb} {number} {wording.scope} ({what}){end}. Continue?"


def _counts_text(counts: "Counter[State]", wording: "Wording") -> str:
    nothing = f"nothing {wording.ready}"
    return ", ".join(f"{count:,} {wording.of(state)}" for state, count in counts.items()) or nothing


def _check(items: "Iterable[BulkItem]", counts: "Counter[State]", wording: "Wording") -> None:
    from jobs.operations.bulk_fixes import State

    failed = next((item for item in items if item.state is State.FAILED), None)
    if failed is not None:
        left, done = counts[State.READY], f"{counts[State.WRITTEN]:,} {wording.done}"
        rest = f"; {left:,} not tried: run the same command again for the rest" if left else ""
        raise WorkError(f"stopped at {failed.target}: {failed.text}; {done}{rest}")
    if counts[State.LEFT]:
        number = "1 record is" if counts[State.LEFT] == 1 else f"{counts[State.LEFT]:,} records are"
        raise WorkError(f"{number} not fixed: a person has to decide, as the list says")

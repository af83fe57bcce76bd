"""`creations`: creations in NOMIS whose outcome is unknown."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, Unchecked, Yes
from jobs.cli.completion import complete_creations
from jobs.cli.confirmation import confirm, confirm_unchecked, operator_name
from jobs.cli.output import local_time, print_json, print_pairs, print_statements, print_table, say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from jobs.operations.creations import MappingPlan
    from jobs.runtime.application import Application
    from sync.store.creations import CreationRecord

app = typer.Typer(
    name="creations",
    help="Creations in NOMIS that are not settled.",
    no_args_is_help=True,
)


#: Why a creation cannot yet be settled as not created.
_UNDER_WAY = "since the create may still be under way, and NOMIS could add the record after your search"

CreationId = Annotated[
    int,
    typer.Argument(
        metavar="ID", help="The number of the creation, as `list` shows it.", autocompletion=complete_creations
    ),
]


@app.command("list")
def list_creations(
    every: Annotated[
        bool, typer.Option("--all", help="Include settled creations. The list has at most 1,000 rows.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the creations that have been begun but not settled.

    Ambiguous creations, which a person has to settle, come first.
    """
    from jobs.operations.creations import creation_as_dict, list_open, person_of
    from jobs.runtime.application import open_application

    with open_application() as application:
        records = list_open(application, settled_too=every)
        if as_json:
            print_json([creation_as_dict(record) for record in records])
            return
        zone = application.settings.zone
        print_table(
            ("ID", "WHOSE", "DOMAIN", "DPS ID", "STATE", "SINCE", "ATTEMPTS", "NOTE"),
            [
                (
                    record.id,
                    person_of(record),
                    record.domain,
                    record.dps_id,
                    record.state,
                    local_time(record.intended_at, zone),
                    record.attempts,
                    record.note,
                )
                for record in records
            ],
            nothing="No creations are recorded." if every else "There are no unsettled creations.",
        )


@app.command("show")
def show_creation(creation_id: CreationId, as_json: AsJson = False) -> None:
    """Shows what to look for in NOMIS, and which command to type next.

    If no service can show the record, the output includes the SQL that finds it in the NOMIS database.
    """
    from jobs.operations.creations import creation_in_full, find_creation
    from jobs.runtime.application import open_application

    with open_application() as application:
        record = find_creation(application, creation_id)
        if as_json:
            print_json(creation_in_full(application, record))
        else:
            _show(application, record)


@app.command("settle")
def settle_creation(
    creation_id: CreationId,
    nomis_id: Annotated[
        int | None,
        typer.Option(
            "--nomis-id",
            metavar="NUMBER",
            help="NOMIS has the record under this id (for an IEP record, its sequence). Its mapping will be saved.",
        ),
    ] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="NOMIS does not have the record. The event will be sent again.")
    ] = False,
    although_different: Annotated[
        bool,
        typer.Option(
            "--although-different",
            help="Accept the record although it differs from the request, because you have checked that it is correct.",
        ),
    ] = False,
    unchecked: Unchecked = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Settles a creation according to what a person found in NOMIS.

    Without --nomis-id or --not-created, the command only says what to look for, as `show` does. With --nomis-id, the
    command reads the record and compares it with the request. If the record cannot be read from NOMIS, the command asks
    for confirmation twice, and --yes needs --unchecked. `creations reopen` undoes a wrong mapping.
    """
    from jobs.operations.creations import (
        check_plan,
        check_sending,
        find_creation,
        may_be_settled,
        plan_mapping,
        settle_mapped,
        settle_not_created,
    )
    from jobs.runtime.application import open_application

    if nomis_id is not None and not_created:
        raise UsageError("give --nomis-id or --not-created, not both")
    with open_application() as application:
        record = find_creation(application, creation_id)
        _show(application, record)
        if nomis_id is None and not not_created:
            return
        who = operator_name(application.settings, operator)
        if not may_be_settled(record, not_created=not_created):
            raise UsageError(f"creation {creation_id} is already {record.state}, so there is nothing to settle")
        if not_created:
            check_sending(application, record)
            sent = f"This sends the event of {record.domain} {record.dps_id} again"
            question = f"{sent}, which creates the record in NOMIS unless it has been mapped by then. Continue?"
            if confirm(question, yes=yes, dry_run=dry_run):
                say(settle_not_created(application, record, who))
            return
        assert nomis_id is not None
        plan = plan_mapping(application, record, nomis_id)
        _show_plan(plan)
        check_plan(plan, despite=although_different)
        question = f"This saves the mapping of {record.domain} {record.dps_id} to {plan.target}. Continue?"
        if plan.unchecked is None:
            confirmed = confirm(question, yes=yes, dry_run=dry_run)
        else:
            confirmed = confirm_unchecked(question, plan.unchecked, yes=yes, dry_run=dry_run, accepted=unchecked)
        if confirmed:
            say(settle_mapped(application, plan, who, nomis_id))


@app.command("reopen")
def reopen_creation(
    creation_id: CreationId,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Reverses a settlement that mapped a creation to the wrong record.

    The command deletes the mapping that `creations settle` saved, and opens the creation again. It does not undo
    changes that were written to the wrong NOMIS record after the settlement.
    """
    from jobs.operations.creations import plan_reopening, reopen
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, operator)
        plan = plan_reopening(application, creation_id)
        say(f"creation {creation_id} was mapped to {plan.target} by {plan.settled_by}")
        if confirm(
            f"This deletes the mapping to {plan.target} and opens creation {creation_id} again. Continue?",
            yes=yes,
            dry_run=dry_run,
        ):
            say(f"{reopen(application, plan, who)}; see `creations settle {creation_id}`")


def _show(application: "Application", record: "CreationRecord") -> None:
    from jobs.operations.creations import may_be_settled
    from sync.domains.registry import domain_of_record
    from sync.repair.creations import search_sql, search_text
    from sync.repair.finding_text import finding_text
    from sync.store.creations import OPEN_STATES, CreationState

    settle = f"prisoner-to-nomis creations settle {record.id}"
    given = domain_of_record(record.domain).repair.given.upper().replace(" ", "-")
    is_open = record.state in OPEN_STATES
    again = may_be_settled(record, not_created=True)
    ambiguous = record.state is CreationState.AMBIGUOUS
    until = application.creations.under_way_until(record) if again else None
    what = finding_text(f"{record.domain}-create-ambiguous", record.properties) if ambiguous else None
    if record.state is CreationState.INTENDED:
        what = "its message is retried automatically; act only if the creation is still not settled after twelve hours"
    print_pairs(
        {
            "creation": f"{record.id}, {record.domain} {record.dps_id}, {record.state}",
            "since": local_time(record.intended_at, application.settings.zone),
            "what": what,
            "because": record.note,
            **({"mapped": _mapped(application, record)} if is_open else {}),
            "look for": search_text(record),
            **({"if there": f"{settle} --nomis-id {given}"} if is_open else {}),
            **({"if not": f"{settle} --not-created"} if again else {}),
            **({"not before": f"{local_time(until, application.settings.zone)}, {_UNDER_WAY}"} if until else {}),
        }
    )
    statement = search_sql(record) if is_open else None
    print_statements([] if statement is None else [statement])


def _mapped(application: "Application", record: "CreationRecord") -> str | None:
    """The current mapping of the DPS record as text, or why it cannot be read. None if the record is not mapped.

    The text of a mapping ends with a reminder to look for another record, since the creation may have left a second one
    in NOMIS.
    """
    from jobs.operations.creations import mapped_meanwhile
    from sync.errors import SyncError, one_line

    try:
        mapping = mapped_meanwhile(application, record)
    except SyncError as error:
        # The operator can still search NOMIS while the mapping service is unavailable.
        return f"cannot be read now: {one_line(error)}"
    if mapping is None:
        return None
    return (
        " ".join(f"{name}={value}" for name, value in mapping.items() if value is not None)
        + "; look for another record"
    )


def _show_plan(plan: "MappingPlan") -> None:

    there = plan.found
    mapping = " ".join(f"{name}={value}" for name, value in plan.mapping.items() if value is not None)
    if there is None:
        print_pairs({"given": plan.target, "mapping": mapping})
        return
    seen = " ".join(f"{name}={value}" for name, value in there.items())
    differs = "; ".join(plan.differences)
    print_pairs({"found": f"{plan.target}: {seen}", **({"differs": differs} if differs else {}), "mapping": mapping})

"""`creations`: creations in NOMIS whose outcome is unknown."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.acting import AS_HELP, DRY_RUN_HELP, YES_HELP

if TYPE_CHECKING:
    from jobs.composition import Program
    from jobs.creations import MappingPlan
    from sync.store.creations import CreationRecord

app = typer.Typer(
    name="creations",
    help="Creations in NOMIS that are not settled.",
    no_args_is_help=True,
)


@app.command("list")
def list_creations(
    every: Annotated[bool, typer.Option("--all", help="Also those that are settled: the last thousand.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Creations that were begun and are not settled.

    Those that need a person (ambiguous) come first.
    """
    from jobs.composition import open_program
    from jobs.creations import creation_as_dict, list_open
    from jobs.output import local_time, print_json, print_table

    with open_program() as program:
        records = list_open(program, settled_too=every)
        if as_json:
            print_json([creation_as_dict(record) for record in records])
            return
        zone = program.settings.zone
        print_table(
            ("ID", "DOMAIN", "DPS ID", "STATE", "SINCE", "ATTEMPTS", "NOTE"),
            [
                (
                    record.id,
                    record.domain,
                    record.dps_id,
                    record.state,
                    local_time(record.intended_at, zone),
                    record.attempts,
                    record.note,
                )
                for record in records
            ],
            nothing="No creation is known." if every else "No creation is unsettled.",
        )


@app.command("settle")
def settle_creation(
    creation_id: Annotated[int, typer.Argument(metavar="ID", help="The number of the creation, as `list` says it.")],
    nomis_id: Annotated[
        int | None,
        typer.Option(
            "--nomis-id",
            metavar="NUMBER",
            help="NOMIS has the record, under this id (of an IEP record: its sequence). Its mapping is saved.",
        ),
    ] = None,
    not_created: Annotated[
        bool, typer.Option("--not-created", help="NOMIS does not have the record. Its event is sent again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_RUN_HELP)] = False,
    yes: Annotated[bool, typer.Option("--yes", help=YES_HELP)] = False,
    named: Annotated[str | None, typer.Option("--as", metavar="NAME", help=AS_HELP)] = None,
) -> None:
    """Settles a creation by what a person found in NOMIS.

    Without --nomis-id or --not-created it says what to look for.
    """
    from jobs.acting import agreed, who_acts
    from jobs.composition import open_program
    from jobs.creations import find_creation, may_be_settled, plan_mapping, settle_mapped, settle_not_created
    from jobs.endings import UsageError, WorkError

    if nomis_id is not None and not_created:
        raise UsageError("give --nomis-id or --not-created, not both")
    with open_program() as program:
        record = find_creation(program, creation_id)
        _show(program, record)
        if nomis_id is None and not not_created:
            return
        who = who_acts(program.settings, named)
        if not may_be_settled(record, not_created=not_created):
            raise UsageError(f"creation {creation_id} is {record.state} and needs no settling")
        if not_created:
            if agreed("Let the next delivery create what is missing?", yes=yes, dry_run=dry_run):
                typer.echo(settle_not_created(program, record, who))
            return
        assert nomis_id is not None
        plan = plan_mapping(program, record, nomis_id)
        _show_plan(plan)
        if plan.objections:
            raise WorkError(f"creation {creation_id} is left as it is: {'; '.join(plan.objections)}")
        if agreed(f"Save the mapping to {plan.target}?", yes=yes, dry_run=dry_run):
            typer.echo(settle_mapped(program, plan, who))


def _show(program: "Program", record: "CreationRecord") -> None:
    from jobs.output import local_time, print_pairs
    from sync.settlement import SETTLEMENTS, look_for
    from sync.store.creations import OPEN_STATES

    settle = f"prisoner-to-nomis creations settle {record.id}"
    given = SETTLEMENTS[record.domain].given.upper().replace(" ", "-")
    print_pairs(
        {
            "creation": f"{record.id}, {record.domain} {record.dps_id}, {record.state}",
            "since": local_time(record.intended_at, program.settings.zone),
            "because": record.note,
            **({"mapped": _mapped(program, record)} if record.state in OPEN_STATES else {}),
            "look for": look_for(record),
            "if there": f"{settle} --nomis-id {given}",
            "if not": f"{settle} --not-created",
        }
    )


def _mapped(program: "Program", record: "CreationRecord") -> str | None:
    """What the DPS record is mapped to by now, beside which NOMIS may have another record."""
    from jobs.creations import mapped_meanwhile
    from jobs.endings import one_line
    from sync.failures import SyncError

    try:
        mapping = mapped_meanwhile(program, record)
    except SyncError as error:
        # What to look for is worth saying while the mapping service is away.
        return f"not known now: {one_line(error)}"
    if mapping is None:
        return None
    return " ".join(f"{name}={value}" for name, value in mapping.items() if value is not None) + "; look for another"


def _show_plan(plan: "MappingPlan") -> None:
    from jobs.output import print_pairs

    there = plan.there
    seen = "NOMIS cannot be asked" if there is None else " ".join(f"{name}={value}" for name, value in there.items())
    mapping = " ".join(f"{name}={value}" for name, value in plan.mapping.items() if value is not None)
    print_pairs({"found": f"{plan.target}: {seen}", "mapping": mapping})

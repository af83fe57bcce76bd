"""`duplicates`: records that NOMIS has twice."""

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.arguments import AsJson, DryRun, Operator, Yes
from jobs.cli.completion import complete_findings
from jobs.cli.confirmation import confirm, operator_name
from jobs.cli.output import local_time, print_json, print_pairs, print_statements, print_table, say
from jobs.errors import UsageError

if TYPE_CHECKING:
    from jobs.operations.duplicate_rows import TwoRows
    from jobs.operations.duplicates import Examination
    from jobs.runtime.application import Application
    from sync.store.findings import Finding

app = typer.Typer(name="duplicates", help="Records that NOMIS has twice.", no_args_is_help=True)

FindingId = Annotated[
    int,
    typer.Argument(
        metavar="ID", help="The number of the finding, as `list` and alerts show it.", autocompletion=complete_findings
    ),
]
AlthoughDifferent = Annotated[
    bool,
    typer.Option(
        "--although-different",
        help="Treat the record as a duplicate although it differs from the mapped record, because you have checked "
        "that it is a duplicate.",
    ),
]


@app.command("list")
def list_findings(
    every: Annotated[bool, typer.Option("--all", help="Include resolved findings.")] = False,
    as_json: AsJson = False,
) -> None:
    """Lists the records that NOMIS has twice, newest finding first.

    The list also shows which prisoner each duplicate is about, and how serious the finding is.
    """
    from jobs.operations.duplicates import find_prisoner, finding_as_dict, list_duplicates
    from jobs.runtime.application import open_application

    with open_application() as application:
        found = list_duplicates(application, resolved_too=every)
        if as_json:
            print_json([finding_as_dict(each) | {"offenderNo": find_prisoner(application, each)} for each in found])
            return
        zone = application.settings.zone
        print_table(
            ("ID", "PRISONER", "DOMAIN", "SEVERITY", "SINCE", "STATUS", "KIND", "WHAT"),
            [
                (
                    finding.id,
                    find_prisoner(application, finding),
                    finding.domain,
                    finding.severity,
                    local_time(finding.created_at, zone),
                    finding.status,
                    finding.kind,
                    _what(finding),
                )
                for finding in found
            ],
            nothing="No duplicates are recorded." if every else "No duplicates are open.",
        )


@app.command("show")
def show_finding(finding_id: FindingId, as_json: AsJson = False) -> None:
    """Shows both NOMIS records, and which of them is the duplicate.

    The command reads both again if NOMIS can show records of this kind. It also shows what `resolve` would do.
    """
    from jobs.operations.duplicates import find_duplicate
    from jobs.runtime.application import open_application
    from sync.alerting import command

    with open_application() as application:
        found = _examined(application, find_duplicate(application, finding_id))
        if as_json:
            print_json(found.as_dict())
        else:
            _show(application, found)
            if found.resolvable:
                say(f"Next: {command('duplicates', 'resolve', finding_id, '--dry-run')}")


@app.command("resolve")
def resolve_finding(
    finding_id: FindingId,
    by_hand: Annotated[
        str | None,
        typer.Option(
            "--by-hand",
            metavar="NOTE",
            help="Close the finding without changing NOMIS, because the duplicate was dealt with elsewhere, as NOTE "
            "says.",
        ),
    ] = None,
    although_different: AlthoughDifferent = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Removes the duplicate record and closes the finding.

    The command first shows what it will do. It deletes the duplicate, or cancels it if NOMIS does not allow deletion.
    It never touches a mapped record. A record that only the NOMIS support team can delete stays. A record also stays
    unless it is proved to be a duplicate: its start, place, type, days and dates must be those of the mapped record, as
    far as records of that kind have them. With --although-different, the duplicate is removed without this proof, and
    what was not proved is recorded.
    """
    from jobs.operations.duplicate_rows import TwoRows, resolve_rows
    from jobs.operations.duplicates import check_resolvable, close_by_hand, find_duplicate, resolve
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, operator)
        finding = find_duplicate(application, finding_id)
        if finding.status != "open":
            raise UsageError(f"finding {finding_id} is already resolved: {finding.resolution}")
        if by_hand is not None:
            if confirm(
                f"This closes finding {finding_id} and changes nothing in NOMIS. Continue?", yes=yes, dry_run=dry_run
            ):
                say(close_by_hand(application, finding, by_hand, who))
            return
        found = _examined(application, finding)
        _show(application, found)
        if isinstance(found, TwoRows):
            if found.row_to_delete is None:
                raise UsageError(f"finding {finding_id}: the number of the row to delete is not known; see above")
            if confirm(f"This will {found.proposal} in NOMIS. Continue?", yes=yes, dry_run=dry_run):
                say(resolve_rows(application, found, who))
            return
        accepted = found.unproved if although_different else ()
        check_resolvable(found, accepted)
        if confirm(_question(found), yes=yes, dry_run=dry_run):
            say(resolve(application, found, who, accepted))


@app.command("remove")
def remove_copy(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="The kind of record: visit or appointment.",
            autocompletion=lambda incomplete: [
                each for each in ("visit", "appointment") if each.startswith(incomplete)
            ],
        ),
    ],
    nomis_id: Annotated[int, typer.Argument(metavar="NOMIS_ID", help="The number of the record without a mapping.")],
    original: Annotated[
        int, typer.Option("--of", metavar="NOMIS_ID", help="The number of the record with the mapping.")
    ],
    although_different: AlthoughDifferent = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    operator: Operator = None,
) -> None:
    """Removes a duplicate that a reconciliation found.

    It does the same as `resolve`, but for a record without a finding. It records a finding and closes it, unless there
    is nothing to remove.
    """
    from jobs.operations.duplicates import REMOVE, check_resolvable, examine, resolve
    from jobs.operations.found_duplicates import describe_copy, record_copy
    from jobs.runtime.application import open_application

    with open_application() as application:
        who = operator_name(application.settings, operator)
        described = describe_copy(application, kind, nomis_id, original)
        found = examine(application, described)
        _show_records(found)
        if found.harmless is not None and not found.is_recorded:
            say(f"nothing done: {found.harmless}")
            return
        accepted = found.unproved if although_different else ()
        check_resolvable(found, accepted)
        if confirm(_question(found), yes=yes, dry_run=dry_run):
            recorded = examine(application, record_copy(application, described))
            check_resolvable(recorded, accepted)
            say(resolve(application, recorded, who, accepted, REMOVE))


def _question(found: "Examination") -> str:
    from sync.repair.finding_text import prisoner_in

    record = f"{found.repair.noun} {found.duplicate.duplicate.nomis_text}"
    prisoner = prisoner_in(found.finding.properties)
    of_whom = "" if prisoner is None else f" of {prisoner}"
    removal = found.repair.removal_of(f"{record}{of_whom}")
    if found.unproved:
        return f"Although {'; '.join(found.unproved)}, this will {removal} in NOMIS. Continue?"
    if found.harmless is not None:
        return f"This changes nothing in NOMIS and closes the finding about {record}{of_whom}. Continue?"
    return f"This will {removal} in NOMIS. Continue?"


def _examined(application: "Application", finding: "Finding") -> "Examination | TwoRows":
    from jobs.operations.duplicate_rows import examine_rows
    from jobs.operations.duplicates import examine
    from sync.store.findings import FindingKind

    return (
        examine_rows(application, finding) if finding.kind == FindingKind.NON_UNIQUE else examine(application, finding)
    )


def _show(application: "Application", found: "Examination | TwoRows") -> None:
    from jobs.operations.duplicate_rows import TwoRows
    from sync.repair.finding_text import finding_text

    finding = found.finding
    state = finding.status if finding.resolution is None else f"{finding.status}: {finding.resolution}"
    print_pairs(
        {
            "finding": f"{finding.id}, {finding.kind} {finding.domain}, {finding.severity}",
            "since": local_time(finding.created_at, application.settings.zone),
            "status": state,
            "what": finding_text(finding.event_name, finding.properties),
        }
    )
    if isinstance(found, TwoRows):
        pair = " ".join(f"{name}={value}" for name, value in found.duplicate_rows.key.items())
        print_pairs({"pair": f"{found.duplicate_rows.kind.what} {pair}", "to do": found.proposal})
        if found.row_to_delete is None:
            print_statements(found.duplicate_rows.sql)
    else:
        _show_records(found)


def _show_records(found: "Examination") -> None:
    existing, view = found.duplicate.existing, found.view
    record, belongs_to = found.duplicate.duplicate, found.duplicate.belongs_to
    # Only a record with a finding was refused by the mapping service.
    role = "refused" if found.is_recorded else "record"
    refused_for = f" for {record.dps_id}" if found.is_recorded else ""
    mapped_to = "not mapped" if belongs_to is None else f"mapped to {belongs_to}"
    print_pairs(
        {
            role: f"{found.repair.noun} {record.nomis_text}{refused_for}, {mapped_to}",
            "mapped": "" if existing is None else f"{found.repair.noun} {existing.nomis_text} for {existing.dps_id}",
            **({"verdict": f"{found.verdict}: {found.meaning}"} if found.is_supported else {}),
        }
    )
    if view is not None and view.readable:
        duplicate, mapped = view.duplicate or {}, view.mapped or {}
        names = dict.fromkeys((*mapped, *duplicate))
        rows = [(name, duplicate.get(name), mapped.get(name)) for name in names]
        print_table(("", role.upper(), "MAPPED"), rows or [("NOMIS has neither", None, None)])
    print_pairs({"to do": found.proposal, **({"request": found.request} if found.request else {})})


def _what(finding: "Finding") -> str:
    """The ids that a finding is about, on one line.

    They are those of the duplicate or, for a pair with two rows, those of the pair and of its known rows.
    """
    from sync.domains.duplicate_rows import CANDIDATES
    from sync.domains.registry import row_kinds

    if finding.kind == "duplicate":
        names = [name for name in finding.properties if name.startswith("duplicate")]
    else:
        keys = dict.fromkeys(name for kind in row_kinds().values() for name in kind.key)
        names = [name for name in (*keys, CANDIDATES) if name in finding.properties]
    beside = ("Label", "MappingType", "WhenCreated")
    return " ".join(f"{name}={finding.properties[name]}" for name in names if not name.endswith(beside))

"""Acting on the outside world: who does it, and whether they mean it."""

import getpass

import typer

YES_HELP = "Do it without asking."
DRY_RUN_HELP = "Say what would be done, and change nothing."


def who_acts() -> str:
    """The name of the person (or the account) that runs the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        # A container may run under a number that has no name.
        return "unknown"


def agreed(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Whether to go on: asks unless `yes`; False for a dry run, which is said. A person's no ends the command."""
    if dry_run:
        typer.echo("dry run: nothing was changed")
        return False
    if not yes:
        typer.confirm(question, abort=True)
    return True

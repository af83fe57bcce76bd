"""The text for each error in the words of a command line: one plain sentence that says what to change.

Typer finds these errors before a command begins. Typer's own texts speak of its types and validation.
"""

import re
from typing import Any

from typer.exceptions import TyperException

#: Typer's text for a value → ours, which follows the name of the argument or option.
_VALUES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"valid integer"), "must be a whole number"),
    (re.compile(r"valid number"), "must be a number"),
    (re.compile(r"greater than or equal to (\S+)"), r"must be \1 or more"),
    (re.compile(r"less than or equal to (\S+)"), r"must be \1 or less"),
    (re.compile(r"does not match the formats? '%Y-%m-%d'"), "must be a date such as 2026-08-20"),
)
#: Typer's text for an error in the words that were typed → ours.
_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"No such command '(.*?)'\."), r"there is no command \1"),
    (re.compile(r"Option '(.*?)' requires an argument\."), r"\1 needs a value after it"),
    (re.compile(r"Option '(.*?)' does not take a value\."), r"\1 takes no value: leave it out"),
    (re.compile(r"Got unexpected extra argument\S* \((.*)\)"), r"there are too many arguments, so leave this out: \1"),
)


def is_help(error: TyperException) -> bool:
    """Whether the error is that a command group was typed without a command.

    The text of such an error is the group's help.
    """
    return type(error).__name__ == "NoArgsIsHelpError"


def usage_text(error: TyperException) -> str:
    """What is wrong with the words that were typed, and what to change or how to find that out."""
    name, context = type(error).__name__, getattr(error, "ctx", None)
    help_text = "" if context is None else f"; `{context.command_path} --help` shows what to type"
    if name == "NoSuchOption":
        return f"there is no option {_attribute(error, 'option_name')}{_instead(error, 'possibilities')}{help_text}"
    if name == "MissingParameter":
        return f"{_parameter(error)} is missing{help_text}"
    if name == "BadParameter":
        return f"{_parameter(error)} {_translated(str(error), _VALUES) or f'is not valid: {error}'}{help_text}"
    text = _translated(str(error), _WORDS) or str(error).rstrip(".")
    suggested = re.search(r"Did you mean (.*)\?", str(error))
    did_you_mean = f" (did you mean {suggested[1]}?)".replace("'", "") if suggested else ""
    return f"{text}{did_you_mean}{help_text}"


def _translated(text: str, texts: tuple[tuple[re.Pattern[str], str], ...]) -> str | None:
    for pattern, ours in texts:
        if found := pattern.search(text):
            return found.expand(ours)
    return None


def _parameter(error: TyperException) -> str:
    """The name of the argument or option, as the help shows it: `QUEUE`, `--limit`."""
    named = re.search(r"'([^']+)'", str(_attribute(error, "format_message")()))
    return named[1] if named else "a value"


def _instead(error: TyperException, name: str) -> str:
    possible = sorted(_attribute(error, name) or ())
    return f" (did you mean {' or '.join(possible)}?)" if possible else ""


def _attribute(error: TyperException, name: str) -> Any:
    return getattr(error, name, None)

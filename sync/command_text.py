"""Commands of this program that alerts and reports propose."""

import shlex

#: Shows a finding about duplicates; `{id}` is its number.
SHOW_DUPLICATE = "prisoner-to-nomis duplicates show {id}"


def command(*words: object) -> str:
    """A command as it is typed; words from elsewhere are quoted, so that a shell cannot run them."""
    return shlex.join(["prisoner-to-nomis", *map(str, words)])


def arguments_of(text: str) -> tuple[str, ...]:
    """The words of a text that `command` made, without the program."""
    return tuple(shlex.split(text)[1:])

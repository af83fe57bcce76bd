"""Commands of this program that a text proposes to type."""

import shlex


def command(*words: object) -> str:
    """A command as it is to be typed: words that others chose are quoted, so that a shell runs nothing of them."""
    return shlex.join(["prisoner-to-nomis", *map(str, words)])

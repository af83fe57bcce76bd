"""Why messages failed, counted: what fails for one reason counts as one, whichever record it is about."""

import re
from collections import Counter

from sync.failures import Failure

#: More reasons than these are counted together, so that a process that runs for months keeps few of them.
MOST_REASONS = 20
OTHERS = "other reasons"
_LONGEST_TEXT = 300
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
#: Ids: words with a digit in them, which are ids of records, times and the like, and the references of visits.
_IDS = re.compile(r"[\w:.-]*\d[\w:.-]*|\b[a-z]{2}(?:-[a-z]{2}){3}\b")


class Reasons:
    """The reasons of failed attempts, and how many failed for each."""

    def __init__(self) -> None:
        self._found: Counter[str] = Counter()

    def add(self, failure: Failure) -> None:
        """Counts a failed attempt."""
        reason = reason_of(failure)
        known = reason in self._found or len(self._found) < MOST_REASONS
        self._found[reason if known else OTHERS] += 1

    def counts(self) -> Counter[str]:
        """How many attempts failed, by reason."""
        return Counter(self._found)


def reason_of(failure: Failure) -> str:
    """Who refused and why, on one line, with `…` for ids: the same for all that fail for one reason."""
    line = _BLANKS.sub(" ", failure.reason).strip()[:_LONGEST_TEXT]
    # What no text may hold in UTF-8, half a character of UTF-16, is none of the reason.
    text = _IDS.sub("…", line.encode(errors="replace").decode())
    if failure.service is None or failure.method is None:
        return text
    answer = f"status {failure.status}: " if failure.status is not None else ""
    return f"{failure.service}: {answer}{text}"

"""Why messages failed, counted: failures with one cause count as one reason, whichever record they are about."""

import re
from collections import Counter

from sync.failures import Failure

#: Reasons beyond these are counted together, so that a process that runs for months keeps few of them.
MOST_REASONS = 20
OTHERS = "other reasons"
_LONGEST_TEXT = 300
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
#: Words with a digit in them, which are ids of records, times and the like; and the references of visits.
_IDS = re.compile(r"[\w:.-]*\d[\w:.-]*|\b[a-z]{2}(?:-[a-z]{2}){3}\b")


class FailureCounts:
    """The reasons of failed attempts, and how many failed for each."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, failure: Failure) -> None:
        """Counts a failed attempt."""
        reason = fingerprint(failure)
        known = reason in self._counts or len(self._counts) < MOST_REASONS
        self._counts[reason if known else OTHERS] += 1

    def counts(self) -> Counter[str]:
        """The number of failed attempts by reason."""
        return Counter(self._counts)


def fingerprint(failure: Failure) -> str:
    """Which service refused and why, on one line, with `…` for ids: equal for all failures with one cause."""
    line = _BLANKS.sub(" ", failure.reason).strip()[:_LONGEST_TEXT]
    # Replace lone surrogates: they cannot be encoded as UTF-8.
    text = _IDS.sub("…", line.encode(errors="replace").decode())
    if failure.service is None or failure.method is None:
        return text
    status = f"status {failure.status}: " if failure.status is not None else ""
    return f"{failure.service}: {status}{text}"

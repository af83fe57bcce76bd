"""The errors of the program, and whether a retry can help.

*Recoverable* errors are timeouts, connection errors, responses that were not understood (`NotUnderstood`), rejected
credentials (401, 403 or no token), the statuses 408, 423, 425, 429 and 499, and any 5xx except a known refusal
(`NeverAccepted`) and NOMIS's response that it found two rows where only one is allowed. An error response that does not
come from the service itself, such as a redirect or the 404 of a gateway, is recoverable too, and so are an open breaker
and a busy lease. After any other error, such as a broken rule or a 400, 404 or 409 from the service itself, a retry
does not help unless the data changes.
"""

import re
import traceback
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sync.outage_text import count_as_down

#: NOMIS's response when a booking has two allocations or attendances where only one is allowed.
NON_UNIQUE_TEXT = "query did not return a unique result"

#: The packages of this program, which are careful about what their error messages contain.
_OURS = frozenset({"sync", "jobs", "reports"})
_OWN_FOLDERS = {Path(__file__).parent.parent / name for name in _OURS}

#: Rejected credentials (401, 403) are corrected outside this program, and outages end there too. The other statuses
#: mean that the call came at the wrong moment.
_RECOVERABLE_STATUSES = frozenset({401, 403, 408, 423, 425, 429, 499})
#: The statuses for wrong credentials, and for credentials without the role that a call needs.
_CREDENTIAL_STATUSES = frozenset({401, 403})
#: Statuses that mean that the service, or a gateway in front of it, cannot take any calls right now.
_UNAVAILABLE_STATUSES = frozenset({429, 502, 503})


class SyncError(Exception):
    """The handling of a message, prisoner or page failed; `recoverable` says whether a retry may help."""

    recoverable = False


class UpstreamError(SyncError):
    """A call to an upstream service failed.

    status: the status of the response, or None if there was no response. unreachable: whether the request could not
    even be sent. outcome_unknown: whether a write may have been applied although the call failed, because the response
    was lost or does not say that the write was rejected. from_service: whether the response comes from the service
    itself, that is, it has the error body of the HMPPS services (or fields of the record) and is about the request.
    This is false for a response from a gateway, a proxy or another server at the address, and for a path that the
    service does not have. more_info: the `moreInfo` of the error body. retry_after: the wait that the service asks for,
    in seconds. error_code: the service's number for the reason, where one status can have several reasons. no_route:
    whether the service says that it does not have the path.
    """

    def __init__(
        self,
        service: str,
        method: str,
        path: str,
        *,
        status: int | None,
        message: str,
        outcome_unknown: bool = False,
        unreachable: bool = False,
        more_info: object | None = None,
        retry_after: float | None = None,
        from_service: bool = False,
        error_code: int | None = None,
        no_route: bool = False,
    ) -> None:
        super().__init__()
        self.service = service
        self.method = method
        self.path = path
        self.status = status
        self.reword(message)
        self.outcome_unknown = outcome_unknown
        self.unreachable = unreachable
        self.more_info = more_info
        self.retry_after = retry_after
        self.from_service = from_service
        self.error_code = error_code
        self.no_route = no_route
        #: The query of the call, if any. The calls for the pages of a list differ only in their query.
        self.query = ""

    def reword(self, message: str) -> None:
        """Replaces `message`, and with it the text of the error."""
        self.message = message
        response = f"status {self.status}" if self.status is not None else "no response"
        self.args = (f"{self.service}: {self.method} {self.path}: {response}: {message}",)

    @property
    def under_way(self) -> bool:
        """Whether the service may still be processing the request, because it has not responded itself."""
        return self.outcome_unknown and not self.from_service

    @property
    def absent(self) -> bool:
        """Whether the service itself says that it does not have the record. A 404 from elsewhere does not count."""
        return self.status == 404 and self.from_service

    @property
    def conflict(self) -> bool:
        """Whether the service itself reports a conflict with its data. A 409 from elsewhere does not count."""
        return self.status == 409 and self.from_service

    @property
    def credentials_refused(self) -> bool:
        """Whether the credentials are wrong or lack a role, so that calls fail until a person corrects this."""
        return self.status in _CREDENTIAL_STATUSES

    @property
    def unavailable(self) -> bool:
        """Whether the service, rather than the record, is at fault.

        This is the case if the service is unreachable, refuses calls (such as those with wrong credentials), or did not
        respond itself.
        """
        if self.status is None or self.status in _UNAVAILABLE_STATUSES or self.credentials_refused:
            return True
        return not self.from_service

    @property
    def non_unique(self) -> bool:
        """Whether NOMIS failed because it has two rows where only one is allowed."""
        return self.status == 500 and NON_UNIQUE_TEXT in self.message

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Whether the same call may succeed later."""
        if self.status is None or self.status in _RECOVERABLE_STATUSES:
            return True
        if self.status >= 500:
            return not self.non_unique
        return self.status >= 300 and not self.from_service


class NotUnderstood(UpstreamError):
    """A successful response that is empty, has an unexpected shape, or is about a different record.

    It proves neither that the record exists nor that it does not, so the next attempt makes the call again.
    """

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Always true: the response may come from something between this program and the service."""
        return True


class NeverAccepted(UpstreamError):
    """A call that the service will never accept, although the status of the response suggests that a retry may help."""

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Always false: the service would refuse every further attempt."""
        return False


class NoToken(UpstreamError):
    """HMPPS Auth did not issue a token, so the service cannot be called until this is corrected."""

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Always true: credentials are corrected outside this program."""
        return True

    @property
    def credentials_refused(self) -> bool:
        """Always true: a message waits as long for a missing token as for the correction of wrong credentials."""
        return True


class BreakerOpen(SyncError):
    """The upstream service counts as down, so the call was not made."""

    recoverable = True

    def __init__(self, service: str, since: datetime | None = None) -> None:
        """since: when the breaker opened, aware, or None if that is unknown."""
        super().__init__(f"{count_as_down([service])}, so it was not called")
        self.service = service
        self.since = since


class LeaseBusy(SyncError):
    """Another thread or process holds the lease, or may hold it by now, so the message waits.

    free_in: the number of seconds until the lease is free, or None if that is not known.
    """

    recoverable = True

    def __init__(self, key: str, free_in: float | None = None) -> None:
        super().__init__(f"{key} is being handled elsewhere")
        self.key = key
        self.free_in = free_in


class RuleError(SyncError):
    """The data breaks a rule of the domain (such as an unknown code or a missing field), so a retry does not help."""


class MalformedMessage(SyncError):
    """A message is not valid JSON, or lacks a required field. No other message is affected."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Where and why an attempt failed, without personal data."""

    step: str | None
    service: str | None
    method: str | None
    path: str | None
    status: int | None
    reason: str
    recoverable: bool


def describe_failure(error: BaseException, step: str | None = None) -> Failure:
    """Describes `error`, which occurred during `step`. An error that is not a `SyncError` counts as not recoverable."""
    if isinstance(error, UpstreamError):
        return Failure(step, error.service, error.method, error.path, error.status, error.message, error.recoverable)
    if isinstance(error, BreakerOpen):
        return Failure(step, error.service, None, None, None, str(error), recoverable=True)
    if isinstance(error, SyncError):
        return Failure(step, None, None, None, None, str(error), error.recoverable)
    return Failure(step, None, None, None, None, one_line(error), recoverable=False)


def one_line(error: BaseException) -> str:
    """The text of an error on one line, safe to record and to show.

    An error of this program keeps its text. An error of the operating system keeps its type, reason and file name. For
    any other error, the line has only the type and the place, since the text of the error may quote personal data or
    secrets, such as a comment, a row, or an address with a password.
    """
    if type(error).__module__.partition(".")[0] in _OURS:
        return " ".join(str(error).split()) or type(error).__name__
    kind = type(error).__name__
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.strerror:
        return f"{kind}: {error.strerror}{f': {error.filename}' if error.filename else ''}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _OWN_FOLDERS & set(Path(frame.filename).parents)]
    place = (ours or frames)[-1:]
    return f"{kind} at {Path(place[0].filename).name}:{place[0].lineno}" if place else kind


#: How many reasons are counted separately. All other reasons are counted together, so that a process that runs for
#: months does not keep too many of them.
MOST_REASONS = 20
OTHERS = "other reasons"
_LONGEST_TEXT = 300
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")
#: Words with a digit, such as ids and times, and the references of visits.
_IDS = re.compile(r"[\w:.-]*\d[\w:.-]*|\b[a-z]{2}(?:-[a-z]{2}){3}\b")


class FailureCounts:
    """Counts failed attempts by reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def add(self, failure: Failure) -> None:
        """Counts a failed attempt under its fingerprint.

        Once there are `MOST_REASONS` fingerprints, a new fingerprint counts as `OTHERS`.
        """
        reason = fingerprint(failure)
        known = reason in self._counts or len(self._counts) < MOST_REASONS
        self._counts[reason if known else OTHERS] += 1

    def counts(self) -> Counter[str]:
        """The number of failed attempts by reason."""
        return Counter(self._counts)


def fingerprint(failure: Failure) -> str:
    """One line with the service and the reason for a failure; it is the same for all failures with the same cause.

    Ids, times and other words with a digit are replaced by `…`.
    """
    line = _BLANKS.sub(" ", failure.reason).strip()[:_LONGEST_TEXT]
    # Replace lone surrogates: they cannot be encoded as UTF-8.
    text = _IDS.sub("…", line.encode(errors="replace").decode())
    if failure.service is None or failure.method is None:
        return text
    status = f"status {failure.status}: " if failure.status is not None else ""
    return f"{failure.service}: {status}{text}"

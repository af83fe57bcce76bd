"""What can go wrong, and whether trying again can mend it.

*Recoverable* are time-outs, connection errors, refused credentials (401, 403, no token), 408, 423, 425, 429, 499, 5xx
save NOMIS's response about rows that should be unique, and every response that is not the service's own word, such as a
redirect or the 404 of a gateway. Everything else needs a change in the data: the service's own 400, 404 and 409, and
rules that cannot be met.
"""

import traceback
from dataclasses import dataclass
from pathlib import Path

#: NOMIS's answer when a booking has two allocations or attendances where there may be one.
NON_UNIQUE_TEXT = "query did not return a unique result"

#: The packages whose errors have texts of our own.
_OURS = frozenset({"sync", "jobs", "reports"})
_OWN_FOLDERS = {Path(__file__).parent.parent / name for name in _OURS}

#: Refused credentials are put right outside, as an outage is. The others say that it was the wrong moment.
_RECOVERABLE_STATUSES = frozenset({401, 403, 408, 423, 425, 429, 499})
#: The answer to wrong credentials, and to those without the role that a call needs.
_REFUSED_STATUSES = frozenset({401, 403})
#: What a service, or a gateway before it, answers when it can take no call at present, whatever the call.
_AWAY_STATUSES = frozenset({429, 502, 503})


class SyncError(Exception):
    """What the handling of a message, prisoner or page can fail with; `recoverable`: whether to try again."""

    recoverable = False


class UpstreamError(SyncError):
    """A call to an upstream service failed.

    `status` is None when no answer came; `unreachable` then tells that the request was not even sent. `outcome_unknown`
    says that a write may have been applied although it failed: the answer was lost after the request had been sent, or
    does not say that it was refused. `from_service` says that the response has the error body of the HMPPS services and
    is about what was asked, so that it is the service's own word: not that of a gateway, a proxy or another server at
    its address, nor about a path that the service does not have. `error_code`
    is the number by which the service tells its refusals of one status apart.
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
        #: The query of the call, where it has one: pages of one list differ by nothing else.
        self.query = ""

    def reword(self, message: str) -> None:
        """Puts another text in place of `message`."""
        self.message = message
        answer = f"status {self.status}" if self.status is not None else "no answer"
        self.args = (f"{self.service}: {self.method} {self.path}: {answer}: {message}",)

    @property
    def under_way(self) -> bool:
        """Whether the request may still be at work in the service: it has not responded itself."""
        return self.outcome_unknown and not self.from_service

    @property
    def absent(self) -> bool:
        """The service itself says that it does not have the record. A 404 of anybody else says nothing of the kind."""
        return self.status == 404 and self.from_service

    @property
    def conflict(self) -> bool:
        """The service itself says that the call does not fit what it holds. A 409 of anybody else does not count."""
        return self.status == 409 and self.from_service

    @property
    def credentials_refused(self) -> bool:
        """Our credentials are wrong, or lack a role: nothing succeeds until a person puts that right."""
        return self.status in _REFUSED_STATUSES

    @property
    def unavailable(self) -> bool:
        """The service can take no call, is out of reach, or something else answers for it: no record is to blame."""
        if self.status is None or self.status in _AWAY_STATUSES or self.credentials_refused:
            return True
        return not self.from_service

    @property
    def non_unique(self) -> bool:
        """NOMIS holds duplicate rows for the pair that was asked for."""
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
    """An answer that tells of success, but is empty, of another shape, or about another record than the one asked for.

    Nothing is concluded from it, neither that the record is there nor that it is not; the next attempt asks again.
    """

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Always: it may be the answer of something that stands between us and the service."""
        return True


class NeverAccepted(UpstreamError):
    """A call that the service cannot take as it is, although its status says otherwise; trying again does not help."""

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Never."""
        return False


class NoToken(UpstreamError):
    """HMPPS Auth gave no token, whatever it sent instead: nothing can be called until somebody puts that right."""

    @property
    def recoverable(self) -> bool:  # type: ignore[override]
        """Always."""
        return True

    @property
    def credentials_refused(self) -> bool:
        """Always: a token that nobody gives is waited for as long as credentials that are wrong."""
        return True


class BreakerOpen(SyncError):
    """The upstream is taken to be down, so the call was not made."""

    recoverable = True

    def __init__(self, service: str) -> None:
        super().__init__(f"{service} is taken to be down, so it was not asked")
        self.service = service


class LeaseBusy(SyncError):
    """Another process holds the lease of the entity; the message waits its turn: `free_in` seconds where known."""

    recoverable = True

    def __init__(self, key: str, free_in: float | None = None) -> None:
        super().__init__(f"{key} is being worked on elsewhere")
        self.key = key
        self.free_in = free_in


class RuleError(SyncError):
    """A rule of the domain cannot be met by the data: an unknown code, a missing field. Trying again does not help."""


class MessageUnreadable(SyncError):
    """A message is no valid JSON, or lacks a field that is read. It fails alone."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt, as it is recorded: where it failed and why, without personal data."""

    step: str | None
    service: str | None
    method: str | None
    path: str | None
    status: int | None
    reason: str
    recoverable: bool


def describe_failure(error: BaseException, step: str | None = None) -> Failure:
    """The record of `error`, which happened at `step`. Errors that are not a `SyncError` count as not recoverable."""
    if isinstance(error, UpstreamError):
        return Failure(step, error.service, error.method, error.path, error.status, error.message, error.recoverable)
    if isinstance(error, BreakerOpen):
        return Failure(step, error.service, None, None, None, str(error), recoverable=True)
    if isinstance(error, SyncError):
        return Failure(step, None, None, None, None, str(error), error.recoverable)
    return Failure(step, None, None, None, None, one_line(error), recoverable=False)


def one_line(error: BaseException) -> str:
    """The text of any error as it may be recorded and shown, on one line.

    Of our own errors it is their text; of all others the type and the place, since their texts may quote personal data
    or secrets: a comment, a row, an address with its password.
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

"""What a failed message probably needs: one line of advice from where and how it failed."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sync.domains.registry import queue_of
from sync.failures import NON_UNIQUE_TEXT, Failure
from sync.pipeline.envelope import MAPPING_RETRY

#: How NOMIS says that a booking is not allocated to a course activity; it calls an allocation a program profile.
_NO_ALLOCATION = re.compile(r"(program profile|allocation)\b.*\b(does not exist|not found)", re.IGNORECASE)
RECOVERABLE = "another service was away or overloaded: leave the message, the re-drive heals it"
UNRECOVERABLE = "the request was refused and will be again: correct the data and `dlq retry`, or purge the message"
ENDED = "the activity has ended (endings of its last night, tried after midnight): inform the prison or the DPS team"
ONLY_MAPPING = (
    "NOMIS has the record and only its mapping is missing: never purge it, or the record is made a second time; "
    "correct the mapping service or what it refuses, then `dlq retry`"
)
#: The step at which an event is found to be on the wrong queue.
ROUTING_STEP = "find queue"
UNREADABLE = "the message cannot be understood: tell the team of its publisher, then purge it"


@dataclass(frozen=True, slots=True)
class _Advice:
    """Advice for the failures it fits, which `when` describes."""

    fits: Callable[[str, Failure], bool]
    when: str
    text: str


def hint(event_type: str | None, failure: Failure) -> str:
    """What is to be done about a message of `event_type` that failed with `failure`, in one line."""
    event = event_type or ""
    if failure.step == ROUTING_STEP:
        owner = queue_of(event)
        return (
            f"the event belongs on the {owner} queue: correct the filter of this queue's subscription, then "
            f"`dlq retry`, which sends it to the {owner} queue"
        )
    return next(advice.text for advice in _ADVICE if advice.fits(event, failure))


def _refused(service: str, *statuses: int, path: str = "", words: str = "") -> Callable[[str, Failure], bool]:
    """A refusal by `service` with one of the statuses, whose path and reason hold the words."""

    def fits(_: str, failure: Failure) -> bool:
        return (
            failure.service == service
            and failure.status in statuses
            and path in (failure.path or "")
            and words.lower() in failure.reason.lower()
        )

    return fits


def _non_unique(path: str) -> Callable[[str, Failure], bool]:
    return _refused("nomis", 500, path=path, words=NON_UNIQUE_TEXT)


def is_missing_mapping(failure: Failure) -> bool:
    """Whether it failed because the record that it is about has no mapping (yet), by the service's own word."""
    return failure.service == "mapping" and failure.status == 404 and not failure.recoverable


def _missing_mapping(_: str, failure: Failure) -> bool:
    return is_missing_mapping(failure)


def is_missing_allocation(failure: Failure) -> bool:
    """Whether NOMIS refused an attendance for want of an allocation, which it calls a program profile."""
    return (
        failure.service == "nomis"
        and failure.status == 400
        and (failure.path or "").endswith("/attendance")
        and _NO_ALLOCATION.search(failure.reason) is not None
    )


def _missing_allocation(_: str, failure: Failure) -> bool:
    return is_missing_allocation(failure)


def _missing_in_dps(_: str, failure: Failure) -> bool:
    return not failure.recoverable and failure.status == 404 and failure.service not in ("nomis", "mapping", None)


def _missing_session(event_type: str, failure: Failure) -> bool:
    return event_type == "activities.scheduled-instance.amended" and _refused("nomis", 404)(event_type, failure)


def _amend_refused(event_type: str, failure: Failure) -> bool:
    return event_type == "activities.activity-schedule.amended" and _refused("nomis", 400)(event_type, failure)


def _activity_ended(event_type: str, failure: Failure) -> bool:
    fits = (_refused("nomis", 400, path="/allocation", words=word) for word in ("expire", "ended"))
    return any(each(event_type, failure) for each in fits)


def _credentials(_: str, failure: Failure) -> bool:
    no_token = failure.service == "hmpps-auth" and failure.status is not None and failure.status < 500
    return failure.status in (401, 403) or no_token


def _mapping_retry(event_type: str, _: Failure) -> bool:
    return event_type == MAPPING_RETRY


def _unreadable(event_type: str, failure: Failure) -> bool:
    return failure.step == "read event" and _rule(event_type, failure)


def _rule(_: str, failure: Failure) -> bool:
    return failure.service is None and not failure.recoverable


#: The first that fits is given. What may heal by itself comes before all that is advised to be purged.
_ADVICE = (
    _Advice(
        _credentials,
        "401 or 403, or HMPPS Auth gave no token",
        "credentials or their roles are wrong: correct the client (`check` names it), then leave the message",
    ),
    _Advice(_mapping_retry, "anything, on a `RETRY_CREATE_MAPPING`", ONLY_MAPPING),
    _Advice(
        _non_unique("/allocation"),
        "NOMIS 500 on an allocation: `query did not return a unique result`",
        "NOMIS holds two allocations of this booking and activity: delete one (`activities delete-allocation`), "
        "then leave the message",
    ),
    _Advice(
        _non_unique("/attendance"),
        "NOMIS 500 on an attendance: `query did not return a unique result`",
        "NOMIS holds two attendances of this booking and session: delete one (`activities delete-attendance`), "
        "then leave the message",
    ),
    _Advice(
        _missing_mapping,
        "mapping 404 on a change",
        "the record was never created in NOMIS: look for its creation (switched off, failed, on the DLQ?); "
        "heals when that succeeds",
    ),
    _Advice(
        _missing_allocation,
        "NOMIS 400 on an attendance, no allocation",
        "the allocation is not in NOMIS yet: look for its event (failed, on the DLQ?); heals when that succeeds",
    ),
    _Advice(lambda _, failure: failure.recoverable, "5xx, 429, a time-out, or no response", RECOVERABLE),
    _Advice(
        _refused("nomis", 500, words="without a location"),
        "NOMIS 500, no location",
        "NOMIS cannot hold an appointment in a cell: tell the prison, then purge the message",
    ),
    _Advice(
        _refused("nomis", 400, path="/attendance", words="paid"),
        "NOMIS 400 on an attendance, already paid",
        "NOMIS payroll has paid this attendance: nothing is left to synchronise, purge the message",
    ),
    _Advice(
        _refused("nomis", 400, path="/allocation", words="prison"),
        "NOMIS 400 on an allocation, the prison",
        "the prisoner is not in the activity's prison (transferred or released): inform the prison or the DPS team",
    ),
    _Advice(_activity_ended, "NOMIS 400 on an allocation, expired or ended", ENDED),
    _Advice(
        _refused("mapping", 400, path="/mapping/activities"),
        "mapping 400 on an activity",
        "the schedule or the course is mapped otherwise, so the new course is a duplicate: see `duplicates list`",
    ),
    _Advice(
        _missing_session,
        "NOMIS 404 on a `scheduled-instance.amended`",
        "nearly always a second delivery, or a session that an amend has removed: a retry does nothing more, "
        "purge the message",
    ),
    _Advice(
        _amend_refused,
        "NOMIS 400 on an `activity-schedule.amended`",
        "DPS allowed what NOMIS refuses: read the reason, then inform the DPS team",
    ),
    _Advice(
        _missing_in_dps,
        "a DPS service 404",
        "DPS has no such record (its change was rolled back, or it is deleted): purge the message if it stays so",
    ),
    _Advice(_unreadable, "a field is missing, or no valid JSON", UNREADABLE),
    _Advice(
        _rule,
        "a rule cannot be met",
        "a rule cannot be met by the data: read the reason and correct the record in DPS, or extend the rule",
    ),
    _Advice(lambda _, __: True, "anything else", UNRECOVERABLE),
)
#: What the runbook says too: which failures, and the advice for them.
ADVICE = tuple((advice.when, advice.text) for advice in _ADVICE)

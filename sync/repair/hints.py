"""Gives one line of advice about a failed message, derived from where and how it failed."""

from sync.domains.registry import DOMAINS, queue_of
from sync.domains.repair_declaration import Advice
from sync.errors import Failure
from sync.events.envelope import MAPPING_RETRY
from sync.pipeline.handle import ROUTING_STEP

RECOVERABLE = "a service was unavailable or overloaded: leave the message, since housekeeping sends it back"
UNRECOVERABLE = (
    "the request was refused, and would be refused again: correct the data and run `dlq retry`, or purge the message"
)
UNREADABLE = "the message cannot be understood: inform the publisher's team, then purge it"


def hint(event_type: str | None, failure: Failure) -> str:
    """One line that says what to do about a message of `event_type` that failed with `failure`."""
    event = event_type or ""
    if event != MAPPING_RETRY:
        event = event.lower()
    if ROUTING.fits(event, failure):
        return ROUTING.text.replace("another queue", f"the {queue_of(event)} queue")
    return next(advice.text for advice in ADVICE if advice.fits(event, failure))


def is_missing_mapping(failure: Failure) -> bool:
    """Whether the mapping service itself says that the record has no mapping (yet)."""
    return failure.service == "mapping" and failure.status == 404 and not failure.recoverable


def is_awaited_elsewhere(failure: Failure) -> bool:
    """Whether `failure` is due to a missing record, such as an allocation, that another event may still create."""
    return any(domain.is_awaited is not None and domain.is_awaited(failure) for domain in DOMAINS.values())


def _missing_in_dps(_: str, failure: Failure) -> bool:
    return not failure.recoverable and failure.status == 404 and failure.service not in ("nomis", "mapping", None)


def _credentials(_: str, failure: Failure) -> bool:
    no_token = failure.service == "hmpps-auth" and failure.status is not None and failure.status < 500
    return failure.status in (401, 403) or no_token


def _rule(_: str, failure: Failure) -> bool:
    return failure.service is None and not failure.recoverable


def _of_domains(*, may_succeed_later: bool) -> tuple[Advice, ...]:
    return tuple(
        advice
        for domain in DOMAINS.values()
        for advice in domain.advice
        if advice.may_succeed_later is may_succeed_later
    )


#: The advice that comes before all others.
ROUTING = Advice(
    lambda _, failure: failure.step == ROUTING_STEP,
    "the event belongs on another queue",
    "the event belongs on another queue: correct the filter of this queue's subscription, then run `dlq retry`, "
    "which sends the event to the right queue",
)
#: The first advice that fits is given, so advice to wait comes before advice to purge. `make docs` writes the same
#: table to the runbook.
ADVICE = (
    Advice(
        _credentials,
        "401 or 403, or HMPPS Auth gave no token",
        "the credentials or the roles of a client are wrong: correct the client (`check` names it), then leave the "
        "message to housekeeping",
    ),
    Advice(
        lambda event_type, _: event_type == MAPPING_RETRY,
        "any failure of a `RETRY_CREATE_MAPPING` message",
        "NOMIS has the record and only its mapping is missing: never purge the message, since the record could "
        "then be created a second time; correct the mapping service or the data that it refuses, then run `dlq retry`",
    ),
    Advice(
        lambda _, failure: is_missing_mapping(failure),
        "mapping 404 on a change",
        "the record is not mapped, and was probably never created in NOMIS: find its creation, which may have failed, "
        "be ambiguous or be switched off, or whose message may be on the DLQ; this message succeeds once the record is "
        "mapped",
    ),
    *_of_domains(may_succeed_later=True),
    Advice(lambda _, failure: failure.recoverable, "5xx, 429, a time-out, or no response", RECOVERABLE),
    *_of_domains(may_succeed_later=False),
    Advice(
        _missing_in_dps,
        "404 from a DPS service",
        "DPS has no such record (the change was rolled back, or the record was deleted): if it stays missing, "
        "purge the message",
    ),
    Advice(
        lambda event_type, failure: failure.step == "read event" and _rule(event_type, failure),
        "a field is missing, or the body is not valid JSON",
        UNREADABLE,
    ),
    Advice(
        _rule,
        "a rule is broken",
        "the data breaks a rule: read the reason and correct the record in DPS, or extend the rule",
    ),
    Advice(lambda _, __: True, "anything else", UNRECOVERABLE),
)

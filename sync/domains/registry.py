"""Every event type: its queue, what handles it, what it tracks, and its switch.

`python -m sync.domains.registry` prints the table; with `--check FILE` it checks that FILE has the present table.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import structlog

from sync.creation.creation import Creation
from sync.domains import activities, adjustments, appointments, incentives, visits
from sync.domains.declaration import Coalesce, Domain, Update
from sync.domains.duplicate_rows import RowKind
from sync.settings.declaration import DELETE_ALL_VARIABLE, Settings, UpstreamName, feature_variable, feature_variables

#: One package for each domain.
_PACKAGES = (visits, incentives, activities, appointments, adjustments)
#: The domains by name.
DOMAINS: Mapping[str, Domain] = {package.DOMAIN.name: package.DOMAIN for package in _PACKAGES}

#: Roles for calls that belong to no domain, without `ROLE_`.
_OTHER_ROLES: Mapping[UpstreamName, frozenset[str]] = {
    UpstreamName.NOMIS: frozenset({"SYNCHRONISATION_REPORTING"}),
    UpstreamName.PRISONER_SEARCH: frozenset({"EVENTS_ADMIN"}),
}

_HEADER = """\
# Events

What arrives on which queue, what handles it, which telemetry events that tracks, and the variable that switches it off
(`FEATURE_EVENT_<QUEUE>_<EVENT_TYPE>`, with the queue before the type, does so too). `…-failed` has its `reason`.
Made from the code by `make docs`.

| event type | queue | handler | telemetry events | feature switch |
| --- | --- | --- | --- | --- |
"""

_FOOTER = """
## Of every queue

| telemetry event | what happened |
| --- | --- |
| `message-failed` | an attempt at a message failed: where, why, and whether a retry may help |
| `message-unhandled` | a message of an unknown type (`eventType`, cut where it is long) was acknowledged |
| `<event type>-sent-to-dlq` | that was the last attempt: SQS moves the message to the dead letter queue |
| `dead-letter-given-up` | the housekeeping no longer sends a message back; `advice` says what a person must do |
| `create-mapping-retry-failure` | a mapping retry failed; `retryMessage` has the mapping |
"""


def domain_of_queue(queue: str) -> Domain:
    """The domain whose events a queue receives."""
    return next(domain for domain in DOMAINS.values() if domain.queue == queue)


def domain_of_record(record: str) -> Domain:
    """The domain whose records telemetry and database call `record`, such as `sentencing-adjustment`."""
    return next(domain for domain in DOMAINS.values() if domain.record == record)


def event_types(queue: str) -> tuple[str, ...]:
    """The event types that a queue receives, which are the values of its subscription's filter."""
    return tuple(domain_of_queue(queue).handlers)


def queue_of(event_type: str) -> str | None:
    """The id of the queue on which events of this type belong; None for a type that is not synchronised."""
    return next((domain.queue for domain in DOMAINS.values() if event_type.lower() in domain.handlers), None)


def row_kinds() -> Mapping[str, RowKind]:
    """What NOMIS may hold twice, by what a person calls a row, such as `allocation`."""
    updates = (update for domain in DOMAINS.values() for update in domain.updates)
    return {update.rows.what: update.rows for update in updates if update.rows is not None}


def required_roles(service: UpstreamName) -> frozenset[str]:
    """The roles that the client of a service needs, without `ROLE_`; other calls work with any valid token."""
    roles = set(_OTHER_ROLES.get(service, ()))
    for domain in DOMAINS.values():
        if service in (UpstreamName.NOMIS, UpstreamName.MAPPING):
            roles.add(domain.nomis_role)
        elif service is domain.publisher:
            roles |= domain.publisher_roles
    return frozenset(roles)


def unknown_switches(settings: Settings) -> Mapping[str, bool]:
    """Variables that look like the switch of an event but belong to none, with their values.

    They switch nothing: one that says false was to stop an event, and does not.
    """
    known = {
        name for domain in DOMAINS.values() for event_type in domain.handlers for name in feature_variables(event_type)
    }
    known.add(DELETE_ALL_VARIABLE)
    return {name: on for name, on in settings.event_switches.items() if name not in known}


def warn_of_unknown_switches(settings: Settings) -> None:
    """Logs a warning about switches that are meant to stop an event but stop none, as after a typing error."""
    void = [name for name, on in unknown_switches(settings).items() if not on]
    if void:
        structlog.get_logger("sync.domains.registry").warning(
            "unknown-feature-switch", variables=void, reason="no event has it; doc/events.md names those there are"
        )


def tracked_events(handler: Creation | Update) -> tuple[str, ...]:
    """The names of the telemetry events that a handler's messages may track."""
    return tuple(dict.fromkeys(_of_creation(handler) if isinstance(handler, Creation) else _of_update(handler)))


def _of_creation(handler: Creation) -> Iterator[str]:
    name, queue = handler.name, handler.queue
    yield f"{name}-create-success"
    yield f"{name}-create-failed"
    if handler.may_be_ignored:
        yield f"{name}-create-ignored"
    yield f"{name}-create-duplicate"
    yield f"{name}-create-ambiguous"
    yield f"to-nomis-synch-{name}-duplicate"
    yield f"{name}-mapping-create-failed"
    yield f"{queue}-create-mapping-retry"
    yield f"{queue}-create-mapping-retry-ignored"
    yield handler.retry_success


def _of_update(handler: Update) -> Iterator[str]:
    yield handler.success
    yield from handler.others
    if handler.failed is not None:
        yield handler.failed
    if handler.rows is not None:
        yield handler.rows.event_name
    if handler.coalesce is not Coalesce.NEVER:
        yield "message-coalesced"


def event_table() -> str:
    """The table of all events as a Markdown page."""
    return _HEADER + "".join(f"| {' | '.join(row)} |\n" for row in _rows()) + _FOOTER


def _rows() -> Iterator[tuple[str, ...]]:
    for domain in DOMAINS.values():
        for event_type, handler in domain.handlers.items():
            function = handler.prepare if isinstance(handler, Creation) else handler.apply
            module = function.__module__.removeprefix("sync.domains.")
            does = "creates" if isinstance(handler, Creation) else function.__name__.strip("_").replace("_", " ")
            names = ", ".join(f"`{name}`" for name in tracked_events(handler))
            switch = f"`{feature_variable(event_type)}`"
            yield f"`{event_type}`", f"`{domain.queue}`", f"`{module}`: {does}", names, switch


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, writes it to a file, or checks that a file has it; returns 1 if it does not."""
    parser = argparse.ArgumentParser(description="The table of all events.")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", type=Path, metavar="FILE", help="write the table to FILE")
    group.add_argument("--check", type=Path, metavar="FILE", help="exit 1 unless FILE holds the table as it is now")
    chosen = parser.parse_args(arguments)
    table = event_table()
    if chosen.write is not None:
        chosen.write.write_text(table, encoding="utf-8")
    elif chosen.check is None:
        sys.stdout.write(table)
    elif not chosen.check.exists() or chosen.check.read_text(encoding="utf-8") != table:
        sys.stderr.write(f"{chosen.check} is out of date; run `make docs`\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Prints a table of all event types, each with its queue, handler, telemetry events and switch.

`python -m sync.domains.event_table` prints the table. `--write FILE` writes it to FILE, and `--check FILE` checks that
FILE contains the current table.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from sync.creation.creation import Creation
from sync.domains.declaration import Coalesce, Update
from sync.domains.registry import DOMAINS, resync_kinds
from sync.settings.variables import feature_variable

_HEADER = """\
# Events

This page lists each event type with its queue, its handler, the telemetry events that the handler tracks, and the
variable that switches the event off. (`FEATURE_EVENT_<QUEUE>_<EVENT_TYPE>`, with the queue before the type, works
too.) Telemetry events whose names end in `-failed` have the property `reason`.
`make docs` generates this page from the code.

| event type | queue | handler | telemetry events | feature switch |
| --- | --- | --- | --- | --- |
"""

_FOOTER = """
## Events of every queue

| telemetry event | what happened |
| --- | --- |
| `message-failed` | handling a message failed; the properties give the step, the reason, and whether a retry may help |
| `message-unhandled` | a message of an unknown type (`eventType`, shortened if it is long) was acknowledged |
| `<event type>-sent-to-dlq` | the last attempt to handle a message failed, so SQS moves it to the dead letter queue |
| `dead-letter-given-up` | housekeeping no longer returns a message to its queue; `advice` says what a person must do |
| `create-mapping-retry-failure` | a mapping retry failed; `retryMessage` has the mapping |

## Events of a resync

For a record of one of these kinds, `prisoner-to-nomis resync` tracks the telemetry event in the table, in addition to
those of the event type whose work it does:

| kind | telemetry event |
| --- | --- |
"""


def tracked_events(handler: Creation | Update) -> tuple[str, ...]:
    """The names of the telemetry events that may be tracked for a handler's messages."""
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
    """The Markdown page with the table of all events."""
    resyncs = (f"| {kind} | `{resync.tracked}` |\n" for kind, (_, resync) in resync_kinds().items() if resync.tracked)
    return _HEADER + "".join(f"| {' | '.join(row)} |\n" for row in _rows()) + _FOOTER + "".join(resyncs)


def _rows() -> Iterator[tuple[str, ...]]:
    for domain in DOMAINS.values():
        for event_type, handler in domain.handlers.items():
            function = handler.prepare if isinstance(handler, Creation) else handler.apply
            module = function.__module__.removeprefix("sync.domains.")
            does = "create" if isinstance(handler, Creation) else function.__name__.strip("_").replace("_", " ")
            names = ", ".join(f"`{name}`" for name in tracked_events(handler))
            switch = f"`{feature_variable(event_type)}`"
            yield f"`{event_type}`", f"`{domain.queue}`", f"`{module}`: {does}", names, switch


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, writes it to a file, or checks a file against it. Returns 1 if the check fails, or else 0."""
    parser = argparse.ArgumentParser(description="The table of all events.")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--write", type=Path, metavar="FILE", help="write the table to FILE")
    group.add_argument("--check", type=Path, metavar="FILE", help="exit 1 unless FILE contains the current table")
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

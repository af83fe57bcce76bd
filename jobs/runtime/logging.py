"""Logs events to stderr, since stdout is for results.

An event is one line of JSON for machines, or readable text for terminals. Every event that a thread logs in a `with`
block of `bound` has the values given to `bound`, such as a run id or a queue.
"""

import logging
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor

from reports.presentation.masking import UNMASKED, Masking
from reports.presentation.text import plain
from sync.errors import one_line
from sync.failure_log import FailureLog

#: Libraries that log more than an operator wants to read; their warnings are still logged.
_TALKATIVE = ("alembic", "boto3", "botocore", "s3transfer", "urllib3", "slack_sdk", "werkzeug")

_BOOKING_ID = re.compile(r"booking_?id$", re.IGNORECASE)
_TRACE_HEAD = "Traceback (most recent call last):\n"


def configure_logging(
    log_format: Literal["json", "console"] | None,
    level: str | None,
    stream: TextIO | None = None,
    masking: Masking = UNMASKED,
) -> None:
    """Sends all logs, including those of libraries, to `stream` (stderr if None), masked by `masking`.

    log_format: None means `console` if the logs go to a terminal, and `json` if not. level: None means `WARNING` if the
    logs go to a terminal, where a person runs the command, and `INFO` if not.
    """
    out = stream or sys.stderr
    if level is None:
        level = "WARNING" if out.isatty() else "INFO"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    rendered: list[Processor] = [structlog.processors.ExceptionRenderer(lambda exc_info: trace_of(exc_info[1]))]
    if masking.on:
        rendered.append(lambda _logger, _method, event: {name: _masked(masking, name, event[name]) for name in event})
    ending: list[Processor]
    if (log_format or ("console" if out.isatty() else "json")) == "console":
        ending = [
            *rendered,
            _without_steering,
            structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback),
        ]
    else:
        ending = [
            *rendered,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out) if stream else _ToStderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Overlapping ticks are expected, so APScheduler's warning about them is silenced.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)


def _masked(masking: Masking, name: str, value: object) -> object:
    """A value of a log line, with the prisoner numbers and booking ids in it masked at any depth.

    name: the name of the value, which shows whether a number is a booking id.
    """
    if isinstance(value, Mapping):
        return _masked_mapping(masking, value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(masking, name, each) for each in value]
    if _BOOKING_ID.search(name) and str(value).isdecimal():
        return masking.booking(int(str(value)))
    return masking.text(value) if isinstance(value, str) else value


def _masked_mapping(masking: Masking, values: Mapping[Any, object]) -> dict[str, object]:
    """The masked values. Their names are masked too, since a reconciliation's summary has prisoner numbers as names.

    If several names are equal once masked, all but the first are numbered, so that no value is lost.
    """
    masked: dict[str, object] = {}
    occurrences: Counter[str] = Counter()
    for name, value in values.items():
        shown = masking.text(str(name))
        occurrences[shown] += 1
        number = occurrences[shown]
        masked[shown if number == 1 else f"{shown} ({number})"] = _masked(masking, str(name), value)
    return masked


def _without_steering(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Removes terminal control characters from every value. Tracebacks keep their line breaks."""
    return {name: _plain_value(name, value) for name, value in event.items()}


def _plain_value(name: str, value: object) -> object:
    if name in ("exception", "stack"):
        return "\n".join(map(plain, str(value).split("\n")))
    # Any other value is rendered by its `repr`, which escapes control characters.
    return plain(value) if isinstance(value, str) else value


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, so that log lines do not break progress bars that replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def trace_of(error: BaseException | None) -> str:
    """The tracebacks of an error and of its causes, starting with the original cause.

    The text of each error is the one that `one_line` returns, which leaves out texts that may quote personal data or
    secrets.
    """
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    traces = []
    for each in reversed(chain):
        frames = "".join(traceback.format_list(traceback.extract_tb(each.__traceback__)))
        kind = type(each).__name__
        text = one_line(each)
        traces.append(f"{_TRACE_HEAD}{frames}{text if text.startswith(kind) else f'{kind}: {text}'}")
    return "\n\n".join(traces)


def traces_wanted() -> bool:
    """Whether errors are logged with their tracebacks (`LOG_LEVEL=DEBUG`)."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


@contextmanager
def bound(**values: str) -> Iterator[None]:
    """Adds `values` to every log line of this thread during the block."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def failure_log(work: str) -> FailureLog:
    """The log for the failures of a piece of repeated work.

    work: what each line calls that work, such as `drain of visit`.
    """
    return FailureLog(
        "jobs.runtime.logging",
        "work-failing",
        "work-succeeds-again",
        "work-fails-otherwise",
        level=logging.ERROR,
        work=work,
    )


def log_failure(log: FailureLog, error: Exception) -> None:
    """Records `error` in `log`.

    During an outage, only the first failure and the first for each further reason are logged.
    """
    log.failed(one_line(error), error=type(error).__name__, exc_info=traces_wanted())

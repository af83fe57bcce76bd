"""The W3C trace context of a message: its operation id in the log, and the header that passes it to the services."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import structlog

ATTRIBUTE = "traceparent"
_FORM = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


@contextmanager
def traced(traceparent: str | None) -> Iterator[None]:
    """Runs the `with` block in the trace of a message: every log line of this thread has its `operation_id`.

    A malformed trace context is ignored.
    """
    match = _FORM.fullmatch(traceparent or "")
    if match is None:
        yield
        return
    token = _current.set(traceparent)
    try:
        with structlog.contextvars.bound_contextvars(operation_id=match[1]):
            yield
    finally:
        _current.reset(token)


def trace_headers() -> Mapping[str, str]:
    """The headers that pass the current trace on; none outside a trace."""
    traceparent = _current.get()
    return {} if traceparent is None else {ATTRIBUTE: traceparent}

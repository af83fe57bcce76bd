"""Traces messages and runs: sets the operation id in logs and telemetry, and passes the trace on in a header."""

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any
from uuid import UUID, uuid5

import structlog

ATTRIBUTE = "traceparent"
#: According to W3C Trace Context, section 3.2, version ff is not valid, and neither are ids that are all zeros.
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
#: The UUID namespace for the traces that are derived from the ids of messages and runs.
_OURS = UUID("6f0c7a52-5f3c-4a53-9d0f-2f0f6f1f4f5e")
_current: ContextVar[str | None] = ContextVar("traceparent", default=None)


def trace_of(identity: str, traceparent: str | None = None) -> str:
    """The W3C trace context of a message or run: `traceparent` if that is valid, or else one made from `identity`.

    The same `identity` always makes the same trace, so that all attempts to handle a message share one operation id.
    """
    if traceparent is not None and _FORM.fullmatch(traceparent):
        return traceparent
    made = uuid5(_OURS, identity).hex
    return f"00-{made}-{made[:16]}-01"


@contextmanager
def traced(traceparent: str) -> Iterator[None]:
    """Runs the `with` block in a trace (see `trace_of`): log lines of this thread have the trace's `operation_id`."""
    token = _current.set(traceparent)
    try:
        with structlog.contextvars.bound_contextvars(operation_id=_operation_id(traceparent)):
            yield
    finally:
        _current.reset(token)


class TracedThreads(ThreadPoolExecutor):
    """A pool of threads in which each call belongs to the trace of the thread that submitted it."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **options: Any) -> Future[Any]:
        """Submits a call, which runs in the trace of the submitting thread."""
        return super().submit(copy_context().run, work, *args, **options)


def trace_headers() -> Mapping[str, str]:
    """The headers that pass on the current trace; empty outside a trace."""
    traceparent = _current.get()
    return {} if traceparent is None else {ATTRIBUTE: traceparent}


def current_operation_id() -> str | None:
    """The operation id of the current trace, 32 hexadecimal digits; None outside a trace."""
    traceparent = _current.get()
    return None if traceparent is None else _operation_id(traceparent)


def _operation_id(traceparent: str) -> str:
    return traceparent.split("-", 2)[1]

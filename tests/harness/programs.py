"""The program against the sandbox, in the process of the test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobs.health.metrics import Metrics
from jobs.runtime.application import Application
from sync.settings.loading import load_settings

#: A message that failed comes again at once, and is received three times before it is a dead letter. What the sandbox
#: publishes is committed, and so is what it has responded to, so that nothing need wait.
QUICK_RETRIES = {
    "EVENT_MINIMUM_AGE_SECONDS": "0",
    "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0",
    "HMPPS_SQS_MAX_RECEIVE_COUNT": "3",
    "CREATION_WAIT_SECONDS": "0",
    "CREATION_SETTLING_SECONDS": "0.1",
    "SLACK_TOKEN": "",
}


@contextmanager
def program(
    environment: Mapping[str, str], database_url: str, metrics: Metrics | None = None, /, **settings: str
) -> Iterator[Application]:
    """The program with the settings of a sandbox, with quick retries unless told otherwise; closed at the end."""
    all_settings = {**environment, **QUICK_RETRIES, "DATABASE_URL": database_url, **settings}
    made = Application(load_settings(all_settings), metrics=metrics)
    try:
        yield made
    finally:
        made.close()

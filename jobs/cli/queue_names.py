"""The queues that a command names."""

from collections.abc import Sequence

from jobs.cli.exit_codes import UsageError
from sync.settings.declaration import QUEUES


def parse_queue(name: str) -> str:
    """One of the queue ids. Raises `UsageError` for any other name."""
    return parse_queues([name])[0]


def parse_queues(names: Sequence[str]) -> tuple[str, ...]:
    """The named queues, each once, all where none is named. Raises `UsageError` for other names."""
    unknown = [name for name in names if name not in QUEUES]
    if unknown:
        raise UsageError(f"there is no queue {', '.join(unknown)}; QUEUE is one of {', '.join(QUEUES)}")
    return tuple(name for name in QUEUES if not names or name in names)

"""The dead letter queues for operators: each by its queue id, all of them one after the other, a message by its id."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

import structlog

from jobs.errors import UsageError, WorkError
from jobs.runtime.application import Application
from sync.failures import SyncError, one_line
from sync.repair.dead_letters import DeadLetter
from sync.repair.redrive import DeadLetterQueue
from sync.settings.queues import QUEUES

Result = TypeVar("Result")


def dead_letter_queue(application: Application, queue: str) -> DeadLetterQueue:
    """The dead letter queue of a queue id. Raises `QueueUnavailable`."""
    return DeadLetterQueue(
        queue,
        application.queue_pair(queue),
        application.database,
        application.telemetry,
        lambda owner: application.queue_pair(owner).main,
    )


def for_each_queue(work: Callable[[str], Result]) -> tuple[dict[str, Result], dict[str, str]]:
    """The result of `work` for each queue, and the reason for each that failed, which does not stop the others."""
    results: dict[str, Result] = {}
    errors: dict[str, str] = {}
    for queue in QUEUES:
        try:
            results[queue] = work(queue)
        except (SyncError, WorkError) as error:
            errors[queue] = one_line(error)
        except Exception as error:
            structlog.get_logger("jobs.operations.dead_letters").exception("dead-letter-queue-failed", queue=queue)
            errors[queue] = type(error).__name__
    return results, errors


def check_errors(errors: Mapping[str, str]) -> None:
    """Raises `WorkError` that names every queue that failed; those with one reason stand together."""
    if errors:
        queues: dict[str, list[str]] = {}
        for queue, reason in errors.items():
            queues.setdefault(reason, []).append(queue)
        raise WorkError("; ".join(f"{', '.join(named)}: {reason}" for reason, named in queues.items()))


def find_ids(queue: str, letters: Sequence[DeadLetter], named: Collection[str]) -> set[str]:
    """The ids of the named messages, each named by its id or a prefix that no other id has.

    Raises `UsageError` for a name that fits none of `letters`, or several.
    """
    return {_find_id(queue, [letter.message.message_id for letter in letters], name) for name in named}


def _find_id(queue: str, ids: Sequence[str], name: str) -> str:
    fitting = [name] if name in ids else [each for each in ids if name and each.startswith(name)]
    if not fitting:
        raise UsageError(f"the dead letter queue of {queue} holds no message {name}")
    if len(fitting) > 1:
        raise UsageError(f"{len(fitting)} messages begin with {name}: {', '.join(fitting[:5])}; give more of the id")
    return fitting[0]

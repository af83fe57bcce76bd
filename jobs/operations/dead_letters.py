"""What an operator does with dead-letter messages: list, diagnose, send back, or remove them after an export."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import structlog

from jobs.errors import UsageError, WorkError
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from reports.delivery.archive import ArchiveUnavailable, Folder, open_archive
from sync import clock
from sync.failures import SyncError, one_line
from sync.queues.queue import QueueCounts
from sync.repair.dead_letters import DeadLetter, DeadLetterReport, not_chosen, report_on
from sync.repair.redrive import DeadLetterQueue, RetryResult
from sync.settings.loading import SettingsError
from sync.settings.queue_names import QUEUES

#: How many messages are read to find the oldest.
_MOST_SAMPLED = 100

Result = TypeVar("Result")
Export = Callable[[Sequence[DeadLetter]], str]


@dataclass(frozen=True, slots=True)
class DlqState:
    """A dead letter queue at a glance. `oldest` is when its oldest message (of those sampled) was first sent."""

    queue: str
    dlq_name: str
    counts: QueueCounts
    oldest: datetime | None
    types: Mapping[str, int]

    def as_dict(self) -> dict[str, Any]:
        """The state as JSON shows it."""
        return {
            "queue": self.queue,
            "dlqName": self.dlq_name,
            "messagesOnDlq": self.counts.visible,
            "messagesInFlight": self.counts.in_flight,
            "oldest": None if self.oldest is None else self.oldest.isoformat(timespec="seconds"),
            "types": dict(self.types),
        }


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
    """Raises `WorkError` that names every queue that failed, with its reason."""
    if errors:
        raise WorkError("; ".join(f"{queue}: {reason}" for queue, reason in errors.items()))


def list_dlqs(application: Application) -> tuple[list[DlqState], dict[str, str]]:
    """Every dead letter queue at a glance, and the reason for each that could not be read."""
    states, errors = for_each_queue(lambda queue: _state(application, queue))
    return list(states.values()), errors


def _state(application: Application, queue: str) -> DlqState:
    pair = application.queue_pair(queue)
    counts = pair.dlq.counts()
    letters = dead_letter_queue(application, queue).peek(_MOST_SAMPLED) if counts.visible else []
    sent = [letter.message.sent_at for letter in letters if letter.message.sent_at is not None]
    return DlqState(queue, pair.dlq.name, counts, min(sent, default=None), Counter(letter.type for letter in letters))


def diagnose_messages(application: Application, queue: str, prefix: str | None, most: int) -> list[DeadLetterReport]:
    """The messages of a dead letter queue with what is known of them: `most` of all, or those whose id has `prefix`.

    Raises `UsageError` when no id has it.
    """
    letters = dead_letter_queue(application, queue).peek(None if prefix else most)
    if prefix:
        letters = [letter for letter in letters if letter.message.message_id.startswith(prefix)]
        if not letters:
            raise UsageError(f"the dead letter queue of {queue} holds no message {prefix}")
    return report_on(application.database, queue, letters)


def retry_messages(
    application: Application, queue: str, named: Collection[str], who: str, *, recoverable_only: bool
) -> RetryResult:
    """Sends messages back (all, or the `named` ones), however often they were redriven before, and records it.

    Raises `UsageError` when a named message is not there, before anything is sent; `WorkError` when it went meanwhile;
    and `QueueUnavailable`.
    """
    dlq = dead_letter_queue(application, queue)
    ids = _find_ids(queue, dlq.peek(), named) if named else set[str]()
    with recorded_action(application, who, "dlq retry", dlq.name, {"named": sorted(ids)}) as ongoing:
        result = dlq.retry(not_chosen(application.database, queue, ids, recoverable_only=recoverable_only), who)
        ongoing.details |= {
            "messages": [letter.message.message_id for letter in result.retried],
            "recoverableOnly": recoverable_only,
            "left": len(result.left),
        }
        ongoing.outcome = f"{len(result.retried)} of {result.found} messages sent back"
    seen = {letter.message.message_id for letter in (*result.retried, *(each.letter for each in result.left))}
    if missing := ids - seen:
        raise WorkError(f"went from the dead letter queue of {queue} meanwhile: {', '.join(sorted(missing))}")
    if failed := [each.reason for each in result.left if each.failed]:
        raise WorkError(f"{len(result.retried)} messages were sent back; {len(failed)} were not: {failed[0]}")
    return result


def preview_retry(
    application: Application, queue: str, named: Collection[str], *, recoverable_only: bool
) -> list[DeadLetter]:
    """What `retry_messages` would send back. Raises `UsageError` when a named message is not there."""
    letters = dead_letter_queue(application, queue).peek()
    ids = _find_ids(queue, letters, named)
    left = not_chosen(application.database, queue, ids, recoverable_only=recoverable_only)(letters)
    return [letter for letter in letters if letter.message.message_id not in left]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many messages were removed, how many arrived since listing and were kept, and where the export is."""

    removed: int
    arrived_since: int
    place: str


def plan_purge(
    application: Application, queue: str, named: Collection[str], *, include_retries: bool
) -> tuple[list[DeadLetter], int]:
    """The messages to be removed (all, or the `named` ones), and how many others there are.

    Raises `UsageError` when a named message is not there, and for mapping retries unless they are included.
    """
    letters = dead_letter_queue(application, queue).peek()
    ids = _find_ids(queue, letters, named)
    chosen = [letter for letter in letters if not named or letter.message.message_id in ids]
    retries = sum(letter.is_mapping_retry for letter in chosen)
    if retries and not include_retries:
        where = "what was named" if named else f"the dead letter queue of {queue}"
        raise UsageError(
            f"{where} holds {retries} mapping retries, which heal when the mapping service is back: use `dlq retry`, "
            "purge others by --message, or --include-retries to lose those mappings"
        )
    return chosen, len(letters) - len(chosen)


def purge(application: Application, queue: str, letters: Sequence[DeadLetter], export: Export, who: str) -> Purged:
    """Removes `letters`, which were listed before, once `export` has them safely stored.

    Raises `QueueUnavailable`, and whatever `export` raises: nothing is removed then.
    """
    stored: list[str] = []
    ids = {letter.message.message_id for letter in letters}
    dlq = dead_letter_queue(application, queue)
    with recorded_action(application, who, "dlq purge", dlq.name, {"messages": sorted(ids)}) as ongoing:
        removed, left = dlq.purge(ids, lambda these: stored.append(export(these)), who)
        ongoing.details["export"] = place = stored[0] if stored else ""
        ongoing.outcome = f"{removed} messages removed"
    undeleted = sum(each.failed for each in left)
    if undeleted:
        raise WorkError(f"{removed} messages removed, {undeleted} not deleted by SQS; all are kept in {place}")
    return Purged(removed, len(left), place)


def check_export(application: Application, file: Path | None) -> None:
    """Raises, before anything is asked, what a later export would fail with.

    `ArchiveUnavailable` where nothing can be written there, `SettingsError` where REPORTS_LOCATION has to change.
    """
    if file is None:
        open_archive(application.settings, lambda: application.aws.client("s3")).probe()
        return
    try:
        Folder(file.parent).probe()
    except SettingsError as error:
        raise ArchiveUnavailable(f"{file} cannot be written: {error.__cause__ or error}") from error


def exporter(application: Application, queue: str, file: Path | None) -> Export:
    """Writes messages to `file`, or else next to the reports; returns where they are.

    Raises `UsageError` when the file exists: it is not overwritten.
    """
    if file is not None and (file.exists() or file.is_symlink()):
        raise _exists(file)

    def export(letters: Sequence[DeadLetter]) -> str:
        content = json.dumps([letter.as_dict() for letter in letters], ensure_ascii=False, indent=1)
        # A lone surrogate cannot be written as UTF-8; its escape can, and means the same in JSON.
        content = content.encode(errors="backslashreplace").decode()
        if file is not None:
            return _write_new(file, content)
        archive = open_archive(application.settings, lambda: application.aws.client("s3"))
        name = f"dlq/{queue}-{clock.now():%Y%m%dT%H%M%S%f}Z.json"
        archive.write(name, content, private=True)
        return archive.location(name)

    return export


def _write_new(file: Path, content: str) -> str:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # Takes the name, or fails if another process has taken it by now.
        file.touch(0o600, exist_ok=False)
    except FileExistsError as error:
        raise _exists(file) from error
    except OSError as error:
        raise ArchiveUnavailable(f"{file} cannot be written: {error.strerror}") from error
    folder = Folder(file.parent)
    try:
        folder.write(file.name, content, private=True)
    except ArchiveUnavailable:
        with contextlib.suppress(OSError):
            file.unlink()
        raise
    return folder.location(file.name)


def _exists(file: Path) -> UsageError:
    return UsageError(f"{file} exists already, and is not overwritten: give --export another name")


def _find_ids(queue: str, letters: Sequence[DeadLetter], named: Collection[str]) -> set[str]:
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

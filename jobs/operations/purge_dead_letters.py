"""Removes dead-letter messages for good, once they have been written to a file or to the report archive."""

import contextlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import UsageError, WorkError
from jobs.operations.dead_letters import dead_letter_queue, find_ids
from jobs.operations.recorded_actions import recorded_action
from jobs.runtime.application import Application
from reports.delivery.archive import ArchiveUnavailable, Folder, open_archive
from reports.presentation.text import count
from sync import clock
from sync.repair.dead_letters import DeadLetterMessage
from sync.settings.loading import SettingsError

Export = Callable[[Sequence[DeadLetterMessage]], str]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many messages were removed, how many arrived after the listing and were kept, and where the export is."""

    removed: int
    arrived_since: int
    place: str


def plan_purge(
    application: Application, queue: str, named: Collection[str], *, include_retries: bool
) -> tuple[list[DeadLetterMessage], list[DeadLetterMessage]]:
    """The messages to be removed (all, or the `named` ones), and the others.

    Raises `UsageError` if a name does not match exactly one message on the dead letter queue, or if there are mapping
    retries among the messages to be removed and `include_retries` is not set.
    """
    messages = dead_letter_queue(application, queue).peek()
    ids = find_ids(queue, messages, named)
    chosen = [message for message in messages if not named or message.message_id in ids]
    retries = sum(message.is_mapping_retry for message in chosen)
    if retries and not include_retries:
        where = "the list of named messages" if named else f"the dead letter queue of {queue}"
        raise UsageError(
            f"{where} holds {_mapping_retries(retries)}: use `dlq retry` when the mapping service is back, purge other "
            "messages with --message, or give --include-retries to lose those mappings"
        )
    return chosen, [message for message in messages if named and message.message_id not in ids]


def _mapping_retries(number: int) -> str:
    return f"{number} mapping {'retry' if number == 1 else 'retries'}"


def purge(
    application: Application,
    queue: str,
    messages: Sequence[DeadLetterMessage],
    others: Sequence[DeadLetterMessage],
    export: Export,
    who: str,
) -> Purged:
    """Removes `messages`, which were listed earlier, once `export` has stored them safely.

    others: the messages that were listed with them but are to stay.

    The action is recorded under the name `who`. If `QueueUnavailable` or an error from `export` is raised, nothing has
    been removed. Raises `WorkError` if SQS did not delete some of the messages.
    """
    stored: list[str] = []
    ids = {message.message_id for message in messages}
    dlq = dead_letter_queue(application, queue)
    with recorded_action(application, who, "dlq purge", dlq.name, {"messages": sorted(ids)}) as ongoing:
        removed, left = dlq.purge(ids, lambda these: stored.append(export(these)), who)
        ongoing.details["export"] = place = stored[0] if stored else ""
        ongoing.outcome = f"{count(removed, 'message')} removed"
    undeleted = sum(each.failed for each in left)
    if undeleted:
        raise WorkError(f"{count(removed, 'message')} removed, {undeleted} not deleted by SQS; all are in {place}")
    listed = ids | {message.message_id for message in others}
    return Purged(removed, sum(each.dead_letter.message_id not in listed for each in left), place)


def check_export(application: Application, file: Path | None) -> None:
    """Checks, before the operator is asked to confirm, that the export can be written.

    Raises `ArchiveUnavailable` if it cannot, or `SettingsError` if REPORTS_LOCATION has to change.
    """
    if file is None:
        open_archive(application.settings, lambda: application.aws.client("s3")).probe()
        return
    try:
        Folder(file.parent).probe()
    except SettingsError as error:
        raise ArchiveUnavailable(f"{file} cannot be written: {error.__cause__ or error}") from error


def exporter(application: Application, queue: str, file: Path | None) -> Export:
    """Returns a function that writes messages to `file` and returns where they are.

    If `file` is None, the function writes them to the report archive. Raises `UsageError` if the file exists, since
    it must not be overwritten.
    """
    if file is not None and (file.exists() or file.is_symlink()):
        raise _exists(file)

    def export(messages: Sequence[DeadLetterMessage]) -> str:
        content = json.dumps([message.as_export() for message in messages], ensure_ascii=False, indent=1)
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
        # Creates the file, or fails if another process has created it in the meantime.
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
    return UsageError(f"{file} already exists and will not be overwritten: give --export another name")

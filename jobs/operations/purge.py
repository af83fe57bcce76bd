"""Dead letters removed for good: chosen, written to a file first, and recorded with who did it."""

import contextlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.cli.exit_codes import UsageError, WorkError
from jobs.operations.acting import recorded_action
from jobs.operations.housekeeping import chosen_ids, dead_letter_queue
from jobs.runtime.application import Application
from reports.delivery.archive import ArchiveUnavailable, Folder, open_archive
from sync import clock
from sync.queues.dead_letters import DeadLetter
from sync.settings.loading import SettingsError

Export = Callable[[Sequence[DeadLetter]], str]


@dataclass(frozen=True, slots=True)
class Purged:
    """How many messages were removed, how many came since one looked and stay, and where the removed ones are kept."""

    removed: int
    came_since: int
    place: str


def purgeable(
    application: Application, queue: str, named: Collection[str], *, include_retries: bool
) -> tuple[list[DeadLetter], int]:
    """The messages to be removed (all, or those that are `named`), and how many others there are.

    Raises `UsageError` when a named message is not there, and for mapping retries unless they are included.
    """
    letters = dead_letter_queue(application, queue).look()
    ids = chosen_ids(queue, letters, named)
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
    """Removes `letters`, which were looked at before, once `export` has them safely stored.

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


def make_sure_of_export(application: Application, file: Path | None) -> None:
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
    """Writes messages to `file`, or else below the place of the reports, and says where they are then.

    Raises `UsageError` when the file is there already: what it holds is not written over.
    """
    if file is not None and (file.exists() or file.is_symlink()):
        raise _in_the_way(file)

    def export(letters: Sequence[DeadLetter]) -> str:
        content = json.dumps([letter.as_dict() for letter in letters], ensure_ascii=False, indent=1)
        # Half a character of UTF-16 cannot be written; its escape can, and means the same in JSON.
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
    except OSError as error:
        raise ArchiveUnavailable(f"{file} cannot be written: {error.strerror}") from error
    try:
        # Takes the name, or fails if somebody else has it by now.
        file.touch(0o600, exist_ok=False)
    except FileExistsError as error:
        raise _in_the_way(file) from error
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


def _in_the_way(file: Path) -> UsageError:
    return UsageError(f"{file} is there already, and is not written over: give --export another name")

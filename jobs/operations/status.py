"""The whole system at a glance: the state of each part, and what needs a person.

The figures are those of `jobs.health.figures`, which the metrics and `check` show too; here they are assessed. A part
that cannot be read is unknown and needs a person. It does not hide the other parts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from jobs.health.deadline import ReadResult, read_all
from jobs.health.figures import Figures, read_figures
from jobs.operations import status_lines
from jobs.operations.dead_letters import DlqState, read_dlq
from jobs.operations.schedule import SCHEDULE
from jobs.operations.status_lines import Need, StatusLine
from jobs.runtime.application import Application
from sync import clock

#: A part that could not be read within this time is unknown.
DEADLINE_SECONDS = 10.0
#: The maximum number of dead letters of a queue that are examined.
_MOST_DEAD_LETTERS = 500


@dataclass(frozen=True, slots=True)
class StatusReport:
    """The state of each part of the system.

    at: when the state was read (aware). zone: the time zone in which times are shown. parts: the lines of each part, by
    its name. ages_unknown: why the ages of the oldest messages are not known, or None if they are. database_unknown:
    why the parts that are read from the database are not known, or None if they are.
    """

    at: datetime
    zone: ZoneInfo
    environment: str
    parts: Mapping[str, tuple[StatusLine, ...]]
    ages_unknown: str | None
    database_unknown: str | None

    @property
    def needs(self) -> list[Need]:
        """Everything that needs a person. If several lines have the same need, it is listed once."""
        return list(dict.fromkeys(need for lines in self.parts.values() for line in lines for need in line.needs))

    def as_dict(self) -> dict[str, Any]:
        """The status as a JSON object."""
        return {
            "at": self.at.isoformat(timespec="seconds"),
            "environment": self.environment,
            "needsPerson": bool(self.needs),
            **{part: [line.as_dict() for line in lines] for part, lines in self.parts.items()},
            "agesUnknown": self.ages_unknown,
            "databaseUnknown": self.database_unknown,
        }


def read_status(application: Application) -> StatusReport:
    """Reads and assesses every part. Raises no error for a part that cannot be read."""
    figures = read_figures(application, DEADLINE_SECONDS)
    # The reasons why messages failed are in the database, and even reading would create a missing SQLite file.
    dead = {} if figures.upgrade_needed else _read_dead_letters(application, figures)
    first_command = status_lines.UPGRADE if figures.upgrade_needed else status_lines.CHECK
    lines, one_line = partial(_lines, first_command), partial(_one_line, first_command)
    moment, settings = clock.now(), application.settings
    jobs = {job.name: job for job in SCHEDULE}
    ages = figures.ages.value or {}
    return StatusReport(
        at=moment,
        zone=settings.zone,
        environment=settings.environment_name,
        parts={
            "queues": tuple(
                status_lines.queue_line(
                    queue,
                    reading,
                    dead.get(queue),
                    ages,
                    status_lines.housekeeping_need(figures, jobs, settings, moment),
                )
                for queue, reading in figures.queues.items()
            ),
            "breakers": lines("breakers", figures.breakers, status_lines.breaker_lines),
            "waits": lines(
                "waits",
                figures.waits,
                lambda each: status_lines.wait_lines(each, figures.breakers.value or (), moment),
            ),
            "schedulers": lines("schedulers", figures.drains, lambda each: status_lines.scheduler_lines(each, moment)),
            "reconciliations": tuple(
                one_line(name, reading, partial(status_lines.reconciliation_line, jobs, figures, settings, moment))
                for name, reading in figures.reconciliations.items()
            ),
            "findings": lines("findings", figures.findings, status_lines.finding_lines),
            "creations": lines("creations", figures.creations, lambda each: status_lines.creation_lines(each, moment)),
            "deliveries": lines(
                "deliveries", figures.deliveries, lambda each: status_lines.delivery_lines(each, settings, moment)
            ),
        },
        ages_unknown=figures.ages.unknown,
        database_unknown=figures.database_unknown,
    )


def _read_dead_letters(application: Application, figures: Figures) -> dict[str, ReadResult[DlqState]]:
    """The result of reading the dead letters of each queue whose figures are known, by queue id.

    The messages are read only after `figures` has been read, since a count leaves out messages that are being read.
    """
    known = [queue for queue, reading in figures.queues.items() if reading.value is not None]
    seconds = DEADLINE_SECONDS / 2
    questions = {queue: partial(read_dlq, application, queue, _MOST_DEAD_LETTERS, seconds) for queue in known}
    return read_all(questions, DEADLINE_SECONDS)


def _lines(
    first_command: str, part: str, reading: ReadResult[Any], judge: Callable[[Any], Sequence[StatusLine]]
) -> tuple[StatusLine, ...]:
    """The lines that `judge` makes from `reading`, or a single line that says why `part` could not be read."""
    if reading.unknown is not None:
        return (status_lines.unknown_line(part, reading.unknown, first_command),)
    return tuple(judge(reading.value))


def _one_line(
    first_command: str, name: str, reading: ReadResult[Any], judge: Callable[[Any], StatusLine]
) -> StatusLine:
    """The line that `judge` makes from `reading`, or a line that says why `name` could not be read."""
    if reading.unknown is not None:
        return status_lines.unknown_line(name, reading.unknown, first_command)
    return judge(reading.value)

"""What the shell proposes for an argument: queues, kinds of records, jobs, channels, and ids from the database.

The shell asks for proposals each time the tab key is pressed. If the ids cannot be read within a second, nothing is
proposed or printed.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sync.settings.queues import QUEUES

if TYPE_CHECKING:
    from jobs.runtime.application import Application

#: A proposal and the description that the shell shows for it.
Proposal = tuple[str, str]
_SECONDS = 1.0
_MOST = 50


def complete_queues(incomplete: str) -> list[str]:
    """The queue ids that begin with what was typed."""
    return [queue for queue in QUEUES if queue.startswith(incomplete)]


def complete_kinds(incomplete: str) -> list[str]:
    """The kinds of records that `resync` accepts and that begin with what was typed."""

    def read() -> Iterable[Proposal]:
        from sync.domains.registry import DOMAINS

        return [(each.kind, "") for domain in DOMAINS.values() for each in domain.resyncs]

    return [kind for kind, _ in _proposals(read, incomplete)]


def complete_runs(incomplete: str) -> list[Proposal]:
    """The ids of the latest runs of all jobs, each with its job and status."""
    return _stored(
        lambda application: [(run.id, f"{run.job} {run.shown_status}") for run in application.job_runs.recent(_MOST)],
        incomplete,
    )


def complete_reconciled(incomplete: str) -> list[Proposal]:
    """The ids of the latest runs of each reconciliation, each with the reconciliation's name and the run's status."""

    def read(application: "Application") -> Iterable[Proposal]:
        from reports.reconciliations.registry import RECONCILIATIONS

        for entry in RECONCILIATIONS.values():
            for run in application.job_runs.recent(_MOST // 5, entry.job):
                yield str(run.counts.get("reconciliation", run.id)), f"{entry.name} {run.shown_status}"

    return _stored(read, incomplete)


def complete_findings(incomplete: str) -> list[Proposal]:
    """The numbers of the open findings about records that NOMIS has twice, each with its kind, domain and severity."""

    def read(application: "Application") -> Iterable[Proposal]:
        from jobs.operations.duplicates import list_duplicates

        found = list_duplicates(application, resolved_too=False)
        return [(str(each.id), f"{each.kind} {each.domain}, {each.severity}") for each in found[:_MOST]]

    return _stored(read, incomplete)


def complete_creations(incomplete: str) -> list[Proposal]:
    """The numbers of the creations that are not settled, each with its record and state."""

    def read(application: "Application") -> Iterable[Proposal]:
        from jobs.operations.creations import list_open

        found = list_open(application, settled_too=False)
        return [(str(each.id), f"{each.domain} {each.dps_id}, {each.state}") for each in found[:_MOST]]

    return _stored(read, incomplete)


def complete_jobs(incomplete: str) -> list[str]:
    """The job names that begin with what was typed."""
    from jobs.runtime.job_runs import CONTRACTS_JOB, DRAIN_JOB, HOUSEKEEPING_JOB, SCHEDULER_JOB
    from reports.reconciliations.registry import RECONCILIATIONS

    jobs = (
        DRAIN_JOB,
        SCHEDULER_JOB,
        HOUSEKEEPING_JOB,
        CONTRACTS_JOB,
        *(entry.job for entry in RECONCILIATIONS.values()),
    )
    return [job for job in jobs if job.startswith(incomplete)]


def complete_channels(incomplete: str) -> list[str]:
    """The report channels that begin with what was typed."""
    return [channel for channel in ("archive", "slack", "email") if channel.startswith(incomplete)]


def _stored(read: "Callable[[Application], Iterable[Proposal]]", incomplete: str) -> list[Proposal]:
    """The proposals that `read` finds in the database, which is neither created nor upgraded."""

    def ask() -> Iterable[Proposal]:
        import io

        from jobs.runtime.application import open_application

        # The shell would mistake a line of the log for a proposal.
        with open_application(prepare_database=False, log_to=io.StringIO()) as application:
            return list(read(application)) if application.database.exists else []

    return _proposals(ask, incomplete)


def _proposals(read: Callable[[], Iterable[Proposal]], incomplete: str) -> list[Proposal]:
    from jobs.health.deadline import read_all

    reading = read_all({"proposals": read}, _SECONDS)["proposals"]
    return [each for each in reading.value or () if each[0].startswith(incomplete)]

"""The composition root: the one place that builds the program from its parts.

Each part is built when it is first asked for, so a command builds only what it needs. At the end, the parts that were
built are closed in reverse order.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Generic, TextIO, TypeVar
from zoneinfo import ZoneInfo

from jobs.errors import WorkError
from jobs.runtime.job_runs import JobRuns
from jobs.runtime.logging import configure_logging
from reports.presentation.masking import Masking
from sync import clock
from sync.settings.declaration import Settings
from sync.settings.loading import SettingsError, load_settings
from sync.store.database import Database
from sync.store.leases import Leases
from sync.tracing import trace_headers

if TYPE_CHECKING:
    from jobs.runtime.metrics import Metrics
    from jobs.runtime.telemetry_export import TelemetryExport
    from reports.delivery.sender import OutboxSender
    from reports.engine.pending_messages import PendingMessages
    from reports.engine.run import ReconciliationRunner
    from sync.creation.protocol import CreationProtocol
    from sync.creation.store import CreationStore
    from sync.domains.declaration import Domain
    from sync.pipeline.drain import Drain
    from sync.pipeline.outages import OnWait
    from sync.pipeline.queue_context import QueueContext
    from sync.queues.aws import Aws
    from sync.queues.setup import QueueOpener, QueuePair
    from sync.store.telemetry import Telemetry
    from sync.upstream.breaker import Breakers
    from sync.upstream.services import Services
    from sync.upstream.transport import CallObserver

Part = TypeVar("Part")


class _Lazy(Generic[Part]):
    """A part of the application that is built once, by the first thread that needs it."""

    def __init__(self, build: "Callable[[Application], Part]") -> None:
        self._build = build
        self.__doc__ = build.__doc__

    def __set_name__(self, _owner: type, name: str) -> None:
        self._name = name

    def __get__(self, application: "Application", _owner: type) -> Part:
        return application.build_once(self._name, lambda: self._build(application))


class Application:
    """The parts of the program, for one process and one set of settings. Safe to share between threads."""

    def __init__(self, settings: Settings, *, prepare_database: bool = True, metrics: "Metrics | None" = None) -> None:
        """Builds no part yet.

        prepare_database: whether the schema is upgraded, or checked if upgrades are off, when the database is first
        used. metrics: counts every call and every message; None counts nothing.
        """
        self.settings = settings
        self.metrics = metrics
        self._prepare_database = prepare_database
        self._drains: dict[str, Drain] = {}
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._parts: dict[str, Any] = {}
        self._closing = ExitStack()

    def close(self) -> None:
        """Closes the parts that were built, in reverse order."""
        self._closing.close()

    @_Lazy
    def database(self) -> Database:
        """The database. Its schema is current, unless `prepare_database` is false."""
        database = Database(self.settings.database_url)
        self._closing.callback(database.dispose)
        if self._prepare_database:
            self.bring_up_to_date(database)
        return database

    @_Lazy
    def leases(self) -> Leases:
        """The leases of this process, which are renewed until the application is closed."""
        leases = Leases(self.database, f"{socket.gethostname()}:{os.getpid()}", self.settings.lease_seconds)
        leases.start_renewing()
        self._closing.callback(leases.stop)
        return leases

    @_Lazy
    def job_runs(self) -> JobRuns:
        """The ledger of job runs."""
        return JobRuns(self.database, self.leases)

    @_Lazy
    def telemetry(self) -> "Telemetry":
        """Tracks custom events. Buffered events are written when the application is closed, if not earlier."""
        import structlog

        from sync.store.telemetry import Telemetry

        exported = self.settings.applicationinsights_connection_string is not None
        telemetry = Telemetry(self.database, structlog.get_logger("telemetry"), exported=exported)
        self._closing.callback(telemetry.flush)
        return telemetry

    @_Lazy
    def telemetry_export(self) -> "TelemetryExport | None":
        """The sender of events to Application Insights, or None if Application Insights is not set up."""
        connection = self.settings.applicationinsights_connection_string
        if connection is None:
            return None
        from jobs.runtime.telemetry_export import TelemetryExport
        from sync.upstream.application_insights import Ingestion

        return TelemetryExport(self.database, self.leases, Ingestion(connection.get_secret_value()))

    @_Lazy
    def breakers(self) -> "Breakers":
        """The breakers. Each stops the calls to its service once most of the recent calls have failed."""
        from sync.upstream.breaker import Breakers

        return Breakers(self.database, self.telemetry, lambda name: self.services.reach(name))

    @_Lazy
    def services(self) -> "Services":
        """The clients of the upstream services. The breakers, and the metrics if there are any, observe their calls."""
        from sync.upstream.services import Services

        observers: tuple[CallObserver, ...] = (self.breakers,)
        if self.metrics is not None:
            observers = (*observers, self.metrics)
        services = Services(self.settings, observers, self.leases.ensure_held)
        self._closing.callback(services.close)
        return services

    @_Lazy
    def aws(self) -> "Aws":
        """The clients of AWS, created on first use."""
        from sync.queues.aws import Aws

        return Aws(self.settings)

    @_Lazy
    def creation_store(self) -> "CreationStore":
        """The store that records the steps of creations."""
        from sync.creation.store import CreationStore

        return CreationStore(self.database, self.telemetry)

    @_Lazy
    def creations(self) -> "CreationProtocol":
        """The protocol by which records are created in NOMIS."""
        from sync.creation.protocol import CreationProtocol

        return CreationProtocol(
            self.creation_store,
            self.leases,
            self.send_retry,
            grace_seconds=self.settings.creation_settling_seconds,
            call_seconds=self.settings.longest_create_seconds,
        )

    @_Lazy
    def outbox(self) -> "OutboxSender":
        """The sender of the alerts and reports that wait in the outbox."""
        from reports.delivery.sender import OutboxSender

        return OutboxSender(self.settings, self.database, lambda: self.aws.client("s3"))

    @_Lazy
    def _queue_opener(self) -> "QueueOpener":
        from sync.domains.registry import event_types
        from sync.queues.setup import QueueOpener

        return QueueOpener(self.settings, self.aws, event_types)

    def queue_pair(self, queue: str) -> "QueuePair":
        """The main queue and the dead letter queue of `queue`. Raises `QueueUnavailable`.

        With the provider `localstack`, missing queues are created first.
        """
        return self.build_once(f"queue {queue}", lambda: self._queue_opener.open(queue))

    def queue_context(self, queue: str) -> "QueueContext":
        """What the drain of `queue` needs."""
        from sync.domains.registry import domain_of_queue
        from sync.pipeline.queue_context import QueueContext

        domain = domain_of_queue(queue)
        return QueueContext(
            domain=domain,
            settings=self.settings,
            services=self.services,
            creations=self.creations,
            leases=self.leases,
            telemetry=self.telemetry,
            database=self.database,
            breakers=self.breakers,
            upstreams=domain.upstreams,
            on_message_end=None if self.metrics is None else self.metrics.message_ended,
        )

    def send_retry(self, queue: str, body: str) -> str:
        """Puts `body`, a mapping retry, on the main queue of `queue`. The message continues the current trace.

        Returns the SQS message id.
        """
        trace = {name: {"DataType": "String", "StringValue": value} for name, value in trace_headers().items()}
        return self.queue_pair(queue).main.send(body, trace)

    def open_drain(
        self, queue: str, hold_seconds: float | None = None, on_wait: "OnWait" = lambda _line: None
    ) -> "Drain":
        """The drain of `queue`. The first call for a queue opens its drain.

        While a service or the database is unavailable, messages are held for up to `hold_seconds` and then returned to
        the queue; None holds them until the outage is over. If there is such a limit, `on_wait` is called with a line
        for people when the drain begins to wait. Once the drain is open, `hold_seconds` and `on_wait` are ignored.
        Raises `QueueUnavailable`.
        """
        return self.build_once(f"drain {queue}", lambda: self._make_drain(queue, hold_seconds, on_wait))

    def seconds_since_progress(self) -> dict[str, float]:
        """The seconds since each open drain last made progress, by queue."""
        return {queue: drain.seconds_since_progress() for queue, drain in list(self._drains.items())}

    def reconciliations(
        self, progress: Callable[[str, int, int], None], on_acquired: Callable[[str], object] | None = None
    ) -> "ReconciliationRunner":
        """A new runner of reconciliations.

        It calls `on_acquired` with the id of the run that it begins, joins or resumes, and then `progress` with the
        stage, the amount done, and the total amount (0 while the total is unknown).
        """
        from reports.delivery.channels import enqueue_report
        from reports.engine.run import ReconciliationRunner

        return ReconciliationRunner(
            self.settings,
            self.database,
            self.services,
            self.telemetry,
            self.pending_messages,
            progress,
            clock.now,
            lambda connection, result: enqueue_report(connection, self.settings, result),
            on_acquired=on_acquired,
        )

    def pending_messages(self, domain: "Domain") -> "PendingMessages":
        """The records of `domain` about which a message is still to be handled. Raises `QueueUnavailable`."""
        from reports.engine.pending_messages import find_pending_messages
        from sync.repair.dead_letter_queue import DeadLetterQueue

        pair = self.queue_pair(domain.queue)
        dead_letters = DeadLetterQueue(domain.queue, pair, self.database, self.telemetry)
        return find_pending_messages(domain, pair, dead_letters, self.database, self.settings, clock.now())

    def bring_up_to_date(self, database: Database) -> None:
        """Upgrades the schema of `database` if it is not current and `DATABASE_AUTO_UPGRADE` is on.

        Raises `WorkError` if the schema is newer than this version of the program, or if it is not current and
        `DATABASE_AUTO_UPGRADE` is off.
        """
        if database.schema_is_current():
            return
        if (newer := database.newer_schema()) is not None:
            raise WorkError(newer)
        if not self.settings.database_auto_upgrade:
            raise WorkError("the database schema is not current: run `prisoner-to-nomis db upgrade`")
        made = not database.exists
        database.upgrade()
        if made:
            # A mistyped path would otherwise become a new, empty database that nobody knows about.
            import structlog

            structlog.get_logger("jobs.runtime.application").info(
                "database-made", database=database.url_without_password
            )

    def _make_drain(self, queue: str, hold_seconds: float | None, on_wait: "OnWait") -> "Drain":
        from sync.domains.registry import warn_of_unknown_switches
        from sync.pipeline.drain import Drain

        self.build_once("warning of unknown switches", lambda: warn_of_unknown_switches(self.settings))
        drain = Drain(self.queue_context(queue), self.queue_pair(queue).main, hold_seconds, on_wait)
        self._drains[queue] = self._closing.enter_context(drain)
        return drain

    def build_once(self, name: str, build: Callable[[], Part]) -> Part:
        """The part called `name`.

        The first caller builds it with `build`. Other callers wait only if they need the same part.
        """
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._parts:
                self._parts[name] = build()
            part: Part = self._parts[name]
            return part


def _further_errors(variables: Mapping[str, str]) -> list[str]:
    """A line for each wrong setting of a kind that `load_settings` itself cannot validate: a schedule or exclusions."""
    from jobs.runtime.cron import schedule_errors
    from reports.engine.exclusions import exclusions_variable, read_exclusions
    from reports.reconciliations.registry import RECONCILIATIONS

    errors = schedule_errors(variables, ZoneInfo("Europe/London"))
    for entry in RECONCILIATIONS.values():
        variable = exclusions_variable(entry.name)
        try:
            read_exclusions(variables.get(variable), variable, bookings=entry.of_bookings)
        except SettingsError as error:
            errors.append(str(error))
    return errors


@contextmanager
def open_application(
    environment: Mapping[str, str] | None = None,
    *,
    prepare_database: bool = True,
    metrics: "Metrics | None" = None,
    log_to: TextIO | None = None,
    shows_log: bool = False,
) -> Iterator[Application]:
    """Configures the logs, opens the application for the block, and closes it afterwards.

    environment: the variables with the settings; None takes those of the process. prepare_database, metrics: as for
    `Application`. log_to: where logs go; None sends them to stderr. shows_log: whether the log is all that the command
    shows; if it is not, and LOG_LEVEL is not set, a terminal gets only warnings and errors. Raises `SettingsError` if a
    setting cannot be used.
    """
    settings = load_settings(environment, _further_errors)
    level_is_set = shows_log or "log_level" in settings.model_fields_set
    level, masking = settings.log_level if level_is_set else None, Masking(settings.logs_mask_prisoners)
    configure_logging(settings.log_format, level, log_to, masking)
    application = Application(settings, prepare_database=prepare_database, metrics=metrics)
    try:
        yield application
    finally:
        application.close()

"""The composition root: the one place that builds the program from its parts.

Each part is built when it is first asked for, so a command builds only what it needs; all are closed in reverse order
at the end.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TextIO, TypeVar
from zoneinfo import ZoneInfo

from jobs.errors import WorkError
from jobs.runtime.job_runs import JobRuns
from jobs.runtime.logging import configure_logging
from sync import clock
from sync.settings.declaration import Settings
from sync.settings.loading import SettingsError, load_settings
from sync.store.database import Database
from sync.store.leases import Leases

if TYPE_CHECKING:
    from jobs.health.metrics import Metrics
    from jobs.operations.reconcile import ProgressCallback
    from reports.delivery.outbox import OutboxSender
    from reports.engine.run import IncentiveReconciliation
    from reports.reconciliations.incentives.pending_messages import PendingMessages
    from sync.creation.protocol import CreationProtocol
    from sync.pipeline.drain import Drain
    from sync.pipeline.queue_context import QueueContext
    from sync.queues.aws import Aws
    from sync.queues.setup import QueueOpener, QueuePair
    from sync.store.telemetry import Telemetry
    from sync.upstream.breaker import Breakers
    from sync.upstream.services import Services
    from sync.upstream.transport import CallObserver, Transport

Part = TypeVar("Part")


class Application:
    """The parts of the program, for one process and one set of settings. Safe to share between threads."""

    def __init__(self, settings: Settings, *, prepare_database: bool = True, metrics: "Metrics | None" = None) -> None:
        """Nothing is built yet.

        `prepare_database` brings the schema up to date, or says that it is not, when the database is first used.
        `metrics` are told of every call and every message.
        """
        self.settings = settings
        self.metrics = metrics
        self._prepare_database = prepare_database
        self._drains: dict[str, Drain] = {}
        self._lock = threading.Lock()
        self._making: dict[str, threading.Lock] = {}
        self._parts: dict[str, Any] = {}
        self._closing = ExitStack()

    def close(self) -> None:
        """Closes what was built, the last part first."""
        self._closing.close()

    @property
    def database(self) -> Database:
        """The database, with the current schema."""
        return self._once("database", self._open_database)

    @property
    def leases(self) -> Leases:
        """The leases of this process, renewed while it lives."""
        return self._once("leases", self._hold_leases)

    @property
    def job_runs(self) -> JobRuns:
        """The ledger of job runs."""
        return self._once("ledger", lambda: JobRuns(self.database, self.leases))

    @property
    def telemetry(self) -> "Telemetry":
        """Where custom events are tracked; what was gathered is written at the end at the latest."""
        return self._once("telemetry", self._start_telemetry)

    @property
    def breakers(self) -> "Breakers":
        """The breakers of the upstream services."""
        return self._once("breakers", self._make_breakers)

    @property
    def transport(self) -> "Transport":
        """HTTP to the upstream services, watched by the breakers."""
        return self._once("transport", self._open_transport)

    @property
    def services(self) -> "Services":
        """The upstream services."""
        return self._once("services", self._connect_services)

    @property
    def aws(self) -> "Aws":
        """Clients of AWS."""
        return self._once("aws", self._make_aws)

    @property
    def creations(self) -> "CreationProtocol":
        """The protocol by which records are created in NOMIS."""
        return self._once("creations", self._make_creations)

    @property
    def outbox(self) -> "OutboxSender":
        """The sender of alerts and reports."""
        return self._once("outbox", self._make_outbox)

    def queue_pair(self, queue: str) -> "QueuePair":
        """The queue and the dead letter queue of a queue id; made first where the provider is `localstack`.

        Raises `QueueUnavailable`.
        """
        return self._once(f"queue {queue}", lambda: self._open_queue(queue))

    def open_drain(self, queue: str, hold_seconds: float | None = None) -> "Drain":
        """The drain of a queue.

        While an upstream is down its messages are held for `hold_seconds` and then handed back; None holds them until
        it is up. Raises `QueueUnavailable`.
        """
        return self._once(f"drain {queue}", lambda: self._make_drain(queue, hold_seconds))

    def seconds_since_progress(self) -> dict[str, float]:
        """For each queue whose drain is open, the seconds since it got on."""
        return {queue: drain.seconds_since_progress() for queue, drain in list(self._drains.items())}

    def reconciliation(self, progress: "ProgressCallback") -> "IncentiveReconciliation":
        """The incentive reconciliation, which tells `progress` how far it is."""
        from reports.engine.run import IncentiveReconciliation

        return IncentiveReconciliation(
            self.settings,
            self.database,
            self.services,
            self.telemetry,
            self.pending_incentive_messages,
            progress,
            clock.now,
        )

    def pending_incentive_messages(self) -> "PendingMessages":
        """The incentive reviews whose message is still to be handled. Raises `QueueUnavailable`."""
        from reports.reconciliations.incentives.pending_messages import find_pending_messages
        from sync.queues.dead_letters import DeadLetterQueue

        pair = self.queue_pair("incentive")
        dead_letters = DeadLetterQueue("incentive", pair, self.database, self.telemetry)
        return find_pending_messages(pair, dead_letters, self.database, self.settings, clock.now())

    def _open_database(self) -> Database:
        database = Database(self.settings.database_url)
        self._closing.callback(database.dispose)
        if self._prepare_database:
            self.bring_up_to_date(database)
        return database

    def bring_up_to_date(self, database: Database) -> None:
        """Upgrades the schema where `DATABASE_AUTO_UPGRADE` allows it; raises `WorkError` when it is not current."""
        if database.schema_is_current():
            return
        if not self.settings.database_auto_upgrade:
            raise WorkError("the database has not the current schema: run `prisoner-to-nomis db upgrade`")
        made = not database.exists
        database.upgrade()
        if made:
            # A path that is mistyped would else be a new, empty database that nobody knows of.
            import structlog

            structlog.get_logger("jobs.runtime.application").info(
                "database-made", database=database.url_without_password
            )

    def _hold_leases(self) -> Leases:
        leases = Leases(self.database, f"{socket.gethostname()}:{os.getpid()}", self.settings.lease_seconds)
        leases.start_renewing()
        self._closing.callback(leases.stop)
        return leases

    def _start_telemetry(self) -> "Telemetry":
        import structlog

        from sync.store.telemetry import Telemetry

        telemetry = Telemetry(self.database, structlog.get_logger("telemetry"))
        self._closing.callback(telemetry.flush)
        return telemetry

    def _make_breakers(self) -> "Breakers":
        from sync.upstream.breaker import Breakers

        return Breakers(self.database, self.telemetry, lambda name: self.transport.reach(name))

    def _open_transport(self) -> "Transport":
        from sync.upstream.transport import Transport

        observers: tuple[CallObserver, ...] = (self.breakers,)
        if self.metrics is not None:
            observers = (*observers, self.metrics)
        transport = Transport(self.settings, observers, self.leases.ensure_held)
        self._closing.callback(transport.close)
        return transport

    def _connect_services(self) -> "Services":
        from sync.upstream.services import connect

        return connect(self.transport)

    def _make_aws(self) -> "Aws":
        from sync.queues.aws import Aws

        return Aws(self.settings)

    def _open_queue(self, queue: str) -> "QueuePair":
        return self._once("opener", self._make_opener).open(queue)

    def _make_opener(self) -> "QueueOpener":
        from sync.domains.registry import event_types
        from sync.queues.setup import QueueOpener

        return QueueOpener(self.settings, self.aws, event_types)

    def _make_outbox(self) -> "OutboxSender":
        from reports.delivery.outbox import OutboxSender

        return OutboxSender(self.settings, self.database, lambda: self.aws.client("s3"))

    def _make_creations(self) -> "CreationProtocol":
        from sync.creation.protocol import CreationProtocol

        def send_retry(queue: str, body: str) -> str:
            return self.queue_pair(queue).main.send(body)

        return CreationProtocol(
            self.database,
            self.leases,
            self.telemetry,
            send_retry,
            self.settings.creation_settling_seconds,
            self.settings.longest_call_seconds,
        )

    def _make_drain(self, queue: str, hold_seconds: float | None) -> "Drain":
        from sync.domains.registry import warn_of_unknown_switches
        from sync.pipeline.drain import Drain

        self._once("switches told", lambda: warn_of_unknown_switches(self.settings))
        drain = Drain(self._queue_context(queue), self.queue_pair(queue).main, hold_seconds)
        self._drains[queue] = self._closing.enter_context(drain)
        return drain

    def _queue_context(self, queue: str) -> "QueueContext":
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

    def _once(self, name: str, make: Callable[[], Part]) -> Part:
        # A lock for each part, so that a queue which is slow to answer holds up nobody who needs another part.
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        with making:
            if name not in self._parts:
                self._parts[name] = make()
            part: Part = self._parts[name]
            return part


def _further_errors(variables: Mapping[str, str]) -> list[str]:
    """The lines on wrong settings that only the parts using them can judge: schedules and exclusions."""
    from jobs.runtime.cron import schedule_errors
    from reports.engine.exclusions import read_exclusions

    errors = schedule_errors(variables, ZoneInfo("Europe/London"))
    try:
        read_exclusions(variables.get("RECONCILIATION_EXCLUSIONS"))
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
) -> Iterator[Application]:
    """The program with the settings of the environment (or of `environment` alone), closed at the end of the block.

    Raises `SettingsError` when a setting cannot be used. Logs go to `log_to`, stderr where not given.
    """
    settings = load_settings(environment, _further_errors)
    configure_logging(settings.log_format, settings.log_level, log_to)
    application = Application(settings, prepare_database=prepare_database, metrics=metrics)
    try:
        yield application
    finally:
        application.close()

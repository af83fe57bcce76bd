"""The one list of health probes: what the program needs, and how each part is checked.

`check` shows all probes; the health page (`jobs.health.page`) shows those with a component.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.exc import DBAPIError

from jobs.health.deadline import late_text, start
from jobs.health.figures import read_breaker_states, read_due_events, read_waits
from jobs.health.remedies import DATABASE_REMEDY, queue_failure, service_remedy
from jobs.runtime.application import Application
from reports.delivery.archive import open_archive
from reports.delivery.channels import NEEDED_SETTINGS, Channel, TryLater, is_set_up
from reports.engine.exclusions import exclusions_variable, read_exclusions
from reports.presentation.text import count
from reports.reconciliations.registry import RECONCILIATIONS
from sync.clock import now
from sync.domains.registry import event_types, missing_roles, unknown_switches
from sync.errors import SyncError, UpstreamError, one_line
from sync.outage_text import counts_as_down_since, since_text
from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import Settings
from sync.settings.queues import QUEUES
from sync.settings.upstreams import UpstreamName
from sync.store.database import StoreUnavailable
from sync.store.waiting_messages import Wait
from sync.upstream.breaker_rules import BreakerState
from sync.upstream.services import Services

#: The time limit for one call, in seconds.
CALL_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe: whether the part works, and what is shown about it.

    text: the line for `check`, which says what was seen, or what is wrong and what to change. details: the fields for
    the health page. shared: if several parts are down for the same reason, the text that `check` shows once for all of
    them; None if the part works, or if the reason concerns this part alone.
    """

    ok: bool
    text: str
    details: Mapping[str, Any] = field(default_factory=dict)
    shared: str | None = None


class _Down(Exception):
    """Raised when a part does not work.

    text: what is wrong and what to change. details: the fields for the health page; without them, the page shows the
    text as `error`. shared: as in `ProbeResult`.
    """

    def __init__(self, text: str, details: Mapping[str, Any] | None = None, shared: str | None = None) -> None:
        super().__init__(text)
        self.shared = shared
        self.details = {"error": text} if details is None else details


@dataclass(frozen=True, slots=True)
class Probe:
    """The check of one part.

    name: the name of its line in `check`. ask: runs the check, and raises an error if the part does not work.
    component: its component on the health page, which several probes may share. It is None if only `check` runs the
    probe, because the result depends on the settings alone, or because the check is too costly for the page.
    """

    name: str
    ask: Callable[[], ProbeResult]
    component: str | None = None

    def start(self) -> "Future[ProbeResult]":
        """Starts the check in a daemon thread, so that a part that never responds does not keep the process alive."""
        return start(f"probe {self.name}", self._run)

    def _run(self) -> ProbeResult:
        try:
            return self.ask()
        except _Down as error:
            return ProbeResult(False, str(error), error.details, error.shared)
        except Exception as error:  # a part counts as down if its probe fails unexpectedly
            return ProbeResult(False, one_line(error), {"error": one_line(error)})


def result_of(future: "Future[ProbeResult]", deadline_seconds: float) -> ProbeResult:
    """The result of a probe. If the probe has not finished, the part counts as down.

    deadline_seconds: how many seconds the probe had; the text gives this number if the probe is late.
    """
    if future.done():
        return future.result()
    late = late_text(deadline_seconds)
    return ProbeResult(False, late, {"error": late})


def list_probes(application: Application, services: Services) -> list[Probe]:
    """Every probe. A part comes after the parts on which it depends.

    `services` is separate from the services of the application, which need other parts, such as the database, to be
    built first. A ping through `services` waits for none of these parts.
    """
    settings = application.settings
    probes = [
        Probe("settings", lambda: ProbeResult(True, f"provider {settings.hmpps_sqs_provider}, zone {settings.tz}")),
        Probe("switches", partial(_probe_switches, settings)),
        Probe("database", partial(_probe_database, application), "database"),
    ]
    probes += [Probe(f"queue {each}", partial(_probe_queue, application, each), f"{each}-health") for each in QUEUES]
    probes += [Probe(f"dlq {each}", partial(_probe_dlq, application, each), f"{each}-health") for each in QUEUES]
    probes += [Probe(str(name), partial(_probe_upstream, settings, services, name), name) for name in UpstreamName]
    probes += [
        Probe(f"credentials {name}", partial(_probe_credentials, settings, services, name))
        for name in UpstreamName
        if name is not UpstreamName.OAUTH
    ]
    return [
        *probes,
        Probe("breakers", partial(_probe_breakers, application), "breakers"),
        Probe("waits", partial(_probe_waits, application), "waits"),
        Probe("exclusions", partial(_probe_exclusions, settings)),
        Probe("reports", partial(_probe_archive, application)),
        Probe("slack", partial(_probe_slack, settings)),
        Probe("email", partial(_probe_email, settings)),
        Probe("application-insights", partial(_probe_application_insights, application)),
    ]


def _probe_switches(settings: Settings) -> ProbeResult:
    unknown = unknown_switches(settings)
    void = [name for name, on in unknown.items() if not on]
    if void:
        raise _Down(f"{', '.join(void)}: not the switch of any event; doc/events.md lists the switches")
    off = [each for queue in QUEUES for each in event_types(queue) if not settings.event_enabled(each)]
    text = f"off: {', '.join(off)}" if off else "every event is on"
    return ProbeResult(True, f"{text}; unknown switches: {', '.join(unknown)}" if unknown else text)


def _probe_database(application: Application) -> ProbeResult:
    database = application.database
    details, address = {"dialect": database.dialect}, database.url_without_password
    try:
        if database.exists:
            database.ping()
        elif application.settings.database_auto_upgrade:
            database.check_can_be_created()
            return ProbeResult(
                True, f"{address}, not created yet: the next command that uses the database creates it", details
            )
        current, newer = database.schema_is_current(), database.newer_schema()
        if current:
            # Nothing is received from a queue while the database accepts no writes.
            database.ping(writing=True)
    except SyncError as error:
        raise _database_down(error) from error
    except DBAPIError as error:
        reason = str(error.orig).partition("\n")[0]
        raise _Down(f"{address}: {reason}; DATABASE_URL needs an account that may read and write") from error
    if current:
        return ProbeResult(True, f"{address}, schema current", details)
    if newer is not None:
        raise _Down(f"{address}: {newer}")
    if application.settings.database_auto_upgrade:
        return ProbeResult(
            True, f"{address}, schema not current: the next command that uses the database upgrades it", details
        )
    raise _Down(f"{address}: the schema is not current; run prisoner-to-nomis db upgrade")


def _database_down(error: SyncError) -> _Down:
    return _Down(f"{one_line(error)}; {DATABASE_REMEDY}")


def _probe_queue(application: Application, queue: str) -> ProbeResult:
    name = application.settings.queue(queue).queue_name
    details: dict[str, Any] = {"queueName": name}
    try:
        main = application.queue_pair(queue).main
        counts = main.counts()
        attached = main.max_receives() is not None
    except QueueUnavailable as error:
        raise _queue_down(application, error, details) from error
    details |= {"messagesOnQueue": counts.visible, "messagesInFlight": counts.in_flight}
    if not attached:
        text = f"{name} has no redrive policy: give it one; otherwise, failing messages are received again for ever"
        raise _Down(text, details | {"dlqStatus": "NOT ATTACHED"})
    text = f"{name}, {counts.visible} waiting, {counts.in_flight} in flight"
    return ProbeResult(True, text, details | {"dlqStatus": "UP"})


def _probe_dlq(application: Application, queue: str) -> ProbeResult:
    name = application.settings.queue(queue).dlq_name
    details: dict[str, Any] = {"dlqName": name}
    try:
        counts = application.queue_pair(queue).dlq.counts()
    except QueueUnavailable as error:
        raise _queue_down(application, error, details | {"dlqStatus": "NOT AVAILABLE"}) from error
    text = f"{name}, {counts.visible} waiting, {counts.in_flight} in flight"
    return ProbeResult(True, text, details | {"messagesOnDlq": counts.visible})


def _queue_down(application: Application, error: QueueUnavailable, details: Mapping[str, Any]) -> _Down:
    failure = queue_failure(application.settings, error)
    return _Down(failure.text, {**details, "error": failure.reason}, failure.shared)


def _probe_upstream(settings: Settings, services: Services, name: UpstreamName) -> ProbeResult:
    address = settings.upstream(name).base_url
    reason = services.ping(name, CALL_SECONDS)
    if reason is None:
        return ProbeResult(True, address)
    text = f"{address}/health/ping: {reason}; {service_remedy(name)}"
    raise _Down(text, {"error": reason}, _auth_down(settings) if name is UpstreamName.OAUTH else None)


def _auth_down(settings: Settings) -> str:
    """The text that is shown once if HMPPS Auth is down: for HMPPS Auth, and for the parts that then get no token."""
    name = UpstreamName.OAUTH
    address = settings.upstream(name).base_url
    return f"{address} gives no tokens; {service_remedy(name)}"


def _probe_credentials(settings: Settings, services: Services, name: UpstreamName) -> ProbeResult:
    upstream = settings.upstream(name)
    if not upstream.client_id:
        raise _Down(f"no credentials: set {' and '.join(name.credential_variables)}")
    try:
        authorities = services[name].authorities()
    except UpstreamError as error:
        refused = error.status is not None and error.status < 500
        each = f"status {error.status}: no token; check each …_CLIENT_ID and …_CLIENT_SECRET, or check HMPPS Auth"
        raise _Down(one_line(error), shared=each if refused else _auth_down(settings)) from error
    if authorities is None:
        return ProbeResult(True, "token issued, but it does not list its roles")
    missing = missing_roles(name, authorities)
    if missing:
        roles = f"role {missing[0]}" if len(missing) == 1 else f"roles {', '.join(missing)}"
        raise _Down(
            f"client {upstream.client_id} lacks {roles}: ask the HMPPS Auth team to grant the client this access"
        )
    return ProbeResult(True, "token given")


def _probe_breakers(application: Application) -> ProbeResult:
    try:
        # Building the breakers reads their states, so the database must have the current schema first.
        if not application.database.schema_is_current():
            return ProbeResult(True, "none known yet")
        found = read_breaker_states(application)
    except StoreUnavailable as error:
        raise _database_down(error) from error
    details = {str(each.service): str(each.state) for each in found}
    zone = application.settings.zone
    down = [
        counts_as_down_since(each.service, each.opened_at, zone)
        for each in found
        if each.state is not BreakerState.CLOSED
    ]
    if down:
        raise _Down(f"{', '.join(down)}, so the messages wait on their queues", details)
    return ProbeResult(True, "all closed", details)


def _probe_waits(application: Application) -> ProbeResult:
    """Raises `_Down` if a message has been waiting a long time for a service.

    The breaker for that service may nevertheless be closed, if only some of the calls to the service fail.
    """
    try:
        if not application.database.schema_is_current():
            return ProbeResult(True, "none known yet")
        waits = [each for each in read_waits(application) if each.service is not None]
    except StoreUnavailable as error:
        raise _database_down(error) from error
    details = {
        f"{each.service}-waiting": {"messages": each.number, "since": each.since.isoformat(timespec="seconds")}
        for each in waits
    }
    long = [_wait_text(each, application.settings.zone) for each in waits if each.is_long(now())]
    if long:
        raise _Down("; ".join(long), details)
    return ProbeResult(True, "no message has been waiting long for a service", details)


def _wait_text(wait: Wait, zone: ZoneInfo) -> str:
    """A line that says how many messages have been waiting for a service, since when (in `zone`) and why."""
    waits = "has been waiting" if wait.number == 1 else "have been waiting"
    return f"{count(wait.number, 'message')} {waits} for {wait.service}{since_text(wait.since, zone)}: {wait.reason}"


def _probe_exclusions(settings: Settings) -> ProbeResult:
    listed = []
    for entry in RECONCILIATIONS.values():
        variable = exclusions_variable(entry.name)
        excluded = read_exclusions(settings.reconciliation_variable(variable), variable, bookings=entry.of_bookings)
        if excluded:
            listed.append(f"{len(excluded)} of {entry.name}")
    return ProbeResult(True, f"{', '.join(listed)} on the list" if listed else "none")


def _probe_archive(application: Application) -> ProbeResult:
    archive = open_archive(application.settings, lambda: application.aws.client("s3"))
    left = archive.probe()
    place = archive.location("")
    return ProbeResult(True, place if left is None else f"{place}, can be written; {left}")


def _probe_slack(settings: Settings) -> ProbeResult:
    from reports.delivery.slack import Slack

    if settings.slack_token is None:
        return _off("slack")
    slack = Slack(settings.slack_token.get_secret_value(), settings.slack_channel, settings.slack_api_url)
    try:
        known = slack.knows_token()
    except SyncError as error:
        # Slack itself refused the token or the channel; any other failure says nothing about them.
        refused = isinstance(error, TryLater) and not error.whole_channel
        remedy = "set SLACK_TOKEN, or" if refused else "wait until Slack is up, or set"
        raise _Down(f"{one_line(error)}; {remedy} SLACK_API_URL if Slack has another address") from error
    return ProbeResult(True, f"{settings.slack_channel}, token {'known' if known else 'given'}")


def _probe_email(settings: Settings) -> ProbeResult:
    from reports.delivery.email import Mail

    if not is_set_up(settings, "email"):
        return _off("email")
    try:
        server = Mail(settings).check_connection()
    except SyncError as error:
        raise _Down(f"{one_line(error)}; set SMTP_URL, or wait until the server is up") from error
    return ProbeResult(True, f"{server}, {count(len(settings.reports_email_to), 'recipient')}")


def _off(channel: Channel) -> ProbeResult:
    return ProbeResult(True, f"off: {NEEDED_SETTINGS[channel]} is not set")


def _probe_application_insights(application: Application) -> ProbeResult:
    variable = "APPLICATIONINSIGHTS_CONNECTION_STRING"
    connection_string = application.settings.applicationinsights_connection_string
    if connection_string is None:
        return ProbeResult(True, f"off: {variable} is not set")
    from sync.upstream.application_insights import Ingestion

    ingestion = Ingestion(connection_string.get_secret_value())
    if (reason := ingestion.ping(CALL_SECONDS)) is not None:
        raise _Down(f"{ingestion.endpoint}: {reason}; wait until it is up, or set {variable}; events are kept")
    try:
        waiting = read_due_events(application) if application.database.schema_is_current() else 0
    except StoreUnavailable as error:
        raise _database_down(error) from error
    return ProbeResult(True, f"{ingestion.endpoint}, {count(waiting, 'event')} waiting")

"""Whether everything is there that the program needs: each part is asked at the same time, and none for long."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from jobs.runtime.application import Application
from jobs.runtime.cron import parse_schedule
from jobs.runtime.side_by_side import Question, wait_for_all
from reports.delivery.archive import open_archive
from reports.delivery.channels import NEEDED_SETTINGS, Channel, is_set_up
from reports.engine.exclusions import read_exclusions
from sync.domains.registry import event_types, unknown_switches
from sync.failures import SyncError, UpstreamError, one_line
from sync.queues.aws import queue_remedy
from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import QUEUES, Settings, UpstreamName
from sync.settings.loading import SettingsError
from sync.store.breakers import read_breakers
from sync.upstream.services import ROLES
from sync.upstream.transport import Transport

#: The limit of one call.
CALL_SECONDS = 5.0
#: What has not answered by then counts as down.
DEADLINE_SECONDS = 15.0


class _DownError(Exception):
    """The part is not as it should be; the text says what is wrong and what to change."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One part: whether it works, and what was seen of it or what to change."""

    name: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON shows it."""
        return asdict(self)


def run_checks(application: Application) -> list[CheckResult]:
    """Asks every part, side by side; the findings in the order in which the parts depend on each other.

    Raises `SettingsError` for a setting that cannot be read, since then most parts cannot even be asked.
    """
    _read_settings(application)
    quick = application.settings.model_copy(
        update={"api_timeout_seconds": min(CALL_SECONDS, application.settings.api_timeout_seconds)}
    )
    transport = Transport(quick)
    try:
        checks: dict[str, Callable[[], str]] = {
            "settings": partial(_told_settings, application.settings),
            "switches": partial(_check_switches, application.settings),
            "database": partial(_check_database, application),
        }
        checks |= {f"queue {name}": partial(_check_queue, application, name, dlq=False) for name in QUEUES}
        checks |= {f"dlq {name}": partial(_check_queue, application, name, dlq=True) for name in QUEUES}
        checks |= {str(name): partial(_check_upstream, quick, transport, name) for name in UpstreamName}
        clients = [name for name in UpstreamName if name is not UpstreamName.OAUTH]
        checks |= {f"credentials {name}": partial(_check_credentials, quick, transport, name) for name in clients}
        checks["breakers"] = partial(_check_breakers, application)
        checks["exclusions"] = partial(_check_exclusions, application.settings)
        checks["reports"] = partial(_check_reports, application)
        checks["slack"] = partial(_check_slack, application.settings)
        checks["email"] = partial(_check_email, application.settings)
        return _ask_all(checks)
    finally:
        transport.close()


def nothing_is_set_up(settings: Settings) -> bool:
    """Whether no service has credentials, so that what is down is so because nobody has set anything yet."""
    return not any(settings.upstream(name).client_id for name in UpstreamName)


def _ask_all(checks: Mapping[str, Callable[[], str]]) -> list[CheckResult]:
    questions = {name: Question(f"check {name}", check) for name, check in checks.items()}
    wait_for_all(questions.values(), DEADLINE_SECONDS)
    return [_found(name, question) for name, question in questions.items()]


def _found(name: str, question: Question[str]) -> CheckResult:
    if question.answer is not None:
        return CheckResult(name, True, question.answer)
    error = question.error
    if error is None:
        return CheckResult(name, False, f"no answer within {DEADLINE_SECONDS:.0f} s")
    # A check that breaks has found its part broken.
    return CheckResult(name, False, one_line(error))


def _read_settings(application: Application) -> None:
    """Reads what other parts than the settings themselves make of them. Raises `SettingsError`, a line for each."""
    settings = application.settings
    wrong = []
    for read in (
        partial(parse_schedule, "RECONCILIATION_SCHEDULE", settings.reconciliation_schedule, settings.zone),
        partial(parse_schedule, "HOUSEKEEPING_SCHEDULE", settings.housekeeping_schedule, settings.zone),
        lambda: application.database,
        application.aws.check_settings,
    ):
        try:
            read()
        except SettingsError as error:
            wrong.append(str(error))
    if wrong:
        raise SettingsError("\n".join(wrong))


def _told_settings(settings: Settings) -> str:
    return f"provider {settings.hmpps_sqs_provider}, zone {settings.tz}"


def _check_switches(settings: Settings) -> str:
    unknown = unknown_switches(settings)
    void = [name for name, on in unknown.items() if not on]
    if void:
        raise _DownError(f"{', '.join(void)}: no event has this switch; doc/events.md names those there are")
    off = [each for queue in QUEUES for each in event_types(queue) if not settings.event_enabled(each)]
    told = f"off: {', '.join(off)}" if off else "every event is on"
    return f"{told}; of no event: {', '.join(unknown)}" if unknown else told


def _check_database(application: Application) -> str:
    database = application.database
    try:
        if database.exists:
            database.ping()
        elif application.settings.database_auto_upgrade:
            database.check_can_be_created()
            return f"{database.url_without_password}, not there yet: made at the next start"
        current = database.schema_is_current()
    except SyncError as error:
        raise _DownError(f"{one_line(error)}; set DATABASE_URL, or bring the database up") from error
    if current:
        return f"{database.url_without_password}, schema current"
    if application.settings.database_auto_upgrade:
        return f"{database.url_without_password}, schema is upgraded at the next start"
    raise _DownError(f"{database.url_without_password}: the schema is not current; run prisoner-to-nomis db upgrade")


def _check_queue(application: Application, queue: str, *, dlq: bool) -> str:
    settings = application.settings.queue(queue)
    try:
        pair = application.queue_pair(queue)
        part, name = (pair.dlq, settings.dlq_name) if dlq else (pair.main, settings.queue_name)
        counts = part.counts()
    except QueueUnavailable as error:
        raise _DownError(f"{one_line(error)}; {queue_remedy(application.settings, queue, error)}") from error
    if not dlq and part.max_receives() is None:
        raise _DownError(f"{name} has no redrive policy: give it one, or failing messages come again for ever")
    return f"{name}, {counts.visible} waiting, {counts.in_flight} in flight"


def _check_upstream(settings: Settings, transport: Transport, name: UpstreamName) -> str:
    address = settings.upstream(name).base_url
    reason = transport.ping(name, CALL_SECONDS)
    if reason is None:
        return address
    variable = name.address_variable
    raise _DownError(f"{address}/health/ping: {reason}; wait until the service is up, or set {variable}")


def _check_credentials(settings: Settings, transport: Transport, name: UpstreamName) -> str:
    upstream = settings.upstream(name)
    if not upstream.client_id:
        raise _DownError(f"no credentials: set {' and '.join(name.credential_variables)}")
    try:
        held = transport.client(name).authorities()
    except UpstreamError as error:
        raise _DownError(one_line(error)) from error
    if held is None:
        return "token given, which does not say its roles"
    missing = sorted(role for role in ROLES[name] if f"ROLE_{role}" not in held)
    if missing:
        what = f"role {missing[0]}" if len(missing) == 1 else f"roles {', '.join(missing)}"
        raise _DownError(f"client {upstream.client_id} lacks {what}: have HMPPS Auth give it to the client")
    return "token given"


def _check_breakers(application: Application) -> str:
    if not application.database.schema_is_current():
        return "none known yet"
    with application.database.read() as connection:
        rows = read_breakers(connection).values()
    away = [f"{row.service} since {row.opened_at:%Y-%m-%d %H:%M}Z" for row in rows if row.state != "closed"]
    if away:
        raise _DownError(f"taken to be down: {', '.join(away)}; receiving goes on when their health pings succeed")
    return "all closed"


def _check_exclusions(settings: Settings) -> str:
    excluded = read_exclusions(settings.reconciliation_exclusions)
    return f"{len(excluded)} on the list" if excluded else "none"


def _check_reports(application: Application) -> str:
    archive = open_archive(application.settings, lambda: application.aws.client("s3"))
    left = archive.probe()
    place = archive.location("")
    return place if left is None else f"{place}, can be written; {left}"


def _check_slack(settings: Settings) -> str:
    from reports.delivery.slack import Slack

    if settings.slack_token is None:
        return _off("slack")
    slack = Slack(settings.slack_token.get_secret_value(), settings.slack_channel, settings.slack_api_url)
    try:
        known = slack.knows_token()
    except SyncError as error:
        raise _DownError(f"{one_line(error)}; set SLACK_TOKEN, or SLACK_API_URL where it is another Slack") from error
    return f"{settings.slack_channel}, token {'known' if known else 'given'}"


def _check_email(settings: Settings) -> str:
    from reports.delivery.email import Mail

    if not is_set_up(settings, "email"):
        return _off("email")
    try:
        server = Mail(settings).check_connection()
    except SyncError as error:
        raise _DownError(f"{one_line(error)}; set SMTP_URL, or wait until the server is up") from error
    return f"{server}, {len(settings.reports_email_to)} receivers"


def _off(channel: Channel) -> str:
    return f"off: {NEEDED_SETTINGS[channel]} is not set"

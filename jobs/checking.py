"""Whether everything is there that the program needs: each part is asked at the same time, and none for long."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from jobs.composition import Program
from jobs.endings import one_line
from jobs.side_by_side import Question, wait_for_all
from sync.failures import SyncError, UpstreamError
from sync.settings import QUEUES, Settings, UpstreamName
from sync.store.breakers import read_breakers
from sync.upstream.transport import Transport

#: The limit of one call.
CALL_SECONDS = 5.0
#: Answers of HMPPS Auth to wrong credentials.
_REFUSED = frozenset({400, 401, 403})
#: What has not answered by then counts as down.
DEADLINE_SECONDS = 15.0


class _DownError(Exception):
    """The part is not as it should be; the text says what is wrong and what to change."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One part: whether it works, and what was seen of it or what to change."""

    name: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """The finding as JSON shows it."""
        return asdict(self)


def check_everything(program: Program) -> list[Finding]:
    """Asks every part, side by side; the findings in the order in which the parts depend on each other."""
    quick = program.settings.model_copy(
        update={"api_timeout_seconds": min(CALL_SECONDS, program.settings.api_timeout_seconds)}
    )
    transport = Transport(quick)
    try:
        checks: dict[str, Callable[[], str]] = {
            "settings": partial(_check_settings, program.settings),
            "database": partial(_check_database, program),
        }
        checks |= {f"queue {name}": partial(_check_queue, program, name, dlq=False) for name in QUEUES}
        checks |= {f"dlq {name}": partial(_check_queue, program, name, dlq=True) for name in QUEUES}
        checks |= {str(name): partial(_check_upstream, quick, transport, name) for name in UpstreamName}
        clients = [name for name in UpstreamName if name is not UpstreamName.OAUTH]
        checks |= {f"credentials {name}": partial(_check_credentials, quick, transport, name) for name in clients}
        checks["breakers"] = partial(_check_breakers, program)
        return _ask_all(checks)
    finally:
        transport.close()


def _ask_all(checks: Mapping[str, Callable[[], str]]) -> list[Finding]:
    questions = {name: Question(f"check {name}", check) for name, check in checks.items()}
    wait_for_all(questions.values(), DEADLINE_SECONDS)
    return [_found(name, question) for name, question in questions.items()]


def _found(name: str, question: Question[str]) -> Finding:
    if question.answer is not None:
        return Finding(name, True, question.answer)
    error = question.error
    if error is None:
        return Finding(name, False, f"no answer within {DEADLINE_SECONDS:.0f} s")
    # A check that breaks has found its part broken.
    known = isinstance(error, _DownError | SyncError)
    return Finding(name, False, one_line(error) if known else f"{type(error).__name__}: {one_line(error)}")


def _check_settings(settings: Settings) -> str:
    from jobs.cron import read_schedule

    read_schedule("RECONCILIATION_SCHEDULE", settings.reconciliation_schedule, settings.zone)
    read_schedule("HOUSEKEEPING_SCHEDULE", settings.housekeeping_schedule, settings.zone)
    return f"provider {settings.hmpps_sqs_provider}, zone {settings.tz}"


def _check_database(program: Program) -> str:
    database = program.database
    try:
        database.ping()
        current = database.schema_is_current()
    except SyncError as error:
        raise _DownError(f"{one_line(error)}; set DATABASE_URL, or bring the database up") from error
    if current:
        return f"{database.url_without_password}, schema current"
    if program.settings.database_auto_upgrade:
        return f"{database.url_without_password}, schema is upgraded at the next start"
    raise _DownError(f"{database.url_without_password}: the schema is not current; run prisoner-to-nomis db upgrade")


def _check_queue(program: Program, queue: str, *, dlq: bool) -> str:
    pair = program.queue_pair(queue)
    settings = program.settings.queue(queue)
    part, name = (pair.dlq, settings.dlq_name) if dlq else (pair.main, settings.queue_name)
    counts = part.counts()
    if not dlq and part.max_receives() is None:
        raise _DownError(f"{name} has no redrive policy: give it one, or failing messages come again for ever")
    return f"{name}, {counts.visible} waiting, {counts.in_flight} in flight"


def _check_upstream(settings: Settings, transport: Transport, name: UpstreamName) -> str:
    address = settings.upstream(name).base_url
    reason = transport.ping(name, CALL_SECONDS)
    if reason is None:
        return address
    variable = settings.upstream_variables(name)[0]
    raise _DownError(f"{address}/health/ping: {reason}; wait until the service is up, or set {variable}")


def _check_credentials(settings: Settings, transport: Transport, name: UpstreamName) -> str:
    _, client_id, secret = settings.upstream_variables(name)
    if not settings.upstream(name).client_id:
        raise _DownError(f"no credentials: set {client_id} and {secret}")
    try:
        transport.client(name).authenticate()
    except UpstreamError as error:
        refused = error.status in _REFUSED
        remedy = f"set {client_id} and {secret}" if refused else "see hmpps-auth"
        raise _DownError(f"{one_line(error)}; {remedy}") from error
    return "token given"


def _check_breakers(program: Program) -> str:
    if not program.database.schema_is_current():
        return "none known yet"
    with program.database.read() as connection:
        rows = read_breakers(connection).values()
    away = [f"{row.service} since {row.opened_at:%Y-%m-%d %H:%M}Z" for row in rows if row.state != "closed"]
    if away:
        raise _DownError(f"taken to be down: {', '.join(away)}; receiving goes on when their health pings succeed")
    return "all closed"

"""Declares the settings of the program, with their defaults and meanings.

Each field of `Settings` is read from the environment variable with the same name in upper case. Settings that the
replaced service also had keep their names, so that its Kubernetes secrets and values still work.

A new upstream service is declared in `upstreams.py`, a new queue in `queues.py`, and any other new setting as a field
of `Settings`. `doc/settings.md` is generated from these declarations.
"""

from collections.abc import Mapping
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr
from pydantic.fields import FieldInfo

from sync.settings import times
from sync.settings.parsing import (
    YEAR_SECONDS,
    Address,
    Certificates,
    Codes,
    ConnectionString,
    DatabaseUrl,
    Link,
    Location,
    MailAddress,
    MailAddresses,
    MailServer,
    Numbers,
    Region,
    Seconds,
    TimeZone,
    Waits,
    parse_address,
    parse_flag,
    parse_waits,
)
from sync.settings.queues import QueueSettings, Variable
from sync.settings.upstreams import CONNECT_SECONDS, UpstreamName, UpstreamSettings
from sync.settings.variables import (
    DELETE_ALL_VARIABLE,
    QUEUE_PREFIX,
    feature_variables,
    is_event_switch,
    waits_variable,
)


class Settings(BaseModel):
    """Every setting of the program, read from the environment by `load_settings`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    api_timeout_seconds: Seconds = Field(60, description="time limit for one call to a service")
    api_ca_bundle: Certificates | None = Field(
        None,
        description="file of certificate authorities for the upstream services; unset: those of the operating system",
    )

    hmpps_sqs_provider: Literal["aws", "localstack"] = Field(
        "aws",
        description="`aws`, or `localstack` for a local endpoint (LocalStack, moto), where missing queues are created",
    )
    hmpps_sqs_localstack_url: Address = Field(
        "http://localhost:4566", description="address of the local endpoint (provider `localstack`)"
    )
    hmpps_sqs_region: Region = Field("eu-west-2", description="the AWS region")
    aws_access_key_id: str | None = Field(
        None,
        description='access key id for the local endpoint; unset: a placeholder; for AWS itself, see "Read by the '
        'libraries" below',
    )
    aws_secret_access_key: SecretStr | None = Field(
        None, description="secret access key for the local endpoint; set both keys or neither"
    )
    aws_session_token: SecretStr | None = Field(
        None, description="session token that belongs to the keys for the local endpoint, if any"
    )
    aws_endpoint_url_s3: Address | None = Field(
        None,
        description="address of a separate S3 server for `REPORTS_LOCATION`, with either provider; unset: AWS, or the "
        "local endpoint",
    )
    hmpps_sqs_error_visibility_timeout: Waits = Field(
        (1, 10, 60, 600),
        description="seconds before the 1st, 2nd, … retry of a failed message; the last value is used for all further "
        "retries",
    )
    hmpps_sqs_max_receive_count: int = Field(
        3,
        ge=1,
        le=1000,
        description="number of receives before a message moves to the DLQ, for queues that the program creates "
        "(provider `localstack`)",
    )
    hmpps_sqs_visibility_timeout_seconds: int = Field(
        120,
        ge=1,
        le=times.MOST_VISIBILITY_SECONDS,
        description="visibility timeout of received messages; a heartbeat renews it while they are handled",
    )

    database_url: DatabaseUrl = Field(
        "sqlite:///prisoner-to-nomis.db",
        description="SQLAlchemy URL of the database: SQLite, or PostgreSQL in production",
    )
    database_auto_upgrade: bool = Field(
        True, description="whether the program upgrades the database to the current schema when it starts"
    )

    drain_interval_seconds: Seconds = Field(5, description="pause between the micro-batches of a queue")
    drain_concurrency: int = Field(
        10, ge=1, le=200, description="maximum number of messages of one queue that are handled in parallel"
    )
    drain_batch_size: int = Field(1000, ge=10, le=100_000, description="maximum number of messages in one micro-batch")
    drain_grace_seconds: Seconds = Field(
        30, description="after SIGTERM, how long messages in flight may take before they are returned to the queue"
    )
    event_minimum_age_seconds: float = Field(
        2,
        ge=0,
        le=60,
        description="minimum age of an event before its record is read, since the publisher may commit the change only "
        "after it has published the event",
    )
    creation_settling_seconds: Seconds = Field(
        10,
        description="how long a write without a response still counts as under way after the longest time that its "
        "call can take",
    )
    creation_wait_seconds: float = Field(
        300,
        ge=0,
        le=86_400,
        description="how long an event waits for a mapping that is missing, since the message that creates the mapped "
        "record may still be on the queue (six times as long once the creation has started)",
    )
    lease_seconds: Seconds = Field(60, description="how long a lease lasts after its holder's last renewal")

    tz: TimeZone = Field("Europe/London", description="time zone of the schedules")
    reconciliation_schedule: str = Field(
        "0 4 * * 1", description="cron expression for the weekly reconciliation of incentives, in `TZ`"
    )
    reconciliation_concurrency: int = Field(
        40,
        ge=1,
        le=200,
        description="maximum number of calls in flight to one service; NOMIS responds with status 500 if there are "
        "many more",
    )
    reports_incentives_reconciliation_page_size: int = Field(
        500, ge=1, le=20_000, description="number of prisoners per page in the incentives reconciliation"
    )
    reports_sentencing_reconciliation_page_size: int = Field(
        500, ge=1, le=20_000, description="number of bookings per page in the adjustments reconciliation"
    )
    reports_sentencing_reconciliation_all_prisoners: bool = Field(
        False,
        description="whether the adjustments reconciliation compares the latest bookings of all prisoners, not only "
        "those of active prisoners",
    )
    reconciliation_recheck_seconds: float = Field(
        15, ge=0, le=86_400, description="pause before records that differ are read again"
    )
    reconciliation_in_flight_minutes: float = Field(
        10,
        ge=0,
        le=YEAR_SECONDS / 60,
        description="a difference is in flight, and does not count, if its record in NOMIS or DPS was changed within "
        "this time",
    )
    reconciliation_near_hours: float = Field(
        24,
        gt=0,
        le=YEAR_SECONDS / 3600,
        description="maximum time between two records that the diagnosis counts as records of the same event; records "
        "from the same day always count as such",
    )
    reconciliation_exclusions: str | None = Field(
        None,
        description="CSV file of the bookings that the reconciliation of incentives excludes "
        "(`bookingId,reason,date`), or the lines of such a file, separated by `;`",
    )
    reconciliation_max_page_errors: int = Field(
        30,
        ge=0,
        le=1_000_000,
        description="how many pages of prisoners or bookings may be unreadable in a reconciliation run; if more are, "
        "the run fails",
    )
    reconciliation_max_unreadable_percent: float = Field(
        5, ge=0, le=100, description="percentage of unread records above which a reconciliation run fails"
    )
    activity_prisons: Codes = Field(
        (),
        description="codes, separated by commas, of the prisons for which allocations and attendances are reconciled; "
        "unset: those that NOMIS has switched on for activities, or else those in the DPS rollout",
    )
    appointment_prisons: Codes = Field(
        (),
        description="codes, separated by commas, of the prisons for which appointments are reconciled; unset: those in "
        "the DPS rollout",
    )
    reports_appointments_reconciliation_page_size: int = Field(
        200, ge=1, le=20_000, description="number of appointment ids per page in the appointments reconciliation"
    )
    reports_appointments_reconciliation_lookahead_days: int = Field(
        26,
        ge=0,
        le=366,
        description="how many days after today the reconciliation of appointments covers; yesterday and today are "
        "always included",
    )
    visit_prisons: Codes = Field(
        (),
        description="codes, separated by commas, of the prisons for which visits are reconciled; unset: those for "
        "which staff or the public can book visits in visit-scheduler",
    )
    visit_reconciliation_days_ahead: int = Field(
        35,
        ge=0,
        le=366,
        description="how many days after today the reconciliation of visits covers; yesterday and today are always "
        "included",
    )
    reconciliation_suspicious_percent: float = Field(
        2,
        ge=0,
        le=100,
        description="percentage of differing records above which a reconciliation run is suspicious; except for "
        "incentives, a suspicious run sends one alert instead of many",
    )
    reconciliation_suspicious_count: int = Field(
        50,
        ge=0,
        le=1_000_000,
        description="maximum number of differences with which a reconciliation run is not suspicious, whatever their "
        "percentage",
    )
    reconciliation_most_alerts: int = Field(
        50,
        ge=0,
        le=1_000_000,
        description=(
            "maximum number of difference events that a reconciliation run sends, except for incentives; one more "
            "event gives the number of further differences"
        ),
    )
    job_completion_index: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="index of a pod's shard, set by Kubernetes in an Indexed Job; `--shard` overrides it",
    )
    reports_location: Location = Field("./reports-out", description="folder for the reports, or `s3://bucket/prefix`")
    reports_url: Link | None = Field(
        None,
        description="address below which people reach the reports, for links in Slack and email; unset: the page of a "
        "report is sent instead of a link, unless `REPORTS_LINK_HOURS` applies",
    )
    reports_link_hours: int = Field(
        0,
        ge=0,
        le=168,
        description="for reports in a bucket, if `REPORTS_URL` is unset: number of hours for which presigned addresses "
        "in Slack and email are valid; with 0, or with `ALERTS_MASK_PRISONERS`, the page of a report is sent instead",
    )

    housekeeping_schedule: str = Field("*/10 * * * *", description="cron expression for the DLQ housekeeping, in `TZ`")
    housekeeping_max_returns: int = Field(
        10,
        ge=0,
        le=1_000_000,
        description="how many times a message may return to the DLQ before housekeeping leaves it there",
    )
    scheduler_reconciliation: bool = Field(
        True,
        description="whether the scheduler runs the reconciliation of incentives, and each reconciliation whose own "
        "switch is not set (false: CronJobs do)",
    )
    scheduler_housekeeping: bool = Field(
        True, description="whether the scheduler runs the DLQ housekeeping (false: a CronJob does)"
    )
    contracts_schedule: str = Field(
        "30 6 * * 2", description="cron expression for the contract check of the services, in `TZ`"
    )
    scheduler_contracts: bool = Field(
        True, description="whether the scheduler runs the contract check (false: a CronJob does)"
    )
    health_port: int = Field(8080, ge=0, le=65535, description="port of the scheduler's health pages; 0: any free port")
    health_host: str = Field("0.0.0.0", description="address at which the health pages are served")  # noqa: S104 - a pod's probes come from outside
    health_stall_seconds: Seconds = Field(
        600,
        description=(
            "time without progress after which a drain counts as hung: the liveness probe then fails, and Kubernetes "
            "restarts the pod"
        ),
    )

    telemetry_keep_days: int | None = Field(
        None,
        ge=7,
        le=36_500,
        description="age after which telemetry events and the records of failed attempts are removed; unset: all are "
        "kept",
    )
    runs_keep_days: int | None = Field(
        None,
        ge=7,
        le=36_500,
        description="age after which the records of job runs, and of sent alerts and reports, are removed; each job's "
        "last run and last successful run are always kept; unset: all are kept",
    )
    reports_keep_days: int | None = Field(
        None,
        ge=7,
        le=36_500,
        description="age after which reconciliation runs are removed from the database, and their reports from "
        "`REPORTS_LOCATION` if it is a folder; each reconciliation's last complete run is always kept; unset: all are "
        "kept",
    )

    slack_token: SecretStr | None = Field(
        None, description="token of the Slack app; unset: Slack is off, and the log says so once"
    )
    slack_channel: str = Field("#sycon-alerts", description="Slack channel for alerts and reports")
    slack_api_url: Address | None = Field(None, description="address of the Slack API; unset: Slack's own")
    smtp_url: MailServer | None = Field(
        None, description="mail server, as `smtp://user:password@host:port` or `smtps://…`; unset: no email"
    )
    reports_email_to: MailAddresses = Field((), description="email addresses that get the reports, separated by commas")
    reports_email_from: MailAddress | None = Field(
        None, description="sender of the reports; unset: the first recipient"
    )
    alerts_mask_prisoners: bool = Field(
        False, description="whether prisoner numbers and booking ids are masked in Slack and email"
    )
    logs_mask_prisoners: bool = Field(
        False, description="whether prisoner numbers and booking ids are masked in the log"
    )
    environment_name: str = Field("Production", description="name of the environment in alerts and reports")

    applicationinsights_connection_string: ConnectionString | None = Field(
        None, description="Application Insights resource that gets every telemetry event; unset: no events are sent"
    )

    operator: str | None = Field(
        None, description="name of the operator in the record of actions, unless `--as` is given; unset: the login name"
    )

    mock_visits_prison_id: str = Field(
        "MDI", description="prison of the fixed visit that `python -m sandbox --mock-publishers` serves"
    )
    mock_visits_visitors: Numbers = Field(
        (4729570, 4729550), description="visitors of the fixed visit that `python -m sandbox --mock-publishers` serves"
    )
    log_format: Literal["json", "console"] | None = Field(
        None, description="`json` or `console`; unset: `console` on a terminal, otherwise `json`"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO",
        description="lowest level that is logged; if unset, a terminal shows `WARNING` and above, except for "
        "`scheduler`",
    )

    _environment: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def longest_call_seconds(self) -> float:
        """The longest time in seconds that one call can take, including the time to connect."""
        return min(CONNECT_SECONDS, self.api_timeout_seconds) + self.api_timeout_seconds

    @property
    def longest_create_seconds(self) -> float:
        """The longest time in seconds from the intent of a create to the end of its call."""
        return times.SEND_WITHIN_SECONDS + self.longest_call_seconds

    @property
    def longest_request_seconds(self) -> float:
        """The longest time in seconds that a request with an unknown outcome can be under way."""
        return self.longest_call_seconds + self.creation_settling_seconds

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedules."""
        return ZoneInfo(self.tz)

    def upstream(self, name: UpstreamName) -> UpstreamSettings:
        """The address and credentials of one upstream service. Each service has separate credentials."""
        get = self._environment.get
        base_url = parse_address(get(name.address_variable) or name.default_url)
        client_id, client_secret = (get(variable, "") for variable in name.credential_variables or ("", ""))
        return UpstreamSettings(name, base_url, client_id, client_secret, name.credential_variables)

    def queue(self, name: str) -> QueueSettings:
        """The names, keys and waits of a queue and its dead letter queue. `name` is one of `QUEUES`."""
        prefix = f"{QUEUE_PREFIX}{name.upper()}_"
        get = self._environment.get
        waits = get(waits_variable(name))
        return QueueSettings(
            name=name,
            queue_name=get(prefix + "QUEUE_NAME") or f"hmpps_prisoner_to_nomis_{name}_queue",
            dlq_name=get(prefix + "DLQ_NAME") or f"hmpps_prisoner_to_nomis_{name}_dlq",
            queue_access_key_id=get(prefix + "QUEUE_ACCESS_KEY_ID") or None,
            queue_secret_access_key=get(prefix + "QUEUE_SECRET_ACCESS_KEY") or None,
            dlq_access_key_id=get(prefix + "DLQ_ACCESS_KEY_ID") or None,
            dlq_secret_access_key=get(prefix + "DLQ_SECRET_ACCESS_KEY") or None,
            error_visibility_timeouts=parse_waits(waits) if waits else self.hmpps_sqs_error_visibility_timeout,
        )

    def event_visibility_timeouts(self, queue: str, event_type: str) -> tuple[int, ...]:
        """The seconds before each retry of a message: those for its event type if set, or else those for its queue."""
        waits = self._environment.get(waits_variable(queue, event_type))
        return parse_waits(waits) if waits else self.queue(queue).error_visibility_timeouts

    def reconciliation_variable(self, variable: str) -> str | None:
        """The value of a variable of one reconciliation, such as `RECONCILIATION_VISITS_SCHEDULE`, or None if unset."""
        return self._environment.get(variable, "").strip() or None

    def event_enabled(self, event_type: str) -> bool:
        """Whether events of the type `event_type` are handled.

        They are, unless `FEATURE_EVENT_<EVENT_TYPE>` or `FEATURE_EVENT_<QUEUE>_<EVENT_TYPE>` is false.
        """
        return all(self._flag(name, default=True) for name in feature_variables(event_type))

    @property
    def event_switches(self) -> dict[str, bool]:
        """The values of the event switches that are set, by variable.

        Some of the variables may match no event type (see `registry.unknown_switches`).
        """
        switches = sorted((name, text) for name, text in self._environment.items() if is_event_switch(name))
        return {name: parse_flag(text) for name, text in switches if text.strip()}

    @property
    def delete_all_enabled(self) -> bool:
        """Whether the delete-all commands (development only) may run: `FEATURE_EVENT_DELETEALL`, false if unset."""
        return self._flag(DELETE_ALL_VARIABLE, default=False)

    def with_environment(self, environment: Mapping[str, str]) -> Self:
        """Sets the `environment` from which the settings that are not fields are read, and returns `self`."""
        self._environment = environment
        return self

    def _flag(self, variable: str, *, default: bool) -> bool:
        value = self._environment.get(variable, "")
        return parse_flag(value) if value.strip() else default


def variables() -> list[Variable]:
    """All variables with fixed names: those of the upstream services, then those of the fields of `Settings`."""
    addresses = [Variable(name.address_variable, f"`{name.default_url}`", name.meaning) for name in UpstreamName]
    credentials = [
        Variable(variable, "", f"credentials for {name.meaning}")
        for name in UpstreamName
        for variable in name.credential_variables
    ]
    fields = [
        Variable(name.upper(), _default(info), info.description or "") for name, info in Settings.model_fields.items()
    ]
    return addresses + credentials + fields


def _default(info: FieldInfo) -> str:
    """The default of a field, in Markdown, as the environment variable would contain it; empty if there is none."""
    match info.default:
        case None | "" | ():
            return ""
        case bool(flag):
            return f"`{str(flag).lower()}`"
        case tuple(numbers):
            return f"`{','.join(map(str, numbers))}`"
        case float(number) if number.is_integer():
            return f"`{int(number)}`"
        case value:
            return f"`{value}`"

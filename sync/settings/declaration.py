"""The settings, and the only place that reads the environment.

Each setting is an environment variable of the same name in upper case. The names of the replaced service are kept, so
that its Kubernetes secrets and values carry over.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, field_validator

from sync.queues.queue import MOST_VISIBILITY_SECONDS
from sync.settings.texts import (
    parse_flag,
    parse_numbers,
    read_address,
    read_certificates,
    read_link,
    read_location,
    read_mail_address,
    read_mail_server,
    read_region,
    read_time_zone,
    refuse_long_waits,
    wrong_setting,
)

#: The five queues, by the names that commands use.
QUEUES = ("visit", "incentive", "activity", "appointment", "sentencing")


#: The limit for a connection to come about, in seconds; where a whole call may take less, that counts.
CONNECT_SECONDS = 5.0


_SWITCH = "FEATURE_EVENT_"
#: The switch of the delete-all commands, which belongs to no event.
DELETE_ALL_VARIABLE = f"{_SWITCH}DELETEALL"


class SettingsError(Exception):
    """Settings are wrong; the text has a line for each, which says which one, why, and what to change."""


class UpstreamName(StrEnum):
    """The services this program talks to, by the names used in logs, errors and health."""

    OAUTH = "hmpps-auth"
    NOMIS = "nomis"
    MAPPING = "mapping"
    VISITS = "visits"
    INCENTIVES = "incentives"
    ACTIVITIES = "activities"
    APPOINTMENTS = "appointments"
    SENTENCE_ADJUSTMENTS = "sentence-adjustments"
    PRISONER_SEARCH = "prisoner-search"


#: Upstream → (setting of its address, prefix of its credentials); HMPPS Auth itself has no credentials.
_UPSTREAM_SETTINGS: dict[UpstreamName, tuple[str, str]] = {
    UpstreamName.OAUTH: ("api_base_url_oauth", ""),
    UpstreamName.NOMIS: ("api_base_url_nomis", "system"),
    UpstreamName.MAPPING: ("api_base_url_mapping", "mapping"),
    UpstreamName.VISITS: ("api_base_url_visits", "visits"),
    UpstreamName.INCENTIVES: ("api_base_url_incentives", "incentives"),
    UpstreamName.ACTIVITIES: ("api_base_url_activities", "activities"),
    UpstreamName.APPOINTMENTS: ("api_base_url_appointments", "appointments"),
    UpstreamName.SENTENCE_ADJUSTMENTS: ("api_base_url_sentence_adjustments", "sentence_adjustments"),
    UpstreamName.PRISONER_SEARCH: ("api_base_url_prisoner_search", "prisoner_search"),
}


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """Address and credentials of one upstream service, and the variables that hold the credentials."""

    name: UpstreamName
    base_url: str
    client_id: str
    client_secret: str
    credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Names, keys and waits of one queue and its dead letter queue.

    ``error_visibility_timeouts`` are seconds until the 1st, 2nd, … retry of a failed message; the last one repeats.
    """

    name: str
    queue_name: str
    dlq_name: str
    queue_access_key_id: str | None
    queue_secret_access_key: str | None
    dlq_access_key_id: str | None
    dlq_secret_access_key: str | None
    error_visibility_timeouts: tuple[int, ...]


#: No length of time is longer than a year: what is, is a slip, and more than a date can be moved by.
_YEAR_SECONDS = 366 * 86_400

Seconds = Annotated[float, Field(gt=0, le=_YEAR_SECONDS)]


class Settings(BaseModel):
    """Every setting of the program, read from the environment by `load_settings`."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    api_base_url_oauth: str = Field(
        "http://localhost:8090/auth", description="HMPPS Auth; its token endpoint is `{base}/oauth/token`"
    )
    api_base_url_nomis: str = Field("http://localhost:8082", description="hmpps-nomis-prisoner-api")
    api_base_url_mapping: str = Field("http://localhost:8084", description="hmpps-nomis-mapping-service")
    api_base_url_visits: str = Field("http://localhost:8080", description="visit-scheduler")
    api_base_url_incentives: str = Field("http://localhost:8080", description="the incentives API")
    api_base_url_activities: str = Field("http://localhost:8080", description="the activities API")
    api_base_url_appointments: str = Field("http://localhost:8080", description="the activities API, for appointments")
    api_base_url_sentence_adjustments: str = Field("http://localhost:8080", description="the adjustments API")
    api_base_url_prisoner_search: str = Field(
        "http://localhost:8080", description="prisoner-offender-search, for the fix of a missed received event"
    )

    system_client_id: str = Field("", description="credentials for NOMIS")
    system_client_secret: SecretStr = Field(SecretStr(""), description="credentials for NOMIS")
    mapping_client_id: str = Field("", description="credentials for the mapping service")
    mapping_client_secret: SecretStr = Field(SecretStr(""), description="credentials for the mapping service")
    visits_client_id: str = Field("", description="credentials for visit-scheduler")
    visits_client_secret: SecretStr = Field(SecretStr(""), description="credentials for visit-scheduler")
    incentives_client_id: str = Field("", description="credentials for the incentives API")
    incentives_client_secret: SecretStr = Field(SecretStr(""), description="credentials for the incentives API")
    activities_client_id: str = Field("", description="credentials for the activities API")
    activities_client_secret: SecretStr = Field(SecretStr(""), description="credentials for the activities API")
    appointments_client_id: str = Field("", description="credentials for appointments")
    appointments_client_secret: SecretStr = Field(SecretStr(""), description="credentials for appointments")
    sentence_adjustments_client_id: str = Field("", description="credentials for the adjustments API")
    sentence_adjustments_client_secret: SecretStr = Field(
        SecretStr(""), description="credentials for the adjustments API"
    )
    prisoner_search_client_id: str = Field("", description="credentials for prisoner-offender-search")
    prisoner_search_client_secret: SecretStr = Field(
        SecretStr(""), description="credentials for prisoner-offender-search"
    )
    api_timeout_seconds: Seconds = Field(60, description="the limit of one call")
    api_ca_bundle: str | None = Field(
        None, description="a file of certificate authorities for the upstream services; unset: the system's own"
    )

    hmpps_sqs_provider: Literal["aws", "localstack"] = Field(
        "aws",
        description="`aws`, or `localstack` for an endpoint of one's own, where what is missing is made at start",
    )
    hmpps_sqs_localstack_url: str = Field("http://localhost:4566", description="that endpoint")
    hmpps_sqs_region: str = Field("eu-west-2", description="the AWS region")
    aws_access_key_id: str | None = Field(
        None, description="keys for that endpoint, which is given invented ones otherwise; see below for AWS itself"
    )
    aws_secret_access_key: SecretStr | None = Field(None, description="keys for that endpoint")
    aws_session_token: SecretStr | None = Field(None, description="keys for that endpoint, where they have a token")
    aws_endpoint_url_s3: str | None = Field(
        None, description="another S3 server for `REPORTS_LOCATION`, with either provider; unset: that of the queues"
    )
    hmpps_sqs_error_visibility_timeout: tuple[int, ...] = Field(
        (1, 10, 60, 600), description="seconds until the 1st, 2nd, … retry of a failed message; the last one repeats"
    )
    hmpps_sqs_max_receive_count: int = Field(
        3, ge=1, le=1000, description="receives before the DLQ, for queues made here (provider `localstack`)"
    )
    hmpps_sqs_visibility_timeout_seconds: int = Field(
        120, ge=1, le=MOST_VISIBILITY_SECONDS, description="visibility timeout the heartbeat renews"
    )

    database_url: str = Field(
        "sqlite:///prisoner-to-nomis.db", description="any SQLAlchemy URL; PostgreSQL in production"
    )
    database_auto_upgrade: bool = Field(True, description="bring the database to the current schema on start")

    drain_interval_seconds: Seconds = Field(5, description="pause between the micro-batches of a queue")
    drain_concurrency: int = Field(10, ge=1, le=200, description="messages in work at once, for each queue")
    drain_batch_size: int = Field(1000, ge=10, le=100_000, description="messages gathered into one micro-batch at most")
    drain_grace_seconds: Seconds = Field(
        30, description="after SIGTERM, how long work in hand may go on before it is handed back"
    )
    event_minimum_age_seconds: float = Field(
        2, ge=0, le=60, description="how old an event is at least when what it tells of is read: publishers commit late"
    )
    creation_settling_seconds: Seconds = Field(
        10,
        description="after a write without an answer: how long beyond the end of the longest call it may be under way",
    )
    creation_wait_seconds: float = Field(
        300,
        ge=0,
        le=86_400,
        description="how long an event waits whose record has no mapping yet: its creation may still be queued "
        "(six times as long for one that was begun)",
    )
    lease_seconds: Seconds = Field(60, description="how long a lease outlives its holder's last renewal")

    tz: str = Field("Europe/London", description="time zone of the schedules")
    reconciliation_schedule: str = Field("0 4 * * 1", description="cron of the weekly reconciliation, in `TZ`")
    reconciliation_concurrency: int = Field(
        40, ge=1, le=200, description="calls in flight to one upstream at most; NOMIS answers 500 much above that"
    )
    reports_incentives_reconciliation_page_size: int = Field(500, ge=1, le=20_000, description="prisoners in a page")
    reconciliation_recheck_seconds: float = Field(
        15, ge=0, le=86_400, description="wait before the differences are read again"
    )
    reconciliation_in_flight_minutes: float = Field(
        10,
        ge=0,
        le=_YEAR_SECONDS / 60,
        description="a difference whose DPS review or NOMIS record is younger is in flight, not a mismatch",
    )
    reconciliation_near_hours: float = Field(
        24,
        gt=0,
        le=_YEAR_SECONDS / 3600,
        description="how near in time two records of one event lie, for the diagnosis",
    )
    reconciliation_exclusions: str | None = Field(
        None, description="a CSV file `bookingId,reason,date` of excluded bookings, or the same lines separated by `;`"
    )
    reconciliation_max_page_errors: int = Field(
        30, ge=0, le=1_000_000, description="page errors after which a run gives up"
    )
    reconciliation_max_unreadable_percent: float = Field(
        5, ge=0, le=100, description="share of unreadable prisoners after which a run gives up"
    )
    job_completion_index: int | None = Field(
        None,
        ge=0,
        le=1_000_000,
        description="set by Kubernetes in an Indexed Job: which of the `--shards` a pod is, without `--shard`",
    )
    reports_location: str = Field("./reports-out", description="a folder, or `s3://bucket/prefix`")
    reports_url: str | None = Field(
        None,
        description="address under which people reach the reports' folder, for links in Slack and email; "
        "unset: these name the file",
    )

    housekeeping_schedule: str = Field("*/10 * * * *", description="cron of the DLQ housekeeping, in `TZ`")
    housekeeping_max_returns: int = Field(
        10, ge=0, le=1_000_000, description="returns to the DLQ after which housekeeping leaves a message alone"
    )
    scheduler_reconciliation: bool = Field(
        True, description="the scheduler runs the weekly reconciliation (false: a CronJob does)"
    )
    scheduler_housekeeping: bool = Field(
        True, description="the scheduler runs the DLQ housekeeping (false: a CronJob does)"
    )
    health_port: int = Field(
        8080, ge=0, le=65535, description="port of the scheduler's health pages; 0 takes a free one"
    )
    health_host: str = Field("0.0.0.0", description="address the health pages are bound to")  # noqa: S104 - a pod's probes come from outside
    health_stall_seconds: Seconds = Field(
        600, description="a drain that did not get on for so long hangs: liveness fails, and Kubernetes starts anew"
    )

    slack_token: SecretStr | None = Field(None, description="no token: Slack is off, and the log says so once")
    slack_channel: str = Field("#sycon-alerts", description="channel of the alerts")
    slack_api_url: str | None = Field(None, description="Slack's own where unset")
    smtp_url: SecretStr | None = Field(
        None, description="`smtp://user:password@host:port`, `smtps://…`; unset: no email"
    )
    reports_email_to: tuple[str, ...] = Field((), description="receivers of the weekly report, separated by commas")
    reports_email_from: str | None = Field(None, description="sender of the weekly report")
    alerts_mask_prisoners: bool = Field(False, description="masks prisoner numbers in Slack and email")
    environment_name: str = Field("Production", description="name of the environment in the alert texts")

    operator: str | None = Field(
        None, description="who acts, for the record of actions, where `--as` is not given; unset: the login name"
    )

    mock_visits_prison_id: str = Field(
        "MDI", description="prison of the canned visit of `python -m sandbox --mock-publishers`"
    )
    mock_visits_visitors: tuple[int, ...] = Field((4729570, 4729550), description="visitors of that visit")
    log_format: Literal["json", "console"] | None = Field(
        None, description="`json`, or `console`, the default on a terminal"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least severity that is logged")

    _environment: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @field_validator("hmpps_sqs_error_visibility_timeout", "mock_visits_visitors", mode="before")
    @classmethod
    def _numbers(cls, value: Any) -> Any:
        return parse_numbers(value) if isinstance(value, str) else value

    @field_validator("reports_email_to", mode="before")
    @classmethod
    def _addresses(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("reports_email_to")
    @classmethod
    def _receivers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(read_mail_address(each) for each in value)

    @field_validator("reports_email_from")
    @classmethod
    def _sender(cls, value: str | None) -> str | None:
        return None if value is None else read_mail_address(value)

    @field_validator("tz")
    @classmethod
    def _time_zone(cls, value: str) -> str:
        return read_time_zone(value)

    @field_validator("database_url")
    @classmethod
    def _database_address(cls, value: str) -> str:
        from sync.store.address import read_database_address

        read_database_address(value)
        return value

    @field_validator("reports_url")
    @classmethod
    def _link(cls, value: str | None) -> str | None:
        return None if value is None else read_link(value)

    @field_validator(
        *(field for field, _ in _UPSTREAM_SETTINGS.values()),
        "hmpps_sqs_localstack_url",
        "slack_api_url",
        "aws_endpoint_url_s3",
    )
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else read_address(value)

    @field_validator("hmpps_sqs_error_visibility_timeout")
    @classmethod
    def _waits(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        return refuse_long_waits(value)

    @field_validator("hmpps_sqs_region")
    @classmethod
    def _region(cls, value: str) -> str:
        return read_region(value)

    @field_validator("api_ca_bundle")
    @classmethod
    def _certificates(cls, value: str | None) -> str | None:
        return None if value is None else read_certificates(value)

    @field_validator("reports_location")
    @classmethod
    def _location(cls, value: str) -> str:
        return read_location(value)

    @field_validator("smtp_url")
    @classmethod
    def _mail_server(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(read_mail_server(value.get_secret_value()))

    @property
    def longest_call_seconds(self) -> float:
        """From the beginning of a call to its end at the latest: a connection, then the call over it."""
        return min(CONNECT_SECONDS, self.api_timeout_seconds) + self.api_timeout_seconds

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of the schedules."""
        return ZoneInfo(self.tz)

    def upstream(self, name: UpstreamName) -> UpstreamSettings:
        """Address and credentials of one upstream service; each service has its own client."""
        url_field, prefix = _UPSTREAM_SETTINGS[name]
        client_id = getattr(self, f"{prefix}_client_id") if prefix else ""
        secret = getattr(self, f"{prefix}_client_secret").get_secret_value() if prefix else ""
        return UpstreamSettings(
            name, getattr(self, url_field), client_id, secret, credentials=self.upstream_variables(name)[1:]
        )

    def upstream_variables(self, name: UpstreamName) -> tuple[str, ...]:
        """The variables of an upstream service: its address, then its credentials where it has any."""
        url_field, prefix = _UPSTREAM_SETTINGS[name]
        variables = (url_field, f"{prefix}_client_id", f"{prefix}_client_secret") if prefix else (url_field,)
        return tuple(variable.upper() for variable in variables)

    def queue(self, name: str) -> QueueSettings:
        """Names, keys and waits of the queue `name`, one of `QUEUES`."""
        prefix = f"HMPPS_SQS_QUEUES_{name.upper()}_"
        get = self._environment.get
        waits = get(prefix + "ERROR_VISIBILITY_TIMEOUT")
        return QueueSettings(
            name=name,
            queue_name=get(prefix + "QUEUE_NAME") or f"hmpps_prisoner_to_nomis_{name}_queue",
            dlq_name=get(prefix + "DLQ_NAME") or f"hmpps_prisoner_to_nomis_{name}_dlq",
            queue_access_key_id=get(prefix + "QUEUE_ACCESS_KEY_ID") or None,
            queue_secret_access_key=get(prefix + "QUEUE_SECRET_ACCESS_KEY") or None,
            dlq_access_key_id=get(prefix + "DLQ_ACCESS_KEY_ID") or None,
            dlq_secret_access_key=get(prefix + "DLQ_SECRET_ACCESS_KEY") or None,
            error_visibility_timeouts=parse_numbers(waits) if waits else self.hmpps_sqs_error_visibility_timeout,
        )

    def event_enabled(self, event_type: str) -> bool:
        """Whether events of this type are handled: `FEATURE_EVENT_<EVENT_TYPE>`, true where unset.

        `FEATURE_EVENT_<QUEUE>_<EVENT_TYPE>` switches it off too.
        """
        return all(self._flag(name, default=True) for name in feature_variables(event_type))

    def event_visibility_timeouts(self, queue: str, event_type: str) -> tuple[int, ...]:
        """The waits before the retries of a message of `event_type`: the type's own where set, else the queue's."""
        own = self._environment.get(f"HMPPS_SQS_QUEUES_{queue.upper()}_ERROR_VISIBILITY_TIMEOUT_{_upper(event_type)}")
        return parse_numbers(own) if own else self.queue(queue).error_visibility_timeouts

    @property
    def event_switches(self) -> dict[str, bool]:
        """The variables of the environment that switch events on or off, by name; there may be no event of theirs."""
        return {name: parse_flag(text) for name, text in sorted(self._environment.items()) if _is_switch(name, text)}

    @property
    def delete_all_enabled(self) -> bool:
        """Whether the delete-all commands (development only) may run: `FEATURE_EVENT_DELETEALL`, false where unset."""
        return self._flag(DELETE_ALL_VARIABLE, default=False)

    def _flag(self, variable: str, *, default: bool) -> bool:
        value = self._environment.get(variable)
        return default if value is None or not value.strip() else parse_flag(value)

    def _with_environment(self, environment: Mapping[str, str]) -> Self:
        self._environment = environment
        return self


def feature_variable(event_type: str) -> str:
    """The environment variable that switches an event type: upper case, `.` and `-` as `_`."""
    return f"{_SWITCH}{_upper(event_type)}"


def feature_variables(event_type: str) -> tuple[str, ...]:
    """Every variable that switches an event type: its own, and those that name a queue before it."""
    return (feature_variable(event_type), *(f"{_SWITCH}{queue.upper()}_{_upper(event_type)}" for queue in QUEUES))


def _is_switch(variable: str, value: str) -> bool:
    return variable.startswith(_SWITCH) and bool(value.strip())


def _upper(event_type: str) -> str:
    return event_type.upper().replace(".", "_").replace("-", "_")


def load_settings(
    environment: Mapping[str, str] | None = None,
    wrong_besides: Callable[[Mapping[str, str]], list[str]] = lambda _environment: [],
) -> Settings:
    """Reads the settings from the process's environment (or from `environment` alone, for tests and the demo).

    Raises `SettingsError`, a line for each value that cannot be used; `wrong_besides` is asked then for the lines about
    those that only other parts can judge, so that all are told at once.
    """
    source = {key.upper(): value for key, value in (os.environ if environment is None else environment).items()}
    # An empty variable means "not set": Kubernetes and compose files leave such ones behind.
    known = {name: value for name in Settings.model_fields if (value := source.get(name.upper(), "")) != ""}
    wrong = _wrong_switches_and_waits(source)
    try:
        settings = Settings.model_validate(known)
    except ValidationError as error:
        for each in error.errors(include_url=False):
            name = str(each["loc"][0]) if each["loc"] else "settings"
            wrong.append(wrong_setting(name.upper(), known.get(name), each))
    if wrong:
        raise SettingsError("\n".join([*wrong, *wrong_besides(source)]))
    return settings._with_environment(source)


def _wrong_switches_and_waits(environment: Mapping[str, str]) -> list[str]:
    wrong = []
    for name, value in sorted(environment.items()):
        try:
            if _is_switch(name, value):
                parse_flag(value)
            if name.startswith("HMPPS_SQS_QUEUES_") and "ERROR_VISIBILITY_TIMEOUT" in name and value:
                refuse_long_waits(parse_numbers(value))
        except ValueError as error:
            wrong.append(wrong_setting(name, value, {"type": "value_error", "ctx": {"error": error}}))
    return wrong


def has_display() -> bool:
    """Whether there is a screen on which a browser could open."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def forget_proxies() -> None:
    """Takes the proxies out of the environment of this process, for one that talks to its own machine alone."""
    for name in [name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy")]:
        del os.environ[name]

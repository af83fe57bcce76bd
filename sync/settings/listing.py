"""Every environment variable as `doc/settings.md` lists it: its name, its default and its meaning."""

from dataclasses import dataclass

from pydantic.fields import FieldInfo

from sync.settings.declaration import Settings, UpstreamName


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: its default as it would be set (empty where there is none), and its meaning."""

    name: str
    default: str
    meaning: str


#: The variables of each queue, with its name for `<QUEUE>`.
QUEUE_VARIABLES = (
    Variable("HMPPS_SQS_QUEUES_<QUEUE>_QUEUE_NAME", "`hmpps_prisoner_to_nomis_<queue>_queue`", "name of the queue"),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_DLQ_NAME", "`hmpps_prisoner_to_nomis_<queue>_dlq`", "name of its dead letter queue"
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_QUEUE_ACCESS_KEY_ID, …_QUEUE_SECRET_ACCESS_KEY",
        "",
        "keys for the queue alone; unset: the usual AWS chain (web identity)",
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_DLQ_ACCESS_KEY_ID, …_DLQ_SECRET_ACCESS_KEY",
        "",
        "keys for the dead letter queue alone; unset: the usual AWS chain (web identity)",
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_ERROR_VISIBILITY_TIMEOUT",
        "`HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT`",
        "waits before the retries of a failed message of this queue",
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_ERROR_VISIBILITY_TIMEOUT_<EVENT_TYPE>",
        "that of the queue",
        "the same for one event type, in upper case with `.` and `-` as `_`",
    ),
)


def variables() -> list[Variable]:
    """Every variable with a fixed name: those of the upstream services, then the fields of `Settings`."""
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
    """The default as it would be set."""
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

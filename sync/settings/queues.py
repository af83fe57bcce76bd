"""Declares the queues: their names, and the variables of each.

To add a queue, add its name to `QUEUES`. Commands show the names in their help, which has to appear quickly, so this
module must not import anything slow.
"""

from dataclasses import dataclass, field

#: The queues, by the names that commands and variables use.
QUEUES = (
    "visit",
    "incentive",
    "activity",
    "appointment",
    "sentencing",
)


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """The names and keys of one queue and its dead letter queue, and the waits before retries.

    `error_visibility_timeouts` gives the number of seconds before the 1st, 2nd, … retry of a failed message. The last
    value is used for all further retries.
    """

    name: str
    queue_name: str
    dlq_name: str
    queue_access_key_id: str | None
    queue_secret_access_key: str | None = field(repr=False)
    dlq_access_key_id: str | None
    dlq_secret_access_key: str | None = field(repr=False)
    error_visibility_timeouts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Variable:
    """An environment variable, as the settings page shows it. `default` and `meaning` are Markdown.

    `default` is empty if the variable has no default.
    """

    name: str
    default: str
    meaning: str


#: The variables of each queue; `<QUEUE>` stands for the name of the queue in upper case.
QUEUE_VARIABLES = (
    Variable("HMPPS_SQS_QUEUES_<QUEUE>_QUEUE_NAME", "`hmpps_prisoner_to_nomis_<queue>_queue`", "name of the queue"),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_DLQ_NAME", "`hmpps_prisoner_to_nomis_<queue>_dlq`", "name of the dead letter queue"
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_QUEUE_ACCESS_KEY_ID, …_QUEUE_SECRET_ACCESS_KEY",
        "",
        "keys for this queue only; unset: the usual AWS credential chain (web identity)",
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_DLQ_ACCESS_KEY_ID, …_DLQ_SECRET_ACCESS_KEY",
        "",
        "keys for this dead letter queue only; unset: the usual AWS credential chain (web identity)",
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_ERROR_VISIBILITY_TIMEOUT",
        "`HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT`",
        "seconds before the 1st, 2nd, … retry of a failed message on this queue",
    ),
    Variable(
        "HMPPS_SQS_QUEUES_<QUEUE>_ERROR_VISIBILITY_TIMEOUT_<EVENT_TYPE>",
        "the value for the queue",
        "seconds before the 1st, 2nd, … retry of a failed message of one event type; `<EVENT_TYPE>` is the event type "
        "in upper case, with `_` for `.` and `-`",
    ),
)

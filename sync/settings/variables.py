"""Builds and recognises the names of the variables for event types, queues and reconciliations."""

from functools import lru_cache

from sync.settings.queues import QUEUES

_SWITCH = "FEATURE_EVENT_"
#: The switch of the delete-all commands, which does not belong to an event.
DELETE_ALL_VARIABLE = f"{_SWITCH}DELETEALL"
_RECONCILIATION_SWITCH = "SCHEDULER_RECONCILIATION_"
#: The reconciliation whose variables do not contain its name.
_FIRST = "incentives"
#: The beginning of a queue's variables, before its name.
QUEUE_PREFIX = "HMPPS_SQS_QUEUES_"
_WAITS_SUFFIX = "_ERROR_VISIBILITY_TIMEOUT"


def feature_variable(event_type: str) -> str:
    """The variable that can switch an event type off for all queues.

    Its name contains the event type in upper case, with `_` for `.` and `-`.
    """
    return f"{_SWITCH}{_upper(event_type)}"


@lru_cache(maxsize=256)
def feature_variables(event_type: str) -> tuple[str, ...]:
    """Every variable that can switch an event type off: one for all queues, and one for each queue."""
    return (feature_variable(event_type), *(f"{_SWITCH}{queue.upper()}_{_upper(event_type)}" for queue in QUEUES))


def is_event_switch(variable: str) -> bool:
    """Whether `variable` looks like a switch of an event type or is the switch of the delete-all commands."""
    return variable.startswith(_SWITCH)


def reconciliation_variable(name: str, setting: str) -> str:
    """The variable for one setting of a reconciliation: `RECONCILIATION_<NAME>_<SETTING>`, with `_` for `-`.

    The variables of the incentives reconciliation do not contain its name, since it was once the only reconciliation.
    """
    return f"RECONCILIATION_{'' if name == _FIRST else f'{_upper(name)}_'}{setting}"


def reconciliation_switch(name: str) -> str:
    """The variable that decides whether the scheduler runs a reconciliation."""
    return "SCHEDULER_RECONCILIATION" if name == _FIRST else f"{_RECONCILIATION_SWITCH}{_upper(name)}"


def is_reconciliation_switch(variable: str) -> bool:
    """Whether `variable` looks like the switch of a reconciliation other than incentives."""
    return variable.startswith(_RECONCILIATION_SWITCH)


def waits_variable(queue: str, event_type: str | None = None) -> str:
    """The variable for the waits before the messages on `queue`, or only those of `event_type`, are retried."""
    suffix = "" if event_type is None else f"_{_upper(event_type)}"
    return f"{QUEUE_PREFIX}{queue.upper()}{_WAITS_SUFFIX}{suffix}"


def is_retry_wait(variable: str) -> bool:
    """Whether `variable` looks like one that `waits_variable` returns."""
    return variable.startswith(QUEUE_PREFIX) and _WAITS_SUFFIX in variable


def _upper(name: str) -> str:
    return name.upper().replace(".", "_").replace("-", "_")

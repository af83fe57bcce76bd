"""Builds the names of variables that contain the name of an event type, a queue or a reconciliation."""

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
    """The variable that switches an event type off: with the type in upper case, and `_` for `.` and `-`."""
    return f"{_SWITCH}{_upper(event_type)}"


@lru_cache(maxsize=256)
def feature_variables(event_type: str) -> tuple[str, ...]:
    """Every variable that switches an event type off: its own, and those that also contain a queue."""
    return (feature_variable(event_type), *(f"{_SWITCH}{queue.upper()}_{_upper(event_type)}" for queue in QUEUES))


def is_event_switch(variable: str) -> bool:
    """Whether `variable` switches events on or off."""
    return variable.startswith(_SWITCH)


def reconciliation_variable(name: str, setting: str) -> str:
    """The variable of a setting of one reconciliation: `RECONCILIATION_<NAME>_<SETTING>`, with `_` for `-`.

    The variables of incentives do not contain the name, because it was once the only reconciliation.
    """
    return f"RECONCILIATION_{'' if name == _FIRST else f'{_upper(name)}_'}{setting}"


def reconciliation_switch(name: str) -> str:
    """The variable that decides whether the scheduler runs a reconciliation."""
    return "SCHEDULER_RECONCILIATION" if name == _FIRST else f"{_RECONCILIATION_SWITCH}{_upper(name)}"


def is_reconciliation_switch(variable: str) -> bool:
    """Whether `variable` decides if the scheduler runs a reconciliation."""
    return variable.startswith(_RECONCILIATION_SWITCH)


def waits_variable(queue: str, event_type: str | None = None) -> str:
    """The variable for the waits before retries on a queue, or for one event type on that queue."""
    suffix = "" if event_type is None else f"_{_upper(event_type)}"
    return f"{QUEUE_PREFIX}{queue.upper()}{_WAITS_SUFFIX}{suffix}"


def is_retry_wait(variable: str) -> bool:
    """Whether `variable` is one that `waits_variable` returns."""
    return variable.startswith(QUEUE_PREFIX) and _WAITS_SUFFIX in variable


def _upper(name: str) -> str:
    return name.upper().replace(".", "_").replace("-", "_")

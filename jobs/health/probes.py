"""Whether the scheduler and all that it needs are well, as Kubernetes and people ask it over HTTP."""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jobs.runtime.application import Application
from jobs.runtime.side_by_side import Question, wait_for_all
from sync.failures import SyncError, one_line
from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import QUEUES, UpstreamName
from sync.upstream.breaker import BreakerState
from sync.upstream.transport import Transport

UP, DOWN = "UP", "DOWN"
#: How long an answer is good for, and how long a part may take to answer.
CACHE_SECONDS = 2.0
DEADLINE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Component:
    """One part: its status and what was seen of it."""

    status: str
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The part as the health page shows it."""
        return {"status": self.status, **({"details": dict(self.details)} if self.details else {})}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question about health: 200 when all is well, 503 when not."""

    well: bool
    body: Mapping[str, Any]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return 200 if self.well else 503


class Health:
    """Answers about health, shared by all who ask at the same moment. Safe to share between threads.

    `checks` are the parts by name; one that raises or is late counts as down. `progress`: for each queue, the seconds
    since its drain got on; more than `stall_seconds` of them is a hang. `is_ready` says whether work is being done.
    """

    def __init__(
        self,
        checks: Mapping[str, Callable[[], Component]],
        progress: Callable[[], Mapping[str, float]],
        is_ready: Callable[[], bool],
        stall_seconds: float,
        *,
        cache_seconds: float = CACHE_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._checks = dict(checks)
        self._progress = progress
        self._is_ready = is_ready
        self._stall_seconds = stall_seconds
        self._cache_seconds = cache_seconds
        self._deadline_seconds = deadline_seconds
        self._monotonic = monotonic
        self._asking = threading.Lock()
        self._at_work: dict[str, Question[Component]] = {}
        self._answered_at = float("-inf")
        self._answer = Answer(well=False, body={"status": DOWN})

    def overall(self) -> Answer:
        """Every part; up when all are."""
        with self._asking:
            if self._monotonic() - self._answered_at >= self._cache_seconds:
                components = self._ask()
                well = all(component.status == UP for component in components.values())
                shown = {name: component.as_dict() for name, component in components.items()}
                self._answer = Answer(well, {"status": UP if well else DOWN, "components": shown})
                self._answered_at = self._monotonic()
            return self._answer

    def _ask(self) -> dict[str, Component]:
        """Asks all parts side by side; one that raises or does not answer in time is down."""
        for name, check in self._checks.items():
            # A part that still owes the last answer is not asked again.
            if name not in self._at_work or not self._at_work[name].pending:
                self._at_work[name] = Question(f"health {name}", check)
        wait_for_all(self._at_work.values(), self._deadline_seconds)
        return {name: self._seen(self._at_work[name]) for name in self._checks}

    def _seen(self, question: Question[Component]) -> Component:
        if question.answer is not None:
            return question.answer
        error = question.error
        if error is None:
            return Component(DOWN, {"error": f"no answer within {self._deadline_seconds:g} s"})
        # A check that breaks has found its part broken.
        return Component(DOWN, {"error": one_line(error) if isinstance(error, SyncError) else type(error).__name__})

    def liveness(self) -> Answer:
        """Down when a drain hangs, which only a new start can mend; never because something else is away."""
        hanging = {
            queue: round(seconds) for queue, seconds in self._progress().items() if seconds > self._stall_seconds
        }
        body: dict[str, Any] = {"status": DOWN if hanging else UP}
        if hanging:
            body["components"] = {
                f"{queue}-drain": Component(DOWN, {"secondsSinceProgress": seconds}).as_dict()
                for queue, seconds in hanging.items()
            }
        return Answer(not hanging, body)

    def readiness(self) -> Answer:
        """Up once the work has begun: the database is there and the drains are started."""
        ready = self._is_ready()
        return Answer(ready, {"status": UP if ready else DOWN})


def health_checks(application: Application, transport: Transport) -> dict[str, Callable[[], Component]]:
    """The parts of the program: the upstream services, the queues, the database and the breakers.

    `transport` is one of its own, so that a ping waits for nothing that the program still has to build.
    """
    checks: dict[str, Callable[[], Component]] = {
        str(name): partial(_check_upstream, transport, name) for name in UpstreamName
    }
    checks |= {f"{queue}-health": partial(_check_queue, application, queue) for queue in QUEUES}
    checks["database"] = partial(_check_database, application)
    checks["breakers"] = partial(_check_breakers, application)
    return checks


def _check_upstream(transport: Transport, name: UpstreamName) -> Component:
    reason = transport.ping(name, DEADLINE_SECONDS)
    return Component(UP) if reason is None else Component(DOWN, {"error": reason})


def _check_queue(application: Application, queue: str) -> Component:
    names = application.settings.queue(queue)
    details: dict[str, Any] = {"queueName": names.queue_name, "dlqName": names.dlq_name}
    try:
        pair = application.queue_pair(queue)
        counts = pair.main.counts()
        details |= {"messagesOnQueue": counts.visible, "messagesInFlight": counts.in_flight}
        attached = pair.main.max_receives() is not None
    except QueueUnavailable as error:
        return Component(DOWN, details | {"error": one_line(error)})
    try:
        details["messagesOnDlq"] = pair.dlq.counts().visible
        details["dlqStatus"] = UP if attached else "NOT ATTACHED"
    except QueueUnavailable:
        details["dlqStatus"] = "NOT AVAILABLE"
    return Component(UP if details["dlqStatus"] == UP else DOWN, details)


def _check_database(application: Application) -> Component:
    application.database.ping()
    return Component(UP, {"dialect": application.database.dialect})


def _check_breakers(application: Application) -> Component:
    # Their state is read from the database when they are made, so not before that is there.
    if not application.database.schema_is_current():
        return Component(DOWN, {"error": "the database has not the current schema"})
    states = application.breakers.states()
    closed = all(state is BreakerState.CLOSED for state in states.values())
    return Component(UP if closed else DOWN, {str(name): str(state) for name, state in states.items()})

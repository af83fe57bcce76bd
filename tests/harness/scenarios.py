"""Scenarios: changes in DPS, and the delivery of their events in any order, repeatedly, and with lost responses."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sync.errors import LeaseBusy, SyncError
from tests.harness.handlers import Harness
from tests.harness.waiting import until

#: As well as the explicit examples, a few scenarios are generated. The variable `STORIES` sets a larger number, which
#: takes longer.
BOUNDED = settings(
    max_examples=int(os.environ.get("STORIES", "5")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    print_blob=True,
)
#: The numbers of the scenarios, so that scenarios in one world have different records.
NUMBERS = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Loss:
    """The loss of the response to the next call to `service` with `method`.

    `written` says whether the service makes the change before the response is lost.
    """

    service: str
    method: str
    written: bool = True


NOMIS_CREATE = Loss("nomis", "POST")
NOMIS_CREATE_UNHEARD = Loss("nomis", "POST", written=False)
NOMIS_WRITE = Loss("nomis", "PUT")
NOMIS_DELETE = Loss("nomis", "DELETE")
MAPPING_POST = Loss("mapping", "POST")
MAPPING_DELETE = Loss("mapping", "DELETE")
LOSSES = (
    NOMIS_CREATE,
    NOMIS_CREATE_UNHEARD,
    NOMIS_WRITE,
    NOMIS_DELETE,
    MAPPING_POST,
    Loss("mapping", "POST", written=False),
    MAPPING_DELETE,
)
#: The program cannot check whether NOMIS has a course. If the response to its creation is lost, a person has to check,
#: so the scenario would not end.
LOSSES_OF_A_COURSE = (NOMIS_WRITE, MAPPING_POST, Loss("mapping", "POST", written=False))


@dataclass(frozen=True, slots=True)
class Step:
    """A change in DPS, for which DPS publishes an event, or the delivery of the event of an earlier change."""

    change: int
    delivers: bool = False
    loss: Loss | None = None


#: The steps, and the order in which the events that are still pending are delivered at the end.
Scenario: TypeAlias = tuple[Sequence[Step], Sequence[int]]


def delivery(change: int, loss: Loss | None = None) -> Step:
    """A step that delivers the event of a change."""
    return Step(change, delivers=True, loss=loss)


@st.composite
def scenarios(draw: st.DrawFn, changes: int, losses: Sequence[Loss] = LOSSES) -> Scenario:
    """Draws a scenario with this number of changes.

    It has the changes in order, deliveries between them that may be repeated and out of order, and the order of the
    final deliveries.
    """
    steps: list[Step] = []
    lost = st.none() | st.sampled_from(losses)
    for change in range(changes):
        steps.append(Step(change))
        deliveries = draw(st.lists(st.tuples(st.integers(0, change), lost), max_size=2))
        steps.extend(delivery(delivered, loss) for delivered, loss in deliveries)
    return steps, draw(st.permutations(range(changes)))


def play(
    harness: Harness, scenario: Scenario, changes: Sequence[Callable[[], object]], deliver: Callable[[int], object]
) -> set[int]:
    """Plays a scenario, then delivers the pending events and handles retries until two rounds in a row change nothing.

    An event is pending until a delivery of it succeeds. Two rounds are needed, since a failing attempt may still settle
    what an earlier attempt in the same round waited for. Returns the changes whose events were never delivered
    successfully. Every event is delivered at least once after its change.
    """
    steps, last = scenario
    pending = set(range(len(changes)))
    for step in steps:
        if not step.delivers:
            changes[step.change]()
            continue
        if step.loss is not None:
            kind = "reset_after_write" if step.loss.written else "reset"
            harness.sandbox.fault(step.loss.service, step.loss.method, kind=kind, times=1)
        attempt(deliver, step.change, pending)
        if step.loss is not None:
            harness.sandbox.clear_faults()
    fruitless = 0
    while fruitless < 2:
        before, goes_on = set(pending), bool(harness.retries)
        while harness.retries:
            retry = harness.retries.pop(0)
            when_free(partial(harness.handle_retry, *retry))
        for change in last:
            if change in pending:
                attempt(deliver, change, pending)
        goes_on = goes_on or bool(harness.retries) or pending != before
        fruitless = 0 if goes_on else fruitless + 1
    return pending


def attempt(deliver: Callable[[int], object], change: int, pending: set[int]) -> None:
    """Delivers the event of a change, and removes the change from `pending` unless the delivery fails."""
    try:
        when_free(lambda: deliver(change))
    except SyncError:
        return
    pending.discard(change)


def when_free(work: Callable[[], object]) -> None:
    """Calls `work` repeatedly until it no longer fails because a lease is still held after a lost response.

    Raises any other error.
    """

    def done() -> bool:
        try:
            work()
        except LeaseBusy:
            return False
        return True

    until(done)

"""Plans traffic: interleaved sequences of events from all domains, with duplicates and other disorder."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from sandbox.aws.topic import domain_event
from sandbox.clock import london_now
from sandbox.domains import DOMAINS
from sandbox.traffic.activities import ActivityScenarios
from sandbox.traffic.appointments import AppointmentScenarios
from sandbox.traffic.malformed import unknown, vanished, write_malformed
from sandbox.traffic.steps import Counted, People, Scenario, Scenarios, Step

if TYPE_CHECKING:
    from sandbox.world import World

BY_QUEUE: Final = {domain.queue: domain for domain in DOMAINS}
QUEUES: Final = tuple(BY_QUEUE)
SPACING: Final = timedelta(milliseconds=137)
FURTHEST_DUPLICATE: Final = 20


@dataclass(frozen=True, slots=True)
class TrafficRequest:
    """The parameters of traffic.

    Attributes: events: how many events the ordinary sequences have in all; duplicates, chains, and malformed, refused,
    vanished and unknown events are extra. seed: the seed of all random choices. queues: the ids of the queues that
    receive traffic; all by default. Chains and refused appointments are sent to their own queues in any case.
    duplicates: how many events arrive twice; every second one is delivered twice with the same SNS id, and the others
    are published twice. out_of_order: how many pairs of successive events about the same record are published in the
    wrong order. chains: how many new schedules immediately get an allocation and an attendance; each event depends on
    the one before. malformed: how many malformed messages are put on the queues. refused: how many appointments NOMIS
    refuses because they are in a cell. vanished: how many creation events are about records that no service has.
    unknown: how many events have a type that nobody handles; every second one is put on a queue as if a filter had let
    it pass, and the others are published (subscriptions filter them out). queue_names: by queue id, the names of those
    SQS queues that do not have their usual names.
    """

    events: int = 500
    seed: int = 1
    queues: tuple[str, ...] = QUEUES
    duplicates: int = 0
    out_of_order: int = 0
    chains: int = 0
    malformed: int = 0
    refused: int = 0
    vanished: int = 0
    unknown: int = 0
    queue_names: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, given: dict[str, object]) -> TrafficRequest:
        """Returns the parameters that a control request gives; null means the default.

        Raises:
            ValueError: a parameter or a queue is unknown, no queue is given, or a number is negative.
        """
        known = {each.name for each in fields(cls)}
        values = {name: value for name, value in given.items() if value is not None}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(f"unknown parameter of traffic: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        if "queues" in values:
            values["queues"] = tuple(values["queues"])  # type: ignore[arg-type]
        request = cls(**values)  # type: ignore[arg-type]
        strange = sorted(set(request.queues) - set(QUEUES))
        if strange:
            raise ValueError(f"unknown queue: {', '.join(strange)}; known: {', '.join(QUEUES)}")
        if not request.queues:
            raise ValueError(f"give at least one queue: {', '.join(QUEUES)}")
        numbers = (
            request.events,
            request.duplicates,
            request.out_of_order,
            request.chains,
            request.malformed,
            request.refused,
        )
        if min(*numbers, request.vanished, request.unknown) < 0:
            raise ValueError("the number of events of a kind cannot be negative")
        return request

    def queue_name(self, queue: str) -> str:
        """Returns the name of the SQS queue for a queue id."""
        return self.queue_names.get(queue, f"hmpps_prisoner_to_nomis_{queue}_queue")


@dataclass(slots=True)
class Item:
    """One item to publish: the changes to make first, and then an event or the body of a malformed message.

    The event is sent through SNS; if `copies` is above 0, that many copies of it are put directly on the queue instead.
    """

    queue: str
    step: Step | None = None
    event: dict[str, object] | None = None
    changes: list[Callable[[], None]] = field(default_factory=list)
    copies: int = 0
    body: str | None = None

    @property
    def filtered(self) -> bool:
        """Whether the filters of the subscriptions keep the event out of every queue."""
        return self.step is not None and self.step.kind == "unknown" and not self.copies


@dataclass(slots=True)
class Planned:
    """Traffic that is ready to be published, and lists of everything planted in it."""

    request: TrafficRequest
    items: list[Item]
    double_published: Counted
    delivered_twice: Counted
    out_of_order: Counted
    refused: Counted
    vanished: Counted
    unknown: Counted
    malformed: list[dict[str, object]]
    coalescible: int
    entities: int

    def view(self) -> dict[str, object]:
        """What was planned, as the control API shows it."""
        steps = [item.step for item in self.items if item.step is not None]
        messages = [item.copies or 1 for item in self.items]
        by_queue: Counter[str] = Counter()
        for item, count in zip(self.items, messages, strict=True):
            if not item.filtered:
                by_queue[item.queue] += count
        return {
            "messages": sum(messages),
            "published": dict(sorted(Counter(step.event_type for step in steps).items())),
            "by_queue": dict(sorted(by_queue.items())),
            "entities": self.entities,
            "created": len({step.entity for step in steps if step.kind == "create"}),
            "ignorable": sum(step.kind == "ignore" for step in steps),
            "coalescible": self.coalescible,
            "duplicates": {
                "published_twice": self.double_published.found,
                "delivered_twice": self.delivered_twice.found,
            },
            "out_of_order": self.out_of_order.found,
            "refused": self.refused.found,
            "vanished": self.vanished.found,
            "unknown": self.unknown.found,
            "malformed": self.malformed,
        }


def plan(world: World, request: TrafficRequest, now: datetime | None = None) -> Planned:
    """Plans traffic.

    Reviews, and records that count as synchronised earlier, are added to the world now; other changes are made when
    their events are published.
    """
    chance = random.Random(request.seed)
    people = People(world, chance)
    makers = {domain.queue: domain.scenarios(world, people, chance) for domain in DOMAINS}
    interleaved = _interleave([*_scenarios(request, makers, chance), *_special(request, makers)], chance)
    moment = (now or london_now()) - SPACING * len(interleaved)
    items = [
        Item(queue, step, _event(step, moment + SPACING * place), [step.change] if step.change else [])
        for place, (queue, step) in enumerate(interleaved)
    ]
    steps = [step for _, step in interleaved]
    swapped = _swap(items, request.out_of_order, chance)
    _vanish(items, request, chance, moment)
    _add_unknown(items, request, chance, moment)
    doubled, redelivered = _duplicate(items, request.duplicates, chance)
    malformed = _break(items, request, chance, moment)
    updates = Counter(step.entity for step in steps if step.kind == "update")
    return Planned(
        request=request,
        items=items,
        double_published=doubled,
        delivered_twice=redelivered,
        out_of_order=swapped,
        refused=_counted([step for step in steps if step.refused]),
        vanished=_counted(_of_kind(items, "vanished")),
        unknown=_counted(_of_kind(items, "unknown")),
        malformed=malformed,
        coalescible=sum(count - 1 for count in updates.values()),
        entities=len({step.entity for step in steps if step.kind != "ignore"}),
    )


def _scenarios(
    request: TrafficRequest, makers: dict[str, Scenarios], chance: random.Random
) -> list[tuple[str, Scenario]]:
    """The ordinary sequences, each with its queue; the chosen queues get them in proportion to the domains' shares.

    The sequences have exactly `request.events` events in all; the last sequence may be cut short.
    """
    weights = [BY_QUEUE[queue].share for queue in request.queues]
    scenarios: list[tuple[str, Scenario]] = []
    left = request.events
    while left > 0:
        queue = chance.choices(request.queues, weights)[0]
        scenario = makers[queue].scenario()[:left]
        scenarios.append((queue, scenario))
        left -= len(scenario)
    return scenarios


def _special(request: TrafficRequest, makers: dict[str, Scenarios]) -> list[tuple[str, Scenario]]:
    """The chains and the refused appointments, each with its queue."""
    scenarios: list[tuple[str, Scenario]] = []
    for queue, maker in makers.items():
        if isinstance(maker, ActivityScenarios):
            scenarios.extend((queue, maker.chain()) for _ in range(request.chains))
        if isinstance(maker, AppointmentScenarios):
            scenarios.extend((queue, maker.refused_scenario()) for _ in range(request.refused))
    return scenarios


def _interleave(scenarios: list[tuple[str, Scenario]], chance: random.Random) -> list[tuple[str, Step]]:
    """All steps with their queues, in the order in which they happen; sequences overlap, but each stays in order."""
    placed: list[tuple[float, int, str, Step]] = []
    numbers = itertools.count()
    for queue, scenario in scenarios:
        at = chance.random()
        for step in scenario:
            placed.append((at, next(numbers), queue, step))
            at += chance.random() * 0.02
    return [(queue, step) for _, _, queue, step in sorted(placed, key=lambda each: each[:2])]


def _event(step: Step, moment: datetime) -> dict[str, object]:
    """The event for a step; visit-scheduler writes fractions of a second with seven digits."""
    event = domain_event(step.event_type, step.information, step.prisoner_id, moment)
    if step.domain == "visit":
        event["occurredAt"] = re.sub(r"(\.\d{6})", r"\g<1>0", str(event["occurredAt"]))
    return event


def _swap(items: list[Item], wanted: int, chance: random.Random) -> Counted:
    """Swaps the two events in each of up to `wanted` pairs of successive events about the same record.

    Both changes of a pair are made before either of its events is published.
    """
    swapped = Counted()
    last: dict[tuple[str, int | str], int] = {}
    pairs: list[tuple[int, int]] = []
    for place, item in enumerate(items):
        step = item.step
        if step is None or step.domain == "level-order":
            continue
        if step.entity in last:
            pairs.append((last[step.entity], place))
        last[step.entity] = place
    used: set[int] = set()
    chance.shuffle(pairs)
    for first, second in pairs:
        if len(swapped.found) == wanted:
            break
        if first in used or second in used:
            continue
        used.update((first, second))
        early, late = items[first], items[second]
        items[first], items[second] = late, early
        late.changes, early.changes = [*early.changes, *late.changes], []
        if late.step is not None and early.step is not None:
            swapped.add(late.step, before=early.step.event_type)
    return swapped


def _vanish(items: list[Item], request: TrafficRequest, chance: random.Random, moment: datetime) -> None:
    for _ in range(request.vanished):
        queue = chance.choice(request.queues)
        step = vanished(BY_QUEUE[queue], chance)
        items.insert(chance.randint(0, len(items)), Item(queue, step, _event(step, moment)))


def _add_unknown(items: list[Item], request: TrafficRequest, chance: random.Random, moment: datetime) -> None:
    for number in range(request.unknown):
        queue = request.queues[number % len(request.queues)]
        step = unknown(BY_QUEUE[queue], chance)
        item = Item(queue, step, _event(step, moment), copies=number % 2)
        items.insert(chance.randint(0, len(items)), item)


def _of_kind(items: list[Item], kind: str) -> list[Step]:
    return [item.step for item in items if item.step is not None and item.step.kind == kind]


def _duplicate(items: list[Item], wanted: int, chance: random.Random) -> tuple[Counted, Counted]:
    """Makes up to `wanted` events arrive twice.

    Every second one is delivered twice at once, and the others are published again shortly afterwards. Returns the
    events published twice and the events delivered twice.
    """
    doubled, redelivered = Counted(), Counted()
    able = [
        item
        for item in items
        if item.step is not None and item.step.kind in {"create", "update"} and not item.step.refused
    ]
    for number, item in enumerate(chance.sample(able, min(wanted, len(able)))):
        if item.step is None:
            continue
        if number % 2:
            item.copies = 2
            redelivered.add(item.step)
        else:
            place = next(index for index, each in enumerate(items) if each is item)
            later = min(len(items), place + 1 + chance.randint(0, FURTHEST_DUPLICATE))
            items.insert(later, Item(item.queue, item.step, item.event))
            doubled.add(item.step)
    return doubled, redelivered


def _break(
    items: list[Item], request: TrafficRequest, chance: random.Random, moment: datetime
) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = []
    for number in range(request.malformed):
        queue = request.queues[number % len(request.queues)]
        kind, body = write_malformed(BY_QUEUE[queue], number, chance, moment)
        items.insert(chance.randint(0, len(items)), Item(queue, body=body))
        listed.append({"queue": queue, "kind": kind})
    return listed


def _counted(steps: list[Step]) -> Counted:
    counted = Counted()
    for step in steps:
        counted.add(step)
    return counted

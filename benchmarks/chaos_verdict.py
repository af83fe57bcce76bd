"""Judges a run of `benchmarks.chaos`: every record must be in NOMIS once, nothing lost, and every alert sent once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from jobs.operations.dead_letters import dead_letter_queue
from jobs.runtime.application import Application
from sandbox import Sandbox
from sandbox.domains import DOMAINS
from sync.domains.registry import domain_of_queue
from sync.pipeline.coalesce import read_task
from sync.queues.queue import Message
from sync.settings.queues import QUEUES
from sync.store.creations import OPEN_STATES, CreationRecord, CreationState, list_creations
from sync.store.failed_attempts import FailedAttempt, attempts_at
from sync.store.findings import list_findings
from sync.store.tables import outbox

#: The sandbox's name for the records of a creation, by the creation's name.
_ENTITIES = {domain_of_queue(each.queue).record: each.events[0].kind for each in DOMAINS}
_MOST_DEAD = 2000
_NOT_FOUND = 404


@dataclass(slots=True)
class Verdict:
    """The figures of a run, and everything that is wrong after it."""

    figures: dict[str, Any] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """The verdict on a run, how many seconds it took, and its figures."""

    verdict: Verdict
    seconds: float
    figures: dict[str, Any] = field(default_factory=dict)


def judge(sandbox: Sandbox, program: Application, planned: Iterable[Mapping[str, Any]]) -> Verdict:
    """Judges the records in NOMIS, the creations, the dead letter queues and the alerts after a run.

    `planned`: what the sandbox published, as `Sandbox.traffic` returned it.
    """
    planned = list(planned)
    verdict = Verdict()
    with program.database.read() as connection:
        unsettled = list_creations(connection, OPEN_STATES, limit=100_000)
        found = list_findings(connection)
    doubtful = _Doubtful(sandbox, unsettled)
    _judge_truth(sandbox, doubtful, verdict)
    _judge_records(unsettled, {each.key for each in found}, verdict)
    _judge_dead_letters(program, planned, doubtful, verdict)
    _judge_alerts(sandbox, program, verdict)
    published: Counter[str] = Counter()
    for wave in planned:
        published.update(wave["published"])
    creating = ("booked", "inserted", "schedule.created", "instance.created")
    verdict.figures |= {
        "messages": sum(wave["messages"] for wave in planned),
        "creates": sum(number for name, number in published.items() if name.endswith(creating)),
        "records created in all": sum(wave["created"] for wave in planned),
        "ambiguous": len(doubtful.ids),
        "findings": dict(Counter(str(each.kind) for each in found)),
    }
    return verdict


class _Doubtful:
    """The records that a person must decide about, and the records that cannot be written before the decision."""

    def __init__(self, sandbox: Sandbox, unsettled: Iterable[CreationRecord]) -> None:
        ambiguous = [each for each in unsettled if each.state is CreationState.AMBIGUOUS]
        self.ids = {(_ENTITIES[each.domain], each.dps_id) for each in ambiguous}
        schedules = {dps_id for domain, dps_id in self.ids if domain == "activity"}
        allocations, attendances = sandbox.entities("allocation"), sandbox.entities("attendance")
        instances = {each["id"] for each in sandbox.entities("instance") if str(each["schedule_id"]) in schedules}
        self.instances = {str(each) for each in instances}
        for each in allocations:
            if str(each["schedule_id"]) in schedules:
                self.ids.add(("allocation", str(each["id"])))
        for each in attendances:
            if each["instance_id"] in instances:
                self.ids.add(("attendance", str(each["id"])))

    def __contains__(self, entity: tuple[str, object]) -> bool:
        return (entity[0], str(entity[1])) in self.ids

    def names(self, attempt: FailedAttempt) -> bool:
        """Whether a failed attempt was about one of these records."""
        entity = (attempt.entity or "").rpartition(":")[2]
        return entity in self.instances or any(entity == dps_id for _, dps_id in self.ids)


def _judge_truth(sandbox: Sandbox, doubtful: _Doubtful, verdict: Verdict) -> None:
    truth = sandbox.verify()
    verdict.figures["entities"] = truth["entities"]
    excused = {"unmapped", "missing", "wrong state"}
    for problem in truth["problems"]:
        if problem["problem"] in excused and (problem["domain"], problem["dps_id"]) in doubtful:
            continue
        verdict.violations.append(f"truth: {problem}")
    for record in truth["surplus"]:
        if record["dps_id"] is None or (record["domain"], record["dps_id"]) not in doubtful:
            verdict.violations.append(f"no mapping points to {record}")


def _judge_records(unsettled: Iterable[CreationRecord], findings: set[str], verdict: Verdict) -> None:
    """Checks that every started creation is mapped, or that a person is asked about it."""
    for each in unsettled:
        if each.state is not CreationState.AMBIGUOUS:
            verdict.violations.append(f"{each.domain} {each.dps_id} was left {each.state}")
        elif f"ambiguous:{each.domain}:{each.dps_id}:{each.attempts}" not in findings:
            verdict.violations.append(f"no finding about {each.domain} {each.dps_id}")


def _judge_dead_letters(
    program: Application, planned: list[Mapping[str, Any]], doubtful: _Doubtful, verdict: Verdict
) -> None:
    """Checks that each dead-letter message was planted, or waits for a person's decision about its record."""
    nowhere = {str(each["dps_id"]) for wave in planned for kind in ("vanished", "refused") for each in wave[kind]}
    unreadable = sum(len(wave["malformed"]) for wave in planned)
    reasons: Counter[str] = Counter()
    for queue in QUEUES:
        for dead_letter in dead_letter_queue(program, queue).peek(_MOST_DEAD):
            message = dead_letter.message
            with program.database.read() as connection:
                attempts = attempts_at(connection, queue, [(None, message.message_id)]).get(message.message_id)
            attempt = None if attempts is None else attempts.last
            reason = _reason(queue, message, attempt, nowhere, doubtful)
            if reason is None:
                failure = attempt.failure if attempt else "no failure recorded"
                what = f"{message.message_id} sent {message.sent_at} {sorted(message.attributes)}"
                verdict.violations.append(f"{queue} dead letter {what} {message.body[:900]}: {failure}")
            reasons[reason or "unexplained"] += 1
    verdict.figures["dead letters"] = dict(reasons)
    if reasons["unreadable"] != unreadable:
        verdict.violations.append(f"{unreadable} unreadable messages planted, {reasons['unreadable']} dead letters")


def _reason(
    queue: str, message: Message, attempt: FailedAttempt | None, nowhere: set[str], doubtful: _Doubtful
) -> str | None:
    if attempt is None:
        # Housekeeping does not send back a malformed message either, even if every process that received it died.
        return "unreadable" if read_task(message, domain_of_queue(queue)).malformed is not None else None
    if attempt.failure.step == "read event" and attempt.failure.service is None:
        return "unreadable"
    if any(dps_id in message.body for dps_id in nowhere):
        return "planted"
    if attempt.failure.status == _NOT_FOUND and doubtful.names(attempt):
        return "waits for a person's decision"
    return None


def _judge_alerts(sandbox: Sandbox, program: Application, verdict: Verdict) -> None:
    with program.database.read() as connection:
        rows = connection.execute(select(outbox.c.key, outbox.c.state).where(outbox.c.channel == "slack")).all()
    messages = [each["text"] for each in sandbox.slack()["messages"]]
    verdict.figures["alerts"] = len(messages)
    for row in rows:
        if row.state != "sent":
            verdict.violations.append(f"alert {row.key} is {row.state}")
    if len(messages) != len(rows):
        verdict.violations.append(f"{len(rows)} alerts to send, {len(messages)} messages in Slack")
    for text, times in Counter(messages).items():
        if times > 1:
            verdict.violations.append(f"sent {times} times: {text[:120]}")

"""Runs a backlog: two processes, as many as are deployed, share thousands of events, without any fault.

The backlog is in random order, as SQS may deliver it, and creations, changes and cancellations of one record are spread
over both processes. An event that a process receives too early must wait without using up its receives: nothing may
become a dead letter.
"""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import select

from benchmarks.chaos_setup import database_of, depth, say, start_command, until
from benchmarks.chaos_verdict import Result, judge
from benchmarks.forked_command import ForkedCommand
from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.queues.queue import BATCH
from sync.settings.loading import load_settings
from sync.settings.queues import QUEUES
from sync.store.tables import failures

#: The defaults of the program, but with a shorter pause, and without the jobs that do not drain.
SETTINGS = {
    "DRAIN_INTERVAL_SECONDS": "0.5",
    "SCHEDULER_RECONCILIATION": "false",
    "SCHEDULER_HOUSEKEEPING": "false",
    "SCHEDULER_CONTRACTS": "false",
    "HEALTH_PORT": "0",
    "LOG_FORMAT": "json",
}
_END_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Backlog:
    """The size of the backlog.

    `replicas`: the number of processes. `patience`: how long the processes may take to drain the queues, in seconds.
    """

    seed: int = 1
    events: int = 4000
    database: str = "postgresql"
    replicas: int = 2
    patience: float = 900.0


def run(backlog: Backlog, folder: Path, sandbox: Sandbox, out: TextIO | None = None) -> Result:
    """Publishes everything, starts the processes, waits until the queues are drained, and judges the result.

    `sandbox` is a fresh sandbox with queues; logs and a SQLite database go to `folder`.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        url, _ = database_of(backlog.database, folder, stack)
        environment = {**sandbox.environment(), **SETTINGS, "DATABASE_URL": url}
        program = Application(load_settings(environment))
        stack.callback(program.close)
        for queue in QUEUES:
            program.queue_pair(queue)
        program.database.ping()
        planned = sandbox.traffic(
            events=backlog.events,
            seed=backlog.seed,
            duplicates=backlog.events // 10,
            out_of_order=backlog.events // 12,
            chains=backlog.events // 200,
        )
        for queue in QUEUES:
            _shuffle(program, queue, random.Random(f"{backlog.seed} {queue}"))
        say(out, f"backlog: {planned['messages']} messages, {backlog.replicas} processes")
        logs = [folder / f"replica-{number}.log" for number in range(backlog.replicas)]
        replicas = [start_command(("scheduler",), environment, log) for log in logs]
        drained = until(lambda: depth(program) == 0, backlog.patience)
        ends = [_end(replica) for replica in replicas]
        verdict = judge(sandbox, program, [planned])
        verdict.violations.extend(f"failed without a fault: {failed}" for failed in _failures(program))
        if not drained:
            verdict.violations.append(f"{depth(program)} messages were not drained in {backlog.patience:.0f} s")
        verdict.violations.extend(f"a process ended with {end}" for end in ends if end)
        figures = {"seed": backlog.seed, "database": backlog.database, **verdict.figures}
        return Result(verdict, time.monotonic() - started, figures)


def _failures(program: Application) -> list[str]:
    """The most frequent reasons for failed attempts, with their numbers. Each of these attempts used up a receive."""
    with program.database.read() as connection:
        reasons = Counter(connection.execute(select(failures.c.reason)).scalars())
    return [f"{number} × {reason}" for reason, number in reasons.most_common(10)]


def _shuffle(program: Application, queue: str, chance: random.Random) -> None:
    """Shuffles the messages of a queue, since the emulator delivers them in order."""
    main = program.queue_pair(queue).main
    bodies: list[str] = []
    while messages := main.receive():
        bodies.extend(message.body for message in messages)
        main.delete(messages)
    chance.shuffle(bodies)
    client = program.aws.client("sqs")
    for start in range(0, len(bodies), BATCH):
        entries = [{"Id": str(n), "MessageBody": text} for n, text in enumerate(bodies[start : start + BATCH])]
        client.send_message_batch(QueueUrl=main.url, Entries=entries)


def _end(replica: ForkedCommand) -> Any:
    """Sends SIGTERM to a process. Returns its exit code, or a `TimeoutError` if it did not end in time."""
    replica.send_signal(signal.SIGTERM)
    try:
        return replica.wait(_END_SECONDS)
    except TimeoutError as error:
        replica.kill()
        return error

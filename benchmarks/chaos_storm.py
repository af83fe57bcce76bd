"""A thousand creates through crashes, lost responses and outages: each record must be in NOMIS exactly once.

Two real processes of the program, a `scheduler` and a repeated `drain --until-empty`, work on one database and on the
queues of a sandbox. They are killed with `kill -9` every few seconds and restarted, while responses are lost after the
write, NOMIS is slow with some writes, mapping posts hang for longer than the visibility timeout, NOMIS has bursts of
502, 503 and 504, Slack rejects posts, and the database (if it is PostgreSQL) crashes once. Then the storm ends, the
queues are drained, and the records of both sides are compared.

moto emulates SQS and SNS, with the patches of `sandbox.aws.moto_patches`, and gets the events in waves. Like SQS, it
redelivers the messages that a dead process had in flight. Each death costs every message in flight one receive, so with
a death every few seconds, some messages reach the dead letter queue untried. As in production, housekeeping (`dlq
retry-all`) sends these messages back.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import update

from benchmarks.chaos_faults import FaultSchedule
from benchmarks.chaos_setup import database_of, depth, retry_all_dead_letters, say, start_command, until
from benchmarks.chaos_verdict import Result, judge
from benchmarks.forked_command import ForkedCommand
from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.clock import now
from sync.settings.loading import load_settings
from sync.settings.queues import QUEUES
from sync.store.outbox import DeliveryState
from sync.store.tables import outbox

VISIBILITY_SECONDS = 3
SETTINGS = {
    "HMPPS_SQS_VISIBILITY_TIMEOUT_SECONDS": str(VISIBILITY_SECONDS),
    "HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT": "0,0,1",
    "HMPPS_SQS_MAX_RECEIVE_COUNT": "6",
    "API_TIMEOUT_SECONDS": "3",
    "CREATION_SETTLING_SECONDS": "1",
    "CREATION_WAIT_SECONDS": "5",
    "LEASE_SECONDS": "5",
    "DRAIN_INTERVAL_SECONDS": "0.3",
    "DRAIN_BATCH_SIZE": "50",
    "SCHEDULER_RECONCILIATION": "false",
    "SCHEDULER_HOUSEKEEPING": "false",
    "SCHEDULER_CONTRACTS": "false",
    "HEALTH_PORT": "0",
    "LOG_FORMAT": "json",
}
#: How long the last alerts may take to be sent.
ALERT_SECONDS = 60.0
#: The two processes.
COMMANDS = (("scheduler",), ("drain", "--until-empty"))


@dataclass(frozen=True, slots=True)
class Plan:
    """The amount of chaos, with times in seconds.

    `life`: the shortest and the longest time that a process may work. `storm`: the longest time from the last
    publication to the end of the storm. The storm ends earlier if most messages are handled and `least_kills` processes
    were killed. `patience`: how long the queues may take to be drained. `housekeepings`: how many times housekeeping
    runs after the storm.
    """

    seed: int = 1
    waves: int = 7
    events: int = 420
    database: str = "postgresql"
    life: tuple[float, float] = (0.5, 5.0)
    storm: float = 60.0
    least_kills: int = 1
    patience: float = 180.0
    housekeepings: int = 2


class Victim:
    """A process of the program that is killed while it works, and restarted whenever it has ended.

    It is killed some time after the first line in its log, not after its start, which takes a long time on a busy
    machine. It is forked from a process that has imported the program, so that it spends most of its life on work, not
    on imports.
    """

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path, plan: Plan) -> None:
        self._arguments = arguments
        self._environment = environment
        self._log = folder / f"{arguments[0]}.log"
        self._chance = random.Random(f"{plan.seed} {arguments}")
        self._life = plan.life
        self._calm = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name=arguments[0])
        self.kills = 0
        self.bad_ends: list[str] = []

    def start(self) -> None:
        """Starts the process, and the thread that kills and restarts it."""
        self._thread.start()

    def spare(self) -> None:
        """Stops killing the process, which continues."""
        self._calm.set()

    def finish(self) -> None:
        """Asks the process to end and waits for it."""
        self._over.set()
        self._thread.join()

    def _live(self) -> None:
        self._log.touch()
        while not self._over.is_set():
            silent = self._log.stat().st_size
            command = start_command(self._arguments, self._environment, self._log)
            self._watch(command, silent)

    def _watch(self, process: ForkedCommand, silent: int) -> None:
        life = self._chance.uniform(*self._life)
        deadline: float | None = None
        while process.poll() is None and not self._over.wait(0.05):
            if deadline is None and self._log.stat().st_size > silent:
                deadline = time.monotonic() + life
            if deadline is not None and time.monotonic() > deadline and not self._calm.is_set():
                process.kill()
                self.kills += 1
                return
        self._end(process, started=deadline is not None)

    def _end(self, process: ForkedCommand, *, started: bool) -> None:
        asked = process.poll() is None
        if asked:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(40)
        except TimeoutError:
            process.kill()
            self.bad_ends.append(f"{self._arguments[0]} did not end on SIGTERM")
            return
        # During the storm, the exit code 1 may mean that the database or a service is unavailable. Before the first log
        # line of a process and after its last line (the summary of a drain), SIGTERM ends it directly.
        fine = {0} if self._calm.is_set() else {0, 1}
        at_work = started and not self._log.read_text(encoding="utf-8").splitlines()[-1].startswith("drained ")
        if code not in fine | (set() if at_work else {-signal.SIGTERM}):
            self.bad_ends.append(f"{self._arguments[0]} ended with {code}, SIGTERM sent: {asked}")


def run(plan: Plan, folder: Path, sandbox: Sandbox, out: TextIO | None = None) -> Result:
    """Runs the storm, drains the queues and judges the result. Logs and a SQLite database go to `folder`.

    `sandbox` is a fresh sandbox with queues.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        url, server = database_of(plan.database, folder, stack)
        environment = {**sandbox.environment(), **SETTINGS, "DATABASE_URL": url}
        program = Application(load_settings(environment))
        stack.callback(program.close)
        for queue in QUEUES:
            program.queue_pair(queue)
        program.database.ping()
        victims = [Victim(arguments, environment, folder, plan) for arguments in COMMANDS]
        faults = FaultSchedule(sandbox, plan.seed, VISIBILITY_SECONDS)
        planned: list[dict[str, Any]] = []
        with _storm(victims, faults):
            for wave in range(plan.waves):
                planned.append(_publish(sandbox, plan, wave))
                if server is not None and wave == plan.waves // 2:
                    server.stop()
                    time.sleep(2)
                    server.start()
                say(out, f"wave {wave + 1}: {planned[-1]['messages']} messages, {depth(program)} on the queues")
            until(lambda: _kills(victims) >= plan.least_kills and depth(program) < plan.events // 4, plan.storm)
            kills = _kills(victims)
            say(out, f"the storm ends after {time.monotonic() - started:.0f} s: {kills} kills, {depth(program)} queued")
            faults.stop()
            for victim in victims:
                victim.spare()
            drained = until(lambda: depth(program) == 0, plan.patience)
            for _ in range(plan.housekeepings):
                redriven = retry_all_dead_letters(environment)
                say(out, f"housekeeping after {time.monotonic() - started:.0f} s: {redriven} sent back")
                drained = drained and until(lambda: depth(program) == 0, plan.patience)
        _send_last_alerts(program)
        verdict = judge(sandbox, program, planned)
        if not drained:
            verdict.violations.append(f"{depth(program)} messages were not drained in {plan.patience:.0f} s")
        verdict.violations.extend(end for victim in victims for end in victim.bad_ends)
        figures = {
            "seed": plan.seed,
            "database": plan.database,
            "kills": _kills(victims),
            "faults": faults.counts(),
            **verdict.figures,
        }
        return Result(verdict, time.monotonic() - started, figures)


@contextmanager
def _storm(victims: list[Victim], faults: FaultSchedule) -> Iterator[None]:
    for victim in victims:
        victim.start()
    faults.start()
    try:
        yield
    finally:
        faults.stop()
        for victim in victims:
            victim.spare()
        for victim in victims:
            victim.finish()


def _publish(sandbox: Sandbox, plan: Plan, wave: int) -> dict[str, Any]:
    return sandbox.traffic(
        events=plan.events,
        seed=1000 * plan.seed + wave,
        duplicates=plan.events // 10,
        out_of_order=plan.events // 12,
        chains=2,
        malformed=3,
        vanished=2,
        refused=1,
        unknown=2,
    )


def _kills(victims: list[Victim]) -> int:
    return sum(victim.kills for victim in victims)


def _send_last_alerts(program: Application) -> None:
    """Sends the alerts that are left, including those that a killed process had claimed.

    The claim of a killed process would expire only after five minutes. It can be ignored, since no other sender is
    left.
    """
    due_now = update(outbox).where(outbox.c.state == DeliveryState.PENDING).values(next_attempt_at=now())
    with program.database.begin() as connection:
        connection.execute(due_now)
    program.outbox.flush(ALERT_SECONDS)

"""Measures a thousand creates at 20 ms a call: by the drain, one at a time, and ten at a time.

Ten at a time is what the replaced service did on one pod: it received ten messages, handled them concurrently, waited
for the slowest, and acknowledged all ten. All three ways run the same creation protocol against the same sandbox in one
run, so their ratios hold on any machine. Each create makes four calls, so with W creates in flight and L seconds a
call, at most W / 4L creates a second are possible.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection

import structlog

from benchmarks.databases import KINDS, empty_database
from benchmarks.stub_http import serve
from benchmarks.stub_sqs import StubSqs
from jobs.runtime.application import Application
from sandbox import Sandbox
from sync.domains.registry import DOMAINS
from sync.events.context import Outcome
from sync.pipeline.coalesce import read_task
from sync.pipeline.drain import Drain
from sync.pipeline.handle import handle, start_context
from sync.pipeline.queue_context import QueueContext
from sync.queues.aws import Aws
from sync.queues.queue import Message, Queue
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName

CALLS = 4
QUEUE_NAME = "creates"
VISIT = DOMAINS["visits"]
Way = Callable[[Application, Queue, int], None]


def book(sandbox: Sandbox, way: str, number: int) -> list[str]:
    """Puts `number` new visits into visit-scheduler, and returns the bodies of their events."""
    prisoners = sandbox.prisoners()
    bodies = []
    for place in range(number):
        prisoner, reference = prisoners[place % len(prisoners)], f"{way}-{place}"
        sandbox.put(
            "visit",
            reference=reference,
            prisoner_id=prisoner["offenderNo"],
            prison_id=prisoner["prisonId"],
            room="Visits Main Hall",
            start="2030-06-02T14:00:00",
            end="2030-06-02T15:00:00",
            person_ids=[],
        )
        event = {
            "eventType": VISIT.creation.event_type,
            "occurredAt": "2023-05-22T10:00:00+01:00",
            "prisonerId": prisoner["offenderNo"],
            "additionalInformation": {"reference": reference},
        }
        bodies.append(json.dumps({"Type": "Notification", "MessageId": reference, "Message": json.dumps(event)}))
    return bodies


def queue_context(application: Application) -> QueueContext:
    """Returns what the pipeline of the visits queue shares, over the services and stores of `application`."""
    return QueueContext(
        domain=VISIT,
        settings=application.settings,
        services=application.services,
        creations=application.creations,
        leases=application.leases,
        telemetry=application.telemetry,
        database=application.database,
        breakers=application.breakers,
        upstreams=(UpstreamName.NOMIS, UpstreamName.MAPPING, UpstreamName.VISITS),
    )


def by_the_drain(application: Application, queue: Queue, _number: int) -> None:
    """Drains as this program does."""
    with Drain(queue_context(application), queue) as drain:
        # The last receive, which finds the queue empty, is a long poll of a second: it is not part of the work.
        drain.run_until_empty(max_batches=1)


def in_batches_of(size: int) -> Way:
    """Returns a way that receives `size` messages, handles them concurrently, acknowledges all of them, and repeats."""

    def drain(application: Application, queue: Queue, number: int) -> None:
        context, done = queue_context(application), 0

        def work(message: Message) -> None:
            task = read_task(message, VISIT)
            assert handle(context, task, start_context(context, task.properties)) is Outcome.APPLIED

        with ThreadPoolExecutor(size) as pool:
            while done < number:
                messages = queue.receive(size, 1, 120)
                list(pool.map(work, messages))
                application.telemetry.flush()
                queue.delete(messages)
                done += len(messages)

    return drain


def measure(
    sandbox: Sandbox, name: str, way: Way, number: int, in_flight: int, latency_ms: float, database: str
) -> float:
    """Returns the creates per second of one way, and checks that each record is in NOMIS once."""
    sandbox.reset(prisoners=200)
    bodies = book(sandbox, name, number)
    with empty_database(database) as database_url, stub_queue(bodies) as sqs_url:
        settings = load_settings(
            {
                **sandbox.environment(),
                "HMPPS_SQS_LOCALSTACK_URL": sqs_url,
                "DATABASE_URL": database_url,
                "DRAIN_CONCURRENCY": str(in_flight),
                "RECONCILIATION_CONCURRENCY": str(2 * in_flight),
                "SLACK_TOKEN": "",
                "EVENT_MINIMUM_AGE_SECONDS": "0",
            }
        )
        application = Application(settings)
        try:
            queue = Queue(Aws(settings).client("sqs"), QUEUE_NAME, f"http://stub/{QUEUE_NAME}")
            _ = application.creations, application.services
            sandbox.latency(latency_ms)
            started = time.perf_counter()
            way(application, queue, number)
            seconds = time.perf_counter() - started
            sandbox.latency(0)
        finally:
            application.close()
    made = [each["comment"].rpartition(": ")[2] for each in sandbox.nomis("visit")]
    assert sum(each.startswith(f"{name}-") for each in made) == number
    return number / seconds


@contextmanager
def stub_queue(bodies: list[str]) -> Iterator[str]:
    """The address of an SQS stub, in a separate process, whose queue holds messages with these bodies."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, bodies))
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection, bodies: list[str]) -> None:
    async def run() -> None:
        sqs = StubSqs(seconds=0.005)
        sqs.fill(QUEUE_NAME, bodies)
        server = await serve(sqs)
        pipe.send(server.sockets[0].getsockname()[1])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(run())


def main() -> None:
    """Measures the three ways and prints their ratios."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--creates", type=int, default=1000)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--call-ms", type=float, default=20)
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    call, flight, database = arguments.call_ms, arguments.in_flight, arguments.database
    with Sandbox.start(moto=False) as sandbox:
        # One at a time is slow, so its rate is measured with fewer creates.
        one = measure(sandbox, "one", in_batches_of(1), arguments.creates // 10, flight, call, database)
        ten = measure(sandbox, "ten", in_batches_of(10), arguments.creates, flight, call, database)
        same = measure(sandbox, "same", by_the_drain, arguments.creates, 10, call, database)
        ours = measure(sandbox, "ours", by_the_drain, arguments.creates, flight, call, database)
    bound = flight / (CALLS * call / 1000)
    print(
        f"creates on {database}: {ours:,.0f}/s with {flight} in flight: "
        f"{ours / one:.1f} times one at a time ({one:.1f}/s), "
        f"{ours / ten:.2f} times ten at once without pipelining ({ten:,.0f}/s; with 10 in flight {same / ten:.2f} "
        f"times), {ours / bound:.0%} of the bound ({bound:,.0f}/s)"
    )


if __name__ == "__main__":
    main()

"""Measures how close the drain comes to its bound, with 64 messages in flight, four calls a message and 20 ms a call.

With W messages in flight and four calls of L seconds each, no drain handles more than W / 4L messages a second. Run it
with `python -m benchmarks.drain`; the queue and the services run in a separate process on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection

import structlog

from benchmarks.databases import KINDS, empty_database
from benchmarks.stub_http import Call, Response, serve
from benchmarks.stub_sqs import StubSqs
from sync.creation.protocol import CreationProtocol
from sync.creation.store import CreationStore
from sync.domains.declaration import Update
from sync.domains.registry import DOMAINS
from sync.events.context import HandlerContext
from sync.events.envelope import DomainEvent
from sync.pipeline.drain import Drain
from sync.pipeline.queue_context import QueueContext
from sync.queues.aws import Aws
from sync.queues.queue import Queue
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry
from sync.upstream.breaker import Breakers
from sync.upstream.services import Services

EVENT_TYPE = "benchmark.changed"
CALLS = 4
QUEUE_NAME = "measured"


def four_calls(event: DomainEvent, context: HandlerContext) -> None:
    """Handles an event as the real updates do: read the record, look up the mapping, write to NOMIS twice."""
    record = event.text("id")
    context.step("read record")
    context.services[UpstreamName.ACTIVITIES].call("GET", f"/records/{record}")
    context.step("look up mapping")
    context.services.mapping.call("GET", f"/mapping/{record}")
    context.step("write")
    context.services.nomis.call("PUT", f"/records/{record}", body={"state": "COMP"})
    context.services.nomis.call("PUT", f"/records/{record}/details", body={"state": "COMP"})


DOMAIN = replace(
    DOMAINS["activities"],
    updates=(
        Update(
            event_type=EVENT_TYPE,
            entity=lambda event: f"record:{event.text('id')}",
            start=lambda event: {"recordId": event.text("id")},
            apply=four_calls,
            success="benchmark-success",
            failed="benchmark-failed",
        ),
    ),
)


def bodies(messages: int) -> list[str]:
    """The bodies of `messages` messages, each about a different record."""
    made = []
    for number in range(messages):
        event = {
            "eventType": EVENT_TYPE,
            "version": "1",
            "description": "A record was changed",
            "occurredAt": datetime.now(UTC).isoformat(),
            "additionalInformation": {"id": number},
        }
        made.append(json.dumps({"Type": "Notification", "MessageId": f"sns-{number}", "Message": json.dumps(event)}))
    return made


def _serve_until_closed(pipe: Connection, messages: int, call_seconds: float, sqs_seconds: float) -> None:
    """Serves, in the process of the stubs, SQS with `messages` messages, and services with a delay for each call."""

    def upstream(call: Call) -> Response:
        if call.path.endswith("/oauth/token"):
            return Response(b'{"access_token": "t", "expires_in": 3600}')
        return Response(b'{"id": 1, "state": "COMP"}', delay=call_seconds)

    async def run() -> None:
        sqs = StubSqs(seconds=sqs_seconds)
        sqs.fill(QUEUE_NAME, bodies(messages))
        servers = [await serve(sqs), await serve(upstream)]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
        pipe.send(sqs.left(QUEUE_NAME))

    asyncio.run(run())


@contextmanager
def stubs(messages: int, call_seconds: float, sqs_seconds: float) -> Iterator[tuple[Connection, str, str]]:
    """A pipe to the process of the stubs, and the addresses of SQS and of the services.

    The reply to anything that is sent into the pipe is the number of messages left on the queue.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve_until_closed, args=(theirs, messages, call_seconds, sqs_seconds))
    process.start()
    sqs, upstream = ours.recv()
    try:
        yield ours, f"http://127.0.0.1:{sqs}", f"http://127.0.0.1:{upstream}"
    finally:
        process.terminate()
        process.join()


@contextmanager
def drain_of(sqs_url: str, upstream_url: str, database_url: str, in_flight: int) -> Iterator[Drain]:
    """A drain of the stub queue, with all the parts of a real drain."""
    names = ("OAUTH", "NOMIS", "MAPPING", "ACTIVITIES")
    settings = load_settings(
        {
            **{f"API_BASE_URL_{name}": upstream_url for name in names},
            "HMPPS_SQS_PROVIDER": "localstack",
            "HMPPS_SQS_LOCALSTACK_URL": sqs_url,
            "DATABASE_URL": database_url,
            "EVENT_MINIMUM_AGE_SECONDS": "0",
            "DRAIN_CONCURRENCY": str(in_flight),
            "RECONCILIATION_CONCURRENCY": str(2 * in_flight),
        }
    )
    database = Database(settings.database_url)
    database.upgrade()
    leases = Leases(database, "benchmark", settings.lease_seconds)
    telemetry = Telemetry(database, structlog.get_logger())
    breakers = Breakers(database, telemetry, lambda _name: None)
    services = Services(settings, (breakers,))
    queue = Queue(Aws(settings).client("sqs"), QUEUE_NAME, f"http://stub/{QUEUE_NAME}")
    protocol = CreationProtocol(
        CreationStore(database, telemetry),
        leases,
        lambda _queue, body: queue.send(body),
        grace_seconds=settings.creation_settling_seconds,
        call_seconds=settings.longest_create_seconds,
    )
    context = QueueContext(
        domain=DOMAIN,
        settings=settings,
        services=services,
        creations=protocol,
        leases=leases,
        telemetry=telemetry,
        database=database,
        breakers=breakers,
        upstreams=(UpstreamName.NOMIS, UpstreamName.MAPPING, UpstreamName.ACTIVITIES),
    )
    try:
        with Drain(context, queue) as drain:
            yield drain
    finally:
        services.close()
        database.dispose()


def measure(
    messages: int, in_flight: int, call_seconds: float, sqs_seconds: float, database: str = "sqlite"
) -> tuple[float, float]:
    """Drains `messages` messages once.

    Returns how many messages it handled per second, from the first receive to the last delete, and the milliseconds of
    CPU time that this process spent on each message. `call_seconds` and `sqs_seconds` are how long a call to a service
    and a call to SQS take.
    """
    with (
        empty_database(database) as database_url,
        stubs(messages, call_seconds, sqs_seconds) as (pipe, sqs_url, upstream_url),
        drain_of(sqs_url, upstream_url, database_url, in_flight) as drain,
    ):
        started, cpu = time.perf_counter(), time.process_time()
        # The last receive, which finds the queue empty, is a long poll of a second: it is not part of the work.
        summary = drain.run_until_empty(max_batches=-(-messages // 1000))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
        pipe.send("how many are left?")
        left = pipe.recv()
    assert summary.applied == messages, summary
    assert left == 0, left
    return messages / seconds, 1000 * cpu_seconds / messages


def main() -> None:
    """Measures the drain, and prints its rate, its share of the bound, and the CPU time for each message."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--call-ms", type=float, default=20)
    parser.add_argument("--sqs-ms", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    bound = arguments.in_flight / (CALLS * arguments.call_ms / 1000)
    call_seconds, sqs_seconds = arguments.call_ms / 1000, arguments.sqs_ms / 1000
    measured = [
        measure(arguments.messages, arguments.in_flight, call_seconds, sqs_seconds, arguments.database)
        for _ in range(arguments.rounds)
    ]
    rate, cpu = (statistics.median(figures) for figures in zip(*measured, strict=True))
    print(
        f"drain on {arguments.database}: {rate:,.0f} messages/s of at most {bound:,.0f} ({rate / bound:.0%}); "
        f"{cpu:.2f} ms of CPU a message; {arguments.in_flight} in flight, {CALLS} calls of {arguments.call_ms:g} ms, "
        f"median of {arguments.rounds}"
    )


if __name__ == "__main__":
    main()

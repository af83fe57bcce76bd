"""Whatever the endpoint does, the telemetry export loses no event that may still be accepted.

Neither the process nor the export waits for long because of the endpoint.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from sqlalchemy import insert, select

from jobs.runtime.telemetry_export import TelemetryExport
from sandbox import Sandbox
from sandbox.application_insights import LARGEST_ITEM
from sync.clock import now
from sync.store.database import Database
from sync.store.leases import Leases
from sync.store.tables import telemetry_events
from sync.upstream.application_insights import CustomEvent, Ingestion, envelope
from tests.harness.http_servers import served

KEY = "00000000-0000-0000-0000-000000000001"
Respond = Callable[[list[dict[str, Any]]], tuple[int, dict[str, str], bytes]]


class Endpoint:
    """An ingestion endpoint that responds as `respond` says. `batches` has the number of events in each request.

    `url` is the address at which `handler` is served.
    """

    def __init__(self) -> None:
        self.url = ""
        self.respond: Respond = lambda items: response(items, {})
        self.batches: list[int] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            """Handles the requests to the endpoint."""

            def do_POST(self) -> None:
                """Responds as `respond` says."""
                items = json.loads(gzip.decompress(self.rfile.read(int(self.headers["Content-Length"]))))
                endpoint.batches.append(len(items))
                status, headers, body = endpoint.respond(items)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Does nothing."""

        self.handler = Handler


def response(
    items: list[dict[str, Any]], errors: dict[int, int], message: str = "odd"
) -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body with which Application Insights responds to `items`.

    errors: the status of each refused event, by its index. message: the text of each error.
    """
    listed = [{"index": index, "statusCode": status, "message": message} for index, status in errors.items()]
    body = {"itemsReceived": len(items), "itemsAccepted": len(items) - len(errors), "errors": listed}
    status = 200 if not errors else 400 if len(errors) == len(items) else 206
    return status, {}, json.dumps(body).encode()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """An endpoint that accepts everything unless a test says otherwise."""
    made = Endpoint()
    with served(made.handler) as made.url:
        yield made


def sender(database: Database, url: str, clock: Callable[[], float] = time.monotonic) -> TelemetryExport:
    """The export of the events in `database` to the endpoint at `url`. `clock` returns monotonic seconds."""
    ingestion = Ingestion(f"InstrumentationKey={KEY};IngestionEndpoint={url}/")
    return TelemetryExport(database, Leases(database, "test", 30), ingestion, clock)


def put(database: Database, number: int) -> None:
    """Adds `number` unsent telemetry events to the database."""
    rows = [{"name": "made-up", "time": now(), "properties": {}, "export": "due"} for _ in range(number)]
    with database.begin() as connection:
        connection.execute(insert(telemetry_events), rows)


def exports(database: Database) -> list[str]:
    """The export state of each event, in the order in which the events were added."""
    with database.read() as connection:
        return list(connection.execute(select(telemetry_events.c.export).order_by(telemetry_events.c.id)).scalars())


def test_a_wrong_key_loses_nothing(database: Database, endpoint: Endpoint) -> None:
    """If Application Insights does not know the key, the events wait until the key is corrected."""
    put(database, 3)
    endpoint.respond = lambda items: response(
        items, dict.fromkeys(range(len(items)), 400), "Invalid instrumentation key"
    )
    assert sender(database, endpoint.url).send_due() == 0
    assert exports(database) == ["due"] * 3
    endpoint.respond = lambda items: response(items, {})
    assert sender(database, endpoint.url).send_due() == 3


@pytest.mark.parametrize("number", [1, 3])
def test_an_endpoint_that_refuses_everything_loses_nothing(database: Database, endpoint: Endpoint, number: int) -> None:
    """If nothing is accepted and no reason is given, another server may have responded, so every event is kept."""
    put(database, number)
    endpoint.respond = lambda _: (400, {}, b"<html>Bad Request</html>")
    assert sender(database, endpoint.url).send_due() == 0
    assert exports(database) == ["due"] * number


def test_events_that_are_all_refused_for_a_reason_are_sent_once(database: Database, endpoint: Endpoint) -> None:
    """If a response gives a reason for refusing each event of a batch, the events count as refused.

    They are not sent again. One such reason is that an event is too old.
    """
    put(database, 2)
    endpoint.respond = lambda items: response(items, dict.fromkeys(range(len(items)), 400), "Field 'time' is too old")
    sender(database, endpoint.url).send_due()
    assert exports(database) == ["refused"] * 2
    assert endpoint.batches == [2]


@pytest.mark.parametrize("index", [-1, 2])
def test_a_response_about_another_batch_proves_nothing(database: Database, endpoint: Endpoint, index: int) -> None:
    """If a response names an index outside the batch, no event of the batch counts as accepted."""
    put(database, 2)
    endpoint.respond = lambda items: response(items, {index: 400})
    assert sender(database, endpoint.url).send_due() == 0
    assert exports(database) == ["due"] * 2


def test_a_redirect_that_does_not_respond_is_given_up(database: Database, endpoint: Endpoint) -> None:
    """If the address to which the endpoint redirects does not respond, the configured address is used again."""
    put(database, 1)
    endpoint.respond = lambda _: (308, {"Location": "http://127.0.0.1:1/v2.1/track"}, b"")
    clock = [0.0]
    sending = sender(database, endpoint.url, lambda: clock[0])
    assert sending.send_due() == 0
    endpoint.respond = lambda items: response(items, {})
    clock[0] += 5
    assert sending.send_due() == 1


@pytest.mark.parametrize("wait", ["99999999", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wait_is_longer_than_an_hour(database: Database, endpoint: Endpoint, wait: str) -> None:
    """However long the endpoint asks the sender to wait, the sender tries again within an hour."""
    put(database, 1)
    endpoint.respond = lambda _: (439, {"Retry-After": wait}, b"")
    clock = [0.0]
    sending = sender(database, endpoint.url, lambda: clock[0])
    assert sending.send_due() == 0
    endpoint.respond = lambda items: response(items, {})
    clock[0] += 3_600
    assert sending.send_due() == 1


def test_a_request_lasts_no_longer_than_the_caller_allows(database: Database, sandbox: Sandbox) -> None:
    """If the endpoint hangs, the export ends soon after the time that its caller allows.

    That also holds for a request with half of a batch that was too large. Every event stays due.
    """
    put(database, 4)
    sandbox.fault("application-insights", kind="status", status=413, times=1)
    sandbox.fault("application-insights", kind="delay", until_released=True)
    started = time.monotonic()
    sender(database, sandbox.url("application-insights")).send_due(0.5)
    assert time.monotonic() - started < 5
    assert exports(database) == ["due"] * 4


def test_a_process_that_ends_begins_no_more_requests(database: Database, endpoint: Endpoint) -> None:
    """A process that is asked to end finishes its current request and records the result.

    The remaining events, even half of a split batch, are left to the next process.
    """
    put(database, 1_200)
    assert sender(database, endpoint.url).send_due(stop_requested=lambda: len(endpoint.batches) == 1) == 500
    assert endpoint.batches == [500]
    endpoint.respond = lambda _: (413, {}, b"")
    sender(database, endpoint.url).send_due(stop_requested=lambda: len(endpoint.batches) == 3)
    assert endpoint.batches == [500, 500, 250]


def test_long_values_of_an_event_are_cut() -> None:
    """Long values are cut to keep an event within its limit in bytes, even if each character takes several bytes."""
    properties = {f"property{n}": "😀" * 8_192 for n in range(60)}
    packed = json.dumps(envelope(CustomEvent(1, "made-up", now(), properties, None), KEY), ensure_ascii=False)
    assert len(packed.encode()) <= LARGEST_ITEM

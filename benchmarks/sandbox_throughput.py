"""Measures how many requests a second the fake services handle, since they must not limit what is measured with them.

Run it with `python -m benchmarks.sandbox_throughput`; it starts its own sandbox on loopback and stops by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import statistics
import time
from urllib.parse import urlsplit

from sandbox import Sandbox


class Connection(asyncio.Protocol):
    """A persistent connection that sends the next request as soon as a response is complete."""

    def __init__(self, requests: list[bytes], counter: list[int]) -> None:
        """requests: sent in turn, again and again. counter: the number of responses, which all connections share."""
        self.requests = requests
        self.counter = counter
        self.turn = 0
        self.missing = -1
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.send()

    def send(self) -> None:
        """Sends the next request."""
        assert self.transport is not None
        self.transport.write(self.requests[self.turn % len(self.requests)])
        self.turn += 1

    def data_received(self, data: bytes) -> None:
        """Counts a response and sends the next request once the body of the response is complete."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        assert head.startswith(b"HTTP/1.1 200"), head
        self.buffer = body[length:]
        self.counter[0] += 1
        self.send()


def token_of(environment: dict[str, str], prefix: str) -> str:
    """Fetches a token for the client whose settings begin with `prefix`."""
    pair = f"{environment[f'{prefix}_CLIENT_ID']}:{environment[f'{prefix}_CLIENT_SECRET']}"
    where = urlsplit(environment["API_BASE_URL_OAUTH"])
    connection = http.client.HTTPConnection(where.netloc)
    headers = {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
    connection.request("POST", f"{where.path}/oauth/token", "grant_type=client_credentials", headers)
    token = str(json.loads(connection.getresponse().read())["access_token"])
    connection.close()
    return token


def request_of(host: str, path: str, token: str) -> bytes:
    """Returns the bytes of a GET request."""
    lines = (f"GET {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {token}", "Accept: application/json")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def measure(host: str, port: int, requests: list[bytes], connections: int, seconds: float) -> float:
    """Returns the responses per second during `seconds`, with as many requests in flight as there are connections."""
    counter = [0]
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: Connection(requests, counter), host, port) for _ in range(connections)]
    started, before = time.perf_counter(), counter[0]
    await asyncio.sleep(seconds)
    rate = (counter[0] - before) / (time.perf_counter() - started)
    for transport, _ in made:
        transport.abort()
    return rate


def main() -> None:
    """Measures the calls of the incentives reconciliation, and prints a line for each kind of call."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--prisoners", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with Sandbox.start(prisoners=arguments.prisoners, moto=False) as sandbox:
        print(f"{arguments.prisoners} prisoners served after {time.perf_counter() - started:.2f} s")
        environment = sandbox.environment()
        bookings = [prisoner["bookingId"] for prisoner in sandbox.prisoners()][:1000]
        without = _without_record(sandbox, environment, bookings)
        known = [each for each in bookings if each not in without]
        calls = {
            "NOMIS current incentive": (
                "NOMIS",
                "SYSTEM",
                [f"/incentives/booking-id/{each}/current" for each in known],
            ),
            "DPS current review": (
                "INCENTIVES",
                "INCENTIVES",
                [f"/iep/reviews/booking/{b}?with-details=false" for b in known],
            ),
            "NOMIS page of 500 ids": ("NOMIS", "SYSTEM", ["/prisoners/ids?size=500&page=1"]),
        }
        for name, (service, prefix, paths) in calls.items():
            where = urlsplit(environment[f"API_BASE_URL_{service}"])
            token = token_of(environment, prefix)
            requests = [request_of(where.netloc, path, token) for path in paths]
            host, port = str(where.hostname), int(where.port or 80)
            rates = [
                asyncio.run(measure(host, port, requests, arguments.connections, arguments.seconds))
                for _ in range(arguments.rounds)
            ]
            print(f"{name}: {statistics.median(rates):,.0f} requests/s (median of {arguments.rounds})")


def _without_record(sandbox: Sandbox, environment: dict[str, str], bookings: list[int]) -> set[int]:
    """Returns the bookings that may have no record on one of the sides, where a call would get a 404."""
    where = urlsplit(environment["API_BASE_URL_INCENTIVES"])
    connection = http.client.HTTPConnection(where.netloc)
    headers = {"Authorization": f"Bearer {token_of(environment, 'INCENTIVES')}", "Content-Type": "application/json"}
    connection.request("POST", "/iep/reviews/bookings", json.dumps(bookings), headers)
    recorded = {each["bookingId"] for each in json.loads(connection.getresponse().read())}
    connection.close()
    planted = {each["bookingId"] for each in sandbox.planted()["mismatches"]}
    return (set(bookings) - recorded) | planted


if __name__ == "__main__":
    main()

"""The health ping of an upstream service."""

import ssl
from dataclasses import dataclass

import orjson

from sync.upstream.http import ConnectionLost, NotSent, TimedOut, TooLarge, fetch

_PATH = "/health/ping"
#: Responses of a service that does not offer the ping, or not to us.
_NOT_OFFERED = frozenset({401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class Health:
    """The result of a ping: the status of the response, if there was one, and why the service counts as down, if so."""

    status: int | None
    problem: str | None

    @property
    def problem_unless_not_offered(self) -> str | None:
        """None also if the ping is not offered: the calls themselves then show whether the service is up."""
        return None if self.status in _NOT_OFFERED else self.problem


def ping(base_url: str, tls: ssl.SSLContext | None, seconds: float) -> Health:
    """Asks `{base_url}/health/ping`, without a token; never raises."""
    try:
        response = fetch("GET", base_url.rstrip("/") + _PATH, tls, seconds)
    except (NotSent, TimedOut, ConnectionLost, TooLarge) as error:
        return Health(None, str(error))
    if response.status != 200:
        return Health(response.status, f"status {response.status}")
    if not _says_up(response.data):
        return Health(200, 'status 200, but not the health of a service ("status": "UP")')
    return Health(200, None)


def _says_up(data: bytes) -> bool:
    """Whether this is the health of a service that is up, and not the page of another server in its place."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(body, dict) and body.get("status") == "UP"

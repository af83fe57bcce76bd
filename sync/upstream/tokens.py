"""Fetches tokens from HMPPS Auth with the client credentials for each service, and renews them in time."""

import base64
import math
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from sync.errors import NoToken
from sync.settings.upstreams import UpstreamName, UpstreamSettings
from sync.upstream.http import ConnectionLost, NotSent, TimedOut, TooLarge, fetch

#: A token is renewed this long before it expires, so that it does not expire during a call.
RENEW_BEFORE_SECONDS = 60.0
#: The lifetime of a token if the response does not state it.
DEFAULT_LIFETIME_SECONDS = 300.0
#: The share of a short lifetime after which a token is renewed, so that each token serves more than one call.
_SHORT_LIVED_SHARE = 0.5
#: Statuses with which HMPPS Auth refuses wrong credentials.
_REFUSED = frozenset({400, 401, 403})
#: The characters of a token that are allowed in a header.
_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenSource:
    """The access token of one client, fetched when first needed. Threads that need it at the same time share one fetch.

    `seconds` limits each request for a token, as in `fetch`.
    """

    def __init__(
        self,
        oauth_base_url: str,
        client: UpstreamSettings,
        tls: ssl.SSLContext | None,
        seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{oauth_base_url.rstrip('/')}/oauth/token"
        self._client = client
        self._tls = tls
        self._seconds = seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def token(self) -> str:
        """The current token, renewed if it is about to expire. Raises `NoToken`, whose service is `hmpps-auth`."""
        token = self._token
        if token is not None and self._monotonic() < self._renew_at:
            return token
        with self._lock:
            if self._token is None or self._monotonic() >= self._renew_at:
                self._fetch()
            assert self._token is not None
            return self._token

    def discard(self, token: str) -> None:
        """Drops `token`, which a service refused. A newer token that was fetched in the meantime is kept."""
        with self._lock:
            if self._token == token:
                self._token = None

    def _fetch(self) -> None:
        credentials = (self._client.client_id.encode(), self._client.client_secret.encode())
        form = {"grant_type": "client_credentials"}
        try:
            response = fetch("POST", self._url, self._tls, self._seconds, auth=credentials, data=form)
        except (NotSent, TimedOut, ConnectionLost, TooLarge) as error:
            raise _no_token(None, str(error)) from error
        if response.status != 200:
            message = f"no token for the client of {self._client.name}"
            if response.status in _REFUSED and _json_object(response.data):
                message += f"; set {' and '.join(self._client.credentials)}"
            raise _no_token(response.status, message)
        body = _json_object(response.data)
        token, lifetime = body.get("access_token"), _lifetime(body.get("expires_in"))
        if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
            raise _no_token(
                200, f"no token for the client of {self._client.name}: the response has no valid access_token"
            )
        if lifetime is None:
            raise _no_token(200, f"no token for the client of {self._client.name}: expires_in is not a positive number")
        self._token = token
        margin = RENEW_BEFORE_SECONDS if lifetime > 2 * RENEW_BEFORE_SECONDS else lifetime * _SHORT_LIVED_SHARE
        self._renew_at = self._monotonic() + lifetime - margin


def authorities(token: str) -> frozenset[str] | None:
    """The authorities (`ROLE_…`) in a token, or None if the token is not a JWT. The token is not verified."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    if not isinstance(claims, dict):
        return None
    found = claims.get("authorities")
    return frozenset(map(str, found)) if isinstance(found, list) else frozenset()


def _no_token(status: int | None, message: str) -> NoToken:
    return NoToken(UpstreamName.OAUTH, "POST", "/oauth/token", status=status, message=message)


def _json_object(data: bytes) -> Mapping[str, Any]:
    """The JSON object in `data`, or an empty one if `data` is anything else."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _lifetime(expires_in: object) -> float | None:
    """The lifetime of a token in seconds.

    This is the default if `expires_in` is None, and None if `expires_in` is not a positive number.
    """
    if expires_in is None:
        return DEFAULT_LIFETIME_SECONDS
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float | str):
        return None
    try:
        seconds = float(expires_in)
    except ValueError:
        return None
    return seconds if 0 < seconds < math.inf else None

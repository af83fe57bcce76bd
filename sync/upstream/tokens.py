"""Tokens of HMPPS Auth: client credentials, one client for each service, renewed before they expire."""

import threading
import time
from collections.abc import Callable

import requests

from sync.failures import UpstreamError
from sync.settings import UpstreamName, UpstreamSettings

#: A token is renewed this long before it expires, so that none expires on its way.
RENEW_BEFORE_SECONDS = 60.0
#: What is assumed when the answer does not say how long a token lives.
DEFAULT_LIFETIME_SECONDS = 300.0
#: The lifetime claimed for shorter-lived tokens, as a share, so that each is still used more than once.
_SHORT_LIVED_SHARE = 0.5
#: Answers of HMPPS Auth to wrong credentials.
_REFUSED = frozenset({400, 401, 403})


class TokenSource:
    """The access token of one client, fetched when first needed; many threads share one fetch."""

    def __init__(
        self,
        oauth_base_url: str,
        client: UpstreamSettings,
        session: requests.Session,
        timeout_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = f"{oauth_base_url}/oauth/token"
        self._client = client
        self._session = session
        self._timeout = timeout_seconds
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def token(self) -> str:
        """A token that is good for the next minute. Raises `UpstreamError` (service `hmpps-auth`)."""
        token = self._token
        if token is not None and self._monotonic() < self._renew_at:
            return token
        with self._lock:
            if self._token is None or self._monotonic() >= self._renew_at:
                self._fetch()
            assert self._token is not None
            return self._token

    def discard(self, token: str) -> None:
        """Forgets `token`, which a service refused; a newer one fetched meanwhile is kept."""
        with self._lock:
            if self._token == token:
                self._token = None

    def _fetch(self) -> None:
        path = "/oauth/token"
        try:
            response = self._session.post(
                self._url,
                data={"grant_type": "client_credentials"},
                auth=(self._client.client_id, self._client.client_secret),
                timeout=self._timeout,
            )
        except requests.RequestException as error:
            raise UpstreamError(UpstreamName.OAUTH, "POST", path, status=None, message=type(error).__name__) from error
        if response.status_code != 200:
            message = f"no token for client of {self._client.name}"
            if response.status_code in _REFUSED:
                message += f"; set {' and '.join(self._client.credentials)}"
            raise UpstreamError(UpstreamName.OAUTH, "POST", path, status=response.status_code, message=message)
        try:
            answer = response.json()
            token = answer["access_token"]
            lifetime = float(answer.get("expires_in") or DEFAULT_LIFETIME_SECONDS)
        except (ValueError, KeyError, TypeError) as error:
            message = "the answer holds no access_token"
            raise UpstreamError(UpstreamName.OAUTH, "POST", path, status=200, message=message) from error
        self._token = str(token)
        margin = RENEW_BEFORE_SECONDS if lifetime > 2 * RENEW_BEFORE_SECONDS else lifetime * _SHORT_LIVED_SHARE
        self._renew_at = self._monotonic() + lifetime - margin

"""The upstream services: their clients, their pings, and the documents that they publish."""

import ssl
from collections.abc import Callable
from functools import cached_property

from urllib3 import HTTPConnectionPool

from sync.errors import UpstreamError
from sync.settings.declaration import Settings
from sync.settings.upstreams import UpstreamName
from sync.upstream.concurrency_limit import ConcurrencyLimit
from sync.upstream.error_bodies import parse_error_body
from sync.upstream.http import ConnectionLost, NotSent, TimedOut, TooLarge, connection_pool, fetch, ping, tls_context
from sync.upstream.tokens import TokenSource
from sync.upstream.transport import CallObserver, ServiceClient

_DOCUMENT_PATH = "/v3/api-docs"
#: How long a health ping may take.
_PING_SECONDS = 5.0


class Services:
    """The clients of the upstream services: `services.nomis`, `services.mapping`, `services[UpstreamName.VISITS]`.

    Each client is created when it is first used; creating it makes no call. `close` must be called at the end.

    `may_write` is called before each write is sent. It raises `LeaseBusy` if the lease for the write has expired.
    """

    def __init__(
        self,
        settings: Settings,
        observers: tuple[CallObserver, ...] = (),
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._observers = observers
        self._may_write = may_write
        self._clients: dict[UpstreamName, ServiceClient] = {}
        self._pools: list[HTTPConnectionPool] = []

    def __getitem__(self, name: UpstreamName) -> ServiceClient:
        """The client of the service `name`. All callers share its connections, its token and its concurrency limit."""
        if name not in self._clients:
            self._clients.setdefault(name, self._new_client(name))
        return self._clients[name]

    @property
    def nomis(self) -> ServiceClient:
        """The client of hmpps-nomis-prisoner-api."""
        return self[UpstreamName.NOMIS]

    @property
    def mapping(self) -> ServiceClient:
        """The client of the mapping service."""
        return self[UpstreamName.MAPPING]

    def ping(self, name: UpstreamName, timeout_seconds: float = _PING_SECONDS) -> str | None:
        """Sends a health ping. Returns None if the service says that it is up, or else why it counts as down."""
        base_url = self._settings.upstream(name).base_url
        return ping(base_url, self._tls_for(base_url), timeout_seconds).problem

    def document(self, name: UpstreamName) -> bytes:
        """The OpenAPI document of the service `name`, fetched without a token. Raises `UpstreamError`."""
        base_url = self._settings.upstream(name).base_url
        try:
            url = base_url.rstrip("/") + _DOCUMENT_PATH
            response = fetch("GET", url, self._tls_for(base_url), self._settings.api_timeout_seconds)
        except (NotSent, TimedOut, ConnectionLost, TooLarge) as error:
            raise UpstreamError(name, "GET", _DOCUMENT_PATH, status=None, message=str(error)) from error
        if response.status != 200:
            message = parse_error_body(response.data).message
            raise UpstreamError(name, "GET", _DOCUMENT_PATH, status=response.status, message=message)
        return response.data

    def reach(self, name: UpstreamName) -> str | None:
        """Checks whether calls are worth trying.

        Returns the same as `ping`, but also None if the service does not offer the ping.
        """
        base_url = self._settings.upstream(name).base_url
        return ping(base_url, self._tls_for(base_url), _PING_SECONDS).problem_unless_not_offered

    def close(self) -> None:
        """Closes all connections."""
        for pool in self._pools:
            pool.close()

    def _new_client(self, name: UpstreamName) -> ServiceClient:
        settings = self._settings
        upstream, oauth_url = settings.upstream(name), settings.upstream(UpstreamName.OAUTH).base_url
        concurrency, seconds = settings.reconciliation_concurrency, settings.api_timeout_seconds
        pool = connection_pool(upstream.base_url, self._tls_for(upstream.base_url), concurrency, seconds)
        self._pools.append(pool)
        return ServiceClient(
            name,
            upstream.base_url,
            pool,
            TokenSource(oauth_url, upstream, self._tls_for(oauth_url), seconds),
            ConcurrencyLimit(name, concurrency),
            self._observers,
            self._may_write,
        )

    def _tls_for(self, base_url: str) -> ssl.SSLContext | None:
        return self._tls if base_url.startswith("https:") else None

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context(self._settings.api_ca_bundle)

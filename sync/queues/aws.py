"""Clients of AWS, and the only place that makes them."""

import threading
from typing import Any, Literal

from sync.settings import Settings

_CONNECTIONS = 50
_CONNECT_SECONDS = 5
#: Above the twenty seconds of the longest poll.
_READ_SECONDS = 30


class Aws:
    """Makes clients of AWS services over one session; a client is made once for each set of keys and then shared."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str | None], Any] = {}

    def client(
        self,
        service: Literal["sqs", "sns", "s3"],
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> Any:
        """A client of `service`, with the given keys or else those of the usual AWS chain (web identity)."""
        with self._lock:
            found = self._clients.get((service, access_key_id))
            if found is None:
                found = self._make(service, access_key_id, secret_access_key)
                self._clients[service, access_key_id] = found
            return found

    def _make(self, service: str, access_key_id: str | None, secret_access_key: str | None) -> Any:
        import boto3
        from botocore.config import Config

        settings = self._settings
        options: dict[str, Any] = {"region_name": settings.hmpps_sqs_region}
        if settings.hmpps_sqs_provider == "localstack":
            options["endpoint_url"] = settings.hmpps_sqs_localstack_url
            # An endpoint of one's own takes any keys, but the client wants some.
            access_key_id, secret_access_key = access_key_id or "localstack", secret_access_key or "localstack"
        if access_key_id is not None:
            options |= {"aws_access_key_id": access_key_id, "aws_secret_access_key": secret_access_key}
        if self._session is None:
            self._session = boto3.session.Session()
        config = Config(
            max_pool_connections=_CONNECTIONS,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3},
            s3={"addressing_style": "path"} if settings.hmpps_sqs_provider == "localstack" else {},
        )
        return self._session.client(service, config=config, **options)

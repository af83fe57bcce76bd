"""HMPPS Auth: one set of credentials for each service, and tokens, which expire and carry the roles of the client."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, unquote_plus

import orjson

from sandbox.http.serving import Holder, Refused, Reply, Request, Route

#: The roles of NOMIS and of the mapping service that replaced the roles of the domains.
NOMIS_SYNCHRONISATION = "NOMIS_PRISONER_API__SYNCHRONISATION__RW"
MAPPING_SYNCHRONISATION = "NOMIS_MAPPING_API__SYNCHRONISATION__RW"


@dataclass(frozen=True, slots=True)
class Client:
    """The program's credentials for one service.

    The names of the environment variables that hold the credentials begin with `prefix`.
    """

    service: str
    prefix: str
    roles: tuple[str, ...]

    @property
    def client_id(self) -> str:
        """The id with which the client requests tokens."""
        return f"prisoner-to-nomis-{self.service}"

    @property
    def address_variable(self) -> str:
        """The name of the environment variable that holds the service's address.

        The name ends in `prefix`, except that for NOMIS, whose prefix is `SYSTEM`, it ends in `NOMIS`.
        """
        return f"API_BASE_URL_{'NOMIS' if self.prefix == 'SYSTEM' else self.prefix}"

    @property
    def secret(self) -> str:
        """The secret with which this made-up client requests tokens."""
        return f"{self.service}-secret"


class Token(NamedTuple):
    """What Auth stores about a token: its holder, its service, and its times of issue and expiry (epoch seconds)."""

    holder: Holder
    service: str
    issued: float
    expires: float


class Auth:
    """Issues tokens and finds their holders. Tokens outlive a reset of the world, as real ones outlive a deployment.

    Args:
        clients: the clients that may request tokens.

    Attributes:
        token_seconds: how long a new token lasts, in seconds.
        tell_expiry: whether the response with a new token says how long the token lasts (`expires_in`).
        roles: roles that replace a client's usual roles, by service.
    """

    def __init__(self, clients: Iterable[Client]) -> None:
        """Starts with a new signing key."""
        self.token_seconds: float = 3600
        self.tell_expiry = True
        self.roles: dict[str, tuple[str, ...]] = {}
        self._clients = {client.client_id: client for client in clients}
        self._key = secrets.token_bytes(32)
        self._tokens: dict[str, Token] = {}
        self._revoked_at = 0.0

    def routes(self) -> list[Route]:
        """Returns the only endpoint, which issues tokens."""
        return [Route("POST", "/auth/oauth/token", self.issue)]

    def grant(self, service: str, roles: Iterable[str]) -> None:
        """Replaces the roles of the client for `service`.

        Raises:
            ValueError: no client has this service.
        """
        services = sorted({client.service for client in self._clients.values()})
        if service not in services:
            raise ValueError(f"there is no service {service!r}: choose from {', '.join(services)}")
        self.roles[service] = tuple(roles)

    def expire_all(self) -> None:
        """Makes every token issued so far expire."""
        self._revoked_at = time.time()

    def issue(self, request: Request) -> Reply:
        """Issues a token for the credentials in the header `Authorization: Basic`.

        Refuses wrong credentials with 401, and any grant type other than `client_credentials` with 400.
        """
        client = self._client(request.headers.get("Authorization", ""))
        form = parse_qs(request.body.decode("utf-8", "replace"))
        grant = form.get("grant_type", request.query.get("grant_type", [""]))[0]
        if grant != "client_credentials":
            return Reply(
                400,
                {"error": "unsupported_grant_type", "error_description": f"OAuth 2.0 Parameter: grant_type {grant}"},
            )
        now = time.time()
        roles = self.roles.get(client.service, client.roles)
        authorities = [f"ROLE_{role}" for role in roles]
        claims = {
            "sub": client.client_id,
            "client_id": client.client_id,
            "authorities": authorities,
            "scope": ["read", "write"],
            "iss": "sandbox",
            "jti": secrets.token_hex(8),
            "iat": now,
            "exp": now + self.token_seconds,
        }
        token = self._sign(claims)
        self._tokens[token] = Token(
            Holder(client.client_id, frozenset(roles)), client.service, now, now + self.token_seconds
        )
        body: dict[str, object] = {
            "access_token": token,
            "token_type": "bearer",
            "scope": "read write",
            "jti": claims["jti"],
        }
        if self.tell_expiry:
            body["expires_in"] = int(self.token_seconds)
        return Reply(body=body)

    def holder_of(self, service: str, authorization: str) -> Holder:
        """Returns the holder of the token in the header `Authorization: Bearer`.

        Raises:
            Refused: 401 if there is no token, or the token is unknown, has expired, or was issued for another service.
        """
        token = self._tokens.get(authorization[7:]) if authorization[:7].lower() == "bearer " else None
        if token is None or token.service != service:
            raise Refused(401, "Full authentication is required to access this resource")
        if token.expires <= time.time() or token.issued <= self._revoked_at:
            raise Refused(401, "Jwt expired")
        return token.holder

    def _client(self, authorization: str) -> Client:
        scheme, _, encoded = authorization.partition(" ")
        try:
            text = base64.b64decode(encoded, validate=True).decode() if scheme.lower() == "basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            text = ""
        client_id, _, secret = text.partition(":")
        client = self._clients.get(unquote_plus(client_id))
        if client is None or not hmac.compare_digest(unquote_plus(secret).encode(), client.secret.encode()):
            raise Refused(401, "Bad client credentials")
        return client

    def _sign(self, claims: dict[str, object]) -> str:
        parts = [_encoded(orjson.dumps({"alg": "HS256", "typ": "JWT"})), _encoded(orjson.dumps(claims))]
        content = ".".join(parts)
        return f"{content}.{_encoded(hmac.new(self._key, content.encode(), hashlib.sha256).digest())}"


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

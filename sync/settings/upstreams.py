"""Declares the upstream services: their names, default addresses and variables.

To add a service, add a member to `UpstreamName`.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

#: The time limit for opening a connection, in seconds. If the limit for the whole call is shorter, that limit applies.
CONNECT_SECONDS = 5.0


class UpstreamName(StrEnum):
    """The upstream services. The value of a member is the service's name in logs, errors and health pages.

    Each member also has a default address and a meaning (the description of the service on the settings page). Its
    credential variables begin with the name of the member, unless a different prefix is given.
    """

    def __new__(cls, value: str, default_url: str, meaning: str, credentials: str | None = None) -> Self:
        """Creates a member with its default address, its meaning and the prefix of its credential variables."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.default_url = default_url
        member.meaning = meaning
        member._credentials = credentials
        return member

    default_url: str
    meaning: str
    _credentials: str | None

    OAUTH = "hmpps-auth", "http://localhost:8090/auth", "HMPPS Auth; its token endpoint is `{base}/oauth/token`", ""
    NOMIS = "nomis", "http://localhost:8082", "hmpps-nomis-prisoner-api", "SYSTEM"
    MAPPING = "mapping", "http://localhost:8084", "hmpps-nomis-mapping-service"
    VISITS = "visits", "http://localhost:8080", "visit-scheduler"
    INCENTIVES = "incentives", "http://localhost:8080", "the incentives API"
    ACTIVITIES = "activities", "http://localhost:8080", "the activities API"
    APPOINTMENTS = "appointments", "http://localhost:8080", "the activities API, for appointments"
    SENTENCE_ADJUSTMENTS = "sentence-adjustments", "http://localhost:8080", "the adjustments API"
    PRISONER_SEARCH = (
        "prisoner-search",
        "http://localhost:8080",
        'prisoner-offender-search, which can publish a missed "prisoner received" event again',
    )

    @property
    def address_variable(self) -> str:
        """The variable with the address of the service."""
        return f"API_BASE_URL_{self.name}"

    @property
    def credential_variables(self) -> tuple[str, ...]:
        """The variables with the client id and secret; none for HMPPS Auth, which issues the tokens."""
        prefix = self.name if self._credentials is None else self._credentials
        return (f"{prefix}_CLIENT_ID", f"{prefix}_CLIENT_SECRET") if prefix else ()


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """The address and credentials of one upstream service, and the names of its credential variables."""

    name: UpstreamName
    base_url: str
    client_id: str
    client_secret: str = field(repr=False)
    credentials: tuple[str, ...] = ()

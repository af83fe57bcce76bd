"""Which upstream services count as down, shared by all processes."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from sync.clock import now
from sync.store.tables import breakers, insert_into


@dataclass(frozen=True, slots=True)
class BreakerRow:
    """The state of one service's breaker, `open` (down) or `closed`, and when it was last found so."""

    service: str
    state: str
    opened_at: datetime | None
    changed_at: datetime
    reason: str | None


def read_breakers(connection: Connection) -> dict[str, BreakerRow]:
    """The breakers that were ever opened, by service."""
    return {row.service: BreakerRow(*row) for row in connection.execute(select(breakers))}


def set_breaker(
    connection: Connection, service: str, state: str, *, opened_at: datetime | None = None, reason: str | None = None
) -> bool:
    """Sets a breaker to `state`; False if it was in that state already (nothing is changed then)."""
    values = {"state": state, "opened_at": opened_at, "changed_at": now(), "reason": reason}
    statement = insert_into(connection.dialect.name, breakers).values(values | {"service": service})
    statement = statement.on_conflict_do_update(
        index_elements=[breakers.c.service], set_=values, where=breakers.c.state != state
    )
    return connection.execute(statement).rowcount == 1


def note_failed_trial(connection: Connection, service: str) -> None:
    """Renews the time of an open breaker, so that other processes see that the service was tried and failed again."""
    still_open = (breakers.c.service == service) & (breakers.c.state == "open")
    connection.execute(update(breakers).where(still_open).values(changed_at=now()))

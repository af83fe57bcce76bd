"""How often messages came back to a dead letter queue, by the key that survives a re-drive."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, select

from sync.clock import now
from sync.store.tables import dead_letter_returns
from sync.store.types import Key
from sync.store.upserts import insert_into

_COLUMNS = dead_letter_returns.c
_KEY = Key(120)
#: Keys asked for in one statement; SQLite takes some hundred variables at least.
_ASKED = 500


def read_returns(connection: Connection, queue: str, keys: Iterable[str]) -> dict[str, int]:
    """How often each of `keys` was sent back to `queue`; those that never were are left out."""
    return {key: row.returns for key, row in _rows(connection, queue, keys).items()}


def last_returns(connection: Connection, queue: str, keys: Iterable[str]) -> dict[str, datetime]:
    """When each of `keys` was last sent back to `queue`; those that never were are left out."""
    return {key: row.last_retried_at for key, row in _rows(connection, queue, keys).items()}


def _rows(connection: Connection, queue: str, keys: Iterable[str]) -> dict[str, Row[Any]]:
    stored = {key: _KEY.stored(key) for key in keys}
    wanted = list(dict.fromkeys(stored.values()))
    found: dict[str, Row[Any]] = {}
    query = select(dead_letter_returns).where(_COLUMNS.queue == queue)
    for start in range(0, len(wanted), _ASKED):
        some = query.where(_COLUMNS.message_key.in_(wanted[start : start + _ASKED]))
        found |= {row.message_key: row for row in connection.execute(some)}
    return {key: found[name] for key, name in stored.items() if name in found}


def count_returns(connection: Connection, queue: str, keys: Iterable[str]) -> None:
    """Notes that the messages of `keys` are about to be sent back to `queue`, each as often as it is named."""
    moment = now()
    for key, times in Counter(keys).items():
        values = {"queue": queue, "message_key": key, "returns": times, "last_retried_at": moment}
        statement = insert_into(connection.dialect.name, dead_letter_returns).values(values)
        more = {"returns": _COLUMNS.returns + times, "last_retried_at": moment}
        connection.execute(
            statement.on_conflict_do_update(index_elements=[_COLUMNS.queue, _COLUMNS.message_key], set_=more)
        )


def forget_returns(connection: Connection, before: datetime) -> int:
    """Forgets messages that were last sent back before `before` (aware): SQS has dropped them. Returns how many."""
    return connection.execute(delete(dead_letter_returns).where(_COLUMNS.last_retried_at < before)).rowcount

"""Lets the many engines of a test process share compiled statements. A real process has one engine."""

from __future__ import annotations

import copy
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.util import LRUCache

#: The parts of a compiled statement that belong to one engine, since they hold the clock of that engine's database.
_OF_ENGINE = ("_bind_processors", "_inserted_primary_key_from_lastrowid_getter", "_cached_metadata")

#: How many statements a cache holds at most. It is more than the program has for both kinds of database together.
_MOST = 2_000

_shared: LRUCache[tuple[Any, ...], SQLCompiler] = LRUCache(_MOST)


class _Statements(LRUCache[Any, Any]):
    """The compiled statements of an engine.

    A statement that another engine has compiled is adapted, not compiled again.
    """

    def get(self, key: Any, default: Any = None) -> Any:
        """The compiled statement for `key`, or `default` if no engine with the same dialect has compiled it."""
        found = super().get(key)
        if found is None:
            dialect, *statement = key
            compiled = _shared.get((dialect.name, *statement))
            if compiled is None:
                return default
            found = _adapted(compiled, dialect)
            super().__setitem__(key, found)
        return found

    def __setitem__(self, key: Any, compiled: Any) -> None:
        super().__setitem__(key, compiled)
        dialect, *statement = key
        if isinstance(compiled, SQLCompiler):
            _shared[dialect.name, *statement] = compiled


def _adapted(compiled: SQLCompiler, dialect: Dialect) -> SQLCompiler:
    """A copy of a compiled statement for another engine."""
    adapted = copy.copy(compiled)
    adapted.dialect = dialect
    for name in _OF_ENGINE:
        vars(adapted).pop(name, None)
    return adapted


def share_compiled_statements() -> None:
    """Makes all engines share their compiled statements."""

    @event.listens_for(Engine, "engine_connect")
    def share(connection: Connection) -> None:
        if not isinstance(connection.engine._compiled_cache, _Statements):
            connection.engine._compiled_cache = _Statements(_MOST)

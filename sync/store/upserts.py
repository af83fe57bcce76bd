"""INSERT … ON CONFLICT, which SQLite and PostgreSQL both know, and SQLAlchemy under two names."""

import re
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeAlias

from sqlalchemy import Table, TextClause, bindparam, text
from sqlalchemy.dialects import registry

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

# A dialect takes a tenth of a second to import, and a command needs one of them at most.
Insert: TypeAlias = "sqlite.Insert | postgresql.Insert"

#: A cast as PostgreSQL alone writes it, which in a text would be taken for part of the parameter's name.
_CAST = re.compile(r"(:\w+)::(\w+)")


def insert_into(dialect: str, table: Table) -> Insert:
    """An INSERT into `table` that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert as insert_postgresql

        return insert_postgresql(table)
    from sqlalchemy.dialects.sqlite import insert as insert_sqlite

    return insert_sqlite(table)


def made_ready(statement: Insert, dialect: str, columns: Collection[str] | None = None) -> TextClause:
    """An INSERT as text with typed parameters, for one that is run often.

    SQLAlchemy keeps no compiled form of an INSERT … ON CONFLICT, and compiling takes longer than running it. `columns`
    are those for which values are given when it is run, where the statement names none itself.
    """
    flavour = registry.load(dialect)(paramstyle="named")
    names = None if columns is None else list(columns)
    compiled = statement.inline().compile(dialect=flavour, column_keys=names)
    parameters = (bindparam(name, type_=parameter.type) for name, parameter in compiled.binds.items())
    return text(_CAST.sub(r"CAST(\1 AS \2)", str(compiled))).bindparams(*parameters)

"""INSERT … ON CONFLICT, which SQLite and PostgreSQL both know, and SQLAlchemy under two names."""

import re
from collections.abc import Collection
from typing import TypeAlias

from sqlalchemy import Table, TextClause, bindparam, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

Insert: TypeAlias = sqlite.Insert | postgresql.Insert

#: A cast as PostgreSQL alone writes it, which in a text would be taken for part of the parameter's name.
_CAST = re.compile(r"(:\w+)::(\w+)")


def insert_into(dialect: str, table: Table) -> Insert:
    """An INSERT into `table` that has `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def made_ready(statement: Insert, dialect: str, columns: Collection[str] | None = None) -> TextClause:
    """An INSERT as text with typed parameters, for one that is run often.

    SQLAlchemy keeps no compiled form of an INSERT … ON CONFLICT, and compiling takes longer than running it. `columns`
    are those for which values are given when it is run, where the statement names none itself.
    """
    make = PGDialect if dialect == "postgresql" else SQLiteDialect
    flavour = make(paramstyle="named")
    names = None if columns is None else list(columns)
    compiled = statement.inline().compile(dialect=flavour, column_keys=names)
    parameters = (bindparam(name, type_=parameter.type) for name, parameter in compiled.binds.items())
    return text(_CAST.sub(r"CAST(\1 AS \2)", str(compiled))).bindparams(*parameters)

"""INSERT … ON CONFLICT as text, compiled once."""

import re
from collections.abc import Collection

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.dialects import registry

from sync.store.tables import Insert

#: A cast as PostgreSQL alone writes it, which in a text would be taken for part of the parameter's name.
_CAST = re.compile(r"(:\w+)::(\w+)")


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

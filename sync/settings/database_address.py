"""The address of the database: parsed, rejected where it is ambiguous, and shown without its secrets."""

import re

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

#: The longest time that a writer may wait for its turn by the option `timeout` of a SQLite address.
_LONGEST_WAIT_SECONDS = 3_600
_ADVICE = "give an address such as sqlite:///file.db or postgresql://user:password@host/name"
#: The name of the database is shown; a password that slipped into it must not be.
_NOT_IN_NAME = re.compile(r"[;&#=\s\x00-\x1f]")


def parse_database_address(text: str) -> URL:
    """The address with the driver to use. Raises `ValueError` with what to change, quoting nothing of the address."""
    try:
        address = make_url(text.strip())
    except ArgumentError:
        raise ValueError(_ADVICE) from None
    except ValueError:
        # A password that contains a colon or @ ends up where the port belongs.
        raise ValueError(
            f"the port is not a number; percent-encode the password (@ as %40, : as %3A); {_ADVICE}"
        ) from None
    if address.port is not None and not 0 < address.port < 65_536:
        raise ValueError("the port is not a number from 1 to 65535")
    backend = address.get_backend_name()
    if backend == "sqlite":
        if address.host or address.username or address.password or address.port:
            raise ValueError(f"a SQLite file needs a third slash; {_ADVICE}")
        if not _is_a_time(address.query.get("timeout", "0")):
            raise ValueError(f"timeout is no number of seconds from 0 to {_LONGEST_WAIT_SECONDS}")
        return address.set(drivername="sqlite")
    if backend not in ("postgresql", "postgres"):
        raise ValueError(f"only sqlite and postgresql are supported; {_ADVICE}")
    queried = [each for name, value in address.query.items() for each in (name, *_as_tuple(value)) if name != "host"]
    # The address of an abstract socket begins with @.
    hosts = [each.removeprefix("@") for each in _as_tuple(address.query.get("host", ""))]
    if any("@" in each for each in (address.host or "", address.database or "", *queried, *hosts)):
        raise ValueError("percent-encode the password: @ as %40, / as %2F, : as %3A, % as %25")
    if _NOT_IN_NAME.search(address.database or ""):
        raise ValueError(f"give parameters after ?, separated by &; {_ADVICE}")
    return address.set(drivername="postgresql+psycopg")


def shown_address(address: URL) -> str:
    """Driver, host and name: what may be shown."""
    hosts = address.host or ",".join(_as_tuple(address.query.get("host", "")))
    if address.port is not None and hosts:
        hosts = f"{hosts}:{address.port}"
    return f"{address.drivername}://{hosts}/{address.database or _as_tuple(address.query.get('dbname', ''))[0]}"


def without_secrets(text: str, address: URL) -> str:
    """The text of an error without the passwords of the address."""
    queried = [each for name, value in address.query.items() if "password" in name for each in _as_tuple(value)]
    for secret in (address.password, *queried):
        if secret:
            text = text.replace(secret, "***")
    return text


def _is_a_time(value: str | tuple[str, ...]) -> bool:
    try:
        return 0 <= float(str(value)) <= _LONGEST_WAIT_SECONDS
    except ValueError:
        return False


def _as_tuple(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value

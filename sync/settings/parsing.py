"""Parsers for the values of settings, and field types that use these parsers.

Each parser returns the value, or raises a `ValueError` that says what is wrong or what to change.
"""

import re
import ssl
from collections.abc import Callable
from email.utils import parseaddr
from typing import Annotated
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from sync.settings import times

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
#: A year in seconds. A longer time counts as a mistake, and may be too long to add to a date.
YEAR_SECONDS = 366 * 86_400

#: A host name, or an IPv4 or IPv6 address without brackets.
_HOST = re.compile(r"(?=.{1,253}\Z)[\w-]{1,63}(\.[\w-]{1,63})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]+(%\w+)?")
_MAIL_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\\]+")
_INSTRUMENTATION_KEY = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


def parse_flag(text: str) -> bool:
    """True for `true`, `1`, `yes` or `on`, and False for `false`, `0`, `no` or `off`, regardless of case."""
    text = text.strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError("set it to true or false")


def _parse_numbers(text: str) -> tuple[int, ...]:
    """One or more whole numbers, none below 0, separated by commas."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError("give whole numbers separated by commas, such as 1,10,60,600") from error
    if not numbers or min(numbers) < 0:
        raise ValueError("give at least one number, none below 0")
    return numbers


def _parse_codes(text: str) -> tuple[str, ...]:
    """Prison codes such as `MDI`, separated by commas."""
    codes = tuple(part.strip().upper() for part in text.split(",") if part.strip())
    if not all(code.isascii() and code.isalnum() for code in codes):
        raise ValueError("give prison codes separated by commas, such as MDI,LEI")
    return codes


def parse_waits(text: str) -> tuple[int, ...]:
    """Comma-separated waits, in seconds, before a message becomes visible again, each within the limit of SQS."""
    seconds = _parse_numbers(text)
    if max(seconds) > times.MOST_VISIBILITY_SECONDS:
        raise ValueError(f"SQS hides a message for at most {times.MOST_VISIBILITY_SECONDS} seconds")
    return seconds


def _parse_time_zone(text: str) -> str:
    """The name of a time zone, such as `Europe/London`."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:  # a folder of zones, such as Europe, is an OSError
        raise ValueError("give a time zone such as Europe/London") from error
    return text


def parse_address(text: str) -> str:
    """The HTTP address of a service. Trailing slashes are removed, unless the address ends with `/api/`."""
    _parse_link(text)
    return text.rstrip("/") if not text.endswith("/api/") else text


def _parse_link(text: str) -> str:
    """An HTTP address that contains no secrets and can therefore be shown."""
    _reject_blanks(text)
    parts = _split(text, "give an address such as https://host.example")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as https://host.example")
    if "@" in parts.netloc:
        raise ValueError("remove the user and password; give an address such as https://host.example")
    if parts.query or parts.fragment:
        raise ValueError("remove the ? or # and everything after it; give an address such as https://host.example")
    if not _HOST.fullmatch(parts.hostname):
        raise ValueError("its host is not a valid host name; give an address such as https://host.example")
    _reject_wrong_port(parts)
    return text


def _parse_mail_address(text: str) -> str:
    """The email address of a person or a mailing list, which may be written as `Name <address>`."""
    if not text.isprintable() or not _MAIL_ADDRESS.fullmatch(parseaddr(text)[1]):
        raise ValueError("give an address such as jane.smith@host.example")
    return text


def _parse_mail_addresses(text: str) -> tuple[str, ...]:
    """Email addresses, separated by commas. An empty string gives an empty tuple."""
    return tuple(_parse_mail_address(part.strip()) for part in text.split(",") if part.strip())


def _parse_mail_server(text: str) -> str:
    """The address of a mail server, with or without a user name and password."""
    advice = "give smtp://user:password@host:port or smtps://user:password@host:port"
    try:
        _reject_blanks(text)
        parts = _split(text, "it is not an address")
        if parts.netloc.count("@") > 1 or "@" in parts.path + parts.query + parts.fragment:
            raise ValueError("percent-encode the password: @ as %40, / as %2F, : as %3A, % as %25")
        _reject_wrong_port(parts)
    except ValueError as error:
        raise ValueError(f"{error}; {advice}") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError(advice)
    return text


def _parse_location(text: str) -> str:
    """A folder, or an S3 bucket with or without a prefix."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    if not text.startswith("s3://"):
        raise ValueError(f"reports cannot be written to {scheme.group()}…; give a folder, or s3://bucket/prefix")
    parts = _split(text, "the bucket is missing or not valid; give s3://bucket/prefix or a folder")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("the bucket is missing or not valid; give s3://bucket/prefix or a folder")
    return text


def _parse_region(text: str) -> str:
    """The name of an AWS region, such as `eu-west-2`."""
    if not _REGION.fullmatch(text):
        raise ValueError("give an AWS region such as eu-west-2")
    return text


def _parse_certificates(text: str) -> str:
    """The path of a readable file with the certificates of certificate authorities."""
    try:
        ssl.create_default_context(cafile=text)
    except ssl.SSLError as error:
        raise ValueError("the file does not contain certificates in PEM form") from error
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from error
    return text


def _parse_connection_string(text: str) -> str:
    """The connection string of an Application Insights resource."""
    ingestion_parts(text)
    return text


def ingestion_parts(text: str) -> tuple[str, str]:
    """The instrumentation key and the ingestion endpoint (without a trailing slash) in a connection string.

    Raises a `ValueError` that says what is wrong or what to change, but does not quote `text`.
    """
    parts = dict(part.strip().partition("=")[::2] for part in text.split(";") if part.strip())
    named = {name.lower(): value for name, value in parts.items()}
    key, endpoint = named.get("instrumentationkey", ""), named.get("ingestionendpoint", "")
    if not (_INSTRUMENTATION_KEY.fullmatch(key) and endpoint):
        raise ValueError("give InstrumentationKey=<uuid>;IngestionEndpoint=https://<region>.in.applicationinsights.…/")
    try:
        return key, _parse_link(endpoint).rstrip("/")
    except ValueError as error:
        raise ValueError(f"its IngestionEndpoint is not valid: {error}") from None


def _reject_blanks(text: str) -> None:
    if any(character.isspace() for character in text):
        raise ValueError("it contains a space or a line break")


def _reject_wrong_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port is not a number from 1 to 65535")


def _split(text: str, advice: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError(advice) from None


def _check_database_url(value: str) -> str:
    parse_database_address(value)
    return value


def _parsed(parse: Callable[[str], object]) -> Callable[[object], object]:
    """A validator that applies `parse` to a string, and returns any other value, such as a default, unchanged."""
    return lambda value: parse(value) if isinstance(value, str) else value


Seconds = Annotated[float, Field(gt=0, le=YEAR_SECONDS)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_parsed(_parse_numbers))]
Codes = Annotated[tuple[str, ...], BeforeValidator(_parsed(_parse_codes))]
Waits = Annotated[tuple[int, ...], BeforeValidator(_parsed(parse_waits))]
TimeZone = Annotated[str, AfterValidator(_parse_time_zone)]
Address = Annotated[str, AfterValidator(parse_address)]
Link = Annotated[str, AfterValidator(_parse_link)]
MailAddress = Annotated[str, AfterValidator(_parse_mail_address)]
MailAddresses = Annotated[tuple[str, ...], BeforeValidator(_parsed(_parse_mail_addresses))]
MailServer = Annotated[SecretStr, BeforeValidator(_parsed(_parse_mail_server))]
ConnectionString = Annotated[SecretStr, BeforeValidator(_parsed(_parse_connection_string))]
Location = Annotated[str, AfterValidator(_parse_location)]
Region = Annotated[str, AfterValidator(_parse_region)]
Certificates = Annotated[str, AfterValidator(_parse_certificates)]
DatabaseUrl = Annotated[str, AfterValidator(_check_database_url)]


#: The maximum of the option `timeout` in a SQLite address: how long, in seconds, a writer waits for its turn.
_LONGEST_WAIT_SECONDS = 3_600
_ADVICE = "give an address such as sqlite:///file.db or postgresql://user:password@host/name"
#: Characters that a database name must not contain. The name is shown, and may contain a misplaced password.
_NOT_IN_NAME = re.compile(r"[;&#=\s\x00-\x1f]")


def parse_database_address(text: str) -> URL:
    """The address of a database, with the driver to use.

    Raises a `ValueError` that says what is wrong or what to change, but does not quote `text`.
    """
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
            raise ValueError(f"the address of a SQLite file needs a third slash; {_ADVICE}")
        if not _is_a_time(address.query.get("timeout", "0")):
            raise ValueError(f"timeout must be a number of seconds from 0 to {_LONGEST_WAIT_SECONDS}")
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
    """The driver, host, port and database name in `address`, without the user, the password or the options."""
    hosts = address.host or ",".join(_as_tuple(address.query.get("host", "")))
    if address.port is not None and hosts:
        hosts = f"{hosts}:{address.port}"
    return f"{address.drivername}://{hosts}/{address.database or _as_tuple(address.query.get('dbname', ''))[0]}"


def without_secrets(text: str, address: URL) -> str:
    """The text of an error, in which `***` replaces every password that `address` contains."""
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

"""What the text of a setting has to look like: each function gives it back, or raises `ValueError` with the remedy."""

import re
from collections.abc import Mapping
from email.utils import parseaddr
from typing import Any
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from sync.queues.queue import MOST_VISIBILITY_SECONDS

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
#: A name, or an address of version 4 or 6 without its brackets.
_HOST = re.compile(r"(?=.{1,253}\Z)[\w-]{1,63}(\.[\w-]{1,63})*\.?|[0-9a-fA-F:.]*:[0-9a-fA-F:.]+(%\w+)?")
_MAIL_ADDRESS = re.compile(r"[^\s@<>,;:\"()\[\]\\]+@[^\s@<>,;:\"()\\]+")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


#: What is said in place of the validator's own words, by its kind of error; the braces are filled from its limits.
_PLAIN = {
    "int_type": "give a whole number",
    "int_parsing": "give a whole number",
    "int_parsing_size": "give a smaller whole number",
    "int_from_float": "give a whole number",
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "set it to true or false",
    "bool_parsing": "set it to true or false",
    "greater_than": "give a number above {gt:.10g}",
    "greater_than_equal": "give a number from {ge:.10g} up",
    "less_than": "give a number below {lt:.10g}",
    "less_than_equal": "give a number up to {le:.10g}",
    "literal_error": "give {expected}",
}
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY|SMTP_URL|DATABASE_URL")
_LONGEST_SHOWN = 80


def wrong_setting(name: str, value: str | None, error: Mapping[str, Any]) -> str:
    """The line about a setting that pydantic refused, in our words: which, what it was, and what to give."""
    if error["type"] == "value_error":
        reason = str(error["ctx"]["error"])
    else:
        reason = _PLAIN.get(error["type"], "give another value").format(**error.get("ctx", {}))
    return f"{name}: {_shown(name, value)}{reason}"


def _shown(name: str, value: str | None) -> str:
    """The wrong value, where there can be nothing secret in it."""
    if value is None or _SECRET.search(name) or "@" in value or "?" in value:
        return ""
    return f"{value[:_LONGEST_SHOWN]!r}{'…' if len(value) > _LONGEST_SHOWN else ''}: "


def read_time_zone(text: str) -> str:
    """The name of a time zone."""
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError) as error:  # a folder of zones, such as Europe, is an OSError
        raise ValueError("give a time zone such as Europe/London") from error
    return text


def read_address(text: str) -> str:
    """The address of a service over HTTP, without a slash at its end."""
    read_link(text)
    return text.rstrip("/") if not text.endswith("/api/") else text


def read_link(text: str) -> str:
    """An address over HTTP that may be shown to anybody."""
    _refuse_blanks(text)
    parts = _split(text, "give an address such as https://host.example")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as https://host.example")
    if "@" in parts.netloc:
        raise ValueError("take user and password out of it; give an address such as https://host.example")
    if parts.query or parts.fragment:
        raise ValueError("take what follows ? or # out of it; give an address such as https://host.example")
    if not _HOST.fullmatch(parts.hostname):
        raise ValueError("its host is no name of a machine; give an address such as https://host.example")
    _refuse_wrong_port(parts)
    return text


def read_mail_address(text: str) -> str:
    """The address of a person or a list, also as `Name <address>`."""
    if not text.isprintable() or not _MAIL_ADDRESS.fullmatch(parseaddr(text)[1]):
        raise ValueError("give an address such as jane.smith@host.example")
    return text


def read_mail_server(text: str) -> str:
    """The address of a mail server, with user name and password or without."""
    advice = "give smtp://user:password@host:port or smtps://user:password@host:port"
    try:
        _refuse_blanks(text)
        parts = _split(text, "it cannot be read")
        if parts.netloc.count("@") > 1 or "@" in parts.path + parts.query + parts.fragment:
            raise ValueError("percent-encode the password: @ as %40, / as %2F, : as %3A, % as %25")
        _refuse_wrong_port(parts)
    except ValueError as error:
        raise ValueError(f"{error}; {advice}") from None
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError(advice)
    return text


def read_location(text: str) -> str:
    """A folder, or a bucket of S3 with or without a prefix."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    parts = _split(text, "it names no bucket; give s3://bucket/prefix or a folder")
    if not text.startswith("s3://"):
        raise ValueError(f"{scheme.group()}… is no place for reports; give a folder, or s3://bucket/prefix")
    if not _BUCKET.fullmatch(parts.netloc):
        raise ValueError("it names no bucket; give s3://bucket/prefix or a folder")
    return text


def read_region(text: str) -> str:
    """The name of a region of AWS."""
    if not _REGION.fullmatch(text):
        raise ValueError("give a region of AWS such as eu-west-2")
    return text


def read_certificates(text: str) -> str:
    """The path of a file of certificate authorities, which is there and can be read."""
    import ssl

    try:
        ssl.create_default_context(cafile=text)
    except ssl.SSLError as error:
        raise ValueError("the file holds no certificates in PEM form") from error
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from error
    return text


def refuse_long_waits(seconds: tuple[int, ...]) -> tuple[int, ...]:
    """Waits before a message is visible again, none longer than SQS takes."""
    if max(seconds) > MOST_VISIBILITY_SECONDS:
        raise ValueError(f"SQS hides a message for {MOST_VISIBILITY_SECONDS} seconds at most")
    return seconds


def _refuse_blanks(text: str) -> None:
    if any(character.isspace() for character in text):
        raise ValueError("there is a blank or a line break in it")


def _refuse_wrong_port(parts: SplitResult) -> None:
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port is no number from 1 to 65535")


def _split(text: str, advice: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:
        raise ValueError(advice) from None


def parse_flag(text: str) -> bool:
    """`true` or `false` of a switch."""
    text = text.strip().lower()
    if text in ("true", "1", "yes", "on"):
        return True
    if text in ("false", "0", "no", "off"):
        return False
    raise ValueError("set it to true or false")


def parse_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers separated by commas, at least one, none below 0."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError("give whole numbers separated by commas, such as 1,10,60,600") from error
    if not numbers or min(numbers) < 0:
        raise ValueError("give at least one number, none below 0")
    return numbers

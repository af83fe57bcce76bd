"""What the text of a setting has to look like: each function gives it back, or raises `ValueError` with the remedy."""

import re
from urllib.parse import urlsplit

from sync.queues.queue import MOST_VISIBILITY_SECONDS

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d{1,2}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_BUCKET = re.compile(r"[A-Za-z0-9._-]{1,255}")


def read_address(text: str) -> str:
    """The address of a service over HTTP, without a slash at its end."""
    _refuse_blanks(text)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give an address such as https://host.example")
    _refuse_wrong_port(text)
    return text.rstrip("/") if not text.endswith("/api/") else text


def read_mail_server(text: str) -> str:
    """The address of a mail server, with user name and password or without."""
    advice = "give smtp://user:password@host:port or smtps://user:password@host:port"
    try:
        _refuse_blanks(text)
        _refuse_wrong_port(text)
    except ValueError as error:
        raise ValueError(f"{error}; {advice}") from error
    parts = urlsplit(text)
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
        raise ValueError(advice)
    return text


def read_location(text: str) -> str:
    """A folder, or a bucket of S3 with or without a prefix."""
    scheme = _SCHEME.match(text)
    if scheme is None:
        return text
    parts = urlsplit(text)
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


def _refuse_wrong_port(text: str) -> None:
    try:
        port = urlsplit(text).port
    except ValueError as error:
        raise ValueError("the port is no number from 1 to 65535") from error
    if port == 0:
        raise ValueError("the port is no number from 1 to 65535")

"""Email: sends a report to each recipient.

An `smtp://` connection uses STARTTLS if the server offers it. An `smtps://` connection uses TLS from the start.
"""

from __future__ import annotations

import hashlib
import smtplib
import ssl
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from reports.delivery.channels import TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from reports.delivery.channels import Note
    from reports.presentation.email_report import EmailReport
    from sync.settings.declaration import Settings

TIMEOUT_SECONDS = 30
_PORTS = {"smtp": 25, "smtps": 465}
_LATER_SECONDS = 60.0
_REFUSED_SECONDS = 600.0
#: After this time, an attempt sends no further copies, as the claim on a delivery lasts only five minutes.
_MOST_SECONDS = 180.0
_LONGEST_TEXT = 200
_MOST_LISTED = 3


class Mail:
    """The mail server at `SMTP_URL`."""

    def __init__(self, settings: Settings) -> None:
        """Does not connect yet. `settings.smtp_url` must be set."""
        assert settings.smtp_url is not None
        parts = urlsplit(settings.smtp_url.get_secret_value())
        assert parts.hostname is not None
        self._tls_at_once = parts.scheme == "smtps"
        self._host = parts.hostname
        self._port = parts.port or _PORTS[parts.scheme]
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password or "")
        self._to: Sequence[str] = settings.reports_email_to
        self._from = settings.reports_email_from or (self._to[0] if self._to else "")
        self._ca_bundle = settings.api_ca_bundle

    def send_report(
        self, key: str, report: EmailReport, written: datetime, progress: Mapping[str, Any], note: Note
    ) -> Mapping[str, str]:
        """Sends the report to each recipient who has not received it yet.

        key: the key of the delivery. written: the date of the message, aware. progress: what an earlier attempt
        recorded with `note`. Each recipient has a separate connection and outcome. All copies have the same message id,
        so that a mail client shows only one copy if a recipient was sent two because of a crash or a lost connection.
        Returns the recipients who were refused for good, each with the reason. Raises `TryLater` if a copy must be sent
        later, or if every recipient was refused for good. The second case counts as a fault of the server, so all
        recipients are tried again.
        """
        message = self._message(key, report, written)
        sent: list[str] = list(progress.get("sent", ()))
        refused: dict[str, str] = refusals(progress)
        postponed: dict[str, str] = {}
        until = time.monotonic() + _MOST_SECONDS
        for address in self._to:
            if address in sent or address in refused:
                continue
            if time.monotonic() > until:
                postponed[address] = "the mail server is too slow"
                continue
            with self._translated(), self._connection() as server:
                refusal = _send_to(server, message, self._from, address)
                if refusal is None:
                    sent.append(address)
                elif refusal.for_good:
                    refused[address] = refusal.text
                else:
                    postponed[address] = refusal.text
                note({"sent": sent, "refused": refused})
        if postponed:
            raise TryLater(f"mail: deferred: {_listed(postponed)}", _REFUSED_SECONDS, whole_channel=False)
        if refused and not sent:
            note({"sent": [], "refused": {}})
            raise TryLater(
                f"mail: all recipients were refused: {_listed(refused)}", _REFUSED_SECONDS, whole_channel=False
            )
        return refused

    def check_connection(self) -> str:
        """Connects and logs in, but sends nothing. Returns `host:port`. Raises `TryLater`."""
        with self._translated(), self._connection() as server:
            server.noop()
        return f"{self._host}:{self._port}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except smtplib.SMTPAuthenticationError as error:
            raise TryLater(f"mail: {self._host} refused the user name or password", _REFUSED_SECONDS) from error
        except (smtplib.SMTPException, OSError) as error:
            raise TryLater(f"mail: {self._host}:{self._port}: {_reason(error)}", _LATER_SECONDS) from error

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        context = ssl.create_default_context(cafile=self._ca_bundle)
        server: smtplib.SMTP
        if self._tls_at_once:
            server = smtplib.SMTP_SSL(self._host, self._port, timeout=TIMEOUT_SECONDS, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            server.ehlo()
            secure = self._tls_at_once
            if not secure and server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
                secure = True
            if self._user is not None:
                if not secure and not _is_this_machine(self._host):
                    raise TryLater(f"mail: {self._host} offers no TLS, so the password was not sent", _REFUSED_SECONDS)
                server.login(self._user, self._password)
            yield server
        finally:
            # The outcome of the message is known, whether or not QUIT succeeds.
            with suppress(smtplib.SMTPException, OSError):
                server.quit()
            server.close()

    def _message(self, key: str, report: EmailReport, written: datetime) -> EmailMessage:
        message = EmailMessage()
        message["Subject"] = " ".join(report.subject.split())
        message["From"] = self._from
        message["To"] = ", ".join(self._to)
        message["Date"] = format_datetime(written)
        message["Message-ID"] = f"<{hashlib.sha256(key.encode()).hexdigest()[:32]}@prisoner-to-nomis>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(report.text)
        message.add_alternative(report.html, subtype="html")
        for each in report.files:
            message.add_attachment(each.content.encode(), maintype="text", subtype=each.kind, filename=each.name)
        return message


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why the server did not accept a copy. for_good: whether it would be useless to try this recipient again."""

    text: str
    for_good: bool


def refusals(progress: Mapping[str, Any]) -> dict[str, str]:
    """The recipients whom the mail server refused for good, each with the reason, as recorded in `progress`."""
    kept = progress.get("refused", {})
    # Earlier versions recorded only the addresses.
    return dict(kept) if isinstance(kept, dict) else dict.fromkeys(kept, "refused")


def _send_to(server: smtplib.SMTP, message: EmailMessage, sender: str, address: str) -> _Refusal | None:
    """Sends one copy to `address`. Returns why the server did not accept the copy, or None if it did.

    Any error while the copy is sent, even a lost connection, counts as a refusal of this copy alone.
    """
    try:
        server.send_message(message, from_addr=sender, to_addrs=[address])
    except smtplib.SMTPRecipientsRefused as error:
        return _refusal(*error.recipients[address])
    except smtplib.SMTPResponseException as error:
        return _refusal(error.smtp_code, error.smtp_error)
    except smtplib.SMTPNotSupportedError:
        return _Refusal("the mail server does not accept this address", for_good=True)
    except (smtplib.SMTPException, OSError) as error:
        return _Refusal(_reason(error), for_good=False)
    return None


def _refusal(status: int, text: bytes | str) -> _Refusal:
    words = text.decode(errors="replace") if isinstance(text, bytes) else text
    plain = "".join(letter if letter.isprintable() else " " for letter in words)
    return _Refusal(f"{status} {' '.join(plain.split())}"[:_LONGEST_TEXT].rstrip(), for_good=status >= 500)


def _listed(reasons: Mapping[str, str]) -> str:
    """The first few recipients in `reasons`, each with the reason, and the number of other recipients."""
    named = [f"{address}: {reason}" for address, reason in list(reasons.items())[:_MOST_LISTED]]
    left = len(reasons) - len(named)
    return "; ".join([*named, f"and {left} more"] if left else named)


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _refusal(error.smtp_code, error.smtp_error).text
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the connection was closed"
    return getattr(error, "strerror", None) or type(error).__name__

"""Sends what waits in the outbox, each delivery exactly once: through rate limits, outages, crashes and restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from reports import checkpoints
from reports.alerts import alert_message
from reports.archive import open_archive, report_link, report_path, store_index, store_report
from reports.masking import Masking
from reports.messages import email_report, slack_report
from reports.sending import ClaimLost, TryLater, Undeliverable
from sync.clock import now
from sync.failures import SyncError
from sync.settings import SettingsError
from sync.store import outbox

if TYPE_CHECKING:
    from reports.mail import Mail
    from reports.result import ReconciliationResult
    from reports.slack import Slack
    from sync.settings import Settings
    from sync.store.database import Database
    from sync.store.outbox import Delivery

#: How long a delivery belongs to the sender that claimed it; after that its process is taken to be dead.
CLAIM_SECONDS = 300.0
#: What cannot be sent for so long is given up; a person can send it again.
GIVEN_UP_AFTER = timedelta(days=14)
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 600.0
_AT_ONCE = 500
_SLACK_OFF = "Slack is off: SLACK_TOKEN is not set"


@dataclass(frozen=True, slots=True)
class SendCounts:
    """What became of the deliveries that were due: `later` ones are tried again, `given_up` ones are not."""

    sent: int = 0
    later: int = 0
    given_up: int = 0

    def __add__(self, other: SendCounts) -> SendCounts:
        """Both together."""
        return SendCounts(self.sent + other.sent, self.later + other.later, self.given_up + other.given_up)


class OutboxSender:
    """Sends to Slack, email and the archive. Several may run at once: a delivery is claimed first.

    `make_s3` makes a client of S3, when the archive is a bucket. `clock` tells the present moment.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        make_s3: Callable[[], Any],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._settings = settings
        self._database = database
        self._make_s3 = make_s3
        self._clock = clock
        self._masking = Masking(settings.alerts_mask_prisoners)
        self._slack: Slack | None = None
        self._mail: Mail | None = None
        self._said_off = False
        self._log = structlog.get_logger()

    def send_due(self) -> SendCounts:
        """Sends what is due now. Nothing is waited for: what cannot be sent stays. Raises `StoreUnavailable`."""
        with self._database.read() as connection:
            waiting = outbox.due(connection, _AT_ONCE, self._clock())
        counts = SendCounts()
        away: set[str] = set()
        for delivery in waiting:
            if delivery.channel in away:
                continue
            with self._database.begin() as connection:
                until = self._clock() + timedelta(seconds=CLAIM_SECONDS)
                claimed = outbox.claim(connection, delivery, until)
            if claimed is not None:
                counts += self._send(claimed, away)
        return counts

    def flush(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> SendCounts:
        """Sends until nothing is left that will be due within `seconds`. `later` counts what is left then."""
        deadline = self._clock() + timedelta(seconds=seconds)
        counts = SendCounts()
        while True:
            round_counts = self.send_due()
            counts += SendCounts(sent=round_counts.sent, given_up=round_counts.given_up)
            with self._database.read() as connection:
                left = outbox.due(connection, _AT_ONCE, deadline)
                pending = outbox.counts(connection)[outbox.DeliveryState.PENDING]
            wait = min((each.next_attempt_at for each in left), default=None)
            if wait is None or self._clock() >= deadline:
                return SendCounts(counts.sent, pending, counts.given_up)
            sleep(min(max((wait - self._clock()).total_seconds(), 0.05), 1.0))

    def _send(self, delivery: Delivery, away: set[str]) -> SendCounts:
        def note(progress: Mapping[str, Any]) -> None:
            with self._database.begin() as connection:
                if not outbox.note_progress(connection, delivery, progress):
                    raise ClaimLost(f"delivery {delivery.key} is being sent elsewhere")

        try:
            self._deliver(delivery, note)
        except TryLater as error:
            if error.whole_channel:
                away.add(delivery.channel)
            return self._put_off(delivery, str(error), error.seconds)
        except (Undeliverable, SettingsError) as error:
            return self._give_up(delivery, str(error))
        except ClaimLost as error:
            self._log.warning("delivery-claim-lost", key=delivery.key, reason=str(error))
            return SendCounts()
        except SyncError as error:
            if not error.recoverable:
                return self._give_up(delivery, str(error))
            away.add(delivery.channel)
            return self._put_off(delivery, str(error), None)
        with self._database.begin() as connection:
            outbox.complete(connection, delivery)
        self._log.info("delivered", key=delivery.key, channel=delivery.channel, attempts=delivery.attempts)
        return SendCounts(sent=1)

    def _deliver(self, delivery: Delivery, note: Callable[[Mapping[str, Any]], None]) -> None:
        payload = delivery.payload
        if payload.get("kind") == "alert":
            text = alert_message(payload, self._settings.environment_name, self._masking)
            self._slack_client().post_alert(delivery.key, text, delivery.progress, note)
            return
        if payload.get("kind") != "reconciliation":
            raise Undeliverable(f"delivery {delivery.key} is of an unknown kind")
        result = self._result(str(payload.get("run_id")))
        if delivery.channel == "archive":
            self._store(result)
        elif delivery.channel == "slack":
            report = slack_report(result, report_path(self._settings, result.run_id), self._masking)
            self._slack_client().post_report(delivery.key, report, delivery.progress, note)
        elif delivery.channel == "email":
            self._mail_out(delivery, result, note)
        else:
            raise Undeliverable(f"delivery {delivery.key} is for an unknown channel")

    def _store(self, result: ReconciliationResult) -> None:
        archive = open_archive(self._settings, self._make_s3)
        place = store_report(archive, result)
        with self._database.read() as connection:
            runs = checkpoints.run_lines(connection)
        store_index(archive, runs, self._settings.environment_name)
        self._log.info("report-stored", run_id=result.run_id, place=place)

    def _mail_out(
        self, delivery: Delivery, result: ReconciliationResult, note: Callable[[Mapping[str, Any]], None]
    ) -> None:
        from reports.mail import Mail

        if self._settings.smtp_url is None or not self._settings.reports_email_to:
            raise Undeliverable("email is off: SMTP_URL or REPORTS_EMAIL_TO is not set")
        if self._mail is None:
            self._mail = Mail(self._settings)
        link = report_link(self._settings, result.run_id)
        report = email_report(result, link, report_path(self._settings, result.run_id), self._masking)
        refused = self._mail.send_report(delivery.key, report, result.finished_at, delivery.progress, note)
        if refused:
            self._log.error("email-refused", key=delivery.key, receivers=len(refused))

    def _result(self, run_id: str) -> ReconciliationResult:
        with self._database.read() as connection:
            result = checkpoints.load_result(connection, run_id)
        if result is None:
            raise Undeliverable(f"there is no result of reconciliation {run_id}")
        return result

    def _slack_client(self) -> Slack:
        from reports.slack import Slack

        settings = self._settings
        if settings.slack_token is None:
            if not self._said_off:
                self._said_off = True
                self._log.warning("slack-off", reason=_SLACK_OFF)
            raise Undeliverable(_SLACK_OFF)
        if self._slack is None:
            self._slack = Slack(settings.slack_token.get_secret_value(), settings.slack_channel, settings.slack_api_url)
        return self._slack

    def _put_off(self, delivery: Delivery, reason: str, seconds: float | None) -> SendCounts:
        moment = self._clock()
        if moment - delivery.created_at > GIVEN_UP_AFTER:
            return self._give_up(delivery, reason)
        growing = min(_FIRST_WAIT_SECONDS * 2.0 ** min(delivery.attempts - 1, 10), _LONGEST_WAIT_SECONDS)
        when = moment + timedelta(seconds=growing if seconds is None else seconds)
        with self._database.begin() as connection:
            outbox.retry_later(connection, delivery, when, reason)
        self._log.warning("delivery-put-off", key=delivery.key, channel=delivery.channel, reason=reason)
        return SendCounts(later=1)

    def _give_up(self, delivery: Delivery, reason: str) -> SendCounts:
        with self._database.begin() as connection:
            outbox.give_up(connection, delivery, reason)
        if reason != _SLACK_OFF:
            self._log.error("delivery-given-up", key=delivery.key, channel=delivery.channel, reason=reason)
        return SendCounts(given_up=1)

"""Sends the deliveries in the outbox, each exactly once despite rate limits, outages, crashes and restarts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from reports.delivery.archive import open_archive, report_link, report_path, store_index, store_report
from reports.delivery.channels import CHANNELS, NEEDED_SETTINGS, ClaimLost, TryLater, Undeliverable, is_set_up
from reports.engine import runs
from reports.presentation.alerts import alert_message
from reports.presentation.email_report import email_report
from reports.presentation.masking import Masking
from reports.presentation.slack_report import slack_report
from reports.reconciliations.results import load_result, newest_results
from sync.clock import now
from sync.errors import SyncError
from sync.settings.loading import SettingsError
from sync.store import outbox

if TYPE_CHECKING:
    from reports.delivery.email import Mail
    from reports.delivery.slack import Slack
    from reports.engine.result import ReconciliationResult
    from sync.settings.declaration import Settings
    from sync.store.database import Database
    from sync.store.outbox import Delivery

#: How long a delivery belongs to the process that claimed it. After that, the process counts as dead.
CLAIM_SECONDS = 300.0
#: A delivery that could not be sent for this long is abandoned; a person can send it again.
GIVEN_UP_AFTER = timedelta(days=14)
_FIRST_WAIT_SECONDS = 5.0
_LONGEST_WAIT_SECONDS = 600.0
#: The wait after a wrong setting, which may be correct in the next process.
_WRONG_SETTING_SECONDS = 60.0
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class SendCounts:
    """How many deliveries were `sent`, how many will be retried `later`, and how many were abandoned (`given_up`)."""

    sent: int = 0
    later: int = 0
    given_up: int = 0

    def __add__(self, other: SendCounts) -> SendCounts:
        """These counts and those of `other`, added up."""
        return SendCounts(self.sent + other.sent, self.later + other.later, self.given_up + other.given_up)


class OutboxSender:
    """Sends deliveries to Slack, email and the archive. Several senders may run at once.

    A sender claims each delivery before sending it, so that no other sender sends it too. Deliveries for a channel that
    is not set up in this process are left to a process in which it is set up. Once such a delivery is older than
    `GIVEN_UP_AFTER`, this process gives up on it.

    make_s3: makes an S3 client; called only if the archive is a bucket. clock: returns the current time, aware.
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
        self._channels = tuple(channel for channel in CHANNELS if is_set_up(settings, channel))
        self._warned_off: set[str] = set()
        self._log = structlog.get_logger()

    def send_due(self) -> SendCounts:
        """Sends the deliveries that are due now, without waiting. Raises `StoreUnavailable`."""
        moment = self._clock()
        with self._database.read() as connection:
            waiting = outbox.due(connection, _AT_ONCE, moment, channels=self._channels)
            left_alone = outbox.due(connection, _AT_ONCE, moment, except_channels=self._channels)
        self._warn_off(left_alone)
        counts = SendCounts()
        unavailable: set[str] = set()
        for delivery in waiting:
            if delivery.channel in unavailable:
                continue
            claimed = self._claim(delivery)
            if claimed is not None:
                counts += self._send(claimed, unavailable)
        for delivery in left_alone:
            if self._is_too_old(delivery) and (claimed := self._claim(delivery)) is not None:
                counts += self._give_up(claimed, f"not sent: {_off_text(delivery.channel)}")
        return counts

    def flush(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> SendCounts:
        """Sends deliveries until `seconds` have passed, or until no delivery is due within that time.

        In the result, `later` is the number of deliveries that are still waiting. Deliveries for a channel that is off
        in this process are neither waited for nor included in this number. Raises `StoreUnavailable`.
        """
        deadline = self._clock() + timedelta(seconds=seconds)
        counts = SendCounts()
        while True:
            round_counts = self.send_due()
            counts += SendCounts(sent=round_counts.sent, given_up=round_counts.given_up)
            with self._database.read() as connection:
                left = outbox.due(connection, _AT_ONCE, deadline, channels=self._channels)
                pending = outbox.pending(connection, self._channels)
            wait = min((each.next_attempt_at for each in left), default=None)
            if wait is None or self._clock() >= deadline:
                return SendCounts(counts.sent, pending, counts.given_up)
            sleep(min(max((wait - self._clock()).total_seconds(), 0.05), 1.0))

    def _claim(self, delivery: Delivery) -> Delivery | None:
        with self._database.begin() as connection:
            return outbox.claim(connection, delivery, self._clock() + timedelta(seconds=CLAIM_SECONDS))

    def _send(self, delivery: Delivery, unavailable: set[str]) -> SendCounts:
        def note(progress: Mapping[str, Any]) -> None:
            with self._database.begin() as connection:
                if not outbox.record_progress(connection, delivery, progress):
                    raise ClaimLost(f"delivery {delivery.key} is being sent elsewhere")

        try:
            self._deliver(delivery, note)
        except TryLater as error:
            if error.whole_channel:
                unavailable.add(delivery.channel)
            return self._defer(delivery, str(error), error.seconds)
        except SettingsError as error:
            unavailable.add(delivery.channel)
            return self._defer(delivery, str(error), _WRONG_SETTING_SECONDS)
        except ClaimLost as error:
            self._log.warning("delivery-claim-lost", key=delivery.key, reason=str(error))
            return SendCounts()
        except SyncError as error:
            if not error.recoverable:
                return self._give_up(delivery, str(error))
            unavailable.add(delivery.channel)
            return self._defer(delivery, str(error), None)
        with self._database.begin() as connection:
            outbox.complete(connection, delivery)
        self._log.info("delivered", key=delivery.key, channel=delivery.channel, attempts=delivery.attempts)
        return SendCounts(sent=1)

    def _deliver(self, delivery: Delivery, note: Callable[[Mapping[str, Any]], None]) -> None:
        payload = delivery.payload
        if payload.get("kind") == "alert":
            alert = alert_message(payload, self._settings.environment_name, self._masking)
            self._log_refused(delivery, self._slack_client().post_alert(delivery.key, alert, delivery.progress, note))
            return
        if payload.get("kind") != "reconciliation":
            raise Undeliverable(f"delivery {delivery.key} is of an unknown kind")
        result = self._result(str(payload.get("run_id")))
        if delivery.channel == "archive":
            self._store(result)
        elif delivery.channel == "slack":
            report = slack_report(result, self._link(result), report_path(self._settings, result), self._masking)
            self._log_refused(delivery, self._slack_client().post_report(delivery.key, report, delivery.progress, note))
        else:
            self._mail_out(delivery, result, note)

    def _store(self, result: ReconciliationResult) -> None:
        archive = open_archive(self._settings, self._make_s3)
        place = store_report(archive, result)
        with self._database.read() as connection:
            ended = runs.ended_runs(connection)
            newest = newest_results(connection, ended)
        store_index(archive, ended, newest, self._settings.environment_name, self._clock())
        self._log.info("report-stored", run_id=result.run_id, place=place)

    def _mail_out(
        self, delivery: Delivery, result: ReconciliationResult, note: Callable[[Mapping[str, Any]], None]
    ) -> None:
        from reports.delivery.email import Mail

        if self._mail is None:
            self._mail = Mail(self._settings)
        report = email_report(result, self._link(result), report_path(self._settings, result), self._masking)
        refused = self._mail.send_report(delivery.key, report, result.finished_at, delivery.progress, note)
        if refused:
            self._log.error("email-refused", key=delivery.key, receivers=len(refused), reasons=dict(refused))

    def _link(self, result: ReconciliationResult) -> str | None:
        """The address at which people open the report, or None if they get the page itself."""
        return report_link(self._settings, result, self._make_s3)

    def _log_refused(self, delivery: Delivery, refused: Mapping[str, str]) -> None:
        if refused:
            self._log.error("slack-refused", key=delivery.key, parts=dict(refused))

    def _result(self, run_id: str) -> ReconciliationResult:
        with self._database.read() as connection:
            result = load_result(connection, run_id)
        if result is None:
            raise Undeliverable(f"run {run_id} has no result")
        return result

    def _slack_client(self) -> Slack:
        from reports.delivery.slack import Slack

        settings = self._settings
        if self._slack is None:
            assert settings.slack_token is not None
            self._slack = Slack(settings.slack_token.get_secret_value(), settings.slack_channel, settings.slack_api_url)
        return self._slack

    def _warn_off(self, left_alone: Sequence[Delivery]) -> None:
        """Warns once about each channel that is off and has deliveries waiting."""
        for channel in {delivery.channel for delivery in left_alone} - self._warned_off:
            self._warned_off.add(channel)
            self._log.warning(f"{channel}-off", reason=f"{_off_text(channel)}; its deliveries wait")

    def _is_too_old(self, delivery: Delivery) -> bool:
        return self._clock() - delivery.created_at > GIVEN_UP_AFTER

    def _defer(self, delivery: Delivery, reason: str, seconds: float | None) -> SendCounts:
        if self._is_too_old(delivery):
            return self._give_up(delivery, reason)
        growing = min(_FIRST_WAIT_SECONDS * 2.0 ** min(delivery.attempts - 1, 10), _LONGEST_WAIT_SECONDS)
        when = self._clock() + timedelta(seconds=growing if seconds is None else seconds)
        with self._database.begin() as connection:
            outbox.retry_later(connection, delivery, when, reason)
        self._log.warning("delivery-deferred", key=delivery.key, channel=delivery.channel, reason=reason)
        return SendCounts(later=1)

    def _give_up(self, delivery: Delivery, reason: str) -> SendCounts:
        with self._database.begin() as connection:
            outbox.give_up(connection, delivery, reason)
        self._log.error("delivery-given-up", key=delivery.key, channel=delivery.channel, reason=reason)
        return SendCounts(given_up=1)


def _off_text(channel: str) -> str:
    needed = NEEDED_SETTINGS.get(channel)
    return f"{channel} is off: {needed} is not set" if needed else f"{channel} is not a channel of this version"

"""Decides which dead-letter messages housekeeping sends back, and when.

The messages that housekeeping gives up on become findings.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import structlog

from sync.alerting import command
from sync.repair.dead_letter_report import DeadLetterReport, report_on
from sync.repair.dead_letters import DeadLetterMessage
from sync.store.database import Database, StoreUnavailable
from sync.store.findings import GIVEN_UP_EVENT, GivenUp, given_up_messages, record_given_up
from sync.store.telemetry import Telemetry, text_properties

_LONGEST_REASON = 300


class ScheduledRedrive:
    """Decides which messages the scheduled redrive leaves on one dead letter queue, and why. Raises `StoreUnavailable`.

    The redrive sends back the messages that a retry may help: those with a recoverable failure or no recorded failure,
    mapping retries, and those that failed because NOMIS has two rows where only one is allowed. Messages of this last
    kind are sent back only once the finding about the rows is closed. The pause between two redrives of a message grows
    each time, up to a limit. The redrive gives up on all other messages, and on messages that have come back more than
    `most_returns` times. `moment` is the current time.
    """

    def __init__(self, database: Database, queue: str, most_returns: int, moment: datetime) -> None:
        self._database = database
        self._queue = queue
        self._most_returns = most_returns
        self._moment = moment
        with database.read() as connection:
            known = given_up_messages(connection, queue)
        self._given_up = set(known)
        self._alerted = {_cause(finding.properties) for finding in known.values()}
        self._new: list[DeadLetterReport] = []
        self._log = structlog.get_logger("sync.repair.scheduled_redrive")

    def why_left(self, dead_letters: Sequence[DeadLetterMessage]) -> Mapping[str, str]:
        """The reasons why messages stay, by message id. Also notes which messages this redrive gives up on."""
        reasons = {each.message_id: _GIVEN_UP for each in dead_letters if each.key in self._given_up}
        others = [each for each in dead_letters if each.message_id not in reasons]
        for found in report_on(self._database, self._queue, others):
            reason = self._why_given_up(found)
            if reason is not None:
                self._given_up.add(found.dead_letter.key)
                self._new.append(found)
            else:
                reason = self._why_later(found)
            if reason is not None:
                reasons[found.dead_letter.message_id] = reason
        return reasons

    @property
    def given_up(self) -> int:
        """The number of messages that this redrive has given up on."""
        return len(self._new)

    def record(self, telemetry: Telemetry) -> int:
        """Records a finding about each message that this redrive gave up on. Returns how many could not be recorded.

        Each combination of event type and advice causes one alert, unless an earlier finding with that combination is
        still open. The alert gives the number of these messages that have the combination.
        """
        properties = [(found, _properties(self._queue, found)) for found in self._new]
        numbers = Counter(_cause(each) for _, each in properties)
        unrecorded = 0
        for found, each in properties:
            cause = _cause(each)
            shared = {**each, "messages": str(numbers[cause])}
            try:
                self._record(found, shared, alert=cause not in self._alerted, alone=numbers[cause] == 1)
            except StoreUnavailable:
                raise
            except (
                Exception
            ):  # one message is the cause; the others are recorded, and the next run finds that message again
                self._log.exception("finding-not-recorded", queue=self._queue)
                unrecorded += 1
            else:
                self._alerted.add(cause)
                telemetry.track(GIVEN_UP_EVENT, each)
        return unrecorded

    def _record(self, found: DeadLetterReport, properties: Mapping[str, str], *, alert: bool, alone: bool) -> None:
        message = GivenUp(self._queue, found.dead_letter.key, found.redrives, properties)
        one = ("--message", found.dead_letter.message_id) if alone else ()
        show = command("dlq", "show", self._queue, *one)
        with self._database.begin() as connection:
            record_given_up(connection, message, show if alert else None)

    def _why_given_up(self, found: DeadLetterReport) -> str | None:
        if found.redrives > self._most_returns:
            return _failed_again(found.redrives)
        if found.may_be_redriven:
            return None
        return f"a retry alone does not help (class {found.failure_class})"

    def _why_later(self, found: DeadLetterReport) -> str | None:
        if found.finding is not None:
            return "NOMIS has two rows where it should have one: sent back once their finding is closed"
        last, following = found.redriven_at, found.next_redrive
        # SNS may have delivered a message twice. If the first copy was sent back in this run, the second follows it.
        if last is not None and following is not None and last < self._moment < following:
            return f"{_failed_again(found.redrives)}: will be sent back again later"
        return None


#: Each reason fits one message and several.
_GIVEN_UP = "housekeeping gave up: `dlq show` says what to do"


def _properties(queue: str, found: DeadLetterReport) -> dict[str, str]:
    failure = found.failure
    return text_properties(
        {
            "queue": queue,
            "messageId": found.dead_letter.message_id,
            "eventType": found.dead_letter.type,
            "entity": None if failure is None else failure.entity,
            "offenderNo": found.dead_letter.offender_no,
            "class": found.failure_class.value,
            "returns": found.redrives,
            "reason": found.dead_letter.problem if failure is None else failure.failure.reason[:_LONGEST_REASON],
            "advice": found.hint,
        }
    )


def _cause(properties: Mapping[str, str]) -> tuple[str | None, str | None]:
    return properties.get("eventType"), properties.get("advice")


def _failed_again(redrives: int) -> str:
    return f"failed again after {redrives} {'redrive' if redrives == 1 else 'redrives'}"

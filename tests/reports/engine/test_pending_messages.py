"""The search for records with a pending message receives no message from a main queue."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.runtime.application import Application
from reports.engine.pending_messages import PendingMessages, find_pending_messages
from reports.reconciliations.incentives.evidence import entities
from sandbox import Sandbox
from sync.clock import now
from sync.creation.store import CreationStore
from sync.domains.incentives import DOMAIN, rules
from sync.errors import Failure
from sync.events.envelope import write_mapping_retry
from sync.queues.setup import QueuePair
from sync.repair.dead_letter_queue import DeadLetterQueue
from sync.store.failed_attempts import FailedAttempt, count_redrives, record_failures
from sync.store.telemetry import read_events
from tests.harness.app import open_application

#: The seconds until a message that failed is tried again.
WAIT = 600


@pytest.fixture
def application(sandbox: Sandbox, tmp_path: Path) -> Iterator[Application]:
    """The program with its incentive queues. A message that fails is hidden for ten minutes."""
    with open_application(
        sandbox.environment(), f"sqlite:///{tmp_path}/one.db", HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT=str(WAIT)
    ) as made:
        made.queue_pair("incentive")
        yield made


@pytest.fixture
def pair(application: Application) -> QueuePair:
    """The incentive queue with its dead letter queue."""
    return application.queue_pair("incentive")


def dead_letters(application: Application) -> DeadLetterQueue:
    """The dead letter queue of the incentive queue."""
    return DeadLetterQueue(
        "incentive", application.queue_pair("incentive"), application.database, application.telemetry
    )


def pending(application: Application, later: float = 0) -> PendingMessages:
    """The messages that will be pending `later` seconds from now."""
    moment = now() + timedelta(seconds=later)
    pair = application.queue_pair("incentive")
    return find_pending_messages(
        DOMAIN, pair, dead_letters(application), application.database, application.settings, moment
    )


def where(found: PendingMessages, review_id: int, offender_no: str) -> str | None:
    """The kind of queue with a pending message about a review or its prisoner, or None if no such message is known."""
    return found.where(entities(review_id, offender_no))


def test_reviews_on_the_dead_letter_queue_are_pending(application: Application, pair: QueuePair) -> None:
    """A review is pending if a mapping retry with its id is on the dead letter queue.

    A dead letter whose body cannot be parsed is skipped. Both dead letters stay on the queue.
    """
    mapping = {"nomisBookingId": 1, "nomisIncentiveSequence": 2, "incentiveId": 777}
    pair.dlq.send(write_mapping_retry(mapping, {}))
    pair.dlq.send("no message at all")
    assert pending(application) == PendingMessages(on_dlq=frozenset({"incentive:777"}))
    assert pair.dlq.counts().visible == 2


def test_nothing_is_pending_on_empty_queues(application: Application) -> None:
    """If both queues are empty and no failure is recorded, nothing is pending and there is no doubt."""
    assert pending(application) == PendingMessages()


def test_the_search_receives_no_message_of_the_main_queue(
    sandbox: Sandbox, application: Application, pair: QueuePair
) -> None:
    """Searching for pending messages, however often, receives no message from the main queue.

    So each message keeps all its attempts, and can be handled as usual.
    """
    review_id = sandbox.add_review(sandbox.prisoners()[0]["offenderNo"], "ENH")
    for _ in range(8):
        found = pending(application)
        assert (found.doubt, where(found, review_id, "")) == ("the incentive queue holds 1 message", None)
    assert (pair.main.counts().visible, pair.main.counts().total, pair.dlq.counts().total) == (1, 1, 0)
    [message] = pair.main.receive(10, 1, 60)
    assert message.receive_count == 1
    pair.main.change_visibility([message], 0)
    assert application.open_drain("incentive").run_until_empty().applied == 1
    application.telemetry.flush()
    assert Counter(event["name"] for event in read_events(application.database))["incentive-create-success"] == 1
    assert pending(application) == PendingMessages()


def test_a_review_with_a_creation_intent_is_pending(application: Application) -> None:
    """A review is pending if an intent to create it has no outcome.

    The review stops being pending once its message has certainly been delivered again.
    """
    CreationStore(application.database, application.telemetry).intend(rules.CREATION, "4711", {}, {}, None)
    after = WAIT + application.settings.hmpps_sqs_visibility_timeout_seconds
    assert [where(pending(application, later), 4711, "A0001AA") for later in (0, after - 5, after + 5)] == [
        "queue",
        "queue",
        None,
    ]


@pytest.mark.parametrize(("status", "outcome"), [(400, "failed"), (503, "deferred")])
def test_a_review_with_a_hidden_message_is_pending(
    sandbox: Sandbox, application: Application, pair: QueuePair, status: int, outcome: str
) -> None:
    """While a failed message is hidden, reviews of its prisoner are pending, and reviews of other prisoners are not.

    Once the message is certainly visible again, no review is pending.
    """
    offender_no, other = (each["offenderNo"] for each in sandbox.prisoners()[:2])
    review_id = sandbox.add_review(offender_no, "ENH")
    sandbox.fault("nomis", "POST", kind="status", status=status)
    assert getattr(application.open_drain("incentive").run_batch(), outcome) == 1
    sandbox.clear_faults()
    waiting = pending(application)
    assert (where(waiting, review_id, offender_no), where(waiting, review_id + 1, other)) == ("queue", None)
    assert waiting.doubt is not None
    # Once the message is visible again, is on the DLQ or was purged, its failure no longer explains a difference.
    after = WAIT + application.settings.hmpps_sqs_visibility_timeout_seconds
    assert where(pending(application, after - 5), review_id, offender_no) == "queue"
    assert where(pending(application, after + 5), review_id, offender_no) is None


def test_a_review_that_was_created_after_its_failure_is_not_pending(sandbox: Sandbox, database_url: str) -> None:
    """A review whose message failed is no longer pending once another attempt has created it in NOMIS."""
    with open_application(sandbox.environment(), database_url) as quick:
        pair = quick.queue_pair("incentive")
        offender_no = sandbox.prisoners()[0]["offenderNo"]
        review_id = sandbox.add_review(offender_no, "ENH")
        sandbox.fault("nomis", "POST", kind="status", status=400)
        drain = quick.open_drain("incentive")
        assert drain.run_batch().failed == 1
        sandbox.clear_faults()
        [message] = pair.main.receive(1, 1, 60)
        assert where(pending(quick), review_id, offender_no) == "queue"
        pair.main.change_visibility([message], 0)
        assert drain.run_until_empty().applied == 1
        assert where(pending(quick), review_id, offender_no) is None


def test_dead_letters_that_nothing_sends_back_are_distinguished(
    sandbox: Sandbox, application: Application, pair: QueuePair
) -> None:
    """Dead letters that were refused, or that came back too often, are given up on, with a reason.

    A dead letter whose failure is temporary is not given up on.
    """
    for review in (701, 702, 703):
        mapping = {"nomisBookingId": 1, "nomisIncentiveSequence": 2, "incentiveId": review}
        pair.dlq.send(write_mapping_retry(mapping, {}))
    messages = {each.ids["incentiveId"]: each for each in dead_letters(application).peek()}
    often = application.settings.housekeeping_max_returns + 1
    refusal = Failure("create IEP in NOMIS", "nomis", "POST", "/x", 400, "no such level", recoverable=False)
    for review, failure in ((702, refusal), (703, replace(refusal, status=503, recoverable=True))):
        message_id = messages[review].message_id
        attempt = FailedAttempt(now(), "incentive", message_id, None, "RETRY_CREATE_MAPPING", None, 3, failure)
        with application.database.begin() as connection:
            record_failures(connection, [attempt])
    with application.database.begin() as connection:
        count_redrives(connection, "incentive", [messages[701].key] * often)
    waiting = pending(application)
    assert waiting.on_dlq == {f"incentive:{review}" for review in (701, 702, 703)}
    assert waiting.given_up == {
        "incentive:701": f"it came back {often} times, and housekeeping no longer sends it back",
        "incentive:702": 'it was refused at "create IEP in NOMIS" (no such level), and a retry alone does not help',
    }
    assert [waiting.why_given_up(each) for each in (("incentive:703",), (), ("incentive:1",))] == [None] * 3


def test_a_message_in_progress_may_be_about_any_review(
    sandbox: Sandbox, application: Application, pair: QueuePair
) -> None:
    """A message that is being handled for the first time may be about any review, so the search returns a doubt."""
    offender_no = sandbox.prisoners()[0]["offenderNo"]
    review_id = sandbox.add_review(offender_no, "ENH")
    assert len(pair.main.receive(10, 1, 60)) == 1
    found = pending(application)
    assert (where(found, review_id, offender_no), found.doubt) == (None, "the incentive queue holds 1 message")


def test_a_dead_letter_that_another_receiver_holds_may_be_about_any_review(
    application: Application, pair: QueuePair
) -> None:
    """A dead letter that another receiver holds may be about any review, so the search returns a doubt."""
    pair.dlq.send("about a review, perhaps")
    assert len(pair.dlq.receive(10, 1, 60)) == 1
    assert pending(application).doubt == "somebody else is reading 1 message on the dead letter queue"

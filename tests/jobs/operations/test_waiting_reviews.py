"""What waits on the incentive queues is seen, or known from its failures, and stays there with its attempts."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from jobs.operations.housekeeping import dead_letter_queue
from jobs.operations.waiting_reviews import waiting_reviews
from jobs.runtime.application import Application
from reports.reconciliations.incentives.pending_messages import Waiting
from sandbox import Sandbox
from sync.clock import now
from sync.failures import Failure
from sync.pipeline.envelope import write_mapping_retry
from sync.queues.setup import QueuePair
from sync.store.failures import FailedAttempt, record_failures
from sync.store.returns import count_returns
from tests.harness.pipeline import tracked
from tests.harness.programs import program

#: Seconds until a message that failed is tried again.
WAIT = 600


@pytest.fixture
def one(sandbox: Sandbox, tmp_path: Path) -> Iterator[Application]:
    """The program, whose failed messages are hidden for ten minutes, with its incentive queues made."""
    with program(
        sandbox.environment(), f"sqlite:///{tmp_path}/one.db", HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT=str(WAIT)
    ) as made:
        made.queue_pair("incentive")
        yield made


@pytest.fixture
def pair(one: Application) -> QueuePair:
    """The incentive queue and its dead letter queue."""
    return one.queue_pair("incentive")


def peek(one: Application, later: float = 0) -> Waiting:
    """What waits, so many seconds from now by the clock of whoever looks."""
    return waiting_reviews(one.queue_pair("incentive"), one.database, one.settings, now() + timedelta(seconds=later))


def test_reviews_on_both_queues_are_seen(sandbox: Sandbox, one: Application, pair: QueuePair) -> None:
    """Reviews are known by the ids of events and of mapping retries; what tells of no review is passed over."""
    offenders = [each["offenderNo"] for each in sandbox.prisoners()[:12]]
    on_queue = {sandbox.add_review(offender, "ENH") for offender in offenders}
    mapping = {"nomisBookingId": 1, "nomisIncentiveSequence": 2, "incentiveId": 777}
    pair.dlq.send(write_mapping_retry(mapping, {}))
    pair.dlq.send("no message at all")
    waiting = peek(one)
    assert waiting.on_queue == on_queue
    assert waiting.on_dlq == {777}
    assert waiting.doubt is None
    assert (pair.main.counts().visible, pair.dlq.counts().visible) == (12, 2)


def test_nothing_waits_on_empty_queues(one: Application) -> None:
    """Empty queues tell of nothing, at once."""
    assert peek(one) == Waiting()


def test_looking_uses_up_one_attempt_at_most(sandbox: Sandbox, one: Application, pair: QueuePair) -> None:
    """Eight looks, where a message has three receives: it is still there, and the drain applies it once."""
    offender_no = sandbox.prisoners()[0]["offenderNo"]
    review_id = sandbox.add_review(offender_no, "ENH")
    for _ in range(8):
        assert peek(one).where(review_id, offender_no) == "queue"
    assert (pair.main.counts().visible, pair.dlq.counts().total) == (1, 0)
    assert one.open_drain("incentive").run_until_empty().applied == 1
    assert tracked(one)["incentive-create-success"] == 1
    assert (pair.main.counts().total, pair.dlq.counts().total) == (0, 0)
    assert peek(one).where(review_id, offender_no) is None


@pytest.mark.parametrize(("status", "outcome"), [(400, "failed"), (503, "deferred")])
def test_a_review_that_waits_for_its_next_attempt_is_known(
    sandbox: Sandbox, one: Application, pair: QueuePair, status: int, outcome: str
) -> None:
    """No look finds a message while it is hidden, but its failure tells: of this prisoner and of no other."""
    offender_no, other = (each["offenderNo"] for each in sandbox.prisoners()[:2])
    review_id = sandbox.add_review(offender_no, "ENH")
    sandbox.fault("nomis", "POST", kind="status", status=status)
    assert getattr(one.open_drain("incentive").run_batch(), outcome) == 1
    sandbox.clear_faults()
    waiting = peek(one)
    assert waiting.on_queue == frozenset()
    assert (waiting.where(review_id, offender_no), waiting.where(review_id + 1, other)) == ("queue", None)
    assert waiting.doubt is not None
    # When it can be seen again, or lies on the DLQ, or was purged, the failure tells nothing any more.
    after = WAIT + one.settings.hmpps_sqs_visibility_timeout_seconds
    assert peek(one, after - 5).where(review_id, offender_no) == "queue"
    assert peek(one, after + 5).where(review_id, offender_no) is None


def test_a_review_that_was_written_after_its_failure_waits_no_longer(sandbox: Sandbox, database_url: str) -> None:
    """A failure that was followed by the creation explains no difference."""
    with program(sandbox.environment(), database_url) as quick:
        pair = quick.queue_pair("incentive")
        offender_no = sandbox.prisoners()[0]["offenderNo"]
        review_id = sandbox.add_review(offender_no, "ENH")
        sandbox.fault("nomis", "POST", kind="status", status=400)
        drain = quick.open_drain("incentive")
        assert drain.run_batch().failed == 1
        sandbox.clear_faults()
        [message] = pair.main.receive(1, 1, 60)
        assert peek(quick).where(review_id, offender_no) == "queue"
        pair.main.change_visibility([message], 0)
        assert drain.run_until_empty().applied == 1
        assert peek(quick).where(review_id, offender_no) is None


def test_dead_letters_that_nothing_sends_back_are_told_apart(
    sandbox: Sandbox, one: Application, pair: QueuePair
) -> None:
    """Refused ones and those that came back too often, each with why; others housekeeping will try again."""
    for review in (701, 702, 703):
        mapping = {"nomisBookingId": 1, "nomisIncentiveSequence": 2, "incentiveId": review}
        pair.dlq.send(write_mapping_retry(mapping, {}))
    letters = {each.ids["incentiveId"]: each for each in dead_letter_queue(one, "incentive").look()}
    often = one.settings.housekeeping_max_returns + 1
    refusal = Failure("create IEP in NOMIS", "nomis", "POST", "/x", 400, "no such level", recoverable=False)
    for review, failure in ((702, refusal), (703, replace(refusal, status=503, recoverable=True))):
        message_id = letters[review].message.message_id
        attempt = FailedAttempt(now(), "incentive", message_id, None, "RETRY_CREATE_MAPPING", None, 3, failure)
        with one.database.begin() as connection:
            record_failures(connection, [attempt])
    with one.database.begin() as connection:
        count_returns(connection, "incentive", [letters[701].key] * often)
    waiting = peek(one)
    assert waiting.on_dlq == {701, 702, 703}
    assert waiting.given_up == {
        701: f"it came back {often} times, and housekeeping does not send it back any more",
        702: 'it was refused at "create IEP in NOMIS", and a retry alone does not help',
    }
    assert (waiting.why_given_up(703), waiting.why_given_up(None), waiting.why_given_up(1)) == (None, None, None)


def test_what_is_in_hand_is_a_doubt(sandbox: Sandbox, one: Application, pair: QueuePair) -> None:
    """A message that somebody holds for the first time leaves no trace: that there is one is said."""
    offender_no = sandbox.prisoners()[0]["offenderNo"]
    review_id = sandbox.add_review(offender_no, "ENH")
    assert len(pair.main.receive(10, 1, 60)) == 1
    waiting = peek(one)
    assert waiting.where(review_id, offender_no) is None
    assert waiting.doubt == "1 on the incentive queue cannot be looked at, being handled or tried again later"

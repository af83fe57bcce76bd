"""Redrives of dead letters by a person and by housekeeping."""

import json
import re
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
import structlog

from jobs.operations.retry_dead_letters import Choice, retry_in_batches
from sandbox import Sandbox
from sync.domains.registry import DOMAINS
from sync.events.envelope import write_domain_event, write_mapping_retry
from sync.queues.queue import Message, Queue, QueueUnavailable
from sync.queues.setup import QueuePair
from sync.repair.dead_letter_queue import DeadLetterQueue
from sync.repair.dead_letters import read_dead_letter
from sync.store.database import Database
from sync.store.telemetry import Telemetry
from tests.harness.app import App, make_app, open_application
from tests.harness.commands import Terminal
from tests.harness.dead_letters import BOOKED, TIME, intend, on_main_queue, put_on_dlq
from tests.harness.publishing import visit_booked


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose queues are created on first use."""
    return make_app(sandbox, tmp_path, sqlite_template)


class Drained:
    """Drains the visit queue repeatedly in another thread during a `with` block."""

    def __init__(self, app: App, **more: str) -> None:
        self._app, self._more = app, more
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._drain)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _drain(self) -> None:
        with open_application(self._app.settings, self._app.settings["DATABASE_URL"], **self._more) as application:
            drain = application.open_drain("visit")
            while not self._ended.is_set():
                drain.run_batch()


def test_the_next_batch_is_sent_when_the_last_one_is_handled(app: App, sandbox: Sandbox) -> None:
    """When a batch of a redrive has been handled, the next one is sent, until the DLQ is empty."""
    booked = [visit_booked(sandbox) for _ in range(5)]
    put_on_dlq(app, *(each.dps_id for each in booked))
    with Drained(app):
        output = app.run_ok("dlq", "retry", "visit", "--batch", "2", "--as", "jane.smith")
    assert output.splitlines() == [
        "2 messages sent back: handled",
        "2 messages sent back: handled",
        "1 message sent back: handled",
        "visit: 5 of 5 messages sent back",
    ]
    assert (len(sandbox.nomis("visit")), app.messages("visit")) == (5, 0)
    assert app.actions() == [("dlq retry", "hmpps_prisoner_to_nomis_visit_dlq", "5 of 5 messages sent back")]


def test_batches_stop_when_one_fails_again(app: App) -> None:
    """If a message of a batch fails again, later batches stay on the DLQ. The command says why, and fails."""
    put_on_dlq(app, "gone-1", "gone-2", "gone-3")
    before = app.read_json("dlq", "show", "visit")
    with Drained(app):
        done = app.run("dlq", "retry", "visit", "--batch", "2", "--json")
    assert done.code == 1
    assert re.search(r"stopped with \d messages? left on the dead letter queue: \d messages? failed again", done.error)
    assert "visits: status 404" in done.error
    result = json.loads(done.out)
    (batch,) = result["batches"]
    assert (result["messagesRetriedCount"], batch["state"]) == (2, "failed")
    assert {"visits: status 404" in each["reason"] for each in batch["failedAgain"]} == {True}
    sent = {each["messageId"] for each in result["messages"]}
    later = {each["messageId"] for each in before} - sent
    assert (len(sent), len(later)) == (2, 1)
    assert later <= {each["messageId"] for each in app.read_json("dlq", "show", "visit")}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_failed_batch_says_which_others_are_not_handled(app: App, sandbox: Sandbox, form: tuple[str, ...]) -> None:
    """If one message of a batch fails again while another waits, the output and the error also mention that one."""
    put_on_dlq(app, "gone-1")
    early = write_domain_event("prison-visit.changed", {"reference": visit_booked(sandbox).dps_id}, "A1234BC", TIME)
    app.queues()["visit"].dlq.send(early)
    with Drained(app, CREATION_WAIT_SECONDS="600"):
        done = app.run("dlq", "retry", "visit", "--batch", "2", *form)
    assert (done.code, done.error.strip().endswith("; 1 other message has not been handled yet")) == (1, True)
    if form:
        (batch,) = json.loads(done.out)["batches"]
        assert (batch["state"], len(batch["failedAgain"]), len(batch["notHandled"])) == ("failed", 1, 1)
        assert batch["failedAgain"][0]["messageId"] != batch["notHandled"][0]["messageId"]
    else:
        assert done.out.splitlines()[0] == "2 messages sent back: 1 failed again, 1 not handled yet"


def test_last_batch_leaves_no_others(app: App) -> None:
    """If the last batch is not handled in time, the command does not say that other messages stay on the DLQ."""
    put_on_dlq(app, "visit-1")
    done = app.run("dlq", "retry", "visit", "--batch", "2", "--wait", "0")
    assert done.code == 1
    assert done.error.startswith("prisoner-to-nomis: stopped: 1 message was not handled in time: 1 waits on the queue")


def test_batches_stop_when_nothing_drains_the_queue(app: App) -> None:
    """A batch that is not handled in time stays on the main queue, and the messages of later batches stay on the DLQ.

    If nothing is draining the queue, the error says so and gives a command that drains it.
    """
    put_on_dlq(app, "visit-1", "visit-2", "visit-3")
    done = app.run("dlq", "retry", "visit", "--batch", "2", "--wait", "0")
    assert done.code == 1
    assert done.error.startswith(
        "prisoner-to-nomis: stopped with 1 message left on the dead letter queue: 2 messages were not handled in time: "
        "2 wait on the queue, and nothing is draining it: type `prisoner-to-nomis drain visit` in another shell"
    )
    assert "2 messages sent back: 0 handled, 2 not handled in time" in done.out
    assert (app.messages("visit"), len(on_main_queue(app))) == (1, 2)


def test_other_messages_on_the_queue_do_not_count(app: App, sandbox: Sandbox) -> None:
    """A batch counts as handled when its own messages are handled, however many other messages are on the queue."""
    app.main_queue("visit").send("another consumer has this message")
    assert app.main_queue("visit").receive()
    put_on_dlq(app, visit_booked(sandbox).dps_id)
    with Drained(app):
        output = app.run_ok("dlq", "retry", "visit", "--batch", "1")
    assert output.splitlines()[0] == "1 message sent back: handled"
    assert app.main_queue("visit").counts().total == 1


def test_a_batch_that_waits_names_its_reason(app: App, sandbox: Sandbox) -> None:
    """If messages of a batch are not handled in time, `dlq retry` lists only these, and what each is waiting for."""
    booked, early = visit_booked(sandbox), visit_booked(sandbox)
    put_on_dlq(app, booked.dps_id)
    changed = write_domain_event("prison-visit.changed", {"reference": early.dps_id}, "A1234BC", TIME)
    app.queues()["visit"].dlq.send(changed)
    with Drained(app, CREATION_WAIT_SECONDS="600"):
        done = app.run("dlq", "retry", "visit", "--batch", "2", "--wait", "3", "--json")
    (batch,) = json.loads(done.out)["batches"]
    assert [each["waitsFor"] for each in batch["notHandled"]] == ["creation"]
    assert re.search(
        r"1 message was not handled in time: 1 waits until \d\d:\d\d:\d\d for the next attempt", done.error
    )
    assert len(sandbox.nomis("visit")) == 1


def test_a_limited_retry_reads_the_queue_once(app: App) -> None:
    """With `--limit`, each message is read once.

    The messages that stay on the DLQ are visible again while the command waits for a batch to be handled.
    """
    put_on_dlq(app, *(f"visit-{number}" for number in range(14)))
    dlq = app.queues()["visit"].dlq
    visible = []
    with open_application(app.settings, app.settings["DATABASE_URL"]) as application:
        result, _ = retry_in_batches(
            application, "visit", Choice(limit=3), "A", 5, 0, lambda _: visible.append(dlq.counts().visible)
        )
    assert (len(result.retried), len(result.left), visible) == (3, 11, [11])
    assert [message.receive_count for message in dlq.receive(10)] == [2] * 10


def test_no_more_than_the_limit_is_sent_back(app: App) -> None:
    """With `--limit N`, a dry run lists at most N messages. A redrive sends back at most N, with or without batches."""
    put_on_dlq(app, *(f"visit-{number}" for number in range(14)))
    assert "3 messages would be sent back" in app.run_ok("dlq", "retry", "visit", "--limit", "3", "--dry-run")
    output = app.run_ok("dlq", "retry", "visit", "--limit", "11")
    assert output.splitlines() == ["visit: 11 of 14 messages sent back", "  left 3 other messages"]
    assert app.messages("visit") == 3
    batched = app.run("dlq", "retry", "visit", "--limit", "2", "--batch", "5", "--wait", "0")
    assert (batched.code, app.messages("visit")) == (1, 1)


@pytest.mark.parametrize("more", [(), ("--batch", "2", "--wait", "0")])
def test_the_messages_of_the_dry_run_are_sent_back(app: App, more: tuple[str, ...]) -> None:
    """A redrive with a limit sends back the messages that its dry run listed, even if SQS changes their order."""
    events = [write_domain_event(BOOKED, {"reference": f"visit-{number}"}, "A1234BC", TIME) for number in range(10)]
    # SQS gets them in one request, so they have the same age, and their order does not depend on when they were sent.
    assert not app.queues()["visit"].dlq.copy([Message(each, "", each, 1) for each in events], lambda _: {}, 0)
    chosen = ("dlq", "retry", "visit", "--limit", "2", "--json")
    listed = [each["messageId"] for each in json.loads(app.run_ok(*chosen, "--dry-run"))]
    result = json.loads(app.run(*chosen, *more).out)
    assert {each["messageId"] for each in result["messages"]} == set(listed)
    assert (result["messagesFoundCount"], len(result["left"])) == (10, 8)


def test_message_without_a_recorded_failure_is_worth_a_retry(app: App) -> None:
    """A message without a recorded failure counts as worth a retry, since the process that handled it may have died."""
    put_on_dlq(app, "visit-1")
    (message,) = app.read_json("dlq", "show", "visit")
    assert (message["class"], message["lastError"]) == ("unknown", None)
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry", "visit", "--recoverable")


def test_body_and_attributes_are_sent_back_unchanged(app: App) -> None:
    """A redrive sends the body and attributes unchanged in a new message, whose receive count starts at zero."""
    attributes: dict[str, Any] = {"traceparent": {"StringValue": "00-abc", "DataType": "String"}}
    app.queues()["visit"].dlq.send('{"Type": "Other", "Message": "{}"}', attributes)
    app.run_ok("dlq", "retry", "visit")
    (message,) = on_main_queue(app)
    assert (message.body, message.receive_count) == ('{"Type": "Other", "Message": "{}"}', 1)
    assert dict(message.attributes) == attributes
    assert app.messages("visit") == 0


def test_an_event_on_the_wrong_queue_is_sent_to_the_right_one(app: App) -> None:
    """The advice for an event on the wrong queue names the right queue, and the redrive sends the event to it."""
    app.queues()["incentive"].main.send(write_domain_event(BOOKED, {"reference": "lost"}, "A1234BC"))
    app.drain_out("incentive")
    (message,) = app.read_json("dlq", "show", "incentive")
    assert (message["class"], "belongs on the visit queue" in message["hint"]) == ("unrecoverable", True)
    app.run_ok("dlq", "retry", "incentive")
    assert [json.loads(each.body)["Message"] for each in on_main_queue(app)] == [message["body"]["Message"]]
    assert app.messages("incentive") == 0


def test_only_the_named_messages_are_sent_back(app: App) -> None:
    """With `--message`, only the messages with the given ids are sent back. An unknown id is bad usage.

    The other messages are visible again at once. The action is recorded.
    """
    put_on_dlq(app, "visit-1", "visit-2", "visit-3")
    ids = [each["messageId"] for each in app.read_json("dlq", "show", "visit")]
    dry = app.run_ok("dlq", "retry", "visit", "--message", ids[1], "--dry-run")
    assert "1 message would be sent back" in dry
    assert app.messages("visit") == 3
    result = json.loads(app.run_ok("dlq", "retry", "visit", "--message", ids[1], "--json"))
    assert (result["messagesFoundCount"], result["messagesRetriedCount"]) == (3, 1)
    assert [each["reason"] for each in result["left"]] == ["not requested"] * 2
    assert "visit-2" in on_main_queue(app)[0].body
    assert app.messages("visit") == 2
    (action,) = app.actions()
    assert action == ("dlq retry", "hmpps_prisoner_to_nomis_visit_dlq", "1 of 3 messages sent back")
    output = app.run_ok("dlq", "retry", "visit", "--message", ids[0])
    assert output.splitlines() == ["visit: 1 of 2 messages sent back", "  left 1 other message"]
    unknown = app.run("dlq", "retry", "visit", "--message", "no-such-id")
    assert (unknown.code, "holds no message no-such-id" in unknown.error) == (2, True)


def test_a_redrive_asks_only_at_a_terminal(app: App) -> None:
    """At a terminal, `dlq retry` and `dlq retry-all` ask for confirmation before they send anything back.

    If the answer is no, and in a dry run, every message stays, and neither an action nor a run is recorded. With
    `--yes`, the messages are sent back without a question.
    """
    put_on_dlq(app, "visit-1")
    for command in (("dlq", "retry", "visit"), ("dlq", "retry-all")):
        refused = app.run(*command, answer=Terminal("n\n"))
        assert (refused.code, app.messages("visit")) == (1, 1)
        assert "would be sent back" in app.run_ok(*command, "--dry-run")
        assert app.messages("visit") == 1
    assert (app.actions(), app.read_json("runs", "list")) == ([], [])
    app.run_ok("dlq", "retry-all", "--yes")
    assert app.messages("visit") == 0
    assert json.loads(app.run_ok("dlq", "retry-all", "--dry-run", "--json"))["visit"] == []


def test_an_action_in_a_pod_needs_the_name_of_a_person(app: App) -> None:
    """In a pod, an action needs a person's name, from `--as` or OPERATOR: the container's account is not a person."""
    put_on_dlq(app, "visit-1", "visit-2")
    pod = {"LOGNAME": "appuser"}
    nameless = app.run("dlq", "retry", "visit", **pod)
    assert (nameless.code, "--as NAME" in nameless.error, app.messages("visit")) == (
        2,
        True,
        2,
    )
    assert app.run("dlq", "purge", "visit", "--yes", OPERATOR=" ", **pod).code == 2
    assert app.run("dlq", "purge", "visit", "--dry-run", **pod).code == 2
    app.run_ok("dlq", "retry-all", "--dry-run", **pod)
    first = app.read_json("dlq", "show", "visit")[0]["messageId"]
    app.run("dlq", "retry", "visit", "--message", first, "--as", "jane.smith", OPERATOR="john", **pod)
    app.run("dlq", "purge", "visit", "--yes", OPERATOR="john", **pod)
    app.run("dlq", "retry", "visit", LOGNAME="mary")
    assert [each["who"] for each in app.read_json("actions")] == ["mary", "john", "jane.smith"]


def test_a_create_without_an_outcome_is_always_sent_back(app: App) -> None:
    """A dead letter is sent back if the last attempt may have created its record, whatever failure is recorded.

    The advice says that the next attempt will search for the record.
    """
    app.queues()["visit"].main.send(write_domain_event(BOOKED, {"reference": "visit-1"}, "A1234BC", TIME))
    app.drain_out("visit")
    (refused,) = app.read_json("dlq", "show", "visit")
    assert refused["class"] == "unrecoverable"
    intend(app, "visits", "visit-1")
    (unfinished,) = app.read_json("dlq", "show", "visit")
    assert (unfinished["class"], "search for the record" in unfinished["hint"]) == ("recoverable", True)
    assert "1 of 1 message sent back" in app.run_ok("dlq", "retry-all")


@pytest.mark.parametrize(
    ("lies_on", "domain", "event_type", "ids", "dps_id"),
    [
        ("incentive", "visits", BOOKED, {"reference": "visit-1"}, "visit-1"),
        ("visit", "visits", BOOKED.upper(), {"reference": "visit-1"}, "visit-1"),
        ("activity", "activities", "activities.activity-schedule.created", {"activityScheduleId": "0318"}, "318"),
    ],
    ids=["on the queue of another domain", "with its type in capitals", "with its number in another form"],
)
def test_the_message_of_an_unfinished_creation_is_recognised_in_any_form(
    app: App, lies_on: str, domain: str, event_type: str, ids: dict[str, str], dps_id: str
) -> None:
    """A message that can finish a creation is sent to the queue of its domain, and is never given up on.

    It is recognised even on the queue of another domain, or with its type or its number in another form.
    """
    app.queues()[lies_on].main.send(write_domain_event(event_type, ids, "A1234BC", TIME))
    app.drain_out(lies_on)
    intend(app, domain, dps_id)
    (message,) = app.read_json("dlq", "show", lies_on)
    assert (message["class"], "search for the record" in message["hint"]) == ("recoverable", True)
    app.run_ok("dlq", "retry-all")
    assert app.messages(lies_on) == 0
    (sent,) = app.queues()[DOMAINS[domain].queue].main.receive(10)
    assert dps_id in sent.body
    assert app.alerts() == []


def test_an_unavailable_queue_does_not_stop_the_others(app: App) -> None:
    """If a queue cannot be opened, `dlq retry-all` names it and fails, but sends back the other queues' messages."""
    put_on_dlq(app, "visit-1")
    other = {"HMPPS_SQS_QUEUES_SENTENCING_DLQ_NAME": "not a name"}
    done = app.run("dlq", "retry-all", **other)
    assert done.code == 1
    assert "sentencing: queue not a name" in done.error
    assert app.messages("visit") == 0


def test_a_message_that_the_database_refuses_stops_no_other_queue(app: App) -> None:
    """If a dead letter cannot be recorded as sent back, the messages of the other queues are still sent back.

    The command fails and names the queue of that dead letter.
    """
    app.run_ok("runs", "list")
    with sqlite3.connect(app.database) as connection:
        refused = "WHEN NEW.queue = 'incentive' BEGIN SELECT RAISE(ABORT, 'no'); END"
        connection.execute(f"CREATE TRIGGER refuses BEFORE INSERT ON dead_letter_returns {refused}")
    put_on_dlq(app, "visit-1")
    app.queues()["incentive"].dlq.send(write_mapping_retry({"incentiveId": 1}, {}))
    done = app.run("dlq", "retry-all")
    assert (done.code, app.messages("visit"), app.messages("incentive")) == (1, 0, 1)
    assert "incentive: 1 message failed: the redrive could not be recorded: IntegrityError" in done.error


class Failing(Queue):
    """A queue that accepts `sends` messages, and to which nothing can be sent after that."""

    def __init__(self, queue: Queue, sends: int) -> None:
        super().__init__(queue._client, queue.name, queue.url)
        self.sends = sends

    def send(self, body: str, attributes: Any = None) -> str:
        """Sends a message, or raises `QueueUnavailable` after `sends` messages."""
        if self.sends == 0:
            raise QueueUnavailable(self.name, "send_message", "ServiceUnavailable")
        self.sends -= 1
        return super().send(body, attributes)


def test_an_interrupted_redrive_loses_no_message(app: App, database: Database) -> None:
    """If the main queue fails midway through a redrive, only the messages that were sent have left the DLQ."""
    put_on_dlq(app, "visit-1", "visit-2", "visit-3")
    pair = app.queues()["visit"]
    dlq = DeadLetterQueue(
        "visit",
        QueuePair(Failing(pair.main, 1), pair.dlq),
        database,
        Telemetry(database, structlog.get_logger()),
    )
    with pytest.raises(QueueUnavailable):
        dlq.retry(lambda _: {})
    assert app.messages("visit") == 2
    assert len(on_main_queue(app)) == 1


class Refusing(Queue):
    """A main queue that accepts every message except those about one visit."""

    def __init__(self, queue: Queue, reference: str) -> None:
        super().__init__(queue._client, queue.name, queue.url)
        self.reference = reference

    def send(self, body: str, attributes: Any = None) -> str:
        """Sends a message, or raises `QueueUnavailable` if the message contains `reference`."""
        if self.reference in body:
            raise QueueUnavailable(self.name, "send_message", "InvalidMessageContents")
        return super().send(body, attributes)


def test_only_a_message_that_cannot_be_sent_stays(app: App, database: Database) -> None:
    """A message that the main queue refuses stays on the DLQ, and the result says why.

    The other messages are sent back.
    """
    put_on_dlq(app, "visit-1", "visit-2", "visit-3")
    pair = app.queues()["visit"]
    telemetry = Telemetry(database, structlog.get_logger())
    dlq = DeadLetterQueue("visit", QueuePair(Refusing(pair.main, "visit-2"), pair.dlq), database, telemetry)
    result = dlq.retry(lambda _: {})
    assert (len(result.retried), app.messages("visit"), len(on_main_queue(app))) == (2, 1, 2)
    ((left, reason),) = [(each.dead_letter.ids["reference"], each.reason) for each in result.left if each.failed]
    assert (left, "InvalidMessageContents" in reason) == ("visit-2", True)


def test_a_message_is_recognised_after_a_redrive() -> None:
    """After a redrive, a message is recognised by its SNS id or, if it has none, by its body."""
    retry = write_mapping_retry({"nomisId": "1", "vsipId": "a"}, {})
    another = write_mapping_retry({"nomisId": "2", "vsipId": "b"}, {})
    one, two, other = (
        read_dead_letter(Message(number, "", body, 1)) for number, body in (("1", retry), ("2", retry), ("1", another))
    )
    assert one.key == two.key != other.key
    notified = '{"Type": "Notification", "MessageId": "sns-1", "Message": "{\\"eventType\\": \\"a\\"}"}'
    assert read_dead_letter(Message("3", "", notified, 1)).key == "sns-1"


def test_actions_are_listed(app: App) -> None:
    """`actions` shows who sent messages back, and how many."""
    put_on_dlq(app, "visit-1")
    app.run_ok("dlq", "retry", "visit")
    (action,) = app.read_json("actions")
    assert (action["action"], action["outcome"]) == ("dlq retry", "1 of 1 message sent back")
    assert action["who"]
    assert "1 of 1 message sent back" in app.run_ok("actions")

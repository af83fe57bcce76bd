"""Any text from a message, a service or a person is stored and found again, and affects no other record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from structlog import get_logger

from jobs.runtime.job_runs import JobRuns
from reports.engine.units import Population, Unit, UnlistedPart
from sync.alerting import Severity
from sync.clock import now
from sync.creation.store import CreationStore
from sync.domains.registry import DOMAINS
from sync.errors import Failure, UpstreamError
from sync.store import actions, findings, outbox, tables
from sync.store import failed_attempts as failures
from sync.store.column_types import written_json
from sync.store.creations import CreationState
from sync.store.database import Database
from sync.store.failed_attempts import FailedAttempt
from sync.store.findings import FindingKind
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry, read_events
from sync.upstream import breaker as breakers
from tests.harness.pipeline import last_failure

VISIT = DOMAINS["visits"].creation

#: Short and long texts, some of them with characters that databases refuse: NULs and lone surrogates.
TEXTS = st.one_of(
    st.text(st.characters(codec=None), max_size=20),
    st.sampled_from(["\x00", "\ud800", "a\x00b", "\udfff\U0001f600", "\\u0000", "m" * 130]),
    st.builds(lambda text, times: text * times, st.text(min_size=1, max_size=3), st.integers(100, 400)),
)
examples = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


class Undo(Exception):
    """Raised to roll a transaction back."""


@contextmanager
def undone(database: Database) -> Iterator[Connection]:
    """A transaction that is rolled back, so that no example sees the rows of another example."""
    try:
        with database.begin() as connection:
            yield connection
            raise Undo
    except Undo:
        pass


def empty_store(database: Database) -> CreationStore:
    """Deletes all creations, so that no example sees those of another example. Returns the empty store."""
    with database.begin() as connection:
        connection.execute(tables.creations.delete())
    return CreationStore(database, Telemetry(database, get_logger()))


def readable(text: str) -> str:
    """`text` without the characters that some databases cannot store."""
    return text.replace("\x00", "").encode(errors="ignore").decode()


def of_text(text: str) -> FailedAttempt:
    """A failed attempt with `text` in each of its text fields except the queue."""
    failure = Failure(text, text, text, text, 400, text, recoverable=False)
    return FailedAttempt(now(), "visits", text, text, text, text, 1, failure)


@examples
@given(text=TEXTS)
def test_a_creation_may_have_any_text(database: Database, text: str) -> None:
    """The id, request, refusal reason, NOMIS ids and mapping of a creation may contain any text.

    Another creation, whose id begins with the same text, is not affected.
    """
    store = empty_store(database)
    body = {"comment": text, text: [text, {"deep": text}]}
    other, ids = f"{text}x", {"nomisId": text}
    assert store.intend(VISIT, text, body, {"visitId": text}, None) == 1
    assert store.intend(VISIT, other, body, {}, None) == 1
    store.create_failed(VISIT, text, 1, UpstreamError("nomis", "POST", text, status=400, message=text))
    record = store.read(VISIT, text)
    assert record is not None
    assert record.state is CreationState.REFUSED
    assert readable(text) in (record.note or "")
    assert record.properties == {"visitId": readable(text)}
    # The id that was read finds the same row as the original id.
    assert store.intend(VISIT, text, body, {}, record) == 2
    store.created(VISIT, record.dps_id, 2, ids)
    assert store.unclaimed(VISIT, other, [ids]) == []
    assert store.unclaimed(VISIT, text, [ids]) == [ids]
    created = store.read(VISIT, text)
    assert created is not None
    assert created.mapping is not None
    store.mapped(VISIT, text, created.mapping, "visit-create-success", created.mapping)
    states = [found.state for each in (text, other) if (found := store.read(VISIT, each)) is not None]
    assert states == [CreationState.MAPPED, CreationState.INTENDED]


def _attempts(connection: Connection, sns_message_id: str | None, message_id: str) -> int:
    """The number of recorded failed attempts to handle the message with these ids."""
    found = failures.attempts_at(connection, "visits", [(sns_message_id, message_id)])
    return found[message_id].number if found else 0


@examples
@given(text=TEXTS)
def test_a_failure_of_any_message_is_recorded_and_found(database: Database, text: str) -> None:
    """A failed attempt is found by either id of its message, whatever text the attempt contains.

    One is the SQS id; the other is the SNS id, which survives a redrive.
    """
    with database.begin() as connection:
        before = _attempts(connection, text, text)
        failures.record_failures(connection, [of_text("innocent"), of_text(text), of_text(f"{text}x")])
        assert _attempts(connection, None, text) == before + 1
    for found in (
        last_failure(database, sns_message_id=text, queue="visits"),
        last_failure(database, message_id=text, queue="visits"),
    ):
        assert found is not None
        assert found.failure.reason == readable(text)


@examples
@given(text=TEXTS)
def test_findings_with_any_text_are_distinguished(database: Database, text: str) -> None:
    """Findings with different keys stay separate.

    This is so even if the keys differ only beyond the length of the column, or only in characters that it cannot store.
    """
    with undone(database) as connection:
        for key, new in ((text, True), (text, False), (f"{text}x", True), (f"{text}\x00", True)):
            given = (key, FindingKind.AMBIGUOUS, text, Severity.LOW, text, {text: text})
            assert findings.record_finding(connection, *given, "show {id}") is new
        found = findings.find(connection, text)
        assert found is not None
        assert found.properties == {readable(text): readable(text)}
        assert findings.resolve(connection, found.id, text, text)
        alert = outbox.find(connection, f"finding:{found.id}")
        assert alert is not None


@examples
@given(text=TEXTS)
def test_a_delivery_of_any_text_is_sent(database: Database, text: str) -> None:
    """The key, payload, progress and errors of a delivery may contain any text."""
    with undone(database) as connection:
        assert outbox.enqueue(connection, text, "slack", {"text": text})
        assert not outbox.enqueue(connection, text, "slack", {})
        assert outbox.enqueue(connection, f"{text}x", "slack", {})
        delivery = outbox.find(connection, text)
        assert delivery is not None
        claimed = outbox.claim(connection, delivery, now() + timedelta(seconds=60))
        assert claimed is not None
        assert outbox.record_progress(connection, claimed, {text: text})
        assert outbox.retry_later(connection, claimed, now(), text)
        assert outbox.give_up(connection, claimed, text)


@examples
@given(text=TEXTS)
def test_a_dead_letter_of_any_id_is_counted(database: Database, text: str) -> None:
    """The redrives of a dead letter are counted under its whole key, whatever the key's length and characters."""
    with undone(database) as connection:
        failures.count_redrives(connection, "visits", [text, f"{text}x", text])
        expected = {text: 2, f"{text}x": 1}
        found = failures.redrives_of(connection, "visits", [text, f"{text}x", f"{text}\x00"])
        assert {key: each.number for key, each in found.items()} == expected


@examples
@given(text=TEXTS)
def test_an_action_and_a_breaker_take_any_text(database: Database, text: str) -> None:
    """The name, operator, target, outcome and details of an action may contain any text.

    So may the reason why a service counts as down.
    """
    with undone(database) as connection:
        number = actions.start_action(connection, text, text, text, {text: text}, "action:1")
        actions.finish_action(connection, number, actions.ActionState.DONE, text, {text: text})
        assert actions.was_done(connection, text, text)
        assert breakers.set_breaker(connection, "nomis", "open", opened_at=now(), reason=text)
        assert breakers.read_breakers(connection)["nomis"].reason == readable(text)


@examples
@given(text=TEXTS)
def test_a_run_and_an_event_take_any_text(database: Database, text: str) -> None:
    """The name, parameters, counts and error of a run may contain any text.

    So may the name and properties of an event. Other events of the same batch are written too.
    """
    job_runs = JobRuns(database, Leases(database, text, 60))
    with suppress(ValueError), job_runs.run(text, {text: text}) as run:
        run.counts = {text: text}
        raise ValueError(text)
    telemetry = Telemetry(database, get_logger())
    telemetry.track("plain", {"id": run.id})
    telemetry.track(text, {text: text, "id": run.id})
    telemetry.flush()
    ours = [each["properties"] for each in read_events(database) if each["properties"]["id"] == run.id]
    assert {"id": run.id} in ours
    assert len(ours) == 2


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, 2**64, 2**70, -(2**63) - 1])
def test_numbers_beyond_a_database_are_kept_as_text(database: Database, number: int) -> None:
    """A number that does not fit a 64-bit column is stored as text, and such a NOMIS id is found again.

    From a JSON column, SQLite would return such a number only approximately.
    """
    store = empty_store(database)
    assert store.intend(VISIT, "big", {"body": {"number": number}}, {}, None) == 1
    record = store.read(VISIT, "big")
    assert record is not None
    assert record.request == {"body": {"number": str(number)}}
    ids = {"nomisId": number}
    store.created(VISIT, "big", 1, ids)
    assert store.unclaimed(VISIT, "other", [ids, {"nomisId": number + 1}]) == [{"nomisId": number + 1}]


def test_the_largest_numbers_of_a_database_stay_numbers(database: Database) -> None:
    """The largest number that fits a 64-bit column is stored as a number, and such a NOMIS id is found again."""
    store = empty_store(database)
    ids = {"nomisId": 2**63 - 1}
    assert store.intend(VISIT, "big", ids, {}, None) == 1
    record = store.read(VISIT, "big")
    assert record is not None
    assert record.request == ids
    store.created(VISIT, "big", 1, ids)
    assert store.unclaimed(VISIT, "other", [ids, {"nomisId": 2**63 - 2}]) == [{"nomisId": 2**63 - 2}]


def test_a_text_that_fits_its_column_is_unchanged(database: Database) -> None:
    """Text that just fits its column is stored unchanged."""
    attempt = replace(of_text("x"), message_id="é" * 100)
    with database.begin() as connection:
        failures.record_failures(connection, [attempt])
    found = last_failure(database, queue="visits", message_id=attempt.message_id)
    assert found is not None
    assert found.message_id == attempt.message_id


@given(TEXTS, TEXTS)
def test_population_of_a_run_is_kept_with_any_text(text: str, other: str) -> None:
    """The population of a run is written as JSON, without the characters that cannot be stored."""
    population = Population((Unit(text, {"names": [other]}),), None, gaps=(UnlistedPart(other, text),))
    written = orjson.loads(written_json(population))
    assert written["units"] == [{"id": readable(text), "content": {"names": [readable(other)]}, "size": 1}]
    assert written["gaps"] == [{"what": readable(other), "reason": readable(text), "detail": {}}]

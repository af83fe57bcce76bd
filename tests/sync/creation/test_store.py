"""The records of creations: the order of their states, and what only a person or a deletion can change."""

from __future__ import annotations

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from sync.creation.conflicts import Conflict
from sync.creation.store import CreationStore
from sync.domains.registry import DOMAINS
from sync.errors import LeaseBusy, UpstreamError
from sync.store import creations as records
from sync.store import findings
from sync.store.creations import CreationRecord, CreationState
from sync.store.database import Database
from sync.store.telemetry import Telemetry

VISIT = DOMAINS["visits"].creation
REQUEST = {"body": {"a": [1]}}
IDS = {"nomisId": 8811001}
MAPPING = VISIT.mapping("bq", IDS)


@pytest.fixture
def store(database: Database) -> CreationStore:
    """A store on an empty database."""
    return CreationStore(database, Telemetry(database, structlog.get_logger()))


def intend(store: CreationStore, previous: CreationRecord | None = None, dps_id: str = "bq") -> int:
    """Records an intent to create a visit, and returns the number of the attempt."""
    return store.intend(VISIT, dps_id, REQUEST, {"visitId": dps_id, "prisonId": None}, previous)


def read(store: CreationStore, dps_id: str = "bq") -> CreationRecord:
    """The record of the visit's creation, which must exist."""
    record = store.read(VISIT, dps_id)
    assert record is not None
    return record


def failure(*, outcome_unknown: bool = False) -> UpstreamError:
    """The error of a create that was refused or, with `outcome_unknown`, that NOMIS may have applied."""
    return UpstreamError("nomis", "POST", "/visits", status=400, message="", outcome_unknown=outcome_unknown)


def test_a_creation_is_intended_created_and_mapped(store: CreationStore, database: Database) -> None:
    """A creation passes through the states "intended", "created" and "mapped".

    In each state, its record has what the next delivery needs.
    """
    assert store.read(VISIT, "bq") is None
    assert intend(store) == 1
    record = read(store)
    assert (record.state, record.request, record.mapping) == (CreationState.INTENDED, REQUEST, None)
    assert record.properties == {"visitId": "bq"}
    assert record.state.is_open
    assert store.created(VISIT, "bq", 1, IDS) == MAPPING
    record = read(store)
    assert (record.state, record.nomis_ids, record.mapping) == (CreationState.CREATED, IDS, MAPPING)
    store.mapped(VISIT, "bq", MAPPING, "visit-create-success", {})
    record = read(store)
    assert record.state is CreationState.MAPPED
    assert (record.state.is_open, record.state.is_final) == (False, True)
    with database.read() as connection:
        assert records.get(connection, record.id) == record
        assert records.finished_since(connection, "visit", record.updated_at) == {"bq"}


def test_only_one_of_two_concurrent_intents_is_accepted(store: CreationStore) -> None:
    """If two attempts read the same state of a record, the intent of the second is refused and changes nothing."""
    assert intend(store) == 1
    with pytest.raises(LeaseBusy):
        intend(store)
    intended = read(store)
    store.create_failed(VISIT, "bq", 1, failure())
    with pytest.raises(LeaseBusy):
        intend(store, intended)
    refused = read(store)
    assert (refused.state, intend(store, refused)) == (CreationState.REFUSED, 2)
    with pytest.raises(LeaseBusy):
        intend(store, refused)
    assert read(store).attempts == 2


def test_an_overtaken_attempt_changes_nothing(store: CreationStore) -> None:
    """An attempt that has ended, or that a later attempt has overtaken, changes nothing."""
    intend(store)
    intended = read(store)
    intend(store, intended)
    second = read(store)
    store.created(VISIT, "bq", 1, IDS)
    store.create_failed(VISIT, "bq", 1, failure())
    store.ambiguous(VISIT, intended, {})
    assert read(store) == second
    store.create_failed(VISIT, "bq", 2, failure(outcome_unknown=True))
    record = read(store)
    assert (record.state, "status 400" in (record.note or ""), record.mapping) == (CreationState.INTENDED, True, None)
    store.created(VISIT, "bq", 2, IDS)
    created = read(store)
    store.create_failed(VISIT, "bq", 2, failure())
    assert read(store) == created


def test_a_create_that_was_recorded_late_is_not_overwritten(store: CreationStore) -> None:
    """A process that found nothing in NOMIS does not overwrite a create that another process has since recorded."""
    intend(store)
    intended = read(store)
    store.created(VISIT, "bq", 1, IDS)
    with pytest.raises(LeaseBusy):
        store.not_applied(VISIT, intended)
    assert read(store).state is CreationState.CREATED


def test_any_other_refusal_of_an_intent_raises(store: CreationStore, database: Database) -> None:
    """If the database refuses an intent because the DPS record already has one, another process was faster.

    Any other database error is raised.
    """
    intend(store)
    with database.begin() as connection:
        connection.execute(text("CREATE UNIQUE INDEX one_each ON creations (domain)"))
    try:
        with pytest.raises(IntegrityError):
            intend(store, dps_id="another")
    finally:
        # Later tests use the same database.
        with database.begin() as connection:
            connection.execute(text("DROP INDEX one_each"))


def test_a_mapping_of_another_record_changes_nothing(store: CreationStore) -> None:
    """A mapping with another NOMIS id neither completes a creation nor makes it a duplicate.

    A conflict about the creation's own mapping does make it a duplicate.
    """
    other = VISIT.mapping("bq", {"nomisId": 5})
    intend(store)
    store.created(VISIT, "bq", 1, IDS)
    created = read(store)
    store.mapped(VISIT, "bq", other, "visit-retry-success", {})
    store.conflicting(VISIT, "bq", other, Conflict(None, other), {}, failed=None)
    assert read(store) == created
    store.conflicting(VISIT, "bq", MAPPING, Conflict(other, MAPPING), {}, failed=None)
    assert read(store).state is CreationState.DUPLICATE


def test_a_mapping_saved_later_resolves_the_finding(store: CreationStore, database: Database) -> None:
    """An ambiguous creation and its finding are resolved only by a mapping that was saved after the finding.

    If there was a mapping before, NOMIS may still have a second record, which is not mapped.
    """
    intend(store)
    store.ambiguous(VISIT, read(store), {"visitId": "bq", **VISIT.mapping("bq", {"nomisId": 5})})
    ambiguous = read(store)
    store.mapped_by_others(VISIT, ambiguous, VISIT.mapping("bq", {"nomisId": 5}))
    assert read(store) == ambiguous
    store.mapped_by_others(VISIT, ambiguous, MAPPING)
    assert read(store).state is CreationState.MAPPED
    with database.read() as connection:
        assert findings.list_findings(connection) == []


def test_people_resolve_open_creations(store: CreationStore, database: Database) -> None:
    """A person can settle an open creation as mapped or as not created, and can reopen one that was mapped.

    Otherwise, a closed creation does not change.
    """
    for dps_id in ("a", "b"):
        intend(store, dps_id=dps_id)
        store.ambiguous(VISIT, read(store, dps_id), {})
    a, b = read(store, "a"), read(store, "b")
    with database.begin() as connection:
        assert records.resolve_as_mapped(connection, a.id, IDS, MAPPING, "seen in NOMIS")
        assert not records.resolve_as_mapped(connection, a.id, IDS, MAPPING, "again")
        assert records.abandon(connection, b.id, "not in NOMIS")
        assert not records.resolve_as_mapped(connection, 999, IDS, MAPPING, "nobody")
    assert (read(store, "a").state, read(store, "a").nomis_ids) == (CreationState.MAPPED, IDS)
    assert (read(store, "b").state, read(store, "b").note) == (CreationState.ABANDONED, "not in NOMIS")
    with database.begin() as connection:
        assert records.reopen(connection, a.id, "it was another one")
        assert not records.reopen(connection, b.id, "it was never mapped")
    assert (read(store, "a").state, read(store, "a").mapping) == (CreationState.AMBIGUOUS, None)


def test_open_creations_are_listed_with_the_ambiguous_ones_first(store: CreationStore, database: Database) -> None:
    """Ambiguous creations are listed first, and closed creations only on request."""
    for dps_id in ("mapped", "ambiguous", "intended"):
        intend(store, dps_id=dps_id)
    store.mapped(VISIT, "mapped", MAPPING, "visit-create-success", {})
    store.ambiguous(VISIT, read(store, "ambiguous"), {})
    with database.read() as connection:
        assert [each.dps_id for each in records.list_creations(connection)] == ["ambiguous", "intended"]
        every = records.list_creations(connection, list(CreationState))
        assert {each.dps_id for each in every} == {"mapped", "ambiguous", "intended"}
        assert len(records.list_creations(connection, limit=1)) == 1


def test_a_deleted_creation_is_remembered_as_such(store: CreationStore, database: Database) -> None:
    """After a deletion, the record of a creation no longer names the NOMIS record.

    A deletion that precedes the creation is recorded too.
    """
    intend(store)
    store.created(VISIT, "bq", 1, IDS)
    with database.begin() as connection:
        for dps_id in ("bq", "never begun"):
            records.mark_deleted(connection, "visit", dps_id)
    record = read(store)
    assert (record.state, record.nomis_ids, record.mapping) == (CreationState.DELETED, None, None)
    assert (record.attempts, read(store, "never begun").attempts) == (1, 0)

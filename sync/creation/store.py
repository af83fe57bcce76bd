"""Records the steps of the creation protocol in the database, each in one transaction with its telemetry."""

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import BigInteger, Connection, Update, bindparam, cast, insert, select, update
from sqlalchemy.exc import IntegrityError

from sync.alerting import SHOW_DUPLICATE, Severity, command
from sync.clock import now
from sync.creation.conflicts import Conflict
from sync.creation.creation import Creation, Json, creation_lease
from sync.errors import BreakerOpen, LeaseBusy, UpstreamError
from sync.store import findings
from sync.store.column_types import LARGEST_INTEGER, storable
from sync.store.creations import OF_DPS_RECORD, CreationRecord, CreationState, find_record, list_intents, mark_mapped
from sync.store.database import Database, StoreUnavailable
from sync.store.findings import FindingKind, record_finding
from sync.store.tables import creations
from sync.store.telemetry import Properties, Telemetry, text_properties

_CONFLICT = "the mapping service has a different mapping for one of the two records"
_RESOLVER = "prisoner-to-nomis"
#: Ambiguous creations are serious: the record may be missing, and every change to it fails until a person has checked.
_AMBIGUOUS_SEVERITY = Severity.SERIOUS

# The statements are built once, since it takes longer to build a statement than to run it.
_INSERT = insert(creations)
_OF_ATTEMPT = OF_DPS_RECORD & (creations.c.attempts == bindparam("the_attempt"))
_CHANGE_INTENT = update(creations).where(_OF_ATTEMPT, creations.c.state == CreationState.INTENDED)
# A mapped record is included, since its mapping may have disappeared.
_ASKED_ABOUT = (CreationState.INTENDED, CreationState.MAPPED)
#: Finds an intent by its note. If the intent was not committed, another process may have begun an attempt with the same
#: number.
_REFUSE_UNSENT = update(creations).where(
    OF_DPS_RECORD, creations.c.note == bindparam("the_note"), creations.c.state == CreationState.INTENDED
)
_MARK_AMBIGUOUS = update(creations).where(_OF_ATTEMPT, creations.c.state.in_(_ASKED_ABOUT))
_MARK_DUPLICATE = update(creations).where(OF_DPS_RECORD).values(state=CreationState.DUPLICATE)


class CreationStore:
    """Records the steps of creations. Safe to share between threads; the caller must hold the lease of the DPS record.

    A step that is given the number of its attempt changes nothing if a later attempt has begun. If the database is
    unavailable after a call to NOMIS, the result is kept in memory and written before the record is next read.
    """

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._telemetry = telemetry
        #: For each creation, the number of the last attempt that got a response, but has an unknown outcome.
        self._ended: dict[tuple[str, str], int] = {}
        self._unwritten: dict[tuple[str, str], Callable[[Connection], None]] = {}
        self._lock = threading.Lock()

    def read(self, creation: Creation, dps_id: str) -> CreationRecord | None:
        """The current record of a creation, or None if there is no record."""
        key = (creation.name, dps_id)
        with self._lock:
            write = self._unwritten.get(key)
        if write is not None:
            with self._database.begin() as connection:
                write(connection)
            with self._lock:
                self._unwritten.pop(key, None)
        with self._database.read() as connection:
            return find_record(connection, creation.name, dps_id)

    def concurrent_intents(self, creation: Creation, record: CreationRecord) -> list[CreationRecord]:
        """The intents of other DPS records with the same subject as `record`; empty if `record` has no subject."""
        subject = creation.subject(record.request)
        if subject is None:
            return []
        with self._database.read() as connection:
            intents = list_intents(connection, creation.name)
        return [each for each in intents if each.dps_id != record.dps_id and creation.subject(each.request) == subject]

    def unclaimed(self, creation: Creation, dps_id: str, candidates: Sequence[Json]) -> list[Json]:
        """The candidates (NOMIS ids) that are not recorded as created for a different DPS record."""
        if not candidates:
            return []
        with self._database.read() as connection:
            return [ids for ids in candidates if not _created_for_another(connection, creation.name, dps_id, ids)]

    def intend(
        self,
        creation: Creation,
        dps_id: str,
        request: Json,
        properties: Properties,
        previous: CreationRecord | None,
        since: datetime | None = None,
    ) -> int:
        """Records that a create is about to be sent, or may have been sent by another program.

        Returns the number of the attempt.

        previous: the record as last read, or None if there was none. since: the earliest time at which another program
        may have sent the create, or None if this program is about to send it.

        Raises `LeaseBusy` if another process was faster although this process holds the lease.
        """
        attempt, moment = 1 if previous is None else previous.attempts + 1, since or now()
        # The note says why an outcome is unknown, and identifies the process that recorded the intent.
        note = f"no response was recorded (attempt {uuid4().hex[:8]})" if since is None else None
        values: dict[str, Any] = {
            "state": CreationState.INTENDED,
            "request": dict(request),
            "nomis_ids": None,
            "mapping": None,
            "properties": text_properties(properties),
            "attempts": attempt,
            "note": note,
            "intended_at": moment,
            "updated_at": moment,
        }
        try:
            with self._database.begin() as connection:
                if previous is None:
                    first = {"domain": creation.name, "dps_id": dps_id, "created_at": moment}
                    connection.execute(_INSERT, values | first)
                elif not _replace(connection, previous, values):
                    raise LeaseBusy(creation_lease(creation.name, dps_id))
        except IntegrityError:
            with self._database.read() as connection:
                was_faster = previous is None and find_record(connection, creation.name, dps_id) is not None
            if not was_faster:
                raise
            raise LeaseBusy(creation_lease(creation.name, dps_id)) from None
        except StoreUnavailable:
            if note is not None:
                # If the connection was lost during the commit, the intent may be recorded although nothing was sent.
                self._keep(creation, dps_id, lambda connection: _refuse_unsent(connection, creation, dps_id, note))
            raise
        return attempt

    def create_failed(self, creation: Creation, dps_id: str, attempt: int, error: Exception) -> None:
        """Records a failed create.

        If the create was certainly not applied, it is recorded as refused, so that the next delivery tries again.
        Otherwise its outcome stays unknown.
        """
        note = str(error)
        if isinstance(error, UpstreamError) and error.outcome_unknown and not error.under_way:
            self._ended[creation.name, dps_id] = attempt
        # If a breaker was open or the lease had expired, nothing was sent.
        refused = isinstance(error, BreakerOpen | LeaseBusy) or (
            isinstance(error, UpstreamError) and not error.outcome_unknown
        )
        if refused:
            self._write(creation, dps_id, lambda connection: _refuse(connection, creation, dps_id, attempt, note))
        else:
            self._write(
                creation, dps_id, lambda connection: _change(connection, creation, dps_id, attempt, {"note": note})
            )

    def request_has_ended(self, record: CreationRecord) -> bool:
        """Whether NOMIS itself has responded to the last create, which means that the request is no longer under way.

        Only the process that sent the request knows this.
        """
        return self._ended.get((record.domain, record.dps_id)) == record.attempts

    def not_applied(self, creation: Creation, record: CreationRecord) -> CreationRecord:
        """Records that NOMIS does not have the record of an intent. Returns the changed creation record.

        Raises `LeaseBusy` if a process that had lost its lease has meanwhile recorded a different outcome.
        """
        with self._database.begin() as connection:
            _refuse(connection, creation, record.dps_id, record.attempts, "NOMIS does not have the record")
            changed = find_record(connection, creation.name, record.dps_id)
        if changed is None or changed.state is not CreationState.REFUSED:
            raise LeaseBusy(creation_lease(creation.name, record.dps_id))
        return changed

    def created(self, creation: Creation, dps_id: str, attempt: int, nomis_ids: Json) -> Json:
        """Records the NOMIS ids, and returns the mapping to save. Does not fail if the database is unavailable."""
        mapping = creation.mapping(dps_id, nomis_ids)
        values = {"state": CreationState.CREATED, "nomis_ids": dict(nomis_ids), "mapping": dict(mapping), "note": None}
        self._ended.pop((creation.name, dps_id), None)
        self._write(creation, dps_id, lambda connection: _change(connection, creation, dps_id, attempt, values))
        return mapping

    def mapped(self, creation: Creation, dps_id: str, mapping: Json, event_name: str, properties: Properties) -> None:
        """Records that the mapping is saved, and tracks the success."""
        with self._database.begin() as connection:
            if _belongs_to(connection, creation, dps_id, mapping):
                mark_mapped(connection, creation.name, dps_id, mapping)
            self._telemetry.track_with(connection, event_name, properties)

    def mapped_by_others(self, creation: Creation, record: CreationRecord, mapping: Json) -> None:
        """Records that another program has saved a mapping for an open creation.

        This resolves the finding about the creation, if there is one. But if the finding names the mapping, the mapping
        is older than the finding, and nothing changes: a person must check whether NOMIS has a second record.
        """
        with self._database.begin() as connection:
            finding = findings.find(connection, ambiguous_key(record))
            if finding is not None and creation.ids_in(mapping).items() <= finding.properties.items():
                return
            mark_mapped(connection, creation.name, record.dps_id, mapping)
            if finding is not None:
                findings.resolve(connection, finding.id, _RESOLVER, "a mapping was saved in the meantime")

    def conflicting(
        self,
        creation: Creation,
        dps_id: str,
        mapping: Json,
        conflict: Conflict,
        properties: Mapping[str, str],
        failed: str | None,
    ) -> None:
        """Records that the mapping was refused. Also records a finding, about which one alert is sent.

        failed: the telemetry event about the failed attempt to save the mapping, or None if there is none to track.
        """
        event_name, key = duplicate_event(creation), duplicate_key(creation, mapping)
        both = {**properties, **conflict.properties()}
        with self._database.begin() as connection:
            if _belongs_to(connection, creation, dps_id, mapping):
                values = {"the_domain": creation.name, "the_dps_id": dps_id, "mapping": dict(mapping)}
                connection.execute(_MARK_DUPLICATE, values | {"updated_at": now()})
            if failed is not None:
                self._telemetry.track_with(connection, failed, {**properties, "reason": _CONFLICT})
            self._telemetry.track_with(connection, event_name, both)
            kind, severity = FindingKind.DUPLICATE, creation.severity
            record_finding(connection, key, kind, creation.name, severity, event_name, both, SHOW_DUPLICATE)

    def ambiguous(self, creation: Creation, record: CreationRecord, properties: Properties) -> None:
        """Records that no look-up can show whether NOMIS has the record.

        Also records a finding, about which one alert is sent.
        """
        event_name, text = f"{creation.name}-create-ambiguous", text_properties(properties)
        values = {"state": CreationState.AMBIGUOUS, "note": record.note or "no response was recorded"}
        with self._database.begin() as connection:
            _change(connection, creation, record.dps_id, record.attempts, values, _MARK_AMBIGUOUS)
            self._telemetry.track_with(connection, event_name, text)
            record_finding(
                connection,
                ambiguous_key(record),
                FindingKind.AMBIGUOUS,
                creation.name,
                _AMBIGUOUS_SEVERITY,
                event_name,
                text,
                command("creations", "settle", record.id),
            )

    def _write(self, creation: Creation, dps_id: str, write: Callable[[Connection], None]) -> None:
        try:
            with self._database.begin() as connection:
                write(connection)
        except StoreUnavailable:
            self._keep(creation, dps_id, write)

    def _keep(self, creation: Creation, dps_id: str, write: Callable[[Connection], None]) -> None:
        with self._lock:
            self._unwritten[creation.name, dps_id] = write


def duplicate_event(creation: Creation) -> str:
    """The telemetry event for a finding about a duplicate."""
    return f"to-nomis-synch-{creation.name}-duplicate"


def duplicate_key(creation: Creation, mapping: Json) -> str:
    """The key of a finding about a duplicate; `mapping` is the mapping that the mapping service refused."""
    ids = ",".join(f"{name}={value}" for name, value in sorted(creation.ids_in(mapping).items()))
    return f"duplicate:{creation.name}:{ids}"


def ambiguous_key(record: CreationRecord) -> str:
    """The key of the finding that asks a person whether NOMIS has the record of an ambiguous creation."""
    return f"ambiguous:{record.domain}:{record.dps_id}:{record.attempts}"


def _change(
    connection: Connection,
    creation: Creation,
    dps_id: str,
    attempt: int,
    values: Mapping[str, Any],
    statement: Update = _CHANGE_INTENT,
) -> None:
    """Changes the record if `attempt` is still its last attempt and `statement` allows its state."""
    given = {"the_domain": creation.name, "the_dps_id": dps_id, "the_attempt": attempt}
    connection.execute(statement, {**values, **given, "updated_at": now()})


def _refuse(connection: Connection, creation: Creation, dps_id: str, attempt: int, note: str) -> None:
    _change(connection, creation, dps_id, attempt, {"state": CreationState.REFUSED, "note": note})


def _refuse_unsent(connection: Connection, creation: Creation, dps_id: str, its_note: str) -> None:
    """If an intent with the note `its_note` was committed, marks it as refused."""
    given = {"the_domain": creation.name, "the_dps_id": dps_id, "the_note": its_note}
    connection.execute(
        _REFUSE_UNSENT, {"state": CreationState.REFUSED, "note": "not sent", "updated_at": now()} | given
    )


def _replace(connection: Connection, previous: CreationRecord, values: Mapping[str, Any]) -> bool:
    """Writes the values unless the record has changed since it was read. Returns whether they were written."""
    columns = creations.c
    unchanged = (columns.id == previous.id, columns.attempts == previous.attempts, columns.state == previous.state)
    return connection.execute(update(creations).where(*unchanged).values(values)).rowcount == 1


def _belongs_to(connection: Connection, creation: Creation, dps_id: str, mapping: Json) -> bool:
    """Whether the creation record belongs, or may belong, to the mapping.

    A retry message with a different mapping must not change the record.
    """
    record = find_record(connection, creation.name, dps_id)
    return record is not None and (record.mapping is None or creation.same_records(record.mapping, mapping))


def _created_for_another(connection: Connection, domain: str, dps_id: str, nomis_ids: Json) -> bool:
    columns = creations.c
    held = {name: columns.nomis_ids[name].as_string() for name in nomis_ids}
    # SQLite returns numbers even if text is requested, and a number never equals text.
    same = [
        cast(held[name], BigInteger) == value
        if isinstance(value, int) and abs(value) <= LARGEST_INTEGER
        else held[name] == storable(str(value))
        for name, value in nomis_ids.items()
    ]
    query = select(columns.id).where(columns.domain == domain, columns.dps_id != dps_id, *same).limit(1)
    return connection.execute(query).scalar() is not None

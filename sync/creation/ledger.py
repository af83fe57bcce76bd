"""What the creation protocol writes down: each step in one transaction, with the telemetry that tells of it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from sync.creation import store as creations
from sync.creation.conflicts import Conflict
from sync.creation.creation import Creation, creation_lease
from sync.creation.store import CreationRecord
from sync.failures import BreakerOpen, LeaseBusy, UpstreamError
from sync.proposed import SHOW_DUPLICATE, command
from sync.store import findings
from sync.store.database import Database, StoreUnavailable
from sync.store.findings import FindingKind, record_finding
from sync.store.telemetry import Properties, Telemetry, text_properties

#: Why saving a mapping failed, where the mapping service has another one of the record.
_CONFLICT = "the mapping service has another mapping of one of the two"

WHO = "prisoner-to-nomis"
#: Whatever is doubted may be missing in NOMIS, and every change of it fails until a person has looked.
DOUBT_SEVERITY = "serious"


class CreationLedger:
    """The records of creations. Safe to share between threads; the caller holds the lease of the DPS record.

    What happened in NOMIS while the database was away is kept in memory, and written before the record is next read.
    """

    def __init__(self, database: Database, telemetry: Telemetry) -> None:
        self._database = database
        self._telemetry = telemetry
        #: The last attempt at a creation whose request is over although its outcome is unknown.
        self._over: dict[tuple[str, str], int] = {}
        self._unwritten: dict[tuple[str, str], Callable[[Connection], object]] = {}
        self._lock = threading.Lock()

    def read(self, creation: Creation, dps_id: str) -> CreationRecord | None:
        """The record as it is now, None when there is none."""
        key = (creation.name, dps_id)
        with self._lock:
            write = self._unwritten.get(key)
        if write is not None:
            with self._database.begin() as connection:
                write(connection)
            with self._lock:
                self._unwritten.pop(key, None)
        with self._database.read() as connection:
            return creations.find(connection, creation.name, dps_id)

    def rivals(self, creation: Creation, record: CreationRecord) -> list[CreationRecord]:
        """Other intents of the same subject whose outcome is not known either."""
        with self._database.read() as connection:
            open_intents = creations.intents(connection, creation.name)
        subject = creation.subject(record.request)
        return [
            each for each in open_intents if each.dps_id != record.dps_id and creation.subject(each.request) == subject
        ]

    def unclaimed(
        self, creation: Creation, dps_id: str, candidates: Sequence[Mapping[str, Any]]
    ) -> list[Mapping[str, Any]]:
        """Those of the NOMIS ids that no creation of another DPS record is known to have made."""
        if not candidates:
            return []
        with self._database.read() as connection:
            return [ids for ids in candidates if not creations.made_by_another(connection, creation.name, dps_id, ids)]

    def intend(
        self,
        creation: Creation,
        dps_id: str,
        request: Mapping[str, Any],
        properties: Properties,
        after: CreationRecord | None,
    ) -> int:
        """Records that a create is about to be sent; the number of the attempt. `after` is the record as it was read.

        Raises `LeaseBusy` when another process was quicker although we held the lease.
        """
        name, told = creation.name, text_properties(properties)
        attempt = 1 if after is None else after.attempts + 1
        try:
            with self._database.begin() as connection:
                intended = creations.record_intent(connection, name, dps_id, request, told, after)
        except StoreUnavailable:
            # The connection may have been lost in the very commit: nothing was sent, whatever the record says.
            self._keep(creation, dps_id, lambda c: creations.record_refused(c, name, dps_id, attempt, "not sent"))
            raise
        if not intended:
            raise LeaseBusy(creation_lease(name, dps_id))
        return attempt

    def failed(self, creation: Creation, dps_id: str, attempt: int, error: Exception) -> None:
        """Records how a create failed: refused, so that the next delivery creates, or with an outcome unknown."""
        name, note = creation.name, str(error)
        # With the breaker open, or the lease run out, nothing was sent.
        refused = isinstance(error, BreakerOpen | LeaseBusy) or (
            isinstance(error, UpstreamError) and not error.outcome_unknown
        )
        if isinstance(error, UpstreamError) and error.outcome_unknown and not error.under_way:
            self._over[(name, dps_id)] = attempt
        write = creations.record_refused if refused else creations.record_doubt
        self._write(creation, dps_id, lambda connection: write(connection, name, dps_id, attempt, note))

    def is_over(self, record: CreationRecord) -> bool:
        """Whether the service has responded to the last create, so that it is not at work there any more.

        Only the process that sent it knows; for another one it may be under way.
        """
        return self._over.get((record.domain, record.dps_id)) == record.attempts

    def never_applied(self, creation: Creation, record: CreationRecord) -> CreationRecord:
        """Records that NOMIS turned out not to have the record of an intent; the record as it is then."""
        with self._database.begin() as connection:
            note = "NOMIS does not have it"
            creations.record_refused(connection, creation.name, record.dps_id, record.attempts, note)
            now = creations.find(connection, creation.name, record.dps_id)
        assert now is not None
        return now

    def created(self, creation: Creation, dps_id: str, attempt: int, nomis_ids: Mapping[str, Any]) -> Mapping[str, Any]:
        """Records the NOMIS ids; the mapping that is to be saved. Goes on when the database is away."""
        name, mapping = creation.name, creation.mapping(dps_id, nomis_ids)
        self._over.pop((name, dps_id), None)
        self._write(
            creation,
            dps_id,
            lambda connection: creations.record_created(connection, name, dps_id, attempt, nomis_ids, mapping),
        )
        return mapping

    def mapped(
        self, creation: Creation, dps_id: str, mapping: Mapping[str, Any], event_name: str, properties: Properties
    ) -> None:
        """Records that the mapping is saved, and tracks that the creation succeeded."""
        with self._database.begin() as connection:
            if _is_of(creation, creations.find(connection, creation.name, dps_id), mapping):
                creations.record_mapped(connection, creation.name, dps_id, mapping)
            self._telemetry.track_with(connection, event_name, properties)

    def mapped_otherwise(self, creation: Creation, record: CreationRecord, mapping: Mapping[str, Any]) -> None:
        """Records that an open creation found a mapping that others saved; a doubt about it is settled by that.

        Not by a mapping that was there when the doubt arose: a person has to say whether NOMIS has another record too.
        """
        with self._database.begin() as connection:
            doubt = findings.find(connection, doubt_key(record))
            if doubt is not None and creation.ids_in(mapping).items() <= doubt.properties.items():
                return
            creations.record_mapped(connection, creation.name, record.dps_id, mapping)
            if doubt is not None:
                findings.resolve(connection, doubt.id, WHO, "a mapping was saved meanwhile")

    def conflicting(
        self,
        creation: Creation,
        dps_id: str,
        mapping: Mapping[str, Any],
        conflict: Conflict,
        properties: Mapping[str, str],
        failed: str | None,
    ) -> None:
        """Records that the mapping was refused: a finding, alerted once, after the event `failed` where given."""
        event_name = f"to-nomis-synch-{creation.name}-duplicate"
        told = {**properties, **conflict.properties()}
        ids = ",".join(f"{name}={value}" for name, value in sorted(creation.ids_in(mapping).items()))
        key = f"duplicate:{creation.name}:{ids}"
        with self._database.begin() as connection:
            if _is_of(creation, creations.find(connection, creation.name, dps_id), mapping):
                creations.record_duplicate(connection, creation.name, dps_id, mapping)
            if failed is not None:
                self._telemetry.track_with(connection, failed, {**properties, "reason": _CONFLICT})
            self._telemetry.track_with(connection, event_name, told)
            kind, severity = FindingKind.DUPLICATE, creation.severity
            record_finding(connection, key, kind, creation.name, severity, event_name, told, SHOW_DUPLICATE)

    def ambiguous(self, creation: Creation, record: CreationRecord, properties: Properties) -> None:
        """Records that nobody can tell whether NOMIS has the record: a finding, alerted once."""
        event_name, told = f"{creation.name}-create-ambiguous", text_properties(properties)
        note = record.note or "no answer was recorded"
        with self._database.begin() as connection:
            creations.record_ambiguous(connection, creation.name, record.dps_id, record.attempts, note)
            self._telemetry.track_with(connection, event_name, told)
            record_finding(
                connection,
                doubt_key(record),
                FindingKind.AMBIGUOUS,
                creation.name,
                DOUBT_SEVERITY,
                event_name,
                told,
                command("creations", "settle", record.id),
            )

    def _write(self, creation: Creation, dps_id: str, write: Callable[[Connection], object]) -> None:
        try:
            with self._database.begin() as connection:
                write(connection)
        except StoreUnavailable:
            self._keep(creation, dps_id, write)

    def _keep(self, creation: Creation, dps_id: str, write: Callable[[Connection], object]) -> None:
        with self._lock:
            self._unwritten[creation.name, dps_id] = write


def _is_of(creation: Creation, record: CreationRecord | None, mapping: Mapping[str, Any]) -> bool:
    """Whether `mapping` is that of the record, or may be: a retry message of another origin leaves the record alone."""
    if record is None:
        return False
    return record.mapping is None or creation.same_records(record.mapping, mapping)


def doubt_key(record: CreationRecord) -> str:
    """The key of the finding that asks a person about a creation."""
    return f"ambiguous:{record.domain}:{record.dps_id}:{record.attempts}"

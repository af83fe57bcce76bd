"""The creation protocol: whatever creates a record in NOMIS does so through here, and so exactly once.

Lease the DPS record, look for its mapping, record the intent, create in NOMIS, record the NOMIS ids, save the mapping.
Wherever a process dies, the next delivery goes on from the record: a known NOMIS record is only mapped, an intent whose
outcome is unknown is looked up in NOMIS, and where no look-up can tell, a person is asked.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any

from sync import clock
from sync.creation.conflicts import post_mapping
from sync.creation.creation import Creation, Prepared, creation_lease
from sync.creation.ledger import CreationLedger
from sync.creation.store import CreationRecord, CreationState
from sync.failures import BreakerOpen, LeaseBusy, SyncError, UpstreamError, describe_failure
from sync.pipeline.context import HandlerContext
from sync.pipeline.envelope import DomainEvent, MappingRetry, write_mapping_retry
from sync.pipeline.outcome import Outcome
from sync.store.database import Database, StoreUnavailable
from sync.store.leases import Leases
from sync.store.telemetry import Telemetry, text_properties

#: How long beyond the longest call NOMIS is not believed when it says that it does not have a record: the request whose
#: answer was lost may still be at work there.
SETTLING_SECONDS = 10.0

#: NOMIS is known not to have the record.
_CREATED_AGAIN = frozenset({CreationState.REFUSED, CreationState.ABANDONED, CreationState.DELETED})
#: NOMIS has had the record.
_WAS_THERE = frozenset({CreationState.MAPPED, CreationState.DELETED})


class _Absent(Enum):
    """Why there is no NOMIS record that certainly came of an intent."""

    #: NOMIS does not have it: it may be created.
    NOT_THERE = "not there"
    #: No endpoint can tell, or several records fit: a person has to.
    CANNOT_TELL = "cannot tell"


class OutcomeSettling(LeaseBusy):
    """An unknown outcome is too young to be judged: the message waits, as it does for a lease."""

    def __init__(self, key: str, seconds: float) -> None:
        super().__init__(key, free_in=seconds)
        self.args = (f"{key}: the last create got no answer; NOMIS is believed in {seconds:.0f} s",)


class CreationProtocol:
    """Creates records in NOMIS exactly once. Safe to share between threads.

    `send_retry` puts a message body on the main queue of a queue id and returns its SQS message id. NOMIS is not
    believed that it lacks a record until `settling_seconds` after both the last that was heard of the create and the
    end of the longest call, `call_seconds` after its beginning: a process that died told nothing. Where NOMIS itself
    responded, the call is known to be over.
    """

    def __init__(
        self,
        database: Database,
        leases: Leases,
        telemetry: Telemetry,
        send_retry: Callable[[str, str], str],
        settling_seconds: float = SETTLING_SECONDS,
        call_seconds: float = 0.0,
    ) -> None:
        self._ledger = CreationLedger(database, telemetry)
        self._leases = leases
        self._send_retry = send_retry
        self._settling = timedelta(seconds=settling_seconds)
        self._longest_call = timedelta(seconds=call_seconds)

    def create(self, creation: Creation, event: DomainEvent, context: HandlerContext) -> Outcome:
        """Handles an event that creates a record.

        Raises `LeaseBusy` when the record is being worked on elsewhere, and whatever made the attempt fail. After every
        error, and after a death at any point, the message may be delivered again.
        """
        dps_id = creation.dps_id(event)
        context.bind(**creation.start(event))
        if creation.is_ignored(event):
            return _ignored(creation, context)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            context.step("read mapping")
            with _tracking_failure(creation, context):
                mapping = creation.find_mapping(dps_id, context.services)
            record = self._ledger.read(creation, dps_id)
            if mapping is not None:
                return self._meet_mapping(creation, mapping, record, context)
            if record is None or record.state in _CREATED_AGAIN:
                return self._create_anew(creation, event, dps_id, record, context)
            context.bind(**record.properties)
            if record.state is CreationState.AMBIGUOUS:
                return Outcome.AMBIGUOUS
            if record.state in (CreationState.CREATED, CreationState.DUPLICATE) and record.mapping is not None:
                return self._save_mapping(creation, dps_id, record.mapping, context)
            return self._resolve_doubt(creation, event, record, context)

    def retry_mapping(self, creation: Creation, retry: MappingRetry, context: HandlerContext) -> Outcome:
        """Handles a mapping retry: saves the mapping and nothing else. Raises whatever fails, save a conflict."""
        dps_id = creation.retry_dps_id(retry)
        mapping = creation.retry_mapping(retry)
        properties = creation.retry_properties(retry)
        context.bind(**properties)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            record = self._ledger.read(creation, dps_id)
            if record is not None and record.state is CreationState.DELETED:
                # The message outlived the record: saved again, its mapping would point at nothing.
                context.track(f"{creation.queue}-create-mapping-retry-ignored", {**properties, "reason": "deleted"})
                return Outcome.IGNORED
            context.step("save mapping")
            conflict = post_mapping(creation, dps_id, mapping, context.services)
            if conflict is not None:
                told = {**retry.telemetry_attributes, **text_properties(mapping)}
                self._ledger.conflicting(creation, dps_id, mapping, conflict, told, failed=None)
                return Outcome.DUPLICATE
            self._ledger.mapped(creation, dps_id, mapping, creation.retry_success, properties)
            return Outcome.APPLIED

    def _meet_mapping(
        self, creation: Creation, mapping: Mapping[str, Any], record: CreationRecord | None, context: HandlerContext
    ) -> Outcome:
        """A mapping is there: by an earlier delivery, by our own attempt whose answer was lost, or by others."""
        if record is not None and record.state in (CreationState.INTENDED, CreationState.CREATED):
            with self._finding_ours(creation, record, context) as ours:
                if isinstance(ours, Mapping):
                    context.bind(**record.properties)
                    if creation.same_records(ours, mapping):
                        return self._succeed(creation, record.dps_id, ours, context)
                    # NOMIS has one record too many: asked to save it, the mapping service says which.
                    return self._save_mapping(creation, record.dps_id, ours, context)
                if ours is _Absent.NOT_THERE:
                    self._let_it_settle(creation, record)
                    self._ledger.mapped_otherwise(creation, record, mapping)
                else:
                    # NOMIS may have one record too many, and nobody else would ever hear of it.
                    self._ledger.ambiguous(creation, record, {**record.properties, **mapping})
        elif record is not None and record.state is CreationState.AMBIGUOUS:
            self._ledger.mapped_otherwise(creation, record, mapping)
        return _duplicate(creation, context)

    def _resolve_doubt(
        self, creation: Creation, event: DomainEvent, record: CreationRecord, context: HandlerContext
    ) -> Outcome:
        """Asks NOMIS whether it has the record: after an unknown outcome, or when a mapping has vanished."""
        with self._finding_ours(creation, record, context) as ours:
            if isinstance(ours, Mapping):
                return self._save_mapping(creation, record.dps_id, ours, context)
            if ours is _Absent.CANNOT_TELL:
                self._ledger.ambiguous(creation, record, context.properties)
                return Outcome.AMBIGUOUS
            if record.state is CreationState.INTENDED:
                self._let_it_settle(creation, record)
                # Said before the record is read again: a deletion waits for nothing that NOMIS has not heard of.
                record = self._ledger.never_applied(creation, record)
        return self._create_anew(creation, event, record.dps_id, record, context)

    def _let_it_settle(self, creation: Creation, record: CreationRecord) -> None:
        """Raises `OutcomeSettling` while the create of this intent may still be under way in NOMIS."""
        heard = record.updated_at
        if not self._ledger.is_over(record):
            heard = max(heard, record.intended_at + self._longest_call)
        believed_at = heard + self._settling
        remaining = believed_at - clock.now()
        if remaining > timedelta():
            raise OutcomeSettling(creation_lease(creation.name, record.dps_id), remaining.total_seconds())

    @contextmanager
    def _finding_ours(
        self, creation: Creation, record: CreationRecord, context: HandlerContext
    ) -> Iterator["Mapping[str, Any] | _Absent"]:
        """The mapping of the NOMIS record that came of an intent, found there if it is not known; or why there is none.

        Where records of one subject may look alike, creates of the others must be settled first, and one doubt is
        looked into at a time: no two may end with the same record.
        """
        if record.mapping is not None and record.state is CreationState.CREATED:
            yield record.mapping
            return
        with ExitStack() as held:
            subject = creation.subject(record.request)
            if subject is not None:
                held.enter_context(self._leases.held(f"doubt:{creation.name}:{subject}"))
                for rival in self._ledger.rivals(creation, record):
                    self._let_it_settle(creation, rival)
            yield self._find_ours(creation, record, context)

    def _find_ours(
        self, creation: Creation, record: CreationRecord, context: HandlerContext
    ) -> "Mapping[str, Any] | _Absent":
        context.step("look for the record in NOMIS")
        with _tracking_failure(creation, context):
            candidates = creation.locate(record.request, record.intended_at, context.services)
        if candidates is None:
            return _Absent.CANNOT_TELL
        ours = self._ledger.unclaimed(creation, record.dps_id, candidates)
        if len(ours) > 1:
            return _Absent.CANNOT_TELL
        if not ours:
            return _Absent.NOT_THERE
        return self._ledger.created(creation, record.dps_id, record.attempts, ours[0])

    def _create_anew(
        self,
        creation: Creation,
        event: DomainEvent,
        dps_id: str,
        record: CreationRecord | None,
        context: HandlerContext,
    ) -> Outcome:
        """Prepares the request, records the intent, creates in NOMIS, records the ids and saves the mapping."""
        with _tracking_failure(creation, context):
            prepared = _prepare(creation, event, record, context)
        if prepared is None:
            # The record was deleted in DPS and in the mapping service: before or after it was created here.
            was_created = record is not None and record.attempts
            return _duplicate(creation, context) if was_created else _ignored(creation, context)
        with ExitStack() as held:
            for key in prepared.leases:
                held.enter_context(self._leases.held(key))
            attempt = self._ledger.intend(creation, dps_id, prepared.request, context.properties, record)
            context.step(f"create {creation.name}")
            with _tracking_failure(creation, context):
                try:
                    nomis_ids = creation.create(prepared.request, context.services)
                except Exception as error:
                    self._ledger.failed(creation, dps_id, attempt, error)
                    raise
            mapping = self._ledger.created(creation, dps_id, attempt, nomis_ids)
        return self._save_mapping(creation, dps_id, mapping, context)

    def _save_mapping(
        self, creation: Creation, dps_id: str, mapping: Mapping[str, Any], context: HandlerContext
    ) -> Outcome:
        """Saves the mapping of a record that NOMIS has; when that fails, hands it to a message of its own."""
        context.step("save mapping")
        failed = f"{creation.name}-mapping-create-failed"
        told = {**text_properties(context.properties), **text_properties(mapping)}
        try:
            conflict = post_mapping(creation, dps_id, mapping, context.services)
        except SyncError as error:
            context.track(failed, {**told, "reason": describe_failure(error).reason})
            context.step("send mapping retry")
            message_id = self._send_retry(creation.queue, write_mapping_retry(mapping, told))
            context.track(f"{creation.queue}-create-mapping-retry", {"messageId": message_id, **told})
            return Outcome.RETRY_QUEUED
        if conflict is not None:
            self._ledger.conflicting(creation, dps_id, mapping, conflict, told, failed)
            return Outcome.DUPLICATE
        return self._succeed(creation, dps_id, mapping, context)

    def _succeed(self, creation: Creation, dps_id: str, mapping: Mapping[str, Any], context: HandlerContext) -> Outcome:
        told = {**context.properties, **text_properties(mapping)}
        self._ledger.mapped(creation, dps_id, mapping, f"{creation.name}-create-success", told)
        return Outcome.APPLIED


def _prepare(
    creation: Creation, event: DomainEvent, record: CreationRecord | None, context: HandlerContext
) -> Prepared | None:
    """The request; None when the record was created or deleted before and DPS no longer has it."""
    try:
        return creation.prepare(event, context)
    except UpstreamError as error:
        if record is None or record.state not in _WAS_THERE or not error.absent:
            raise
        return None


def _duplicate(creation: Creation, context: HandlerContext) -> Outcome:
    context.track(f"{creation.name}-create-duplicate", context.properties)
    return Outcome.DUPLICATE


def _ignored(creation: Creation, context: HandlerContext) -> Outcome:
    context.track(f"{creation.name}-create-ignored", context.properties)
    return Outcome.IGNORED


@contextmanager
def _tracking_failure(creation: Creation, context: HandlerContext) -> Iterator[None]:
    """Tracks that a creation failed, save where nothing was tried: for want of a lease, an upstream or the database."""
    try:
        yield
    except (LeaseBusy, BreakerOpen, StoreUnavailable):
        raise
    except Exception as error:
        reason = describe_failure(error).reason
        context.track(f"{creation.name}-create-failed", {**context.properties, "reason": reason})
        raise

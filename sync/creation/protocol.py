"""The creation protocol, the only way in which an event creates a record in NOMIS: it does so exactly once.

Lease the DPS record, look for its mapping, record the intent, create in NOMIS, record the NOMIS ids, save the mapping.
Each step is in the database before the next is taken, so the next delivery carries on wherever a process died:

| died …                                          | mapping | record   | NOMIS    | next delivery              |
| ----------------------------------------------- | ------- | -------- | -------- | -------------------------- |
| before the intent                               | no      | none     | nothing  | creates                    |
| after the intent, before NOMIS has the write    | no      | intended | nothing  | waits, looks, creates      |
| after NOMIS has the write, before its response  | no      | intended | a record | looks, finds it, maps it   |
| … where no read exists (courses)                | no      | intended | a record | asks a person to decide    |
| after the response, before it is recorded       | no      | intended | a record | as the two above           |
| after the record, before the mapping is saved   | no      | created  | a record | maps it                    |
| after the mapping is saved, before the response | ours    | created  | a record | success, as usual          |
| after the success, before the acknowledgement   | ours    | mapped   | a record | duplicate, acknowledged    |
| after the retry message, before the ack         | no      | created  | a record | maps it, as the retry does |

A create whose outcome is unknown although no process died is treated the same: the intent stays.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from enum import Enum

from sync import clock
from sync.creation.conflicts import save_mapping
from sync.creation.creation import Creation, Json, Prepared, creation_lease
from sync.creation.store import CreationStore
from sync.events.context import HandlerContext, Outcome
from sync.events.envelope import DomainEvent, MappingRetry, write_mapping_retry
from sync.failures import BreakerOpen, LeaseBusy, SyncError, UpstreamError, describe_failure
from sync.settings import times
from sync.store.creations import CreationRecord, CreationState
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from sync.store.telemetry import text_properties

#: NOMIS certainly does not have the record.
_CREATED_AGAIN = frozenset({CreationState.REFUSED, CreationState.ABANDONED, CreationState.DELETED})
#: Nobody knows yet what became of the last create.
_OUTCOME_UNKNOWN = frozenset({CreationState.INTENDED, CreationState.AMBIGUOUS})
#: NOMIS once had the record.
_ONCE_THERE = frozenset({CreationState.MAPPED, CreationState.DELETED})


class _NotFound(Enum):
    """Why no NOMIS record is known to have resulted from an intent."""

    #: NOMIS does not have it.
    ABSENT = "absent"
    #: No endpoint can tell, or several records match: a person must decide.
    AMBIGUOUS = "ambiguous"


class CreateUnderWay(LeaseBusy):
    """The last create may still be under way in NOMIS: the message waits, as it does for a lease."""

    def __init__(self, key: str, seconds: float) -> None:
        super().__init__(key, free_in=seconds)
        self.args = (f"{key}: the outcome of the last create is unknown; NOMIS is believed in {seconds:.0f} s",)


class CreationProtocol:
    """Creates records in NOMIS exactly once. Safe to share between threads.

    `send_retry` puts a message body on the main queue of a queue id and returns its SQS message id. `grace_seconds`: a
    look-up that finds no record in NOMIS counts only if it began at least this long after the last news of the create,
    and after the longest call (`call_seconds` after the intent) would have ended, since a process that died left no
    news. Once NOMIS has responded, the call is known to have ended.
    """

    def __init__(
        self,
        store: CreationStore,
        leases: Leases,
        send_retry: Callable[[str, str], str],
        *,
        grace_seconds: float,
        call_seconds: float,
    ) -> None:
        self._store = store
        self._leases = leases
        self._send_retry = send_retry
        self._grace = timedelta(seconds=grace_seconds)
        self._longest_call = timedelta(seconds=call_seconds)

    def create(self, creation: Creation, event: DomainEvent, context: HandlerContext) -> Outcome:
        """Handles an event that creates a record; `context` already has the properties of `creation.start`.

        Raises `LeaseBusy` when the record is being handled elsewhere, and every error of the attempt. After any error,
        and after a crash at any point, the message may be delivered again.
        """
        dps_id = creation.dps_id(event)
        if creation.is_ignored(event):
            return _ignored(creation, context)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            context.step("read mapping")
            with _tracking_failure(creation, context):
                mapping = creation.mappings.find(context.services.mapping, dps_id)
            record = self._store.read(creation, dps_id)
            if mapping is not None:
                return self._already_mapped(creation, mapping, record, context)
            if record is None or record.state in _CREATED_AGAIN:
                return self._create(creation, event, dps_id, record, context)
            context.bind(**record.properties)
            if record.state is CreationState.AMBIGUOUS:
                return Outcome.AMBIGUOUS
            if record.state in (CreationState.CREATED, CreationState.DUPLICATE) and record.mapping is not None:
                return self._save_mapping(creation, dps_id, record.mapping, context)
            return self._resolve_unknown_outcome(creation, event, record, context)

    def retry_mapping(self, creation: Creation, retry: MappingRetry, context: HandlerContext) -> Outcome:
        """Handles a mapping retry: saves the mapping and nothing else. Raises every error except a conflict."""
        dps_id = creation.retry_dps_id(retry)
        mapping = creation.retry_mapping(retry)
        properties = creation.retry_properties(retry)
        context.bind(**properties)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            record = self._store.read(creation, dps_id)
            if record is not None and record.state is CreationState.DELETED:
                # The message outlived the record: a mapping saved now would point at nothing.
                context.track(f"{creation.queue}-create-mapping-retry-ignored", {**properties, "reason": "deleted"})
                return Outcome.IGNORED
            context.step("save mapping")
            conflict = save_mapping(creation, dps_id, mapping, context.services)
            if conflict is not None:
                carried = {**retry.telemetry_attributes, **text_properties(mapping)}
                self._store.conflicting(creation, dps_id, mapping, conflict, carried, failed=None)
                return Outcome.DUPLICATE
            self._store.mapped(creation, dps_id, mapping, creation.retry_success, properties)
            return Outcome.APPLIED

    def expect_elsewhere(
        self, creation: Creation, event: DomainEvent, context: HandlerContext, made_at: datetime
    ) -> None:
        """Makes `create` look for a record in NOMIS that another program may have created, before it creates one.

        This is for a record that has no mapping and that this program never created; DPS has had it since `made_at`.
        Raises `LeaseBusy`, and every error that occurs while the DPS record is read.
        """
        dps_id = creation.dps_id(event)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            if self._store.read(creation, dps_id) is None:
                # The message of the record may be on its way, but no create of another program is still under way.
                since = min(made_at, clock.now() - self._longest_call - self._grace)
                with _tracking_failure(creation, context):
                    request = creation.prepare(event, context).request
                self._store.intend(creation, dps_id, request, context.properties, None, since)

    def seconds_under_way(self, record: CreationRecord) -> float:
        """How long the last create of a record may still be under way in NOMIS; 0 once it has certainly ended."""
        if record.state not in _OUTCOME_UNKNOWN:
            return 0.0
        return max(0.0, (self._ended_at(record) - clock.now()).total_seconds())

    def _create(
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
            was_created = record is not None and record.attempts
            return _duplicate(creation, context) if was_created else _ignored(creation, context)
        with ExitStack() as held:
            for key in prepared.leases:
                held.enter_context(self._leases.held(key))
            attempt = self._store.intend(creation, dps_id, prepared.request, context.properties, record)
            context.step(f"create {creation.name}")
            with _tracking_failure(creation, context):
                try:
                    with self._leases.write_within(times.SEND_WITHIN_SECONDS, creation_lease(creation.name, dps_id)):
                        nomis_ids = creation.create(prepared.request, context.services)
                except Exception as error:
                    self._store.create_failed(creation, dps_id, attempt, error)
                    raise
            mapping = self._store.created(creation, dps_id, attempt, nomis_ids)
        return self._save_mapping(creation, dps_id, mapping, context)

    def _save_mapping(self, creation: Creation, dps_id: str, mapping: Json, context: HandlerContext) -> Outcome:
        """Saves the mapping of a record that NOMIS has; if that fails, sends a mapping retry message to save it."""
        context.step("save mapping")
        failed = f"{creation.name}-mapping-create-failed"
        properties = {**text_properties(context.properties), **text_properties(mapping)}
        try:
            conflict = save_mapping(creation, dps_id, mapping, context.services)
        except SyncError as error:
            context.track(failed, {**properties, "reason": describe_failure(error).reason})
            context.step("send mapping retry")
            message_id = self._send_retry(creation.queue, write_mapping_retry(mapping, properties))
            context.track(f"{creation.queue}-create-mapping-retry", {"messageId": message_id, **properties})
            return Outcome.RETRY_QUEUED
        if conflict is not None:
            self._store.conflicting(creation, dps_id, mapping, conflict, properties, failed)
            return Outcome.DUPLICATE
        return self._succeed(creation, dps_id, mapping, context)

    def _succeed(self, creation: Creation, dps_id: str, mapping: Json, context: HandlerContext) -> Outcome:
        properties = {**context.properties, **text_properties(mapping)}
        self._store.mapped(creation, dps_id, mapping, f"{creation.name}-create-success", properties)
        return Outcome.APPLIED

    def _already_mapped(
        self, creation: Creation, mapping: Json, record: CreationRecord | None, context: HandlerContext
    ) -> Outcome:
        """Handles an existing mapping: an earlier delivery, a call whose response was lost, or others saved it."""
        if record is not None and record.state in (CreationState.INTENDED, CreationState.CREATED):
            with self._located(creation, record, context) as match:
                if isinstance(match, _NotFound):
                    if match is _NotFound.ABSENT:
                        self._store.mapped_by_others(creation, record, mapping)
                    else:
                        # NOMIS may have one record too many, which nobody else would notice.
                        self._store.ambiguous(creation, record, {**record.properties, **mapping})
                else:
                    context.bind(**record.properties)
                    if creation.same_records(match, mapping):
                        return self._succeed(creation, record.dps_id, match, context)
                    # NOMIS has one record too many: the mapping service refuses the mapping and says which.
                    return self._save_mapping(creation, record.dps_id, match, context)
        elif record is not None and record.state is CreationState.AMBIGUOUS:
            self._store.mapped_by_others(creation, record, mapping)
        return _duplicate(creation, context)

    def _resolve_unknown_outcome(
        self, creation: Creation, event: DomainEvent, record: CreationRecord, context: HandlerContext
    ) -> Outcome:
        """Looks for the record in NOMIS: after an unknown outcome, or when a mapping has vanished."""
        with self._located(creation, record, context) as match:
            if not isinstance(match, _NotFound):
                return self._save_mapping(creation, record.dps_id, match, context)
            if match is _NotFound.AMBIGUOUS:
                self._store.ambiguous(creation, record, context.properties)
                return Outcome.AMBIGUOUS
            if record.state is CreationState.INTENDED:
                # Recorded before the DPS record is read again: a deletion need not wait for what NOMIS never had.
                record = self._store.not_applied(creation, record)
        return self._create(creation, event, record.dps_id, record, context)

    @contextmanager
    def _located(
        self, creation: Creation, record: CreationRecord, context: HandlerContext
    ) -> Iterator[Json | _NotFound]:
        """Yields the mapping of the NOMIS record that resulted from an intent; looks for the record unless it is known.

        Where records of one subject may look alike, its unknown outcomes are resolved one at a time, once the other
        creates have ended, so that no two DPS records end up with the same NOMIS record.
        """
        if record.mapping is not None and record.state is CreationState.CREATED:
            yield record.mapping
            return
        with ExitStack() as held:
            subject = creation.subject(record.request)
            if subject is not None:
                held.enter_context(self._leases.held(f"doubt:{creation.name}:{subject}"))
            yield self._locate(creation, record, context)

    def _locate(self, creation: Creation, record: CreationRecord, context: HandlerContext) -> Json | _NotFound:
        """Looks for the record in NOMIS.

        A look-up takes many calls, and a create that is applied meanwhile may be missing from what was read, so the
        record counts as absent only if its create had ended when the look-up began. Raises `CreateUnderWay` otherwise,
        and while other creates of the subject are under way.
        """
        began_at = clock.now()
        self._check_others_not_under_way(creation, record, began_at)
        context.step("search NOMIS for the record")
        with _tracking_failure(creation, context):
            candidates = creation.locate(record.request, record.intended_at, context.services)
            if candidates is None:
                return _NotFound.AMBIGUOUS
            unmapped = [
                ids for ids in candidates if not creation.is_mapped_to_another(ids, record.dps_id, context.services)
            ]
        if unmapped:
            # What was found may result from a create that began after the look-up.
            self._check_others_not_under_way(creation, record, began_at)
        matches = self._store.unclaimed(creation, record.dps_id, unmapped)
        if len(matches) > 1:
            return _NotFound.AMBIGUOUS
        if not matches:
            if record.state is CreationState.INTENDED:
                self._check_not_under_way(creation, record, began_at)
            return _NotFound.ABSENT
        return self._store.created(creation, record.dps_id, record.attempts, matches[0])

    def _check_others_not_under_way(self, creation: Creation, record: CreationRecord, moment: datetime) -> None:
        """Raises `CreateUnderWay` if another create of the record's subject may have been under way at `moment`."""
        for intent in self._store.concurrent_intents(creation, record):
            self._check_not_under_way(creation, intent, moment)

    def _check_not_under_way(self, creation: Creation, record: CreationRecord, moment: datetime) -> None:
        """Raises `CreateUnderWay` if the create of this intent may have been under way in NOMIS at `moment`."""
        if moment < self._ended_at(record):
            raise CreateUnderWay(creation_lease(creation.name, record.dps_id), self.seconds_under_way(record))

    def _ended_at(self, record: CreationRecord) -> datetime:
        """When the last create has certainly ended in NOMIS, whatever became of it: at the end of the grace period."""
        # Becoming ambiguous says nothing new about the create.
        last_news = record.updated_at if record.state is CreationState.INTENDED else record.intended_at
        if not self._store.request_has_ended(record):
            last_news = max(last_news, record.intended_at + self._longest_call)
        return last_news + self._grace


def _prepare(
    creation: Creation, event: DomainEvent, record: CreationRecord | None, context: HandlerContext
) -> Prepared | None:
    """The request; None if the record was created or deleted before, and DPS no longer has it."""
    try:
        return creation.prepare(event, context)
    except UpstreamError as error:
        if record is None or record.state not in _ONCE_THERE or not error.absent:
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
    """Tracks a failed creation, unless nothing was tried for lack of a lease, an upstream or the database."""
    try:
        yield
    except (LeaseBusy, BreakerOpen, StoreUnavailable):
        raise
    except Exception as error:
        reason = describe_failure(error).reason
        context.track(f"{creation.name}-create-failed", {**context.properties, "reason": reason})
        raise

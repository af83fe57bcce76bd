"""The creation protocol, by which every event that creates a record in NOMIS does so exactly once.

The steps are: take the lease of the DPS record, look up its mapping, record the intent, create the record in NOMIS,
record the NOMIS ids, and save the mapping. The database shows how far a creation has got (its state), so the next
delivery can continue from the point at which a process died:

| the process died …                                  | mapping | state    | NOMIS    | next delivery              |
| --------------------------------------------------- | ------- | -------- | -------- | -------------------------- |
| before the intent                                   | no      | none     | nothing  | creates                    |
| after the intent, before NOMIS has the write        | no      | intended | nothing  | waits, searches, creates   |
| after NOMIS has the write, before its response      | no      | intended | a record | searches, finds, maps it   |
| … if no endpoint shows the record (courses)         | no      | intended | a record | asks a person to decide    |
| after the response, before it is recorded           | no      | intended | a record | as in the two rows above   |
| after it is recorded, before the mapping is saved   | no      | created  | a record | maps it                    |
| after the mapping is saved, before the response     | ours    | created  | a record | success, as usual          |
| after the success, before the acknowledgement       | ours    | mapped   | a record | duplicate, acknowledged    |
| after the retry message, before the acknowledgement | no      | created  | a record | maps it, as the retry does |

If the outcome of a create is unknown although no process died, the intent stays, and the same rules apply.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from enum import Enum

from sync import clock
from sync.creation.conflicts import save_mapping
from sync.creation.creation import Creation, Json, Prepared, creation_lease
from sync.creation.store import CreationStore
from sync.errors import BreakerOpen, LeaseBusy, SyncError, UpstreamError, describe_failure
from sync.events.context import HandlerContext, Outcome
from sync.events.envelope import DomainEvent, MappingRetry, write_mapping_retry
from sync.settings import times
from sync.store.creations import CreationRecord, CreationState
from sync.store.database import StoreUnavailable
from sync.store.leases import Leases
from sync.store.telemetry import text_properties

#: The states in which NOMIS certainly does not have the record.
_CREATED_AGAIN = frozenset({CreationState.REFUSED, CreationState.ABANDONED, CreationState.DELETED})
#: The states in which the outcome of the last create is unknown.
_OUTCOME_UNKNOWN = frozenset({CreationState.INTENDED, CreationState.AMBIGUOUS})
#: The states of a record that was mapped, or that was deleted on purpose.
_ONCE_THERE = frozenset({CreationState.MAPPED, CreationState.DELETED})


class _NotFound(Enum):
    """Why no NOMIS record is known for an intent."""

    #: NOMIS does not have the record.
    ABSENT = "absent"
    #: No endpoint can show the record, or several records match, so a person must decide.
    AMBIGUOUS = "ambiguous"


class CreateUnderWay(LeaseBusy):
    """The last create of a record may still be under way in NOMIS, so the message waits, as it does for a lease."""

    def __init__(self, key: str, seconds: float) -> None:
        super().__init__(key, free_in=seconds)
        self.args = (f"{key}: the outcome of the last create is unknown; NOMIS can be checked in {seconds:.0f} s",)


class CreationProtocol:
    """Creates records in NOMIS exactly once. Safe to share between threads.

    send_retry: takes a queue id and a message body, puts the body on the main queue with that id, and returns the SQS
    message id. call_seconds: the longest time from the intent of a create to the end of its call. grace_seconds: how
    long a create may still be under way in NOMIS after the last update of its intent. A process that dies does not
    update the intent. So, unless NOMIS has responded, the grace period begins no earlier than `call_seconds` after the
    intent. A search that finds no record counts only if it began after the grace period.
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
        """Handles an event that creates a record. `context` must already have the properties of `creation.start`.

        Raises `LeaseBusy` if the record is being handled elsewhere, and any other error that occurs. It is safe to
        deliver the message again after any error, and after a crash at any point.
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
        """Handles a mapping retry, which only saves the mapping. Returns a conflict as an outcome; raises any error."""
        dps_id = creation.retry_dps_id(retry)
        mapping = creation.retry_mapping(retry)
        properties = creation.retry_properties(retry)
        context.bind(**properties)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            record = self._store.read(creation, dps_id)
            if record is not None and record.state is CreationState.DELETED:
                # The record was deleted before this message arrived, so a mapping would point at nothing.
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
        """Makes `create` search NOMIS for a record that another program may have created, before it creates one itself.

        This is for a DPS record that has no mapping and that this program has never tried to create in NOMIS. `made_at`
        is when DPS created the record.

        Raises `LeaseBusy`, and any error that occurs while the DPS record is read.
        """
        dps_id = creation.dps_id(event)
        with self._leases.held(creation_lease(creation.name, dps_id)):
            if self._store.read(creation, dps_id) is None:
                # The message of the record may be pending, but no create from another program is still under way.
                since = min(made_at, clock.now() - self._longest_call - self._grace)
                with _tracking_failure(creation, context):
                    request = creation.prepare(event, context).request
                self._store.intend(creation, dps_id, request, context.properties, None, since)

    def seconds_under_way(self, record: CreationRecord) -> float:
        """For how many seconds the last create may still be under way in NOMIS; 0 once it has certainly ended."""
        until = self.under_way_until(record)
        return 0.0 if until is None else max(0.0, (until - clock.now()).total_seconds())

    def under_way_until(self, record: CreationRecord) -> datetime | None:
        """The time until which the last create may be under way in NOMIS, or None once it has certainly ended."""
        until = self._ended_at(record) if record.state in _OUTCOME_UNKNOWN else None
        return until if until is not None and until > clock.now() else None

    def _create(
        self,
        creation: Creation,
        event: DomainEvent,
        dps_id: str,
        record: CreationRecord | None,
        context: HandlerContext,
    ) -> Outcome:
        """Prepares the request, records the intent, creates the record, records its ids and saves the mapping."""
        with _tracking_failure(creation, context):
            prepared = _prepare(creation, event, record, context)
        if prepared is None:
            was_created = record is not None and record.attempts
            return _duplicate(creation, context) if was_created else _ignored(creation, context)
        with ExitStack() as held:
            for key in prepared.leases:
                held.enter_context(self._leases.held(key))
            # The limit begins before the time of the intent is taken, since recording it may take a long time.
            with self._leases.write_within(times.SEND_WITHIN_SECONDS, creation_lease(creation.name, dps_id)):
                attempt = self._store.intend(creation, dps_id, prepared.request, context.properties, record)
                context.step(f"create {creation.name}")
                with _tracking_failure(creation, context):
                    try:
                        nomis_ids = creation.create(prepared.request, context.services)
                    except Exception as error:
                        self._store.create_failed(creation, dps_id, attempt, error)
                        raise
            mapping = self._store.created(creation, dps_id, attempt, nomis_ids)
        return self._save_mapping(creation, dps_id, mapping, context)

    def _save_mapping(self, creation: Creation, dps_id: str, mapping: Json, context: HandlerContext) -> Outcome:
        """Saves the mapping of a record that NOMIS has. If this fails, sends a mapping retry, to save it later."""
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
        """Handles an event about a record that an earlier attempt or another program has already mapped."""
        if record is not None and record.state in (CreationState.INTENDED, CreationState.CREATED):
            with self._located(creation, record, context) as match:
                if isinstance(match, _NotFound):
                    if match is _NotFound.ABSENT:
                        self._store.mapped_by_others(creation, record, mapping)
                    else:
                        # NOMIS may have a second record, which nobody else would notice.
                        self._store.ambiguous(creation, record, {**record.properties, **mapping})
                else:
                    context.bind(**record.properties)
                    if creation.same_records(match, mapping):
                        return self._succeed(creation, record.dps_id, match, context)
                    # NOMIS has a second record. The mapping service refuses to map it, and names the existing mapping.
                    return self._save_mapping(creation, record.dps_id, match, context)
        elif record is not None and record.state is CreationState.AMBIGUOUS:
            self._store.mapped_by_others(creation, record, mapping)
        return _duplicate(creation, context)

    def _resolve_unknown_outcome(
        self, creation: Creation, event: DomainEvent, record: CreationRecord, context: HandlerContext
    ) -> Outcome:
        """Searches NOMIS for the record after an unknown outcome, or if its mapping has disappeared.

        Saves the mapping if the record is found, and creates the record if NOMIS certainly does not have it. Otherwise,
        a person has to decide.
        """
        with self._located(creation, record, context) as match:
            if not isinstance(match, _NotFound):
                return self._save_mapping(creation, record.dps_id, match, context)
            if match is _NotFound.AMBIGUOUS:
                self._store.ambiguous(creation, record, context.properties)
                return Outcome.AMBIGUOUS
            if record.state is CreationState.INTENDED:
                # The result is recorded before the DPS record is read again, so that a deletion does not wait for a
                # record that NOMIS never had.
                record = self._store.not_applied(creation, record)
        return self._create(creation, event, record.dps_id, record, context)

    @contextmanager
    def _located(
        self, creation: Creation, record: CreationRecord, context: HandlerContext
    ) -> Iterator[Json | _NotFound]:
        """Yields the mapping of an intent's NOMIS record, or the reason why no such record is known.

        Searches NOMIS for the record if necessary. Records of one subject may look alike. So the unknown outcomes for a
        subject are resolved one at a time, after the other creates for this subject have ended. Otherwise, two DPS
        records could get the same NOMIS record.
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
        """Searches NOMIS for the record of an intent. Returns its mapping, or the reason why no such record is known.

        A search takes many calls, and may miss a record that is created meanwhile. So the record counts as absent only
        if its create had certainly ended before the search began. Raises `CreateUnderWay` if no record is found and
        that is not certain, or if another create for the same subject may have been under way during the search.
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
            # A record that was found may come from another create, which began during the search.
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
        """Raises `CreateUnderWay` if another create for the record's subject may have been under way at `moment`."""
        for intent in self._store.concurrent_intents(creation, record):
            self._check_not_under_way(creation, intent, moment)

    def _check_not_under_way(self, creation: Creation, record: CreationRecord, moment: datetime) -> None:
        """Raises `CreateUnderWay` if the create of this intent may have been under way in NOMIS at `moment`."""
        if moment < self._ended_at(record):
            raise CreateUnderWay(creation_lease(creation.name, record.dps_id), self.seconds_under_way(record))

    def _ended_at(self, record: CreationRecord) -> datetime:
        """The time by which the last create has certainly ended in NOMIS, which is the end of the grace period."""
        # When a creation becomes ambiguous, its record is updated, but this says nothing new about the create.
        last_news = record.updated_at if record.state is CreationState.INTENDED else record.intended_at
        if not self._store.request_has_ended(record):
            last_news = max(last_news, record.intended_at + self._longest_call)
        return last_news + self._grace


def _prepare(
    creation: Creation, event: DomainEvent, record: CreationRecord | None, context: HandlerContext
) -> Prepared | None:
    """The request, or None if the record was once mapped or deleted, and DPS no longer has it."""
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
    """Tracks a failed creation, unless a lease was busy, a service counted as down or the database was unavailable."""
    try:
        yield
    except (LeaseBusy, BreakerOpen, StoreUnavailable):
        raise
    except Exception as error:
        reason = describe_failure(error).reason
        context.track(f"{creation.name}-create-failed", {**context.properties, "reason": reason})
        raise

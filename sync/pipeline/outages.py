"""What happens to messages while a service or the database is unavailable.

Suppose that NOMIS responds to every call with 503:

1. **The call fails** with an `UpstreamError`, and the breaker of NOMIS counts it (`sync.upstream.breaker`). When most
calls fail, the breaker opens, and no further call to NOMIS is made: `BreakerOpen` is raised instead.
2. **The message that failed** goes back to the queue: `is_outage` decides that the service is to blame, not the record.
A copy of the message, which comes after a pause, is sent, and the original is deleted (`sync.queues.requeue`). A copy
has not been received yet, so however long the outage lasts, none of the receives before the dead letter queue is used
up. The messages behind it in its group go back with it. Each failure is recorded anyway.
3. **Messages that were not tried yet** stay in the batch, parked and hidden by the heartbeat (`sync.pipeline.batch`).
4. **Nothing is received** while the breaker is open (`sync.pipeline.receive`).
5. **One message at a time tries NOMIS** once a health ping has succeeded, since a service may respond to pings and
still fail all other calls. One message is received and one group is handled, with a pause between two groups
(`most_to_receive` and `groups_to_start` of `OutageWatch`). When a call succeeds, the breaker closes and the drain
continues; when more calls fail, it opens again.

How long that may last:

- A message waits on the queue for up to `LONGEST_OUTAGE_SECONDS`, or `LONGEST_REFUSED_SECONDS` when NOMIS refuses our
  credentials. The pauses before its copies grow to a minute. After that it fails like any other message: if NOMIS
  responds to pings but fails calls for two hours, the messages that were tried early on end up on the dead letter
  queue, with each failure recorded. They are redriven when NOMIS works again.
- A message that was not tried stays in the batch for up to `LONGEST_HIDDEN_SECONDS`, since SQS hides messages for up to
  12 hours. Then a copy replaces it, so that no receive is used up.
- The scheduler waits without a limit. A `drain` command waits for `hold_seconds`; then its messages are returned to the
  queue and it ends with `UpstreamsUnavailable` (`sync.pipeline.drain`). The same applies to the database.
- On SIGTERM, messages parked because of an outage are returned at once.

While the database is unavailable nothing is received, since a receive would only bring messages nearer to the dead
letter queue. Groups in the batch are parked until it is back. Its outage ends only when one of these groups, or a
receive, has used it successfully: while the database hangs, a group that tries it again looks like work in progress. A
message is deleted only after its record was written (`sync.pipeline.acknowledge`).

All these times are in `sync.settings.times`.
"""

import time

from sync.failures import SyncError, UpstreamError
from sync.pipeline.queue_context import QueueContext
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor, may_wait
from sync.settings import times


def is_outage(error: SyncError, message: Message, queue_context: QueueContext) -> bool:
    """Whether `error` blames the service and not the record, so that the message waits on the queue for the service.

    False once the message has waited for as long as it may.
    """
    if not isinstance(error, UpstreamError) or not error.recoverable:
        return False
    if error.credentials_refused:
        return may_wait(message, WaitsFor.SERVICE, times.LONGEST_REFUSED_SECONDS)
    blames_service = error.unavailable or not queue_context.breakers.all_up(queue_context.upstreams)
    return blames_service and may_wait(message, WaitsFor.SERVICE, times.LONGEST_OUTAGE_SECONDS)


class OutageWatch:
    """Whether the drain of one queue has to wait for a service or the database, and how long it has waited.

    `hold_seconds`: how long it may wait before its messages are returned to the queue; None waits without a limit. Used
    by the thread of the drain alone.
    """

    def __init__(self, queue_context: QueueContext, hold_seconds: float | None) -> None:
        self._breakers = queue_context.breakers
        self._upstreams = queue_context.upstreams
        self._hold_seconds = hold_seconds
        self._since: float | None = None
        self._database_unavailable = False
        self._next_trial = 0.0

    @property
    def has_limit(self) -> bool:
        """Whether the drain waits for a limited time only."""
        return self._hold_seconds is not None

    def services_usable(self) -> bool:
        """Pings the services whose breaker is open; returns whether all can be called now, if only as a trial."""
        return self._breakers.probe(self._upstreams)

    def all_up(self) -> bool:
        """Whether all services are known to be up."""
        return self._breakers.all_up(self._upstreams)

    def most_to_receive(self) -> int | None:
        """One message while a service is being tried; otherwise as many as the batch takes (None)."""
        return 1 if self._breakers.trying(self._upstreams) else None

    def groups_to_start(self, running: int, limit: int) -> int:
        """How many more groups may be started; one at a time while a service is being tried."""
        if not self._breakers.trying(self._upstreams):
            return max(0, limit - running)
        moment = time.monotonic()
        if running or moment < self._next_trial:
            return 0
        self._next_trial = moment + times.TRIAL_SECONDS
        return 1

    def note_database(self, *, available: bool) -> None:
        """Notes whether work used the database successfully or found it unavailable. Only success ends its outage."""
        self._database_unavailable = not available
        self.note()

    def note(self) -> None:
        """Notes whether anything is currently unavailable, to measure for how long.

        A ping alone does not end an outage: a service that responds to it may fail every call.
        """
        if self.all_up() and not self._database_unavailable:
            self._since = None
        elif self._since is None:
            self._since = time.monotonic()

    def too_long(self) -> bool:
        """Whether the outage has lasted for longer than the drain may wait."""
        if self._hold_seconds is None or self._since is None:
            return False
        return time.monotonic() - self._since > self._hold_seconds

    def restart(self) -> None:
        """Restarts the measurement of the outage, so that the next drain waits for the full time."""
        self._since = None

    def unavailable(self) -> list[str]:
        """What is not known to be up, by the names that people use."""
        names: list[str] = ["the database"] if self._database_unavailable else []
        return names + list(self._breakers.not_up(self._upstreams)) or list(self._upstreams)

"""Decides what happens to messages while a service or the database is unavailable.

Suppose that NOMIS responds to every call with 503:

1. **The call fails** with an `UpstreamError`, and the breaker of NOMIS counts it (`sync.upstream.breaker`). When most
calls fail, the breaker opens, and no further call to NOMIS is made: `BreakerOpen` is raised instead.
2. **The message that failed** goes back to the queue: `is_outage` decides that the service is to blame, not the record.
A copy of the message is sent with a delay, and the original is deleted (`sync.queues.requeue`). A copy has a receive
count of zero, so however long the outage lasts, the message does not move to the dead letter queue because of it. The
messages behind it in its group go back with it. Each failure is still recorded.
3. **Messages that were not tried yet** stay in the batch, parked and hidden by the heartbeat (`sync.pipeline.batch`).
4. **Nothing is received** while the breaker is open (`sync.pipeline.receive`).
5. **One message at a time tries NOMIS** once a health ping has succeeded, since a service may respond to pings and
still fail all other calls. One message is received and one group is handled, with a pause before the next group
(`most_to_receive` and `groups_to_start` of `OutageWatch`). When a call succeeds, the breaker closes and the drain
continues. When more calls fail, the breaker opens again.

The limits of these waits:

- A message waits on the queue for up to `LONGEST_OUTAGE_SECONDS`, or `LONGEST_REFUSED_SECONDS` when NOMIS refuses our
  credentials. The delays of its copies grow to a minute. After that it fails like any other message: if NOMIS responds
  to pings but fails calls for two hours, the messages that were tried early on move to the dead letter queue, with each
  failure recorded. They are redriven when NOMIS works again.
- A message that was not tried stays in the batch for up to `LONGEST_HIDDEN_SECONDS`, since SQS hides messages for no
  longer than 12 hours. After that it is replaced by a copy, which starts with a receive count of zero.
- The scheduler waits without a limit. A `drain` command waits for `hold_seconds`, then returns its messages to the
  queue and ends with `UpstreamsUnavailable` (`sync.pipeline.drain`). The same applies to the database.
- On SIGTERM, messages parked because of an outage are returned at once.

While the database is unavailable nothing is received, since a receive would only bring messages nearer to the dead
letter queue. Groups in the batch are parked until the database is back. The outage only counts as over when one of
these groups, or a receive, has used the database successfully: while the database hangs, a group that tries it again
looks like work in progress. A message is only deleted after its record was written (`sync.pipeline.acknowledge`).

All these times are in `sync.settings.times`.
"""

import time

from sync.errors import SyncError, UpstreamError
from sync.pipeline.queue_context import QueueContext
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor, may_wait
from sync.settings import times


def is_outage(error: SyncError, message: Message, queue_context: QueueContext) -> bool:
    """Whether `error` is the fault of the service, not of the record, so that the message waits on the queue.

    False once the message has waited for as long as it may.
    """
    if not isinstance(error, UpstreamError) or not error.recoverable:
        return False
    if error.credentials_refused:
        return may_wait(message, WaitsFor.SERVICE, times.LONGEST_REFUSED_SECONDS)
    blames_service = error.unavailable or not queue_context.breakers.all_up(queue_context.upstreams)
    return blames_service and may_wait(message, WaitsFor.SERVICE, times.LONGEST_OUTAGE_SECONDS)


class OutageWatch:
    """Watches whether the drain of one queue has to wait for a service or the database, and for how long.

    `hold_seconds`: how long the drain may wait before its messages are returned to the queue; None waits without a
    limit. Only the thread of the drain uses this object.
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
        """Whether the drain only waits for a limited time."""
        return self._hold_seconds is not None

    def services_usable(self) -> bool:
        """Pings the services with open breakers. Returns whether all services can be called, if only as a trial."""
        return self._breakers.probe(self._upstreams)

    def all_up(self) -> bool:
        """Whether all services are known to be up."""
        return self._breakers.all_up(self._upstreams)

    def most_to_receive(self) -> int | None:
        """1 while a service is being tried; otherwise None, which means a full batch."""
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
        """Notes whether the database was used successfully or is unavailable. Only a success ends the outage."""
        self._database_unavailable = not available
        self.note()

    def note(self) -> None:
        """Notes whether anything is unavailable, in order to measure for how long.

        A successful ping alone does not end an outage: a service may respond to it and fail every call.
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
        """The names, for people, of the database and the services that are not known to be up."""
        names: list[str] = ["the database"] if self._database_unavailable else []
        return names + list(self._breakers.not_up(self._upstreams)) or list(self._upstreams)

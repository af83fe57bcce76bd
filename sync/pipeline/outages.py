"""Decides what happens to messages while a service or the database is unavailable.

Suppose that NOMIS responds to every call with 503:

1. **The call fails** with an `UpstreamError`, and the breaker for NOMIS counts it (`sync.upstream.breaker`). When most
calls fail, the breaker opens, and no further call to NOMIS is made: `BreakerOpen` is raised instead.
2. **The message that failed** goes back to the queue: `is_outage` decides that the service is to blame, not the record.
A copy of the message is sent with a delay, and the original is deleted (`sync.queues.requeue`). A copy starts with a
receive count of zero, so the wait does not bring the message nearer to the dead letter queue. The messages behind it in
its group go back with it. Each failure is recorded nevertheless.
3. **Messages that have not been tried yet** stay in the batch, parked (`sync.pipeline.batch`) and kept hidden by the
heartbeat (`sync.queues.heartbeat`).
4. **Nothing is received** while the breaker is open (`sync.pipeline.receive`).
5. **One message at a time tries NOMIS** once a health ping has succeeded, since a service may respond to pings although
all other calls to it fail. One message is received and one group is handled, with a pause before the next group
(`most_to_receive` and `groups_to_start` of `OutageWatch`). When a call to NOMIS succeeds, the breaker closes and the
drain continues. If several calls fail instead, the breaker opens again.

The limits of these waits:

- A message waits on the queue for up to `LONGEST_OUTAGE_SECONDS`, or `LONGEST_REFUSED_SECONDS` when NOMIS refuses our
  credentials. The delays of its copies grow to a minute. Once the limit is reached, the message fails in the usual way.
  If NOMIS responds to pings but to no other calls for two hours, the messages that were tried early on move to the dead
  letter queue, with each failure recorded. Housekeeping sends them back later.
- A message that has not been tried stays in the batch for up to `LONGEST_HIDDEN_SECONDS`, since SQS hides messages for
  no longer than 12 hours. After that, it is replaced by a copy, which starts with a receive count of zero.
- The scheduler waits without a limit. A `drain` command waits for a service or the database for `hold_seconds`, then
  returns its messages to the queue and ends with `UpstreamsUnavailable`.
- On SIGTERM, messages parked because of an outage are returned at once.

While the database is unavailable, nothing is received, since a receive would only bring messages nearer to the dead
letter queue. Groups in the batch are parked until the database is back. The outage counts as over only when one of
these groups, or a receive, has used the database successfully: while the database hangs, a group that tries it again
looks like work in progress. Unless a copy replaces it, a message is deleted only after its outcome has been recorded in
the database, as `sync.pipeline.acknowledge` explains.

The times in capitals are in `sync.settings.times`.
"""

import time
from collections.abc import Callable, Sequence

from sync.errors import SyncError, UpstreamError
from sync.outage_text import count_as_down, wait_text
from sync.pipeline.queue_context import QueueContext
from sync.queues.queue import Message
from sync.queues.requeue import WaitsFor, may_wait
from sync.settings import times

#: Called when a drain begins to wait for an outage to end, with a line for people.
OnWait = Callable[[str], None]

_DATABASE = "the database"


def is_outage(error: SyncError, message: Message, queue_context: QueueContext) -> bool:
    """Whether `error` is the fault of a service, not of the record, so that the message waits on the queue.

    False once the message has waited for as long as it may.
    """
    if not isinstance(error, UpstreamError) or not error.recoverable:
        return False
    if error.credentials_refused:
        return may_wait(message, WaitsFor.SERVICE, times.LONGEST_REFUSED_SECONDS, error.service)
    blames_service = error.unavailable or not queue_context.breakers.all_up(queue_context.upstreams)
    return blames_service and may_wait(message, WaitsFor.SERVICE, times.LONGEST_OUTAGE_SECONDS, error.service)


class UpstreamsUnavailable(SyncError):
    """A required service or the database was unavailable for too long, so the messages were returned to the queue."""

    recoverable = True

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"{_outage_text(names)}, so the messages wait on the queue")


class OutageWatch:
    """Watches whether the drain of one queue has to wait for a service or the database, and for how long it has waited.

    `hold_seconds`: how long the drain may wait before its messages are returned to the queue, or None if there is no
    limit. `on_wait`: called once for each outage for which a drain with a limit waits. Only the thread of the drain
    calls the methods, except `most_to_receive`, which any thread may call.
    """

    def __init__(
        self, queue_context: QueueContext, hold_seconds: float | None, on_wait: OnWait = lambda _line: None
    ) -> None:
        self._breakers = queue_context.breakers
        self._upstreams = queue_context.upstreams
        self._hold_seconds = hold_seconds
        self._on_wait = on_wait
        self._since: float | None = None
        self._is_announced = False
        #: What was unavailable when the current outage was last noted.
        self._noted: list[str] = []
        self._database_unavailable = False
        self._next_trial = 0.0

    @property
    def has_limit(self) -> bool:
        """Whether there is a limit to how long the drain waits."""
        return self._hold_seconds is not None

    def services_usable(self) -> bool:
        """Pings the services that are down and due for a ping.

        Returns whether all services can be called, even if only as a trial.
        """
        return self._breakers.probe(self._upstreams)

    def all_up(self) -> bool:
        """Whether all services are known to be up."""
        return self._breakers.all_up(self._upstreams)

    def most_to_receive(self) -> int | None:
        """The maximum number of messages to receive at once: 1 while a service is tried, or None for a full batch."""
        return 1 if self._breakers.trying(self._upstreams) else None

    def groups_to_start(self, running: int, limit: int) -> int:
        """How many groups to start now, if `running` groups are running and at most `limit` may run.

        While a service is being tried, only one group runs at a time, with a pause before the next one starts.
        """
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
        """Notes whether a service or the database is unavailable, so that the length of the outage can be measured.

        A successful ping alone does not end an outage: a service may respond to pings although all other calls to it
        fail.
        """
        unavailable = self._unavailable_now()
        if not unavailable:
            self.restart()
            return
        self._noted = unavailable
        if self._since is None:
            self._since = time.monotonic()

    def announce(self) -> None:
        """Says that the drain waits for the current outage to end, unless this was said before or there is no limit."""
        if self._hold_seconds and self._since is not None and not self._is_announced:
            self._is_announced = True
            self._on_wait(wait_text(self._hold_seconds, _outage_text(self._noted)))

    def too_long(self) -> bool:
        """Whether the outage has lasted for longer than the drain may wait."""
        if self._hold_seconds is None or self._since is None:
            return False
        return time.monotonic() - self._since > self._hold_seconds

    def restart(self) -> None:
        """Restarts the measurement of the outage, so that the drain may wait for the full time again."""
        self._since = None
        self._is_announced = False

    def error(self) -> UpstreamsUnavailable:
        """The error for messages that go back to the queue: it names what is, or was last noted to be, unavailable."""
        return UpstreamsUnavailable(self._unavailable_now() or self._noted)

    def _unavailable_now(self) -> list[str]:
        """The names of what is unavailable: the database, and the services that are not known to be up."""
        return [*([_DATABASE] if self._database_unavailable else []), *self._breakers.not_up(self._upstreams)]


def _outage_text(names: Sequence[str]) -> str:
    """What is unavailable, as a clause. names: `the database`, or services."""
    services = [name for name in names if name != _DATABASE]
    clauses = [f"{_DATABASE} is unavailable"] if _DATABASE in names else []
    if services:
        clauses.append(count_as_down(services))
    return " and ".join(clauses)

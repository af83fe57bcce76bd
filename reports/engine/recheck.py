"""The recheck reads differing records again, and decides which differences are confirmed and which are in flight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
import structlog

from reports.engine.causes import Difference
from reports.engine.frame import columns_of, concatenated, keys_of, records, typed
from reports.engine.parallel_reader import failed_read
from reports.engine.pending_messages import PendingMessages
from reports.engine.units import Reading, UnreadRecord, key_text
from sync.alerting import command
from sync.domains.registry import DOMAINS
from sync.errors import SyncError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from reports.engine.history import Baseline
    from reports.engine.pending_messages import FindPendingMessages
    from reports.engine.reconciliation import Reads, Reconciliation
    from reports.engine.units import SideName

#: How far the clocks of DPS, NOMIS and this machine may differ; a record dated further ahead is not recent.
_CLOCK_DIFFERENCE = timedelta(minutes=5)
#: A message on the main queue is stuck if the record already differed in a run that began longer ago than this.
_LONGEST_ON_QUEUE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Rechecked:
    """What the recheck found about each record that differed, by the text of its key.

    rows: the frame of all records that could be read again, equal or not. Each record is in exactly one of the other
    parts. confirmed: it still differs. in_flight: it still differs, but the sides are expected to agree soon; the
    second value is the reason, as a clause. agreed: the sides now agree. ignored: it differs in a way that is not
    reported; the value is the reason. gone: it no longer exists. unread: it could not be read.
    """

    rows: pd.DataFrame
    confirmed: Mapping[str, Difference]
    in_flight: Mapping[str, tuple[Difference, str]]
    agreed: frozenset[str]
    ignored: Mapping[str, str]
    gone: frozenset[str]
    unread: Mapping[str, UnreadRecord]

    def only(self, rows: pd.DataFrame, key: Iterable[str]) -> Rechecked:
        """A copy of this recheck without the records that could be read again but are not in `rows`.

        key: the names of the key columns.
        """
        keys = frozenset(keys_of(rows, key))
        return replace(
            self,
            rows=rows,
            confirmed={name: each for name, each in self.confirmed.items() if name in keys},
            in_flight={name: each for name, each in self.in_flight.items() if name in keys},
            agreed=self.agreed & keys,
            ignored={name: why for name, why in self.ignored.items() if name in keys},
        )


@dataclass(frozen=True, slots=True)
class Recheck:
    """Reads differing records again, and sorts them into the parts of a `Rechecked`.

    in_flight: a difference is in flight if the record was changed on either side less than this long ago. find_pending:
    finds the pending messages of the domain; called at most once, and only if something still differs. clock: returns
    the current time, aware. earlier: what is known from earlier runs, which helps to decide whether a pending message
    still explains a difference.
    """

    reconciliation: Reconciliation
    reads: Reads
    in_flight: timedelta
    find_pending: FindPendingMessages
    clock: Callable[[], datetime]
    earlier: Baseline

    def __call__(self, candidates: pd.DataFrame) -> Rechecked:
        """Reads the candidates again. Those that cannot be read are `unread`; no `SyncError` is raised.

        candidates: the rows that differed in the first reading, with the columns of the frame.
        """
        reconciliation = self.reconciliation
        wanted = list(keys_of(candidates, reconciliation.key))
        reading = self._read(typed(reconciliation, candidates[list(_columns_known(candidates, reconciliation))]))
        rows, unread = reading.rows, _by_key(reading, candidates, wanted, reconciliation)
        here = keys_of(rows, reconciliation.key)
        rows = rows[here.isin(wanted) & ~here.isin(list(unread))].reset_index(drop=True)
        found = set(keys_of(rows, reconciliation.key))
        differing = reconciliation.differing(rows)
        ignored: dict[str, str] = {}
        if len(differing):
            try:
                differing = reconciliation.describe(differing, self.reads)
            except SyncError as error:
                why = failed_read(error)
                lacking = dict(zip(keys_of(differing, reconciliation.key), records(differing), strict=True))
                unread |= {key: _unread(row, reconciliation, why.reason, why.network) for key, row in lacking.items()}
                rows = rows[~keys_of(rows, reconciliation.key).isin(list(lacking))].reset_index(drop=True)
                found -= set(lacking)
                differing = differing.iloc[:0]
        confirmed: dict[str, Difference] = {}
        in_flight: dict[str, tuple[Difference, str]] = {}
        keys = list(keys_of(differing, reconciliation.key))
        described = dict(zip(keys, records(differing), strict=True))
        ignored |= {key: row["ignored"] for key, row in described.items() if row.get("ignored")}
        still = {key: row for key, row in described.items() if key not in ignored}
        pending = self._pending_messages() if still else PendingMessages()
        for key, row in still.items():
            difference = self._difference(row, pending)
            why_passing = self._why_in_flight(key, difference)
            if why_passing is None:
                confirmed[key] = difference
            else:
                in_flight[key] = (difference, why_passing)
        return Rechecked(
            rows=self._with_descriptions(rows, differing),
            confirmed=confirmed,
            in_flight=in_flight,
            agreed=frozenset(found - set(keys)),
            ignored=ignored,
            gone=frozenset(wanted) - found - unread.keys(),
            unread=unread,
        )

    def _read(self, rows: pd.DataFrame) -> Reading:
        try:
            return self.reconciliation.reread(rows, self.reads)
        except SyncError as error:
            why = failed_read(error)
            return Reading(rows.iloc[:0], (UnreadRecord({}, None, None, why.reason, why.network),))

    def _with_descriptions(self, rows: pd.DataFrame, described: pd.DataFrame) -> pd.DataFrame:
        """The rows, with the values that `describe` added to those of them that differ."""
        reconciliation = self.reconciliation
        others = rows[~keys_of(rows, reconciliation.key).isin(list(keys_of(described, reconciliation.key)))]
        completed = typed(reconciliation, described[list(_columns_known(described, reconciliation))])
        return concatenated(reconciliation, [others, completed])

    def _pending_messages(self) -> PendingMessages:
        """The pending messages of the domain. If they cannot be read, the result has only a doubt."""
        domain = DOMAINS[self.reconciliation.domain]
        try:
            return self.find_pending(domain)
        except SyncError as error:
            structlog.get_logger().warning("pending-messages-unknown", reason=str(error))
            return PendingMessages(doubt=f"the {domain.queue} queues could not be read")

    def _difference(self, row: dict[str, Any], pending: PendingMessages) -> Difference:
        entities = self.reconciliation.entities(row)
        kind, differs = row.pop("kind"), row.pop("differs")
        row.pop("ignored", None)
        return Difference(row, kind, differs, pending.where(entities), pending.why_given_up(entities), pending.doubt)

    def _why_in_flight(self, key: str, difference: Difference) -> str | None:
        queue = DOMAINS[self.reconciliation.domain].queue
        if difference.pending is not None:
            stuck = self._stuck(key, difference, difference.pending)
            return None if stuck else _waiting_text(queue, difference.pending)
        nouns, now = self.reconciliation.nouns, self.clock()
        remarks: Mapping[SideName, str] = {"DPS": "", "NOMIS": ", and may not have reached DPS yet"}
        for side, remark in remarks.items():
            moment = difference.row[f"{side.lower()}_changed_at"]
            if moment is not None and self._is_recent(moment, now):
                return f"the {nouns[side]} was last changed {age_text(now - moment)} ago{remark}"
        return None

    def _is_recent(self, moment: datetime, now: datetime) -> bool:
        """Whether `moment` is less than `in_flight` ago, or ahead of `now` by no more than the clocks may differ."""
        return now - self.in_flight < moment <= now + min(_CLOCK_DIFFERENCE, self.in_flight)

    def _stuck(self, key: str, difference: Difference, where: Literal["queue", "dlq"]) -> bool:
        """Whether a pending message no longer explains the difference of the record `key`.

        That is so if the message stays on the dead letter queue, or if the record already differed after the last run
        and has not changed in DPS since that run began. In the second case, a message on the main queue still explains
        the difference until a day after that run began. where: the queue of the message.
        """
        if difference.given_up is not None:
            return True
        started = self.earlier.started_at
        if started is None or not self.earlier.differed(key):
            return False
        changed = difference.row["dps_changed_at"]
        if changed is not None and changed > started:
            # A message that was pending then was about an earlier change.
            return False
        return where == "dlq" or self.clock() - started > _LONGEST_ON_QUEUE


def age_text(age: timedelta) -> str:
    """`age` in words, in whole minutes, such as `12 minutes`."""
    minutes = int(age.total_seconds() // 60)
    if minutes < 1:
        return "less than a minute"
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def _waiting_text(queue: str, where: Literal["queue", "dlq"]) -> str:
    """Why a difference is in flight, as a clause: its message is on the main queue, or on the dead letter queue."""
    if where == "queue":
        return f"its message is waiting on the {queue} queue"
    return f"its message is waiting on the dead letter queue: {command('dlq', 'retry', queue)}"


def _columns_known(frame: pd.DataFrame, reconciliation: Reconciliation) -> list[str]:
    """The names of the columns of `frame` that the reconciliation declares, without those that a comparison added."""
    return [name for name in columns_of(reconciliation) if name in frame.columns]


def _by_key(
    reading: Reading, candidates: pd.DataFrame, wanted: list[str], reconciliation: Reconciliation
) -> dict[str, UnreadRecord]:
    """The records that could not be read again, by key.

    A failure without a key counts for every one of the `candidates` that is missing from the reading.
    """
    unread = {key_text(each.key): each for each in reading.unread if each.key}
    whole = next((each for each in reading.unread if not each.key), None)
    if whole is not None:
        read = set(keys_of(reading.rows, reconciliation.key))
        for key, row in zip(wanted, records(candidates), strict=True):
            if key not in read:
                unread.setdefault(key, _unread(row, reconciliation, whole.reason, whole.network))
    return {key: each for key, each in unread.items() if key in set(wanted)}


def _unread(row: Mapping[str, Any], reconciliation: Reconciliation, reason: str, network: bool) -> UnreadRecord:
    key = {column: row[column] for column in reconciliation.key}
    return UnreadRecord(key, row["offender_no"], None, reason, network)

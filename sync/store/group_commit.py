"""Group commit: the requests that several threads make at about the same time share a transaction.

One thread at a time leads: it commits its own request together with all others that are waiting. Once it has committed,
it hands over to a thread whose request arrived in the meantime, so that no thread has to commit other threads'
requests for ever.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from sync.store.database import StoreUnavailable

#: How long a leader waits for further requests while many threads are at work, like `commit_delay` of PostgreSQL.
_DELAY_SECONDS = 0.005


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """A thread's request to commit something, which a subclass defines.

    waits: whether the thread waits for the result. thread: the ident of the thread. result: set by the commit. woken:
    set when the request has a result, or when its thread is to lead.
    """

    waits: bool
    thread: int = field(default_factory=threading.get_ident)
    result: Future[bool] = field(default_factory=Future)
    woken: threading.Event = field(default_factory=threading.Event)


ARequest = TypeVar("ARequest", bound=Request)


class GroupCommit(Generic[ARequest]):
    """Commits the requests of many threads together. The threads share one instance."""

    def __init__(self, commit: Callable[[list[ARequest]], None], is_busy: Callable[[], bool]) -> None:
        """`commit` commits requests, and sets the result or the error of each.

        `is_busy` returns whether a short delay is likely to gather the requests of several threads.
        """
        self._commit = commit
        self._is_busy = is_busy
        self._lock = threading.Lock()
        #: Requests that no thread has begun to commit, and whether a thread leads.
        self._waiting: list[ARequest] = []
        self._is_led = False

    def add(self, request: ARequest) -> bool:
        """Adds `request` without waiting. Returns whether this thread must `lead`, because no other thread leads."""
        with self._lock:
            self._waiting.append(request)
            must_lead, self._is_led = not self._is_led, True
        return must_lead

    def lead(self) -> None:
        """Commits the waiting requests, then hands over to another thread if one is waiting for its own result."""
        try:
            handed_over = False
            while not handed_over:
                self._commit_waiting()
                handed_over = self._hand_over()
        except BaseException:
            # Only a signal can end the lead here, since the commit keeps its errors in the results. The other threads
            # are still waiting.
            self._hand_over(resigns=True)
            raise

    def result_of(self, request: ARequest, *, must_lead: bool) -> bool:
        """Returns the result of `request`, or raises the error of its commit.

        Until there is a result, this thread waits, and leads when its turn comes. must_lead: what `add` returned.
        """
        if not must_lead:
            self._wait(request)
        if not request.result.done():
            self.lead()
        return request.result.result()

    def _wait(self, request: ARequest) -> None:
        try:
            request.woken.wait()
        except BaseException:
            # A signal ended the wait. The other threads must not wait for this one to lead.
            with self._lock:
                must_lead = request.woken.is_set() and not request.result.done()
                if not must_lead and request in self._waiting:
                    self._waiting.remove(request)
            if must_lead:
                self.lead()
            raise

    def _commit_waiting(self) -> None:
        if self._is_busy():
            time.sleep(_DELAY_SECONDS)
        with self._lock:
            requests, self._waiting = self._waiting, []
        try:
            self._commit(requests)
        finally:
            for each in requests:
                if not each.result.done():
                    each.result.set_exception(StoreUnavailable("the commit was interrupted"))
                each.woken.set()

    def _hand_over(self, *, resigns: bool = False) -> bool:
        """Wakes a waiting thread to lead, or ends the lead if no requests are left. Returns whether it did either.

        It does neither if all remaining requests are from threads that do not wait: then this thread has to commit
        them. A thread that `resigns` abandons its own request and ends the lead even then, so that the thread that adds
        the next request leads.
        """
        with self._lock:
            if resigns:
                mine = threading.get_ident()
                self._waiting = [each for each in self._waiting if not (each.waits and each.thread == mine)]
            successor = next((each for each in self._waiting if each.waits), None)
            if successor is not None:
                successor.woken.set()
            elif resigns or not self._waiting:
                self._is_led = False
            else:
                return False
            return True

"""Requests from several threads are committed together. If a thread is interrupted, no other request is forgotten."""

import threading
from collections.abc import Callable
from concurrent.futures import Future

import pytest

from sync.store.database import StoreUnavailable
from sync.store.group_commit import GroupCommit, Request
from tests.harness.waiting import LONGEST_SECONDS, failure_of, in_thread, result_of


class Commits:
    """Has a `GroupCommit` named `group`, whose commits begin at once and end when `allow` is called.

    `sizes` has the number of requests in each commit.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._begun, self._allowed = threading.Semaphore(0), threading.Semaphore(0)
        self._interrupted = False
        self.group: GroupCommit[Request] = GroupCommit(self._commit, lambda: False)

    def _commit(self, requests: list[Request]) -> None:
        self.sizes.append(len(requests))
        self._begun.release()
        assert self._allowed.acquire(timeout=LONGEST_SECONDS)
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt
        for each in requests:
            each.result.set_result(True)

    def begin(self) -> Future[bool]:
        """Begins a commit with one request in a new thread. Returns the future result of the request."""
        request = Request(waits=True)
        asking = in_thread(self.group.result_of, request, must_lead=self.group.add(request))
        self.await_commit()
        return asking

    def await_commit(self) -> None:
        """Returns once a further commit has begun."""
        assert self._begun.acquire(timeout=LONGEST_SECONDS)

    def allow(self, commits: int = 1) -> None:
        """Lets the given number of commits end."""
        self._allowed.release(commits)

    def interrupt(self) -> None:
        """Ends the commit in progress as a signal would."""
        self._interrupted = True
        self.allow()


class Interrupted(threading.Event):
    """An event whose `wait` calls `first` and then ends as if a signal had interrupted it."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._first = first

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - as in `threading.Event`
        """Calls `first`, then raises `KeyboardInterrupt`."""
        self._first()
        raise KeyboardInterrupt


def added(commits: Commits) -> Future[bool]:
    """Adds a request during a commit, and starts a thread that waits for its result. Returns the future result."""
    request = Request(waits=True)
    assert not commits.group.add(request)
    return in_thread(commits.group.result_of, request, must_lead=False)


def test_requests_during_a_commit_share_the_next_one() -> None:
    """Requests that arrive during a commit are committed together in the next one."""
    commits = Commits()
    first = commits.begin()
    others = [added(commits) for _ in range(3)]
    commits.allow(2)
    assert all(result_of(each) for each in (first, *others))
    assert commits.sizes == [1, 3]


def test_a_thread_with_its_result_returns() -> None:
    """Once a thread has its result, it returns, and a waiting thread makes the next commit."""
    commits = Commits()
    first = commits.begin()
    second = added(commits)
    commits.allow()
    assert result_of(first)
    commits.await_commit()
    assert not second.done()
    commits.allow()
    assert result_of(second)


def test_a_request_that_nobody_waits_for_is_committed() -> None:
    """A request that nobody waits for is committed by the thread that is already committing."""
    commits = Commits()
    first = commits.begin()
    request = Request(waits=False)
    assert not commits.group.add(request)
    commits.allow(2)
    assert result_of(first)
    assert result_of(request.result)


def test_an_interrupted_wait_holds_up_nobody() -> None:
    """A waiting thread that is interrupted by a signal leaves no request behind, and the other threads continue."""
    commits = Commits()
    first = commits.begin()
    request = Request(waits=True, woken=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        commits.group.result_of(request, must_lead=commits.group.add(request))
    second = added(commits)
    commits.allow(2)
    assert result_of(first)
    assert result_of(second)
    assert commits.sizes == [1, 1]


def test_a_thread_that_is_interrupted_at_its_turn_commits_first() -> None:
    """If a thread is interrupted when its turn to commit has come, it still commits before the interrupt ends it.

    Otherwise, the other threads would wait for ever.
    """
    commits = Commits()
    first = commits.begin()

    def first_ends() -> None:
        commits.allow(2)
        result_of(first)

    request = Request(waits=True, woken=Interrupted(first_ends))
    must_lead = commits.group.add(request)
    second = added(commits)
    with pytest.raises(KeyboardInterrupt):
        commits.group.result_of(request, must_lead=must_lead)
    assert result_of(second)
    assert commits.sizes == [1, 2]


def test_an_interrupted_commit_fails_its_requests_alone() -> None:
    """If a commit is interrupted, only the thread that makes it gets the interrupt.

    The other requests in the commit fail with `StoreUnavailable`, and a later request is committed.
    """
    commits = Commits()
    first = commits.begin()
    second, third = added(commits), added(commits)
    commits.allow()
    commits.await_commit()
    later = added(commits)
    commits.interrupt()
    commits.allow()
    assert result_of(first)
    assert {type(failure_of(second)), type(failure_of(third))} == {KeyboardInterrupt, StoreUnavailable}
    assert result_of(later)


def test_an_interrupted_commit_leaves_other_requests_to_the_next_thread() -> None:
    """A request that nobody waits for is not lost if the commit during which it arrives is interrupted.

    It is committed together with the next request.
    """
    commits = Commits()
    first = commits.begin()
    request = Request(waits=False)
    assert not commits.group.add(request)
    commits.interrupt()
    assert isinstance(failure_of(first), KeyboardInterrupt)
    last = commits.begin()
    commits.allow()
    assert result_of(last)
    assert result_of(request.result)


def test_a_leader_that_is_interrupted_before_its_commit_lets_another_lead() -> None:
    """If a signal ends the delay before a commit, a waiting thread commits instead of the interrupted thread."""
    commits = Commits()
    begun, may_be_interrupted = threading.Event(), threading.Event()

    def interrupt() -> bool:
        if not begun.is_set():
            begun.set()
            assert may_be_interrupted.wait(LONGEST_SECONDS)
            raise KeyboardInterrupt
        return False

    commits.group = GroupCommit(commits._commit, interrupt)

    def lead() -> bool:
        request = Request(waits=True)
        return commits.group.result_of(request, must_lead=commits.group.add(request))

    first = in_thread(lead)
    assert begun.wait(LONGEST_SECONDS)
    second = added(commits)
    may_be_interrupted.set()
    assert isinstance(failure_of(first), KeyboardInterrupt)
    commits.allow()
    assert result_of(second)
    assert commits.sizes == [1]

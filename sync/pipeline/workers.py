"""The threads that handle messages. They do not keep the process from ending."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from queue import SimpleQueue  # noqa: TID251 - never read with a timeout
from typing import Any, ParamSpec, TypeVar

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Workers:
    """A pool of `size` daemon threads, each started when a call finds no idle one. Used by one thread.

    The interpreter waits for the threads of `concurrent.futures` at its end, and so for a handler that hangs in a call
    long after the grace period. It does not wait for these: such a handler dies with the process, and the next one of
    its message finds what it did.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._threads = 0
        self._idle = threading.Semaphore(0)
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()

    def submit(self, call: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Future[Result]:
        """Makes a call as soon as a thread is free."""
        future: Future[Result] = Future()
        self._calls.put((future, partial(call, *arguments, **named)))
        if self._threads < self._size and not self._idle.acquire(blocking=False):
            self._threads += 1
            name = f"{self._name} {self._threads}"
            threading.Thread(target=self._work, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Ends each thread when it has nothing left to do. Waits for none."""
        for _ in range(self._threads):
            self._calls.put(None)

    def _work(self) -> None:
        while (submitted := self._calls.get()) is not None:
            future, call = submitted
            if future.set_running_or_notify_cancel():
                try:
                    result = call()
                except BaseException as error:  # whatever it is, the batch has to see it
                    future.set_exception(error)
                else:
                    future.set_result(result)
            self._idle.release()

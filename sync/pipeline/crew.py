"""Threads that work what they are given, for as long as the process lives."""

import threading
from collections.abc import Callable
from queue import SimpleQueue


class Crew:
    """So many threads, started when there is first something to do.

    They do not keep the process alive: what hangs in a call when a stop has lasted too long must not delay the end.
    Whatever is submitted must deal with its own errors.
    """

    def __init__(self, size: int, name: str) -> None:
        self._size = size
        self._name = name
        self._todo: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def submit(self, task: Callable[[], None]) -> None:
        """Has `task` called by the next free thread. May be called from any thread."""
        if not self._threads:
            self._start()
        self._todo.put(task)

    def close(self) -> None:
        """Lets the threads end once they have done what was submitted; does not wait for them."""
        for _ in self._threads:
            self._todo.put(None)

    def _start(self) -> None:
        with self._lock:
            if self._threads:
                return
            for number in range(self._size):
                thread = threading.Thread(target=self._work, name=f"{self._name} {number}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def _work(self) -> None:
        while (task := self._todo.get()) is not None:
            task()

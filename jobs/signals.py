"""SIGTERM and SIGINT: the first asks to finish the work in hand, the second ends the process at once."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

from jobs.endings import WORK_FAILED

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop`, in a thread of its own, at the first signal of the `with` block.

    A second signal ends the process. Only the main thread may enter this.
    """
    # The handler may interrupt the main thread while it holds any lock, so it does the one thing that never waits for
    # one.
    signals: SimpleQueue[bool] = SimpleQueue()
    asked = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(WORK_FAILED)
        asked = True
        signals.put(True)

    def listen() -> None:
        if signals.get():
            stop()

    listener = threading.Thread(target=listen, name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signals.put(False)
        listener.join()

"""SIGTERM and SIGINT: the first asks to finish the work in hand, the second ends the process at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jobs.errors import WORK_FAILED, StopRequested, WorkError

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Calls `stop`, in a thread of its own, at the first signal of the `with` block.

    A second signal ends the process. Only the main thread may enter this.
    """
    # Each signal is written to a socket by Python's own handler, below the interpreter: no lock that the main thread
    # holds or waits for can keep a signal from being seen.
    heard, told = socket.socketpair()
    told.setblocking(False)
    listener = threading.Thread(target=_listen, args=(heard, stop), name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, _noted) for number in _SIGNALS}
    told_before = signal.set_wakeup_fd(told.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(told_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        listener.join()
        heard.close()


@contextmanager
def ending_at_once(what: str) -> Iterator[None]:
    """Breaks the block off at a signal, whatever it waits for; `WorkError` then says that `what` was stopped.

    For work that leaves nothing unfinished; within it, `stopping` takes the signals where there is work in hand.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise StopRequested("a signal came")

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    except StopRequested:
        raise WorkError(f"{what} was stopped before its end") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class BreakingOff:
    """What signals do to a piece of work: within `raised` the first one breaks it off, elsewhere it is only noted."""

    def __init__(self) -> None:
        self.asked = False
        self._raising = False

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raises `StopRequested` in the block at the first signal, whatever the block waits for."""
        self._raising = True
        try:
            if self.asked:
                raise StopRequested("a signal came")
            yield
        finally:
            self._raising = False

    def take(self, _number: int, _frame: FrameType | None) -> None:
        """Handles a signal. The second one ends the process."""
        if self.asked:
            os._exit(WORK_FAILED)
        self.asked = True
        if self._raising:
            raise StopRequested("a signal came")


@contextmanager
def breaking_off() -> Iterator[BreakingOff]:
    """Takes the signals for the block, so that what was broken off can still be recorded.

    Outside the main thread, which no signal reaches, it changes nothing.
    """
    signals = BreakingOff()
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    before = {number: signal.signal(number, signals.take) for number in _SIGNALS}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(heard: socket.socket, stop: Callable[[], None]) -> None:
    asked = False
    while number := heard.recv(1):
        if number[0] not in _SIGNALS:
            continue
        if asked:
            os._exit(WORK_FAILED)
        asked = True
        # In a thread of its own again, so that a stop which is slow does not keep the second signal from being heard.
        threading.Thread(target=stop, name="stop", daemon=True).start()


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Keeps the signal from ending the process; what is to be done about it is done by the listener."""

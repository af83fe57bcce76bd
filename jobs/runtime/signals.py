"""What SIGTERM and SIGINT do to running work.

With `stopping`, the first signal asks the work to finish. With `interrupting`, each signal interrupts it. With
`interruptible`, the first signal interrupts it only where this is allowed. With either `stopping` or
`interruptible`, a second signal ends the process at once.
"""

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
    """Calls `stop`, in a separate thread, at the first signal during the block.

    A second signal ends the process. Only the main thread may enter the block.
    """
    # Python's own handler writes each signal to a socket, below the interpreter: no lock that the main thread holds or
    # waits for can keep a signal from being noticed.
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    listener = threading.Thread(target=_listen, args=(receiver, stop), name="signals", daemon=True)
    listener.start()
    before = {number: signal.signal(number, _ignore) for number in _SIGNALS}
    wakeup_before = signal.set_wakeup_fd(sender.fileno())
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        sender.close()
        listener.join()
        receiver.close()


@contextmanager
def interrupting(what: str) -> Iterator[None]:
    """Interrupts the block at a signal, even if the block is waiting. Then raises `WorkError`, which names `what`.

    The block must be safe to interrupt at any point. A part that is not safe to interrupt handles the signals itself,
    with `stopping`.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        raise StopRequested("a signal came")

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    except StopRequested:
        raise WorkError(f"{what} was stopped early") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interruption:
    """The effect of signals on a piece of work.

    The first signal interrupts the work if the work is in a block of `allowed`; otherwise, the signal is only noted.
    """

    def __init__(self) -> None:
        self.requested = False
        self._raising = False

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Raises `StopRequested` in the block at the first signal, even if the block is waiting.

        If that signal has already come, raises `StopRequested` before the block begins.
        """
        self._raising = True
        try:
            if self.requested:
                raise StopRequested("a signal came")
            yield
        finally:
            self._raising = False

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Handles a signal. The second signal ends the process."""
        if self.requested:
            os._exit(WORK_FAILED)
        self.requested = True
        if self._raising:
            raise StopRequested("a signal came")


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Gives the block an `Interruption` that handles the signals, so that the block can record that it was interrupted.

    Signals are handled only in the main thread. If another thread enters the block, the handling does not change.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.handle) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(receiver: socket.socket, stop: Callable[[], None]) -> None:
    requested = False
    while number := receiver.recv(1):
        if number[0] not in _SIGNALS:
            continue
        if requested:
            os._exit(WORK_FAILED)
        requested = True
        # In another thread, so that a slow stop does not keep the second signal from being noticed.
        threading.Thread(target=stop, name="stop", daemon=True).start()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Does nothing, so that the signal does not end the process. The listener acts on the signal."""

"""The first signal asks the process to stop, and the second ends it."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.processes import started
from tests.harness.waiting import LONGEST_SECONDS

_PROGRAM = """
import threading
from jobs.runtime.signals import stopping

finish = threading.Event()
with stopping(lambda: (print("stopping", flush=True), {what})):
    print("ready", flush=True)
    while not finish.wait(60):
        pass
print("finished", flush=True)
"""


@contextmanager
def process(what: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs inside `stopping`, and runs the code `what` when it is asked to stop."""
    with started([sys.executable, "-c", _PROGRAM.format(what=what)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running


def test_first_signal_finishes_the_work() -> None:
    """After one SIGTERM, the work finishes and the process exits with 0."""
    with process("finish.set()") as running:
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=LONGEST_SECONDS)
        assert (out, running.returncode) == ("stopping\nfinished\n", 0)


def test_second_signal_ends_at_once() -> None:
    """After a second SIGTERM, the process exits with 1, even though its work never ends."""
    with process("None") as running:
        running.send_signal(signal.SIGTERM)
        assert running.stdout is not None
        assert running.stdout.readline() == "stopping\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=LONGEST_SECONDS) == 1


def test_a_keyboard_interrupt_stops_like_sigterm() -> None:
    """Ctrl-C stops the process as SIGTERM does."""
    with process("finish.set()") as running:
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=LONGEST_SECONDS)
        assert (out, running.returncode) == ("stopping\nfinished\n", 0)

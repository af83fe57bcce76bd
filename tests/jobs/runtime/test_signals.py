"""The first signal asks to stop, the second ends the process."""

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
    """A process that has entered `stopping`, whose stop does `what`."""
    with started([sys.executable, "-c", _PROGRAM.format(what=what)], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        yield running


def test_first_signal_finishes_the_work() -> None:
    """After one SIGTERM the work comes to its end and the process exits 0."""
    with process("finish.set()") as running:
        running.send_signal(signal.SIGTERM)
        out, _ = running.communicate(timeout=LONGEST_SECONDS)
        assert (out, running.returncode) == ("stopping\nfinished\n", 0)


def test_second_signal_ends_at_once() -> None:
    """After two SIGTERMs the process is gone, although its work never ends."""
    with process("None") as running:
        running.send_signal(signal.SIGTERM)
        assert running.stdout is not None
        assert running.stdout.readline() == "stopping\n"
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=LONGEST_SECONDS) == 1


def test_interrupt_from_the_keyboard_counts_as_well() -> None:
    """Ctrl-C stops as SIGTERM does."""
    with process("finish.set()") as running:
        running.send_signal(signal.SIGINT)
        out, _ = running.communicate(timeout=LONGEST_SECONDS)
        assert out.endswith("finished\n")

"""The faults of the storm: lost responses and slow writes all the time, and occasional bursts of 5xx from NOMIS."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

from sandbox import Sandbox

#: The share of the writes to NOMIS and to the mapping service that are applied, but whose response is lost.
LOST_SHARE = 0.05
#: The share of the mapping posts that hang for longer than the visibility timeout before they are applied.
HANGING_SHARE = 0.02
#: The share of the writes to NOMIS that take a long time to be applied; the process that sent them may die first.
SLOW_SHARE = 0.03
SLOW_MS = 2_500
BURST_SECONDS = 2.5
QUIET_SECONDS = (5.0, 9.0)


class FaultSchedule:
    """Switches the faults of a sandbox on and off in a thread until `stop` is called. `seed` determines the times."""

    def __init__(self, sandbox: Sandbox, seed: int, visibility_seconds: int) -> None:
        self._sandbox = sandbox
        self._chance = random.Random(seed)
        self._hang_ms = visibility_seconds * 1500
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._alternate, name="faults")
        self._hits: Counter[str] = Counter()
        self.bursts = 0

    def start(self) -> None:
        """Starts the schedule."""
        self._add_constant_faults()
        self._thread.start()

    def stop(self) -> None:
        """Ends the faults. Only Slack still rejects its next two posts, since most alerts are sent after the storm."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._thread.join()
            self._clear()
            self._add("slack", "POST", kind="rate_limited", retry_after=1, times=1)
            self._add("slack", "POST", kind="status", status=503, times=1)

    def counts(self) -> dict[str, int]:
        """How many times each kind of fault occurred, and the number of bursts."""
        hits = self._hits.copy()
        for fault in self._sandbox.faults():
            hits[f"{fault['service']} {fault['kind']}"] += int(fault["hits"])
        return {"bursts": self.bursts, **dict(sorted(hits.items()))}

    def _alternate(self) -> None:
        while not self._stopping.wait(self._chance.uniform(*QUIET_SECONDS)):
            self._clear()
            self._sandbox.fault("nomis", kind="status", status=self._chance.choice((502, 503, 504)))
            self.bursts += 1
            self._stopping.wait(BURST_SECONDS)
            self._clear()
            self._add_constant_faults()

    def _clear(self) -> None:
        for fault in self._sandbox.faults():
            self._hits[f"{fault['service']} {fault['kind']}"] += int(fault["hits"])
        self._sandbox.clear_faults()

    def _add_constant_faults(self) -> None:
        hang = {"kind": "delay", "ms": self._hang_ms, "probability": HANGING_SHARE}
        self._add("mapping", "POST", **hang)
        for method in ("POST", "PUT", "DELETE"):
            self._add("nomis", method, kind="timeout_after_write", hold=10, probability=LOST_SHARE / 10)
            self._add("nomis", method, kind="reset_after_write", probability=LOST_SHARE)
            self._add("nomis", method, kind="delay", ms=SLOW_MS, probability=SLOW_SHARE)
        self._add("mapping", "POST", kind="reset_after_write", probability=LOST_SHARE)
        self._add("mapping", "POST", kind="reset", probability=LOST_SHARE / 2)
        self._add("slack", "POST", kind="rate_limited", retry_after=1, probability=0.2)

    def _add(self, service: str, method: str, **fault: Any) -> None:
        self._sandbox.fault(service, method, seed=self._chance.randrange(1_000_000), **fault)

"""The bad weather of the chaos run: lost answers all the time, and bursts of 503 of NOMIS now and then."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

from sandbox import Sandbox

#: Of the writes of NOMIS and of the mapping service, so many lose their answer after they were applied.
LOST_SHARE = 0.05
#: Of the mapping posts, so many hang for longer than the visibility timeout before they are applied.
HANGING_SHARE = 0.02
#: Of the writes of NOMIS, so many take so long before they are applied: their process may be dead by then.
SLOW_SHARE = 0.03
SLOW_MS = 2_500
BURST_SECONDS = 2.5
FAIR_SECONDS = (5.0, 9.0)


class Weather:
    """Switches faults of a sandbox on and off in a thread of its own, by its seed, until `calm`."""

    def __init__(self, sandbox: Sandbox, seed: int, visibility_seconds: int) -> None:
        self._sandbox = sandbox
        self._chance = random.Random(seed)
        self._hang_ms = visibility_seconds * 1500
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._blow, name="weather")
        self._hits: Counter[str] = Counter()
        self.bursts = 0

    def start(self) -> None:
        """Begins."""
        self._fair()
        self._thread.start()

    def calm(self) -> None:
        """Ends it, save that Slack refuses the next posts: most alerts are told when the storm is over."""
        if not self._over.is_set():
            self._over.set()
            self._thread.join()
            self._clear()
            self._add("slack", "POST", kind="rate_limited", retry_after=1, times=1)
            self._add("slack", "POST", kind="status", status=503, times=1)

    def told(self) -> dict[str, int]:
        """How often each kind of fault struck, and the bursts."""
        hits = self._hits.copy()
        for fault in self._sandbox.faults():
            hits[f"{fault['service']} {fault['kind']}"] += int(fault["hits"])
        return {"bursts": self.bursts, **dict(sorted(hits.items()))}

    def _blow(self) -> None:
        while not self._over.wait(self._chance.uniform(*FAIR_SECONDS)):
            self._clear()
            self._sandbox.fault("nomis", kind="status", status=self._chance.choice((502, 503, 504)))
            self.bursts += 1
            self._over.wait(BURST_SECONDS)
            self._clear()
            self._fair()

    def _clear(self) -> None:
        for fault in self._sandbox.faults():
            self._hits[f"{fault['service']} {fault['kind']}"] += int(fault["hits"])
        self._sandbox.clear_faults()

    def _fair(self) -> None:
        """The faults of fair weather."""
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

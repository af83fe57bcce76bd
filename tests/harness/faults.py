"""Faults of the sandbox that last for as long as a test needs them, instead of for a fixed time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sandbox import Sandbox
from tests.harness.waiting import until


@contextmanager
def faulty(
    sandbox: Sandbox, service: str, method: str = "*", path: str | None = None, **parameters: Any
) -> Iterator[None]:
    """Switches a fault of the sandbox on for the `with` block. At the end, all faults are switched off."""
    sandbox.fault(service, method, path, **parameters)
    try:
        yield
    finally:
        sandbox.clear_faults()


def hits(sandbox: Sandbox, fault_id: int) -> int:
    """The number of requests that a fault has affected."""
    return next(int(each["hits"]) for each in sandbox.faults() if each["id"] == fault_id)


class Hold:
    """Requests that the sandbox keeps waiting until they are released."""

    def __init__(self, sandbox: Sandbox, fault_id: int) -> None:
        self._sandbox = sandbox
        self._fault_id = fault_id
        self._released = False

    @property
    def requests(self) -> int:
        """The number of requests that have been kept waiting so far."""
        return hits(self._sandbox, self._fault_id)

    def wait_for_request(self) -> None:
        """Returns once a request is waiting."""
        until(lambda: self.requests, "the request that is to be held")

    def release(self) -> None:
        """Releases the waiting requests. Later requests do not wait."""
        if not self._released:
            self._released = True
            self._sandbox.release_fault(self._fault_id)


@contextmanager
def held(
    sandbox: Sandbox,
    service: str,
    method: str = "*",
    path: str | None = None,
    *,
    kind: str = "delay",
    times: int | None = 1,
    skip: int = 0,
) -> Iterator[Hold]:
    """Keeps requests waiting, with a fault of the given kind, until they are released or the `with` block ends.

    With the kind `delay`, the waiting requests have not reached the service. With `timeout_after_write`, they have, but
    their responses are held back. The requests are also released if a test resets the sandbox or clears its faults.
    """
    hold = Hold(sandbox, sandbox.fault(service, method, path, kind=kind, times=times, skip=skip, until_released=True))
    try:
        yield hold
    finally:
        hold.release()

"""The sandbox's latency, and its response timer, which lets calls that are due together continue one by one."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from sandbox.http.latency import Latency, ResponseTimer


def test_the_loop_runs_between_two_turns() -> None:
    """Calls that are due together continue in order of arrival, and the event loop does other work between them."""
    seen: list[str] = []

    async def respond(timer: ResponseTimer, name: str) -> None:
        await timer.at(0)
        seen.append(name)
        asyncio.get_running_loop().call_soon(seen.append, "looked")

    async def together() -> None:
        timer = ResponseTimer()
        await asyncio.gather(*(respond(timer, name) for name in "abc"))
        await asyncio.sleep(0)

    asyncio.run(together())
    assert seen == ["a", "looked", "b", "looked", "c", "looked"]


def test_a_client_that_gave_up_delays_no_other() -> None:
    """A caller that disconnects while it waits for its turn is skipped, and the callers after it continue."""
    seen: list[str] = []

    async def respond(timer: ResponseTimer, name: str) -> None:
        await timer.at(0)
        seen.append(name)

    async def together() -> None:
        timer = ResponseTimer()
        tasks = [asyncio.create_task(respond(timer, name)) for name in "abc"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(together())
    assert seen == ["a", "c"]


class RoughLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock advances only during a wait, by a millisecond more than the requested wait."""

    def __init__(self) -> None:
        """Starts at time zero."""
        self.now = 0.0
        loop = self

        class Selector(selectors.SelectSelector):
            def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
                if timeout:
                    loop.now += timeout + 0.001
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        """Returns how much time has passed, in seconds."""
        return self.now


def test_a_call_takes_its_set_time_despite_imprecise_timers() -> None:
    """Imprecise timers and processing time delay the first calls, but later calls take the set time on average."""

    async def calls() -> list[float]:
        latency = Latency(ResponseTimer())
        latency.seconds = 0.02
        took = []
        loop: Any = asyncio.get_running_loop()
        for _ in range(300):
            arrived = loop.time()
            loop.now += 0.0003
            await latency.keep(loop.time() - arrived)
            loop.now += 0.0002
            took.append(loop.time() - arrived)
            latency.record_call(took[-1])
        return took

    with asyncio.Runner(loop_factory=RoughLoop) as runner:
        took = runner.run(calls())
    assert took[0] > 0.021
    assert abs(sum(took[-100:]) / 100 - 0.02) < 0.0001

"""Turns: what is due together goes on one after another, and what came in meanwhile is looked at in between."""

from __future__ import annotations

import asyncio

from sandbox.turns import Turns


def test_a_round_of_the_loop_lies_between_two_turns() -> None:
    """Three who wait together go on in their order, each after the loop has looked around."""
    seen: list[str] = []

    async def answer(turns: Turns, name: str) -> None:
        await turns.mine()
        seen.append(name)
        asyncio.get_running_loop().call_soon(seen.append, "looked")

    async def together() -> None:
        turns = Turns()
        await asyncio.gather(*(answer(turns, name) for name in "abc"))
        await asyncio.sleep(0)

    asyncio.run(together())
    assert seen == ["a", "looked", "b", "looked", "c", "looked"]


def test_whoever_gave_up_holds_up_nobody() -> None:
    """A caller that hung up while it waited for its turn is passed over."""
    seen: list[str] = []

    async def answer(turns: Turns, name: str) -> None:
        await turns.mine()
        seen.append(name)

    async def together() -> None:
        turns = Turns()
        tasks = [asyncio.create_task(answer(turns, name)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(together())
    assert seen == ["a", "c"]

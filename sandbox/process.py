"""The process in which the fake services run."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
from collections.abc import Callable

from sandbox import domain_commands
from sandbox.child_processes import report_to_parent, watch_parent
from sandbox.control import Control
from sandbox.engine import Engine
from sandbox.options import Options

#: A new world makes many objects, and few of the objects that a request makes need the garbage collector.
COLLECTION_THRESHOLD = 100_000


async def serve(engine: Engine, host: str, port_base: int, ready: Callable[[], None], over: asyncio.Event) -> None:
    """Runs an engine until `over` is set; calls `ready` once all ports are listening."""
    try:
        await engine.start(host, port_base, Control(engine, domain_commands.COMMANDS).handle)
        ready()
        await over.wait()
    finally:
        await engine.stop()


def main() -> None:
    """Serves a world on free ports, prints these ports as one line of JSON, and runs until standard input closes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--options", default="{}", help="the options of the world, as JSON")
    chosen = parser.parse_args()
    gc.set_threshold(COLLECTION_THRESHOLD)
    asyncio.run(_run(Options.read(json.loads(chosen.options))))


async def _run(options: Options) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.call_soon_threadsafe(over.set)

    watch_parent(end)
    engine = Engine(options)

    def ready() -> None:
        report_to_parent({"ports": engine.ports})

    await serve(engine, "127.0.0.1", 0, ready, over)


if __name__ == "__main__":
    main()

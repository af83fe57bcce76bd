"""Serves the sandbox in the foreground, for working by hand: `python -m sandbox`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import sys

from sandbox.engine import Engine
from sandbox.handle import emulator_process
from sandbox.options import Options
from sandbox.process import serve
from sandbox.surroundings import shielded


def main() -> None:
    """Serve until interrupted, after printing the settings as `export NAME=value` lines."""
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--advertise", help="host name to print in the settings, in place of --host")
    parser.add_argument(
        "--port-base", type=int, default=8100, help="port of the control API; the services follow it; 0 takes free ones"
    )
    parser.add_argument("--prisoners", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--latency-ms", type=float, default=0, help="how long every call takes at least")
    parser.add_argument("--mismatch-rate", type=float, default=0.001, help="share of prisoners whose levels differ")
    parser.add_argument("--every-cause", action="store_true", help="plant a mismatch of every probable cause")
    parser.add_argument(
        "--mock-publishers",
        action="store_true",
        help="answer any visit and any adjustment with a canned one; the visit's prison and visitors are those of "
        "MOCK_VISITS_PRISON_ID and MOCK_VISITS_VISITORS, an adjustment is of a sentence when its id ends in S",
    )
    parser.add_argument(
        "--emulator-url", help="SNS and SQS that run elsewhere; without it an emulator is started as well"
    )
    chosen = parser.parse_args()
    kept = shielded(os.environ)
    os.environ.clear()
    os.environ.update(kept)
    try:
        options = Options(
            chosen.prisoners,
            chosen.seed,
            mismatch_rate=chosen.mismatch_rate,
            every_cause=chosen.every_cause,
            mock_publishers=chosen.mock_publishers,
        )
    except ValueError as error:
        parser.error(str(error))
    emulator: subprocess.Popen[bytes] | None = None
    address = chosen.emulator_url
    if address is None:
        emulator, port = emulator_process(chosen.host)
        address = f"http://{chosen.advertise or chosen.host}:{port}"
    try:
        asyncio.run(_run(Engine(options, address), chosen))
    finally:
        if emulator is not None:
            emulator.terminate()
            emulator.wait()


async def _run(engine: Engine, chosen: argparse.Namespace) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    for service in engine.services.values():
        service.latency.seconds = chosen.latency_ms / 1000

    def ready() -> None:
        engine.host = chosen.advertise or chosen.host
        for name, value in engine.environment().items():
            sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
        sys.stderr.write(f"The control API is at {engine.url('control')}; end with Ctrl+C.\n")
        sys.stdout.flush()

    await serve(engine, chosen.host, chosen.port_base, ready, over)


if __name__ == "__main__":
    main()

"""Serves the sandbox in the foreground, for working by hand: `python -m sandbox`."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from sandbox.arguments import PROGRAM, parser
from sandbox.engine import CannotListenError, Engine
from sandbox.handle import SandboxError, emulator_process
from sandbox.options import Options
from sandbox.process import serve
from sandbox.surroundings import shielded

#: What the alerts and reports of a program with these settings say that they are of.
ENVIRONMENT_NAME = "Sandbox"


def main() -> None:
    """Serve until interrupted, after telling the settings as `export NAME=value` lines."""
    parsing = parser()
    chosen = parsing.parse_args()
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
        engine = Engine(options, chosen.emulator_url)
    except ValueError as error:
        parsing.error(str(error))
    try:
        with ExitStack() as children:
            asyncio.run(_run(engine, chosen, children))
    except CannotListenError as error:
        sys.exit(
            f"{PROGRAM}: {error}; end what is there, perhaps another sandbox, or give other ports: --port-base"
            if error.taken
            else f"{PROGRAM}: {error}"
        )
    except SandboxError as error:
        sys.exit(f"{PROGRAM}: {error}")


async def _run(engine: Engine, chosen: argparse.Namespace, children: ExitStack) -> None:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    for service in engine.services.values():
        service.latency.seconds = chosen.latency_ms / 1000

    def ready() -> None:
        engine.host = chosen.advertise or chosen.host
        if chosen.emulator_url is None:
            emulator, port = emulator_process(chosen.host)
            children.callback(_end, emulator)
            engine.use_emulator(f"http://{engine.host}:{port}")
        _tell(engine, chosen.env_file)

    await serve(engine, chosen.host, chosen.port_base, ready, over)


def _tell(engine: Engine, file: Path | None) -> None:
    settings = {**engine.environment(), "ENVIRONMENT_NAME": ENVIRONMENT_NAME}
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
    if file is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _write(file, text)
    where = "" if file is None else f"The settings are in {file}. "
    sys.stderr.write(f"{where}The control API is at {engine.url('control')}; end with Ctrl+C.\n")


def _write(file: Path, text: str) -> None:
    """Put the file in its place whole, so that nobody reads the half of it.

    Raises:
        SandboxError: it cannot be written.
    """
    part = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SandboxError(f"--env-file: {file} cannot be written: {error.strerror}") from error


def _end(emulator: subprocess.Popen[bytes]) -> None:
    emulator.terminate()
    emulator.wait()


if __name__ == "__main__":
    main()

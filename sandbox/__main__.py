"""Serves the sandbox in the foreground, for manual use: `python -m sandbox`."""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from sandbox.application_insights import connection_string
from sandbox.child_processes import SandboxError, emulator_process, shielded_environment
from sandbox.engine import NAMES, CannotListenError, Engine
from sandbox.options import Options, read_generation
from sandbox.process import serve

PROGRAM = "python -m sandbox"
#: The highest port for the control API that leaves enough ports above it for the services.
HIGHEST_BASE = 65_535 - len(NAMES)
MOCKS = """return a canned record for any visit or adjustment that does not exist; the canned visit has the prison in
MOCK_VISITS_PRISON_ID and the visitors in MOCK_VISITS_VISITORS, and a canned adjustment whose id ends in S applies to a
sentence
"""


class Parser(argparse.ArgumentParser):
    """A parser that refuses wrong arguments with a one-line message."""

    def error(self, message: str) -> NoReturn:
        """Prints one line that says what is wrong, and ends the process with exit code 2."""
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')}\n")


def parser() -> Parser:
    """Returns the parser for the command line of `python -m sandbox`."""
    made = Parser(PROGRAM, description="Serves the sandbox in the foreground, for manual use.")
    add = made.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--advertise", help="host name for the addresses in the settings (default: the value of --host)")
    add(
        "--port-base",
        type=_port_base,
        default=8100,
        help="port of the control API; the services use the ports after it; 0 means any free ports "
        "(default: %(default)s)",
    )
    add("--prisoners", type=_count, default=200, help="number of active prisoners (default: %(default)s)")
    add("--seed", type=int, default=1, help="the same seed gives the same world (default: %(default)s)")
    add(
        "--latency-ms",
        type=_milliseconds,
        default=0,
        help="approximate time that each call takes, in milliseconds (default: %(default)s)",
    )
    add(
        "--mismatch-rate",
        type=_share,
        default=0.001,
        help="share of prisoners whose incentive levels are made to differ between NOMIS and DPS "
        "(default: %(default)s)",
    )
    add(
        "--every-cause",
        action="store_true",
        help="plant at least one difference for each probable cause in every reconciliation, "
        "whatever the value of --mismatch-rate",
    )
    add(
        "--generation",
        type=_generation,
        default="today",
        help="imitate the services and their API documents as of this date: today, 2023 (May 2023), or a month such as "
        "2024-06 (default: %(default)s)",
    )
    add("--mock-publishers", action="store_true", help=MOCKS)
    add(
        "--emulator-url",
        type=_address,
        help="address of a running emulator of SNS and SQS (default: start an emulator)",
    )
    add(
        "--env-file",
        type=_file,
        metavar="FILE",
        help="write the settings to FILE once all services are listening (default: print them)",
    )
    return made


def _port_base(text: str) -> int:
    return int(_number(text, int, lambda port: 0 <= port <= HIGHEST_BASE, f"0 or a port from 1 to {HIGHEST_BASE}"))


def _count(text: str) -> int:
    return int(_number(text, int, lambda count: count >= 1, "a whole number of at least 1"))


def _milliseconds(text: str) -> float:
    return _number(text, float, lambda number: 0 <= number < math.inf, "a number of at least 0")


def _share(text: str) -> float:
    return _number(text, float, lambda share: 0 <= share <= 1, "a share from 0 to 1")


def _generation(text: str) -> str:
    try:
        return read_generation(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(text: str, read: Callable[[str], float], fits: Callable[[float], bool], wanted: str) -> float:
    try:
        number = read(text)
    except ValueError:
        number = math.nan
    if not fits(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: give {wanted}")
    return number


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not valid: give an address such as http://localhost:4566")
    return text


def _file(text: str) -> Path:
    file = Path(text)
    if not file.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {file.parent}")
    if file.exists() and not file.is_file():
        raise argparse.ArgumentTypeError(f"{file} is not a file")
    return file


#: The environment named in the alerts and reports of a program that runs with the sandbox's settings.
ENVIRONMENT_NAME = "Sandbox"


def main() -> None:
    """Serves the sandbox until it is interrupted.

    Once all services are listening, prints the settings as `export NAME=value` lines, or writes them to a file.
    """
    parsing = parser()
    chosen = parsing.parse_args()
    kept = shielded_environment(os.environ)
    os.environ.clear()
    os.environ.update(kept)
    try:
        options = Options(
            chosen.prisoners,
            chosen.seed,
            mismatch_rate=chosen.mismatch_rate,
            every_cause=chosen.every_cause,
            plant=("all",) if chosen.every_cause else (),
            mock_publishers=chosen.mock_publishers,
            generation=chosen.generation,
        )
        engine = Engine(options, chosen.emulator_url)
    except ValueError as error:
        parsing.error(str(error))
    try:
        with ExitStack() as children:
            asyncio.run(_run(engine, chosen, children))
    except CannotListenError as error:
        sys.exit(
            f"{PROGRAM}: {error}; stop the program that uses the port, perhaps another sandbox, or "
            "choose other ports with --port-base"
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
        _print_settings(engine, chosen.env_file)

    await serve(engine, chosen.host, chosen.port_base, ready, over)


def _print_settings(engine: Engine, file: Path | None) -> None:
    settings = {
        **engine.environment(),
        "APPLICATIONINSIGHTS_CONNECTION_STRING": connection_string(engine.url("application-insights")),
        "ENVIRONMENT_NAME": ENVIRONMENT_NAME,
    }
    text = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in settings.items())
    if file is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _write(file, text)
    where = "" if file is None else f"The settings are in {file}. "
    sys.stderr.write(f"{where}The control API is at {engine.url('control')}; press Ctrl+C to stop.\n")


def _write(file: Path, text: str) -> None:
    """Replaces the whole file at once, so that no program reads a half-written file.

    Raises:
        SandboxError: the file cannot be written.
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

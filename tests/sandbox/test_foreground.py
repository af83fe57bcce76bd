"""`python -m sandbox` as a person starts it: the settings that it gives, its start-up errors, and its help."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import requests

from benchmarks.forked_command import run_forked
from sandbox.__main__ import PROGRAM, main
from sandbox.engine import NAMES
from sync.upstream.application_insights import Ingestion
from tests.harness.processes import started
from tests.harness.waiting import LONGEST_SECONDS

COMMAND = (sys.executable, "-m", "sandbox")
#: The control API and the services have consecutive ports.
LAST_PORT_BASE = 65_535 - len(NAMES)
FEW = ("--prisoners", "5", "--emulator-url", "http://127.0.0.1:1")


def exports(text: str) -> dict[str, str]:
    """Returns the settings in `text`, by name, with each value as it is quoted for the shell.

    Every line of `text` must be an `export` line.
    """
    found = dict(re.findall(r"^export (\w+)=(.*)$", text, re.MULTILINE))
    assert len(found) == len(text.splitlines())
    return found


def refused(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Starts the sandbox with arguments that it refuses, and returns the result.

    A process that is still running keeps stderr open, so this function waits until every started process has ended.
    """
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def serving(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A sandbox on free ports, which has printed that it is listening. It is ended with Ctrl+C after the block."""
    command = [*COMMAND, "--port-base", "0", *FEW, *arguments]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert "control API" in process.stderr.readline()
        yield process
        process.send_signal(signal.SIGINT)
        process.wait(LONGEST_SECONDS)


def test_settings_name_the_environment_and_every_service(tmp_path: Path) -> None:
    """The settings name the environment `Sandbox`, so alerts do not claim to come from production.

    The addresses in the settings work, and lead to services of the requested generation.
    """
    file = tmp_path / "sandbox.env"
    with serving("--generation", "2023-09", "--env-file", str(file)):
        settings = {name: shlex.split(value)[0] for name, value in exports(file.read_text(encoding="utf-8")).items()}
        address = f"{settings['API_BASE_URL_NOMIS']}/v3/api-docs"
        document = requests.get(address, timeout=LONGEST_SECONDS).json()
        reason = Ingestion(settings["APPLICATIONINSIGHTS_CONNECTION_STRING"]).ping(LONGEST_SECONDS)
    assert settings["ENVIRONMENT_NAME"] == "Sandbox"
    assert document["info"]["version"].startswith("2023-09-")
    assert reason is None


def test_the_env_file_is_written_once_everything_listens(tmp_path: Path) -> None:
    """Once everything is listening, `--env-file` writes the settings to the file instead of printing them.

    A file from an earlier start is replaced, and no other file is left behind.
    """
    file = tmp_path / "sandbox.env"
    file.write_text("export OLD=1\n", encoding="utf-8")
    with serving("--env-file", str(file)) as process:
        settings = exports(file.read_text(encoding="utf-8"))
        assert requests.get(f"{settings['API_BASE_URL_NOMIS']}/health/ping", timeout=30).ok
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LONGEST_SECONDS)
    assert (out, process.returncode) == ("", 0), err
    assert settings["ENVIRONMENT_NAME"] == "Sandbox"
    assert "OLD" not in settings
    assert [each.name for each in tmp_path.iterdir()] == ["sandbox.env"]


def test_second_start_says_which_port_is_taken(tmp_path: Path) -> None:
    """If a port is in use, the program prints one line that names the port, and exits with 1.

    The settings file stays as it was.
    """
    file = tmp_path / "sandbox.env"
    file.write_text("export KEPT=1\n", encoding="utf-8")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = refused("--prisoners", "5", "--port-base", str(port), "--env-file", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line == (
        f"python -m sandbox: cannot listen on port {port} of 127.0.0.1: Address already in use; stop the program "
        f"that uses the port, perhaps another sandbox, or choose other ports with --port-base"
    )
    assert file.read_text(encoding="utf-8") == "export KEPT=1\n"


def test_an_invalid_host_is_refused() -> None:
    """If the sandbox cannot listen on the given host, it prints one line that names the host, and exits with 1."""
    done = refused("--port-base", "0", "--prisoners", "5", "--host", "nonsense.invalid")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("python -m sandbox: cannot listen on port 0 of nonsense.invalid: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["--emulator-url", "nonsense"],
            "--emulator-url: 'nonsense' is not valid: give an address such as http://localhost:4566",
        ),
        (["--port-base", "80000"], f"--port-base: '80000' is not valid: give 0 or a port from 1 to {LAST_PORT_BASE}"),
        (["--port-base", "65530"], f"--port-base: '65530' is not valid: give 0 or a port from 1 to {LAST_PORT_BASE}"),
        (["--prisoners", "-3"], "--prisoners: '-3' is not valid: give a whole number of at least 1"),
        (["--prisoners", "many"], "--prisoners: 'many' is not valid: give a whole number of at least 1"),
        (["--latency-ms", "-5"], "--latency-ms: '-5' is not valid: give a number of at least 0"),
        (["--latency-ms", "nan"], "--latency-ms: 'nan' is not valid: give a number of at least 0"),
        (["--mismatch-rate", "5"], "--mismatch-rate: '5' is not valid: give a share from 0 to 1"),
        (["--prisoners", "5", "--every-cause"], "12 bookings need a history, but the world has only 5 prisoners"),
        (["--env-file", "/nowhere/sandbox.env"], "--env-file: there is no folder /nowhere"),
        (["--env-file", "/dev/null"], "--env-file: /dev/null is not a file"),
        (
            ["--generation", "2022"],
            "--generation: '2022' is not a generation of the services: give 2023, today, or a month such as 2024-06",
        ),
        (["--for-ever"], "unrecognized arguments: --for-ever"),
    ],
)
def test_wrong_arguments_end_in_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    """If an option is wrong, the program prints one line that says what is wrong, and exits with 2."""
    # This runs in a process that has already imported the sandbox, since the import takes half a second.
    code, out, err = run_forked(main, [PROGRAM, "--port-base", "0", *arguments], os.environ, tmp_path)
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith("python -m sandbox: ")
    assert says in line


def test_the_help_shows_the_defaults() -> None:
    """The help shows the default of each option that has one."""
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60, check=True)
    text = " ".join(done.stdout.split())
    defaults = {"--host": "127.0.0.1", "--port-base": "8100", "--prisoners": "200", "--seed": "1"}
    defaults |= {"--latency-ms": "0", "--mismatch-rate": "0.001"}
    for option, default in defaults.items():
        assert re.search(rf"{option} [A-Z_]+ [^-]*\(default: {re.escape(default)}\)", text), option

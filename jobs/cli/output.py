"""What commands print: results on stdout, as JSON or aligned columns; errors and progress on stderr.

Much of the output comes from outside: bodies and ids of messages, reasons, responses from services. Text from outside
must not control the terminal. Text for people therefore passes through `plain`, and JSON is printed with its control
characters escaped. Only this module prints.
"""

import json
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import typer

from reports.presentation.text import plain

if TYPE_CHECKING:
    from jobs.operations.reconcile import ProgressCallback

#: The words for counts that are recorded under another name than the one that people read.
_WORDS = {"mismatches": "differences"}


def say(text: str = "", *, err: bool = False) -> None:
    """Prints a line for people on stdout, or on stderr if `err` is set."""
    typer.echo(plain(text), err=err)


def print_json_text(text: str) -> None:
    """Prints existing JSON text: the same value, with terminal control characters as JSON escapes."""
    typer.echo("".join(each if each.isprintable() or each == "\n" else _escaped(each) for each in text))


def print_json(value: Any) -> None:
    """Prints `value` as one line of JSON."""
    print_json_text(json.dumps(value, ensure_ascii=False, default=str))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, nothing: str = "") -> None:
    """Prints rows under their headings, with each column as wide as its widest cell. Empty cells are shown as `-`.

    If there are no rows, prints the sentence `nothing` instead, unless it is empty.
    """
    lines = [tuple(headings), *(tuple(_cell(value) for value in row) for row in rows)]
    if nothing and len(lines) == 1:
        say(nothing)
        return
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_pairs(pairs: Mapping[str, object]) -> None:
    """Prints names and values, one pair per line."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        say(f"{name.ljust(width)}  {_cell(value)}")


def print_statements(statements: Sequence[str]) -> None:
    """Prints SQL for the NOMIS database, each statement on its own line, ready to be pasted."""
    if statements:
        say("Read-only SQL for the NOMIS database:")
        for statement in statements:
            say(f"  {statement}")


def pairs_of(label: str, values: Mapping[str, Any]) -> dict[str, object]:
    """Names and values for `print_pairs`, each name prefixed with `label`; a nested value gives several pairs."""
    pairs: dict[str, object] = {}
    for name, value in values.items():
        if name == "reasons" and value:
            pairs[f"{label} {name}"] = "; ".join(f"{number} × {reason}" for reason, number in value.items())
        elif isinstance(value, Mapping) and value:
            pairs |= {f"{label} {name} {inner}": _inner_text(inner, held) for inner, held in value.items()}
        else:
            pairs[f"{label} {_WORDS.get(name, name)}"] = value
    return pairs


def _inner_text(name: str, held: object) -> object:
    """The counts in `held` on one line, without a value that repeats `name`; `held` itself if it is not a mapping."""
    if not isinstance(held, Mapping):
        return held
    return counts_text({key: value for key, value in held.items() if value != name})


def counts_text(counts: Mapping[str, Any], *, in_words: bool = True, always: Collection[str] = ()) -> str:
    """Counts on one line, without those that are zero and not in `always`: `received 12, applied 11, failed 1`.

    `in_words` shows the names of the counts as people read them, for example with spaces instead of underscores.
    """
    parts = [
        f"{_WORDS.get(name, name.replace('_', ' ')) if in_words else name} {value}"
        for name, value in counts.items()
        if (value or name in always) and not isinstance(value, (dict, list))
    ]
    return ", ".join(parts)


def local_time(moment: datetime | None, zone: Any) -> str:
    """A time as people read it, in `zone`, to the second. An empty text for None."""
    return f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S}" if moment else ""


def duration_text(seconds: float | None) -> str:
    """A duration in at most two units: `2 h 5 min`, `3 min 12 s`, `0.4 s`. An empty text for None."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def live_progress(stream: TextIO | None = None, every_seconds: float = 60) -> "Iterator[ProgressCallback]":
    """Yields a callback for progress, which any thread may call. The progress is shown on `stream`, by default stderr.

    On a terminal, each stage has a bar. Elsewhere, a stage is printed when it begins, at intervals of `every_seconds`,
    and when it ends.
    """
    out = stream or sys.stderr
    if out.isatty():
        with _bars(out) as callback:
            yield callback
    else:
        yield _Lines(out, every_seconds).report


@contextmanager
def _bars(out: TextIO) -> "Iterator[ProgressCallback]":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
    from rich.table import Column

    # A long description is wrapped, so that it says in full what the run is waiting for.
    stages = TextColumn("{task.description}", markup=False, table_column=Column(ratio=2))
    columns = (stages, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    tasks: dict[str, TaskID] = {}
    lock = threading.Lock()
    with Progress(*columns, console=Console(file=out)) as bars:

        def report(stage: str, done: int, total: int) -> None:
            # What follows the name of the stage says what it waits for, and goes again without a bar for it.
            text = plain(stage)
            name = text.partition(", ")[0]
            with lock:
                if name not in tasks:
                    tasks[name] = bars.add_task(text, total=total or None)
                bars.update(tasks[name], description=text, completed=done, total=total or None)

        yield report


class _Lines:
    """Progress as lines of text."""

    def __init__(self, out: TextIO, every_seconds: float) -> None:
        self._out = out
        self._every = every_seconds
        self._lock = threading.Lock()
        self._said: dict[str, float] = {}
        self._ended: set[str] = set()

    def report(self, stage: str, done: int, total: int) -> None:
        stage, now = plain(stage), time.monotonic()
        with self._lock:
            ended = 0 < total <= done
            if stage in self._ended or not (ended or now - self._said.get(stage, float("-inf")) >= self._every):
                return
            self._said[stage] = now
            if ended:
                self._ended.add(stage)
            share = f"{done:,} of {total:,} ({100 * done // total}%)" if total else f"{done:,}"
            self._out.write(f"{stage}: {share}\n")
            self._out.flush()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return plain(", ".join(map(str, value))) or "-"
    return "-" if value is None or value in ("", {}) else plain(str(value))


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1]

"""Measures the program's comparison against datacompy (pandas, polars) and duckdb, on the same frames of counters.

The program's comparison is the whole step of a run: it compares every field, and names the kind and the fields of each
difference. The frame of a run has both sides in each row, since units join them when they are read; the other engines
get the two sides of that frame, in its order. With "any order", the rows of the two sides are in different orders, and
the program has to join them first. Each engine runs in a separate process, so that its memory can be measured; the
frames are built before the clock starts. Run it with `python -m benchmarks.comparison [--rows N] [--repeats N]`. Ratios
are more reliable than seconds, and ratios of CPU time hold even if other processes use the machine; polars and duckdb
work in several threads, so only their seconds are comparable.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

COUNTERS = tuple(f"counter_{number}" for number in range(1, 9))
FIRST_BOOKING = 600_000
WITH_ANY_SHARE = 0.12
DIFFERING_SHARE = 0.001
ANY_ORDER = ", any order"
ENGINES = (
    "ours",
    "datacompy pandas",
    "datacompy polars",
    "duckdb",
    f"ours{ANY_ORDER}",
    f"datacompy pandas{ANY_ORDER}",
)
#: How many times faster than datacompy on pandas the program has to be.
LEAST_RATIO = 10


def sides(rows: int, *, any_order: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the counters of `rows` bookings in NOMIS and in DPS; one booking in a thousand differs in one counter.

    Both frames have `booking_id` (Int64) and the `COUNTERS` (Int16), as in a run. The rows are ordered by `booking_id`;
    with `any_order`, the rows of DPS are shuffled.
    """
    chance = np.random.default_rng(1)
    ids = np.arange(FIRST_BOOKING, FIRST_BOOKING + rows, dtype=np.int64)
    nomis = chance.integers(0, 4, (rows, len(COUNTERS)), dtype=np.int16)
    nomis[chance.random(rows) > WITH_ANY_SHARE] = 0
    dps = nomis.copy()
    differing = chance.choice(rows, int(rows * DIFFERING_SHARE), replace=False)
    dps[differing, chance.integers(0, len(COUNTERS), len(differing))] += 1
    order = chance.permutation(rows) if any_order else slice(None)
    return _typed(ids, nomis), _typed(ids[order], dps[order])


def _typed(ids: Any, counts: Any) -> pd.DataFrame:
    counters = {name: pd.array(column, dtype="Int16") for name, column in zip(COUNTERS, counts.T, strict=True)}
    return pd.DataFrame({"booking_id": pd.array(ids, dtype="Int64"), **counters})


def ours(rows: int, *, any_order: bool = False) -> Callable[[], int]:
    """Returns a function that compares the frame of a run as this program does, and counts the differences.

    With `any_order`, the function also joins the two sides.
    """
    from reports.engine.compare import differing
    from reports.engine.fields import Field
    from reports.engine.join import join_sides

    fields = [Field(name, name, "Int16") for name in COUNTERS]
    kinds = ("nomis-only", "dps-only", "different")
    nomis, dps = (
        side.rename(columns={counter: f"{name}_{counter}" for counter in COUNTERS})
        for name, side in zip(("nomis", "dps"), sides(rows, any_order=any_order), strict=True)
    )
    if any_order:
        return lambda: len(differing(join_sides(nomis, dps, ["booking_id"]), fields, kinds))
    frame = join_sides(nomis, dps, ["booking_id"])
    return lambda: len(differing(frame, fields, kinds))


def datacompy_pandas(rows: int, *, any_order: bool = False) -> Callable[[], int]:
    """Returns a function that compares two pandas frames with datacompy, and counts the differences."""
    import datacompy

    mine, theirs = sides(rows, any_order=any_order)
    return lambda: len(datacompy.PandasCompare(mine, theirs, join_columns="booking_id").all_mismatch())


def datacompy_polars(rows: int) -> Callable[[], int]:
    """Returns a function that compares two polars frames with datacompy, and counts the differences."""
    import datacompy
    import polars

    mine, theirs = (polars.from_pandas(side) for side in sides(rows))
    return lambda: len(datacompy.PolarsCompare(mine, theirs, join_columns="booking_id").all_mismatch())


def duckdb(rows: int) -> Callable[[], int]:
    """Returns a function that compares two tables by a full outer join in duckdb, and counts the differences."""
    import duckdb as engine

    connection = engine.connect()
    for table, side in zip(("nomis", "dps"), sides(rows), strict=True):
        connection.register("given", side)
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM given")  # noqa: S608 - fixed names
        connection.unregister("given")
    unequal = " OR ".join(f"n.{name} IS DISTINCT FROM d.{name}" for name in COUNTERS)
    query = f"SELECT * FROM nomis n FULL JOIN dps d USING (booking_id) WHERE {unequal}"  # noqa: S608 - fixed names
    return lambda: len(connection.execute(query).df())


def prepared(engine: str, rows: int) -> Callable[[], int]:
    """Builds the frames for `engine`, one of `ENGINES`, and returns its comparison, which counts the differences."""
    return {
        "ours": lambda: ours(rows),
        "datacompy pandas": lambda: datacompy_pandas(rows),
        "datacompy polars": lambda: datacompy_polars(rows),
        "duckdb": lambda: duckdb(rows),
        f"ours{ANY_ORDER}": lambda: ours(rows, any_order=True),
        f"datacompy pandas{ANY_ORDER}": lambda: datacompy_pandas(rows, any_order=True),
    }[engine]()


def measure(engine: str, rows: int) -> dict[str, Any]:
    """Runs one engine in this process.

    Returns its `seconds`, its `cpu` seconds, the number of differences `found`, and the `megabytes` that it took.
    """
    run = prepared(engine, rows)
    Path("/proc/self/clear_refs").write_text("5")
    before = _megabytes("VmRSS")
    started, worked = time.perf_counter(), time.process_time()
    found = run()
    seconds, cpu = time.perf_counter() - started, time.process_time() - worked
    return {"seconds": seconds, "cpu": cpu, "found": found, "megabytes": max(0.0, _megabytes("VmHWM") - before)}


def _megabytes(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints a table. Exits with 1 if the engines disagree on the number of differences, or the program is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        print(json.dumps(measure(arguments.engine, arguments.rows)))
        return
    figures: dict[str, dict[str, float]] = {}
    for engine in ENGINES:
        command = [sys.executable, "-m", "benchmarks.comparison", "--engine", engine, "--rows", str(arguments.rows)]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            for _ in range(arguments.repeats)
        ]
        figures[engine] = {name: min(run[name] for run in runs) for name in runs[0]}
    for name, each in figures.items():
        reference = figures[f"ours{ANY_ORDER}" if name.endswith(ANY_ORDER) else "ours"]
        each["ratio"] = each["cpu"] / reference["cpu"]
    reference = figures["ours"]
    print(f"{arguments.rows:,} rows of {len(COUNTERS)} counters, the best of {arguments.repeats}")
    print(f"{'engine':<28}{'seconds':>9}{'× ours':>8}{'CPU':>9}{'× ours':>8}{'MB':>9}{'× ours':>8}{'found':>9}")
    for engine, each in figures.items():
        slower = each["seconds"] / reference["seconds"]
        larger = each["megabytes"] / max(reference["megabytes"], 0.1)
        print(
            f"{engine:<28}{each['seconds']:>9.2f}{slower:>8.1f}{each['cpu']:>9.3f}{each['ratio']:>8.1f}"
            f"{each['megabytes']:>9.0f}{larger:>8.1f}{each['found']:>9.0f}"
        )
    if len({each["found"] for each in figures.values()}) != 1:
        sys.exit("the engines do not agree")
    if min(figures[f"datacompy pandas{order}"]["ratio"] for order in ("", ANY_ORDER)) < LEAST_RATIO:
        sys.exit(f"the program is less than {LEAST_RATIO} times as fast as datacompy on pandas")


if __name__ == "__main__":
    main()

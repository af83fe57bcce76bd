"""Compares our comparison of two systems with datacompy (pandas and polars) and duckdb, on the same frames of counters.

Ours is the whole step of a run: both sides joined, every field compared, and the kind and the fields of each difference
named. Each engine runs in a separate process, so that its memory can be measured; the frames are built before the clock
starts. Run it with `python -m benchmarks.comparison [--rows N] [--repeats N]`. Ratios hold better than seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

COUNTERS = tuple(f"counter_{number}" for number in range(1, 9))
FIRST_BOOKING = 600_000
WITH_ANY_SHARE = 0.12
DIFFERING_SHARE = 0.001
ENGINES = ("ours", "ours, far ids", "datacompy pandas", "datacompy polars", "duckdb")
#: How many times faster than datacompy on pandas ours has to be.
LEAST_RATIO = 10


def sides(rows: int, *, stretch: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """The counters of bookings in NOMIS, by id, and in DPS, in any order; one booking in a thousand differs in one.

    `stretch` draws the ids apart.
    """
    chance = np.random.default_rng(1)
    ids = np.arange(FIRST_BOOKING, FIRST_BOOKING + rows, dtype=np.int64) * stretch
    nomis = chance.integers(0, 4, (rows, len(COUNTERS)), dtype=np.int16)
    nomis[chance.random(rows) > WITH_ANY_SHARE] = 0
    dps = nomis.copy()
    differing = chance.choice(rows, int(rows * DIFFERING_SHARE), replace=False)
    dps[differing, chance.integers(0, len(COUNTERS), len(differing))] += 1
    order = chance.permutation(rows)
    return (
        {"booking_id": ids, **dict(zip(COUNTERS, nomis.T, strict=True))},
        {"booking_id": ids[order], **dict(zip(COUNTERS, dps[order].T, strict=True))},
    )


def ours(rows: int, *, stretch: int = 1) -> Callable[[], int]:
    """Our comparison, of typed frames as a reconciliation makes them."""
    import pandas as pd

    from reports.engine.compare import differing
    from reports.engine.contract import Field
    from reports.engine.frame import join_sides

    fields = [Field(name, name, "Int16") for name in COUNTERS]
    nomis, dps = (
        pd.DataFrame(
            {
                name if name == "booking_id" else f"{side}_{name}": pd.array(
                    values, dtype="Int64" if name == "booking_id" else "Int16"
                )
                for name, values in columns.items()
            }
        )
        for side, columns in zip(("nomis", "dps"), sides(rows, stretch=stretch), strict=True)
    )
    kinds = ("nomis-only", "dps-only", "different")
    return lambda: len(differing(join_sides(nomis, dps, ["booking_id"]), fields, kinds))


def datacompy_pandas(rows: int) -> Callable[[], int]:
    """The comparison by datacompy of two pandas frames."""
    import datacompy
    import pandas as pd

    mine, theirs = (pd.DataFrame(columns) for columns in sides(rows))
    return lambda: len(datacompy.PandasCompare(mine, theirs, join_columns="booking_id").all_mismatch())


def datacompy_polars(rows: int) -> Callable[[], int]:
    """The comparison by datacompy of two polars frames."""
    import datacompy
    import polars

    mine, theirs = (polars.DataFrame(columns) for columns in sides(rows))
    return lambda: len(datacompy.PolarsCompare(mine, theirs, join_columns="booking_id").all_mismatch())


def duckdb(rows: int) -> Callable[[], int]:
    """A full outer join in duckdb, over tables of its own."""
    import duckdb as engine
    import pandas as pd

    connection = engine.connect()
    for table, columns in zip(("nomis", "dps"), sides(rows), strict=True):
        connection.register("given", pd.DataFrame(columns))
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM given")  # noqa: S608 - fixed names
        connection.unregister("given")
    unequal = " OR ".join(f"n.{name} IS DISTINCT FROM d.{name}" for name in COUNTERS)
    query = f"SELECT * FROM nomis n FULL JOIN dps d USING (booking_id) WHERE {unequal}"  # noqa: S608 - fixed names
    return lambda: len(connection.execute(query).df())


def prepared(engine: str, rows: int) -> Callable[[], int]:
    """The comparison of an engine, its frames made."""
    return {
        "ours": lambda: ours(rows),
        "ours, far ids": lambda: ours(rows, stretch=1_000),
        "datacompy pandas": lambda: datacompy_pandas(rows),
        "datacompy polars": lambda: datacompy_polars(rows),
        "duckdb": lambda: duckdb(rows),
    }[engine]()


def measure(engine: str, rows: int) -> dict[str, Any]:
    """Seconds, differences found, and MB taken beyond the frames, of one engine in this process."""
    run = prepared(engine, rows)
    Path("/proc/self/clear_refs").write_text("5")
    before = _megabytes("VmRSS")
    started = time.perf_counter()
    found = run()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "found": found, "megabytes": max(0.0, _megabytes("VmHWM") - before)}


def _megabytes(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Prints a table; exits 1 when engines find different numbers of differences, or ours is too slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
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
        figures[engine] = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    reference = figures["ours"]
    print(f"{arguments.rows:,} rows of {len(COUNTERS)} counters, medians of {arguments.repeats}")
    print(f"{'engine':<18}{'seconds':>9}{'× ours':>8}{'MB':>9}{'× ours':>8}{'found':>9}")
    for engine, each in figures.items():
        slower = each["seconds"] / reference["seconds"]
        larger = each["megabytes"] / max(reference["megabytes"], 0.1)
        print(
            f"{engine:<18}{each['seconds']:>9.2f}{slower:>8.1f}{each['megabytes']:>9.0f}{larger:>8.1f}{each['found']:>9.0f}"
        )
    if len({each["found"] for each in figures.values()}) != 1:
        sys.exit("the engines do not agree")
    if figures["datacompy pandas"]["seconds"] < LEAST_RATIO * reference["seconds"]:
        sys.exit(f"datacompy on pandas is less than {LEAST_RATIO} times slower")


if __name__ == "__main__":
    main()

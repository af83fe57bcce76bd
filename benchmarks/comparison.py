"""Compares our comparison of two systems with datacompy (pandas and polars) and duckdb, on the same levels.

Each engine runs in a separate process, so that its memory can be measured; the frames are built before the clock
starts.
Run it with `python -m benchmarks.comparison [--rows N] [--repeats N]`. Ratios hold better than seconds.
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

LEVELS = ["BAS", "STD", "ENH", "EN2"]
FIRST_BOOKING = 600_000
DIFFERING_SHARE = 0.001
ENGINES = ("ours, codes", "ours, text", "ours, far ids", "datacompy pandas", "datacompy polars", "duckdb")


def levels(rows: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Booking ids and numbers of levels of NOMIS, in order, and of DPS, out of order; one in a thousand differs."""
    chance = np.random.default_rng(1)
    ids = np.arange(FIRST_BOOKING, FIRST_BOOKING + rows, dtype=np.int64)
    nomis = chance.integers(0, len(LEVELS), rows, dtype=np.int8)
    dps = nomis.copy()
    differing = chance.choice(rows, int(rows * DIFFERING_SHARE), replace=False)
    dps[differing] = (dps[differing] + 1) % len(LEVELS)
    order = chance.permutation(rows)
    return (ids, nomis), (ids[order], dps[order])


def ours(rows: int, *, text: bool = False, stretch: int = 1) -> Callable[[], int]:
    """Our comparison, of categories as the snapshot makes them, or of texts; `stretch` draws the ids apart."""
    import pandas as pd

    from reports.reconciliations.incentives.compare import compare, level_column

    sides = []
    for ids, codes in levels(rows):
        column: Any = (
            pd.Series(np.array(LEVELS, dtype=object)[codes], dtype="str") if text else level_column(codes, LEVELS)
        )
        sides.append(pd.DataFrame({"booking_id": ids * stretch, "level": column}, copy=False))
    return lambda: len(compare(*sides))


def datacompy_pandas(rows: int) -> Callable[[], int]:
    """The comparison by datacompy of two pandas frames."""
    import datacompy
    import pandas as pd

    names = np.array(LEVELS, dtype=object)
    sides = [pd.DataFrame({"booking_id": ids, "level": names[codes]}) for ids, codes in levels(rows)]
    mine, theirs = sides
    return lambda: len(datacompy.PandasCompare(mine, theirs, join_columns="booking_id").all_mismatch())


def datacompy_polars(rows: int) -> Callable[[], int]:
    """The comparison by datacompy of two polars frames."""
    import datacompy
    import polars

    names = np.array(LEVELS, dtype=object)
    sides = [polars.DataFrame({"booking_id": ids, "level": names[codes].tolist()}) for ids, codes in levels(rows)]
    mine, theirs = sides
    return lambda: len(datacompy.PolarsCompare(mine, theirs, join_columns="booking_id").all_mismatch())


def duckdb(rows: int) -> Callable[[], int]:
    """A full outer join in duckdb, over tables of its own."""
    import duckdb as engine
    import pandas as pd

    names = np.array(LEVELS, dtype=object)
    connection = engine.connect()
    for table, (ids, codes) in zip(("nomis", "dps"), levels(rows), strict=True):
        connection.register("given", pd.DataFrame({"booking_id": ids, "level": names[codes]}))
        connection.execute(f"CREATE TABLE {table} AS SELECT * FROM given")  # noqa: S608 - fixed names
        connection.unregister("given")
    query = (
        "SELECT booking_id, n.level, d.level FROM nomis n FULL JOIN dps d USING (booking_id) "
        "WHERE n.level IS DISTINCT FROM d.level"
    )
    return lambda: len(connection.execute(query).df())


def prepared(engine: str, rows: int) -> Callable[[], int]:
    """The comparison of an engine, its frames made."""
    return {
        "ours, codes": lambda: ours(rows),
        "ours, text": lambda: ours(rows, text=True),
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
    """Prints a table; exits 1 when two engines find different numbers of differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
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
    reference = figures["ours, codes"]
    print(f"{arguments.rows:,} rows, medians of {arguments.repeats}")
    print(f"{'engine':<18}{'seconds':>9}{'× ours':>8}{'MB':>9}{'× ours':>8}{'found':>9}")
    for engine, each in figures.items():
        slower = each["seconds"] / reference["seconds"]
        larger = each["megabytes"] / max(reference["megabytes"], 0.1)
        print(
            f"{engine:<18}{each['seconds']:>9.2f}{slower:>8.1f}{each['megabytes']:>9.0f}{larger:>8.1f}{each['found']:>9.0f}"
        )
    if len({each["found"] for each in figures.values()}) != 1:
        sys.exit("the engines do not agree")


if __name__ == "__main__":
    main()

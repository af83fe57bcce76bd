"""Makes the runs of `make chaos` on the chosen databases. Exits with 1 if anything is wrong after a run.

There are two kinds of run. In a storm (`chaos_storm`), a thousand creates go through crashes, lost responses and
outages. In a backlog (`chaos_backlog`), two processes handle thousands of events, without any fault.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks import chaos_backlog, chaos_storm
from benchmarks.chaos_setup import preload_program
from benchmarks.chaos_verdict import Result
from sandbox import Sandbox


def main() -> int:
    """Makes the chosen runs, and prints their figures and the seed. Returns 1 if anything is wrong afterwards."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--waves", type=int, default=7, help="waves of traffic in the storm")
    parser.add_argument("--events", type=int, default=420, help="events in a wave")
    parser.add_argument("--backlog", type=int, default=4000, help="events in the backlog")
    parser.add_argument("--run", choices=("storm", "backlog", "both"), default="both")
    parser.add_argument("--database", choices=("postgresql", "sqlite", "both"), default="both")
    parser.add_argument("--keep", type=Path, help="a folder for the logs and the database")
    arguments = parser.parse_args()
    preload_program()
    held = True
    for database in ("postgresql", "sqlite") if arguments.database == "both" else (arguments.database,):
        for run in ("storm", "backlog") if arguments.run == "both" else (arguments.run,):
            with ExitStack() as stack:
                folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
                folder = folder / f"{run}-{database}"
                folder.mkdir(parents=True, exist_ok=True)
                sandbox = stack.enter_context(Sandbox.start(prisoners=400, seed=arguments.seed, nomis_duplicates=True))
                if run == "storm":
                    plan = chaos_storm.Plan(arguments.seed, arguments.waves, arguments.events, database)
                    result = chaos_storm.run(plan, folder, sandbox, sys.stdout)
                else:
                    backlog = chaos_backlog.Backlog(arguments.seed, arguments.backlog, database)
                    result = chaos_backlog.run(backlog, folder, sandbox, sys.stdout)
            _show(f"{run} on {database}", result)
            held = held and not result.verdict.violations
    print(f"{'held' if held else 'VIOLATED'} (seed {arguments.seed})")
    return 0 if held else 1


def _show(name: str, result: Result) -> None:
    print(f"{name}: {result.seconds:.0f} s")
    for figure, value in result.figures.items():
        print(f"  {figure}: {value}")
    for violation in result.verdict.violations:
        print(f"  VIOLATION {violation}")


if __name__ == "__main__":
    sys.exit(main())

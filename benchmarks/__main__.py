"""Runs the benchmarks one after another: `python -m benchmarks [NAME ...]`.

Each benchmark can also be run alone: `python -m benchmarks.NAME --help` shows what it measures, and its options.
"""

import argparse
import subprocess
import sys

#: The benchmarks in the order in which they run.
BENCHMARKS = ("drain", "creates", "reconciliation", "adjustments", "comparison", "sandbox_throughput")


def main() -> int:
    """Runs the named benchmarks, or all of them. Returns 1 if any of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"unknown benchmark: {', '.join(unknown)}; known: {', '.join(BENCHMARKS)}")
    failed = []
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

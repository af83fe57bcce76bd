"""All benchmarks one after the other, as ratios of one run each: `python -m benchmarks [NAME ...]`.

Each is a program of its own, `python -m benchmarks.NAME --help` says what it measures and takes.
"""

import argparse
import subprocess
import sys

#: The benchmarks in the order in which they run.
BENCHMARKS = ("drain", "creates", "reconciliation", "comparison", "sandbox_throughput")


def main() -> int:
    """Runs the named benchmarks, all where none is named; 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names
    strange = sorted(set(names) - set(BENCHMARKS))
    if strange:
        parser.error(f"there is no benchmark {', '.join(strange)}; there are {', '.join(BENCHMARKS)}")
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

"""A short storm: real processes that are killed, lost answers and a burst of 503; every record is there once."""

from pathlib import Path

from benchmarks.chaos import Plan, run
from sandbox import Sandbox


def test_a_short_storm_on_sqlite(running_sandbox: Sandbox, tmp_path: Path) -> None:
    """`make chaos` in small: nothing is made twice, nothing is lost, and each dead letter is explained."""
    running_sandbox.reset(prisoners=200, seed=5, nomis_duplicates=True)
    plan = Plan(seed=5, waves=1, events=60, database="sqlite", life=(0.3, 1.5), storm=20.0, housekeepings=1)
    result = run(plan, tmp_path, running_sandbox)
    assert result.verdict.violations == []
    assert result.figures["entities"] > 20
    assert result.figures["kills"] >= 1

"""A small `make chaos`: a storm in which processes are killed and responses lost, and a backlog for two processes."""

from pathlib import Path

from benchmarks import chaos_backlog
from benchmarks.chaos_backlog import Backlog
from benchmarks.chaos_storm import Plan, run
from sandbox import Sandbox


def test_a_short_storm_on_sqlite(running_sandbox: Sandbox, tmp_path: Path) -> None:
    """Even if processes are killed and responses are lost, no record is missing from NOMIS or duplicated there.

    Each dead letter is explained.
    """
    running_sandbox.reset(prisoners=200, seed=5, nomis_duplicates=True)
    plan = Plan(seed=5, waves=1, events=60, database="sqlite", life=(0.3, 1.5), storm=10.0, housekeepings=1)
    result = run(plan, tmp_path, running_sandbox)
    assert result.verdict.violations == []
    assert result.figures["entities"] > 20
    assert result.figures["kills"] >= 1


def test_a_small_backlog_for_two_processes(running_sandbox: Sandbox, tmp_path: Path) -> None:
    """Without faults, no message becomes a dead letter, even if two processes handle events about the same record."""
    running_sandbox.reset(prisoners=200, seed=6, nomis_duplicates=True)
    result = chaos_backlog.run(Backlog(seed=6, events=240, database="sqlite"), tmp_path, running_sandbox)
    assert result.verdict.violations == []
    assert result.figures["dead letters"] == {}
    assert result.figures["entities"] > 100

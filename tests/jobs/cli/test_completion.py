"""Shell completion proposes names, such as those of queues, and the ids of runs and findings in the database."""

from __future__ import annotations

import pytest

from sync.alerting import Severity
from sync.settings.queues import QUEUES
from sync.store.database import Database
from sync.store.findings import FindingKind, record_finding
from tests.harness.app import App


def proposed(app: App, *words: str, **more: str) -> list[str]:
    """The words that bash proposes to complete the last of `words`, which may be empty."""
    typed = {"COMP_WORDS": " ".join(("prisoner-to-nomis", *words)), "COMP_CWORD": str(len(words))}
    ended = app.run_process(**typed, _PRISONER_TO_NOMIS_COMPLETE="complete_bash", **more)
    assert (ended.code, ended.err) == (0, "")
    return ended.out.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("dlq", "show", ""), QUEUES),
        (("drain", "a"), ("activity", "appointment")),
        (("resync", "al"), ("allocation",)),
        (("reconcile", "suspended"), ("suspended-allocations",)),
        (("report", "send", "1", "--to", "s"), ("slack",)),
        (("runs", "list", "--job", "dlq"), ("dlq-housekeeping",)),
        (("runs", "list", "--job", "co"), ("contracts-check",)),
    ],
)
def test_names_are_proposed(app: App, words: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """The names that begin with the typed letters are proposed.

    They are the names of queues, kinds of records, reconciliations, channels and jobs.
    """
    assert proposed(app, *words) == list(expected)


def test_ids_are_proposed(app: App) -> None:
    """The ids of runs and findings in the database are proposed.

    For a report, only the ids of reconciliation runs are proposed.
    """
    app.drain("visit")
    app.run("reconcile", "incentives", "--no-notify", "--prison", "XXX")
    database = Database(app.settings["DATABASE_URL"])
    with database.begin() as connection:
        record_finding(connection, "f", FindingKind.DUPLICATE, "visit", Severity.LOW, "an-event", {}, None)
    database.dispose()
    runs = [run["id"] for run in app.read_json("runs", "list")]
    assert proposed(app, "runs", "show", "") == runs
    assert len(runs) == 2
    assert proposed(app, "report", "render", "") == runs[:1]
    assert proposed(app, "duplicates", "show", "") == ["1"]


def test_completion_proposes_nothing_if_it_cannot_read_the_database(app: App) -> None:
    """If the database cannot be read, or a setting is invalid, completion proposes nothing and shows no error."""
    assert proposed(app, "runs", "show", "", DATABASE_URL="postgresql://127.0.0.1:1/none") == []
    assert proposed(app, "runs", "show", "", DATABASE_URL=f"sqlite:///{app.folder}/none.db") == []
    assert not (app.folder / "none.db").exists()
    assert proposed(app, "runs", "show", "", LEASE_SECONDS="long") == []

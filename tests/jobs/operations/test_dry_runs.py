"""A dry run ends as the real command would: what refuses the one refuses the other, in the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.pipeline.envelope import write_domain_event, write_mapping_retry
from tests.harness.faults import faulty
from tests.harness.operating import Operator, operator
from tests.harness.publishing import schedule_created, visit_booked

__all__ = ["operator"]

#: Puts the operator before a command that is refused; its arguments.
Refused = Callable[[Operator], list[str]]


def nobody_there(operator: Operator) -> list[str]:
    """A prisoner that nobody knows."""
    return ["incentives", "repair", "Z9999ZZ"]


def in_step(operator: Operator) -> list[str]:
    """A prisoner whose levels agree."""
    operator.sandbox.reset(prisoners=5, mismatch_rate=0)
    return ["incentives", "repair", str(operator.sandbox.prisoners()[0]["offenderNo"])]


def nothing_missed(operator: Operator) -> list[str]:
    """A prisoner of whom no arrival was missed."""
    operator.sandbox.reset(prisoners=5, mismatch_rate=0)
    return ["reconcile", "fix", "received", str(operator.sandbox.prisoners()[0]["offenderNo"])]


def arrival_without_need(operator: Operator) -> list[str]:
    """An arrival that is given, of a prisoner whose levels agree."""
    return [
        *nothing_missed(operator),
        "--prison",
        "LEI",
        "--reason",
        "TRANSFERRED",
        "--occurred-at",
        "2023-05-20T15:22",
    ]


def mapping_retries(operator: Operator) -> list[str]:
    """A dead letter queue whose purge would lose a mapping."""
    mapping = {"nomisId": 1, "vsipId": "v1", "label": None, "mappingType": "ONLINE", "whenCreated": None}
    operator.queues()["visit"].dlq.send(write_mapping_retry(mapping, {}))
    return ["dlq", "purge", "visit"]


def a_message(operator: Operator) -> None:
    operator.queues()["visit"].dlq.send(write_domain_event("prison-visit.booked", {"reference": "v1"}, "A1234BC", "x"))


def export_in_the_way(operator: Operator) -> list[str]:
    """A file that the messages cannot be kept in."""
    a_message(operator)
    (operator.folder / "file").write_text("in the way")
    return ["dlq", "purge", "visit", "--export", str(operator.folder / "file" / "export.json")]


def no_place_for_exports(operator: Operator) -> list[str]:
    """A place of the reports where nothing can be kept."""
    a_message(operator)
    (operator.folder / "file").write_text("in the way")
    operator.settings["REPORTS_LOCATION"] = str(operator.folder / "file" / "reports")
    return ["dlq", "purge", "visit"]


def nameless(operator: Operator) -> list[str]:
    """Somebody who does not say who they are."""
    a_message(operator)
    operator.settings["LOGNAME"] = "appuser"
    return ["dlq", "retry", "visit"]


def unknown_message(operator: Operator) -> list[str]:
    """A message that is not there."""
    return ["dlq", "retry", "visit", "--message", "nothing"]


def queue_away(operator: Operator) -> list[str]:
    """Queues that nobody made."""
    operator.settings["HMPPS_SQS_PROVIDER"] = "localstack"
    operator.settings["HMPPS_SQS_LOCALSTACK_URL"] = "http://127.0.0.1:9"
    return ["dlq", "retry-all"]


def open_creation(operator: Operator) -> str:
    """The number of a creation whose outcome is unknown."""
    visit_booked(operator.sandbox).publish()
    with faulty(operator.sandbox, "nomis", "POST", kind="reset", times=1):
        operator.drain("visit")
    return str(operator.reads("creations", "list")[0]["id"])


def no_such_record(operator: Operator) -> list[str]:
    """A visit that NOMIS does not have."""
    return ["creations", "settle", open_creation(operator), "--nomis-id", "999999"]


def event_that_cannot_be_sent(operator: Operator) -> list[str]:
    """An event that is to be sent again while the queues are out of reach."""
    number = open_creation(operator)
    queue_away(operator)
    return ["creations", "settle", number, "--not-created"]


def settled_creation(operator: Operator) -> list[str]:
    """A creation that is done."""
    visit_booked(operator.sandbox).publish()
    operator.drain("visit")
    (creation,) = operator.reads("creations", "list", "--all")
    return ["creations", "settle", str(creation["id"]), "--nomis-id", "1"]


def reopened_without_need(operator: Operator) -> list[str]:
    """A creation that no person mapped."""
    schedule_created(operator.sandbox).publish()
    operator.drain("activity")
    (creation,) = operator.reads("creations", "list", "--all")
    return ["creations", "reopen", str(creation["id"])]


def no_finding(operator: Operator) -> list[str]:
    """A duplicate that is not known."""
    return ["duplicates", "resolve", "77"]


def switched_off(operator: Operator) -> list[str]:
    """What production never allows."""
    return ["appointments", "delete-all"]


def row_unchecked(operator: Operator) -> list[str]:
    """A row that nothing here knows."""
    return ["activities", "delete-allocation", "99"]


def row_deleted_before(operator: Operator) -> list[str]:
    """A row that was deleted before."""
    delete = ["activities", "delete-attendance", "99", "--unchecked"]
    operator.does(*delete, "--yes")
    return delete


def report_of_nothing(operator: Operator) -> list[str]:
    """A run that is not there."""
    return ["report", "send", "nothing"]


REFUSED: list[Refused] = [
    nobody_there,
    in_step,
    nothing_missed,
    arrival_without_need,
    mapping_retries,
    export_in_the_way,
    no_place_for_exports,
    nameless,
    unknown_message,
    queue_away,
    no_such_record,
    event_that_cannot_be_sent,
    settled_creation,
    reopened_without_need,
    no_finding,
    switched_off,
    row_unchecked,
    row_deleted_before,
    report_of_nothing,
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda each: each.__name__)
def test_a_dry_run_is_refused_as_the_real_one(operator: Operator, refused: Refused) -> None:
    """The same exit code and the same complaint, and nothing was changed by either."""
    arguments = [*refused(operator), "--yes"]
    with nothing_written(operator.sandbox):
        dry = operator.run(*arguments, "--dry-run")
        real = operator.run(*arguments)
    assert real.code in (1, 2)
    assert (dry.code, dry.complaint) == (real.code, real.complaint)


@contextmanager
def nothing_written(sandbox: Sandbox) -> Iterator[None]:
    """NOMIS and the publisher of received events are written to by nobody in the block."""
    before = [len(sandbox.journal(each)) for each in ("nomis", "mapping", "prisoner-search")]
    yield
    assert [len(sandbox.journal(each)) for each in ("nomis", "mapping", "prisoner-search")] == before


def test_a_dry_run_of_what_would_be_done_succeeds(operator: Operator, tmp_path: Path) -> None:
    """It says that nothing was changed, and leaves no trace, neither in the record nor in the folder of reports."""
    a_message(operator)
    assert "dry run: nothing was changed" in operator.does("dlq", "purge", "visit", "--dry-run")
    assert operator.actions() == []
    assert not (tmp_path / "reports").exists()

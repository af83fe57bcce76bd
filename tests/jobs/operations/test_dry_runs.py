"""A dry run is refused under the same conditions as the real command, with the same message."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.clock import now
from sync.events.envelope import write_domain_event, write_mapping_retry
from sync.settings.upstreams import UpstreamName
from sync.store.database import Database
from sync.upstream.breaker import set_breaker
from sync.upstream.breaker_rules import BreakerState
from tests.harness.app import App
from tests.harness.faults import faulty
from tests.harness.publishing import schedule_created, visit_booked
from tests.harness.waiting import until

#: A function that sets up a command that is refused, and returns the arguments of the command.
Refused = Callable[[App], list[str]]


def prisoner_unknown(app: App) -> list[str]:
    """The arguments of `incentives repair` for a prisoner who does not exist."""
    return ["incentives", "repair", "Z9999ZZ"]


def in_step(app: App) -> list[str]:
    """The arguments of `incentives repair` for a prisoner whose levels already agree."""
    app.sandbox.reset(prisoners=5, mismatch_rate=0)
    return ["incentives", "repair", str(app.sandbox.prisoners()[0]["offenderNo"])]


def arrival_not_missed(app: App) -> list[str]:
    """The arguments of `reconcile fix received` for a prisoner whose arrival DPS did not miss."""
    app.sandbox.reset(prisoners=5, mismatch_rate=0)
    return ["reconcile", "fix", "received", str(app.sandbox.prisoners()[0]["offenderNo"])]


def arrival_without_need(app: App) -> list[str]:
    """The arguments of `reconcile fix received` with details of an arrival, for a prisoner whose levels agree."""
    return [
        *arrival_not_missed(app),
        "--prison",
        "LEI",
        "--reason",
        "TRANSFERRED",
        "--occurred-at",
        "2023-05-20T15:22",
    ]


def mapping_retries(app: App) -> list[str]:
    """Puts a mapping retry on a dead letter queue. Returns the arguments of a purge, which would lose the mapping."""
    mapping = {"nomisId": 1, "vsipId": "v1", "label": None, "mappingType": "ONLINE", "whenCreated": None}
    app.queues()["visit"].dlq.send(write_mapping_retry(mapping, {}))
    return ["dlq", "purge", "visit"]


def one_dead_letter(app: App) -> None:
    """Puts a message on the dead letter queue of visits."""
    app.queues()["visit"].dlq.send(write_domain_event("prison-visit.booked", {"reference": "v1"}, "A1234BC", "x"))


def export_exists(app: App) -> list[str]:
    """The arguments of a purge whose export folder is in fact a file."""
    one_dead_letter(app)
    (app.folder / "file").write_text("in the way")
    return ["dlq", "purge", "visit", "--export", str(app.folder / "file" / "export.json")]


def exports_impossible(app: App) -> list[str]:
    """The arguments of a purge that cannot export, since REPORTS_LOCATION is a path below a file."""
    one_dead_letter(app)
    (app.folder / "file").write_text("in the way")
    app.settings["REPORTS_LOCATION"] = str(app.folder / "file" / "reports")
    return ["dlq", "purge", "visit"]


def without_operator_name(app: App) -> list[str]:
    """The arguments of a redrive in a pod, without the operator's name."""
    one_dead_letter(app)
    app.settings["LOGNAME"] = "appuser"
    return ["dlq", "retry", "visit"]


def unknown_message(app: App) -> list[str]:
    """The arguments of a redrive of a message that does not exist."""
    return ["dlq", "retry", "visit", "--message", "nothing"]


def queues_missing(app: App) -> list[str]:
    """Makes SQS unavailable. Returns the arguments of a redrive of all dead letter queues."""
    app.settings["HMPPS_SQS_PROVIDER"] = "localstack"
    app.settings["HMPPS_SQS_LOCALSTACK_URL"] = "http://127.0.0.1:9"
    return ["dlq", "retry-all"]


def open_creation(app: App) -> str:
    """Begins a creation whose request gets no response from NOMIS. Returns the creation's number."""
    visit_booked(app.sandbox).publish()
    with faulty(app.sandbox, "nomis", "POST", kind="reset", times=1):
        app.drain("visit")
    return str(app.read_json("creations", "list")[0]["id"])


def no_such_record(app: App) -> list[str]:
    """The arguments to settle a creation with the number of a visit that NOMIS does not have."""
    return ["creations", "settle", open_creation(app), "--nomis-id", "999999"]


def event_that_cannot_be_sent(app: App) -> list[str]:
    """The arguments to settle a creation as not created while its event cannot be sent again."""
    number = open_creation(app)
    app.let_creates_end()
    queues_missing(app)
    return ["creations", "settle", number, "--not-created"]


def create_under_way(app: App) -> list[str]:
    """The arguments to settle, as not created, a creation that may still be under way in NOMIS."""
    return ["creations", "settle", open_creation(app), "--not-created"]


def settled_creation(app: App) -> list[str]:
    """The arguments to settle a creation that the program has already mapped."""
    visit_booked(app.sandbox).publish()
    app.drain("visit")
    (creation,) = app.read_json("creations", "list", "--all")
    return ["creations", "settle", str(creation["id"]), "--nomis-id", "1"]


def reopened_without_need(app: App) -> list[str]:
    """The arguments to reopen a creation that was mapped by the program, not by a person."""
    schedule_created(app.sandbox).publish()
    app.drain("activity")
    (creation,) = app.read_json("creations", "list", "--all")
    return ["creations", "reopen", str(creation["id"])]


def no_finding(app: App) -> list[str]:
    """The arguments to resolve a finding that does not exist."""
    return ["duplicates", "resolve", "77"]


def switched_off(app: App) -> list[str]:
    """The arguments of a command that is switched off."""
    return ["appointments", "delete-all"]


def row_unchecked(app: App) -> list[str]:
    """The arguments to delete a NOMIS row that the program cannot check, without `--unchecked`."""
    return ["activities", "delete-allocation", "99"]


def row_already_deleted(app: App) -> list[str]:
    """Deletes a row. Returns the arguments to delete the same row again."""
    delete = ["activities", "delete-attendance", "99", "--unchecked"]
    app.run_ok(*delete, "--yes")
    return delete


def resync_of_unknown_record(app: App) -> list[str]:
    """The arguments to resync a visit that DPS does not have."""
    return ["resync", "visit", "nothing"]


def resync_of_unknown_kind(app: App) -> list[str]:
    """The arguments to resync a record of a kind that cannot be resynced."""
    return ["resync", "review", "17"]


def resync_of_an_impossible_id(app: App) -> list[str]:
    """The arguments to resync an allocation with an id that no allocation can have."""
    return ["resync", "allocation", "../7"]


def resync_switched_off(app: App) -> list[str]:
    """The arguments to resync a visit whose event is switched off."""
    event = visit_booked(app.sandbox)
    app.settings["FEATURE_EVENT_PRISON_VISIT_BOOKED"] = "false"
    return ["resync", "visit", event.dps_id]


def resync_under_way(app: App) -> list[str]:
    """The arguments to resync a visit whose create may still be under way in NOMIS."""
    open_creation(app)
    return ["resync", "visit", str(app.read_json("creations", "list")[0]["dpsId"])]


def resync_ambiguous(app: App) -> list[str]:
    """The arguments to resync an activity whose creation in NOMIS has an unknown outcome."""
    event = schedule_created(app.sandbox)
    event.publish()
    with faulty(app.sandbox, "nomis", "POST", kind="reset", times=1):
        app.drain("activity")
    until(lambda: app.drain("activity")["ambiguous"], "the message whose create had no response")
    return ["resync", "activity", event.dps_id]


def resync_while_a_service_is_down(app: App) -> list[str]:
    """The arguments to resync a visit while the breaker for NOMIS is open."""
    event = visit_booked(app.sandbox)
    app.sandbox.fault("nomis", kind="status", status=503)
    database = Database(app.settings["DATABASE_URL"])
    with database.begin() as connection:
        set_breaker(connection, UpstreamName.NOMIS, BreakerState.OPEN, opened_at=now(), reason="503")
    database.dispose()
    return ["resync", "visit", event.dps_id]


def report_of_nothing(app: App) -> list[str]:
    """The arguments to send the report of a run that does not exist."""
    return ["report", "send", "nothing"]


REFUSED: list[Refused] = [
    prisoner_unknown,
    in_step,
    arrival_not_missed,
    arrival_without_need,
    mapping_retries,
    export_exists,
    exports_impossible,
    without_operator_name,
    unknown_message,
    queues_missing,
    no_such_record,
    event_that_cannot_be_sent,
    create_under_way,
    settled_creation,
    reopened_without_need,
    no_finding,
    switched_off,
    row_unchecked,
    row_already_deleted,
    resync_of_unknown_record,
    resync_of_unknown_kind,
    resync_of_an_impossible_id,
    resync_switched_off,
    resync_under_way,
    resync_ambiguous,
    resync_while_a_service_is_down,
    report_of_nothing,
]


@pytest.mark.parametrize("refused", REFUSED, ids=lambda each: each.__name__)
def test_a_dry_run_is_refused_like_the_real_command(app: App, refused: Refused) -> None:
    """If a command is refused, its dry run has the same exit code and message. Neither changes anything."""
    arguments = [*refused(app), "--yes"]
    with nothing_written(app.sandbox):
        dry = app.run(*arguments, "--dry-run")
        real = app.run(*arguments)
    assert real.code in (1, 2)
    complaints = [re.sub(r"wait \d+ s", "wait", each.error) for each in (dry, real)]
    assert (dry.code, complaints[0]) == (real.code, complaints[1]), (
        "the messages differ in more than the seconds to wait"
    )


@contextmanager
def nothing_written(sandbox: Sandbox) -> Iterator[None]:
    """Checks that the `with` block writes nothing to NOMIS, the mapping service or prisoner search."""
    before = [len(sandbox.journal(each)) for each in ("nomis", "mapping", "prisoner-search")]
    yield
    assert [len(sandbox.journal(each)) for each in ("nomis", "mapping", "prisoner-search")] == before


def test_a_dry_run_leaves_no_trace(app: App, tmp_path: Path) -> None:
    """A dry run of a purge says that nothing was changed.

    It removes no message, records no action and writes no export.
    """
    one_dead_letter(app)
    assert "dry run: nothing was changed" in app.run_ok("dlq", "purge", "visit", "--dry-run")
    assert (app.messages("visit"), app.actions()) == (1, [])
    assert not (tmp_path / "reports").exists()

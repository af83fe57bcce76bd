"""A request to NOMIS support lists exactly the records that support has to fix, and the details that it needs."""

from __future__ import annotations

import csv
import io

import pytest

from tests.harness.app import App


@pytest.fixture
def run_id(app: App) -> str:
    """The id of a run that found three prisoners who were received twice in NOMIS, and two whose reviews were lost."""
    app.sandbox.reset(prisoners=60, mismatches={"5": 3, "2": 2})
    return str(app.read_json("reconcile", "incentives", "--no-notify")["runId"])


def test_a_request_has_every_record_of_the_cause_and_no_other(app: App, run_id: str) -> None:
    """A support request lists every record that NOMIS support has to fix, and no other, whether as text, CSV or JSON.

    Each row has the prisoner and the sequences of the records. The text names the channel of NOMIS support only once.
    """
    planted = app.sandbox.planted()["mismatches"]
    twice = {each["offenderNo"]: each for each in planted if each["cause"] == 5}
    text = app.run_ok("report", "request", run_id, "--cause", "received twice")
    assert text.startswith("To #dps-appsupport: 3 records to change in NOMIS, found by comparing incentive levels")
    assert text.count("#dps-appsupport") == 1
    assert [line[:3] for line in text.splitlines() if line[:1].isdigit()] == ["1. ", "2. ", "3. "]
    rows = app.read_json("report", "request", run_id)
    assert {each["offender_no"]: each["booking_id"] for each in rows} == {
        number: each["bookingId"] for number, each in twice.items()
    }
    for each in rows:
        assert each["change"].startswith("Please delete the following IEP record")
        assert all(f"sequence {sequence} (" in each["change"] for sequence in each["nomis_ids"])
        assert each["nomis_ids"]
        assert each["change"] in text
    lines = list(csv.DictReader(io.StringIO(app.run_ok("report", "request", run_id, "--csv"))))
    assert [(each["offender_no"], each["nomis_ids"]) for each in lines] == [
        (each["offender_no"], " ".join(map(str, each["nomis_ids"]))) for each in rows
    ]
    assert app.sandbox.journal("nomis") == []


def test_a_cause_that_support_cannot_fix_is_refused(app: App, run_id: str) -> None:
    """A support request is refused if NOMIS support does not have to fix any record with the given cause."""
    done = app.run("report", "request", run_id, "--cause", "lost")
    assert (done.code, "no difference with the cause 'lost' that NOMIS support has to fix" in done.error) == (2, True)


def test_rows_that_no_service_lists_come_with_their_sql(app: App) -> None:
    """If the number of an allocation is unknown, the support request gives an SQL statement that finds the allocation.

    The statement searches by booking.
    """
    app.sandbox.reset(prisoners=60, prisons=20, every_cause=True, plant=["allocations"])
    run_id = str(app.read_json("reconcile", "allocations", "--no-notify")["runId"])
    (row,) = app.read_json("report", "request", run_id)
    assert f"WHERE OFFENDER_BOOK_ID = {row['booking_id']} AND OFFENDER_PROGRAM_STATUS = 'ALLOC'" in row["lookup"]
    text = app.run_ok("report", "request", run_id)
    assert f"1. {row['change']}\n   To find it: {row['lookup']}" in text
    assert "1 record to change in NOMIS" in text

"""Prisoners are read while others are still being listed. Nobody is read twice, and reading stops if listing fails."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from contextlib import closing

import pytest
from sqlalchemy.exc import DBAPIError

from sandbox import Sandbox
from tests.harness.faults import held
from tests.harness.reconciliations import OpenApp
from tests.harness.waiting import in_thread, result_of, until

PAGED = {"REPORTS_INCENTIVES_RECONCILIATION_PAGE_SIZE": "20", "RECONCILIATION_CONCURRENCY": "4"}
LIST = "/prisoners/ids"
CURRENT = "/incentives/booking-id/{b}/current"


def reads(upstream: Sandbox) -> Counter[str]:
    """The number of times that each level was read from NOMIS, by path."""
    return Counter(each["path"] for each in upstream.requests("nomis") if each["path"].endswith("/current"))


def test_the_first_page_is_read_while_the_others_are_listed(upstream: Sandbox, open_app: OpenApp) -> None:
    """The levels of the prisoners on the first page of the list are read before the second page has arrived.

    At the end, every prisoner has been read once.
    """
    upstream.reset(prisoners=100)
    with held(upstream, "nomis", path=LIST, skip=1) as second_page:
        run = in_thread(open_app(**PAGED).reconcile)
        second_page.wait_for_request()
        until(lambda: len(reads(upstream)) == 20, "the prisoners of the first page are read")
    outcome = result_of(run)
    assert outcome.result is not None
    assert (outcome.status, outcome.result.compared) == ("complete", 100)
    assert len(reads(upstream)) == 100
    assert [path for path, times in reads(upstream).items() if times > 1] == []


def test_reading_stops_if_the_listing_fails(upstream: Sandbox, open_app: OpenApp) -> None:
    """If the prisoners cannot all be listed, the run fails and stops reading the levels of those already listed."""
    upstream.reset(prisoners=100)
    upstream.fault("nomis", "GET", LIST, kind="status", status=400, skip=1)
    upstream.fault("nomis", "GET", CURRENT, kind="delay", ms=200)
    outcome = open_app(**PAGED, RECONCILIATION_MAX_PAGE_ERRORS="0").reconcile()
    assert outcome.status == "failed"
    assert len(reads(upstream)) < 20
    assert [each.name for each in threading.enumerate() if each.name.startswith("nomis-")] == []


def test_reading_stops_if_the_run_fails_after_the_listing(upstream: Sandbox, open_app: OpenApp) -> None:
    """If a run fails once all prisoners are listed, for example on a database error, it stops reading levels."""
    upstream.reset(prisoners=100)
    upstream.fault("nomis", "GET", CURRENT, kind="delay", ms=200)
    one = open_app(**PAGED)

    def break_the_database(_stage: str, done: int, total: int) -> None:
        if done == total:
            with closing(sqlite3.connect(one.database.url_without_password.removeprefix("sqlite:///"))) as connection:
                connection.execute("DROP TABLE reconciliation_pages")

    with pytest.raises(DBAPIError, match="reconciliation_pages"):
        one.reconcile(progress=break_the_database)
    assert 0 < len(reads(upstream)) < 20
    assert [each.name for each in threading.enumerate() if each.name.startswith("nomis-")] == []

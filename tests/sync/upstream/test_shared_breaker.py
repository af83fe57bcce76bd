"""Processes share the state of each breaker, and each caller notices the end of an outage."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from sandbox import Sandbox
from sandbox.postgres import PostgresServer
from sync.errors import LeaseBusy, UpstreamError
from sync.settings import times
from sync.settings.loading import load_settings
from sync.store.database import Database
from sync.store.telemetry import read_events
from sync.upstream import breaker_rules as circuit
from sync.upstream.breaker import read_breakers
from sync.upstream.breaker_rules import BreakerState
from sync.upstream.concurrency_limit import FIRST_IN_FLIGHT
from sync.upstream.prisoners import prisoner_page
from sync.upstream.services import Services
from tests.harness.breakers import MAPPING, NOMIS, Process, open_in
from tests.harness.waiting import in_thread, result_of, until


def tracked(database: Database, process: Process) -> Counter[str]:
    """Writes the telemetry of `process`. Returns how many events of each name are stored."""
    process.telemetry.flush()
    return Counter(each["name"] for each in read_events(database))


def test_a_trial_without_a_call_is_given_to_another_call(database: Database, sandbox: Sandbox) -> None:
    """If an expired lease prevents a write that was to try a service, another call may try the service at once."""
    process = Process(database)
    open_in(process)
    process.later(1)

    def too_late() -> None:
        raise LeaseBusy("visit:a")

    settings = load_settings(sandbox.environment())
    with closing(Services(settings, (process.breakers,), may_write=too_late)) as services:
        nomis = services[NOMIS]

        def write() -> None:
            with pytest.raises(LeaseBusy):
                nomis.call("POST", "/prisoners/A1234BC/visits", body={})

        result_of(in_thread(write))
        prisoner_page(nomis, 0, 1)
    assert process.state is BreakerState.CLOSED


def test_the_first_call_after_an_outage_is_marked(database: Database) -> None:
    """However the breaker closed, `before_call` returns True once, for the first call afterwards."""
    process = Process(database)
    assert not process.breakers.before_call(NOMIS)
    open_in(process)
    process.later(1)
    process.call()
    assert [process.breakers.before_call(NOMIS) for _ in range(3)] == [True, False, False]
    open_in(process)
    process.later(1)
    process.later(times.UNTRIED_SECONDS)
    assert [process.breakers.before_call(NOMIS) for _ in range(3)] == [True, False, False]


def test_calls_return_a_few_at_a_time(database: Database, sandbox: Sandbox) -> None:
    """After an outage, two of forty waiting calls are admitted at first, and the limit then returns to the maximum."""
    process = Process(database)
    open_in(process)
    process.later(1)
    with closing(Services(load_settings(sandbox.environment()), (process.breakers,))) as services:
        nomis = services[NOMIS]
        prisoner_page(nomis, 0, 1)
        assert process.state is BreakerState.CLOSED
        sandbox.fault("nomis", kind="timeout_before_write", hold=1, times=FIRST_IN_FLIGHT)
        with ThreadPoolExecutor(40) as pool:
            calls = [pool.submit(prisoner_page, nomis, 0, 1) for _ in range(40)]
            until(lambda: nomis.limit.waiting == 40 - FIRST_IN_FLIGHT)
            first_in_flight = sandbox.load()["nomis"]
            assert all(call.result().total_elements == 200 for call in calls)
    assert first_in_flight <= FIRST_IN_FLIGHT
    assert nomis.limit.allowed == nomis.limit.maximum


def test_opening_and_closing_are_logged_once(database: Database, process: Process) -> None:
    """However many calls and trials fail, one event is tracked for the beginning of each outage and one for its end."""
    for number in range(7):
        error = UpstreamError(NOMIS, "GET", f"/{number}", status=503, message="")
        process.breakers.after_call(NOMIS, "GET", error, 0.01)
    process.later(1)
    process.fail(circuit.TRIALS)
    process.later(30)
    process.call()
    names = tracked(database, process)
    assert names == {"upstream-breaker-opened": 1, "upstream-breaker-closed": 1}
    assert next(read_events(database))["properties"] == {"service": "nomis"}


def test_a_process_that_starts_in_an_outage_pings_before_it_receives(database: Database, process: Process) -> None:
    """If the database says that NOMIS is down, a new process refuses calls until its own ping succeeds."""
    open_in(process)
    started = Process(database)
    started.down.add(NOMIS)
    assert started.state is BreakerState.OPEN
    assert not started.later(0)
    assert started.pings[NOMIS] == 1
    started.down.clear()
    assert started.later(times.PING_SECONDS)


def test_processes_share_the_state_of_a_breaker(database: Database, process: Process) -> None:
    """If one process opens or closes a breaker, another process follows within `BREAKER_POLL_SECONDS`.

    The opening and the closing are each stored once, and the other process can open the breaker again.
    """
    other = Process(database)
    open_in(process)
    other.down.add(NOMIS)
    assert not other.later(times.BREAKER_POLL_SECONDS)
    assert other.breakers.open_services([NOMIS, MAPPING]) == [NOMIS]
    process.later(1)
    process.call()
    assert other.later(times.BREAKER_POLL_SECONDS)
    assert other.state is BreakerState.CLOSED
    other.telemetry.flush()
    assert tracked(database, process) == {"upstream-breaker-opened": 1, "upstream-breaker-closed": 1}
    other.fail()
    with database.read() as connection:
        assert read_breakers(connection)["nomis"].state == "open"


def test_a_process_that_only_pings_does_not_close_the_breaker(database: Database, process: Process) -> None:
    """While one process's pings succeed and another's trials fail, neither process's breaker closes.

    Once no process tries the service any more, both breakers close.
    """
    idle = Process(database)
    for name in "abc":
        process.fail(1, status=500, path=f"/{name}")
    # The failed record's message is delivered once a minute.
    for _ in range(5):
        for _ in range(12):
            process.later(times.BREAKER_POLL_SECONDS)
            idle.later(times.BREAKER_POLL_SECONDS)
            assert not process.breakers.all_up([NOMIS])
            assert not idle.breakers.all_up([NOMIS])
        process.fail(1, status=500, path="/a")
    # From here on, nobody tries the service.
    for _ in range(round(times.UNTRIED_SECONDS / times.BREAKER_POLL_SECONDS) + 2):
        idle.later(times.BREAKER_POLL_SECONDS)
    assert idle.breakers.all_up([NOMIS])
    assert process.later(times.BREAKER_POLL_SECONDS)
    assert process.breakers.all_up([NOMIS])


def test_an_outage_that_two_processes_notice_is_reported_once(database: Database, process: Process) -> None:
    """If two processes find independently that NOMIS is down, only one event is tracked."""
    other = Process(database)
    open_in(process)
    open_in(other)
    process.telemetry.flush()
    other.telemetry.flush()
    assert [each["name"] for each in read_events(database)] == ["upstream-breaker-opened"]


def test_the_breaker_works_without_the_database() -> None:
    """If the database is unavailable, a breaker still opens and closes in its own process."""
    database = Database("postgresql://nobody@127.0.0.1:1/none")
    process = Process(database)
    open_in(process)
    process.later(1)
    process.call()
    assert process.state is BreakerState.CLOSED


def test_a_state_set_without_the_database_is_written_later() -> None:
    """If an outage of a service ends while the database is unavailable, the end is stored later.

    The next outage is therefore reported.
    """
    server = PostgresServer()
    try:
        server.start()
        database = Database(server.url.render_as_string())
        database.upgrade()
        process = Process(database)
        open_in(process)
        server.stop()
        process.later(1)
        process.call()
        assert process.state is BreakerState.CLOSED
        server.start()
        process.later(times.BREAKER_POLL_SECONDS)
        with database.read() as connection:
            assert read_breakers(connection)["nomis"].state == "closed"
        assert Process(database).state is BreakerState.CLOSED
        open_in(process)
        assert tracked(database, process)["upstream-breaker-opened"] == 2
        database.dispose()
    finally:
        server.close()

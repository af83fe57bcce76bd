"""When the breakers open, and how they notice that a service is up again."""

from __future__ import annotations

from contextlib import suppress

import pytest

from sync.errors import BreakerOpen, UpstreamError
from sync.settings import times
from sync.upstream import breaker_rules as circuit
from sync.upstream.breaker_rules import TRIALS, BreakerState
from tests.harness.breakers import MAPPING, NOMIS, OAUTH, Process, open_in
from tests.harness.waiting import failure_of, in_thread, result_of


@pytest.mark.parametrize("status", [None, 408, 425, 429, 500, 502, 503, 504])
def test_the_breaker_opens_if_most_calls_fail(process: Process, status: int | None) -> None:
    """If the first three calls to a service all fail with recoverable errors, its breaker opens.

    Further calls to this service are refused, but calls to other services are not.
    """
    process.fail(2, status)
    assert process.state is BreakerState.CLOSED
    process.fail(1, status)
    with pytest.raises(BreakerOpen, match="nomis"):
        process.breakers.before_call(NOMIS)
    process.call(service=MAPPING)


@pytest.mark.parametrize("status", [302, 400, 404, 405, 413, 421])
def test_a_response_of_a_gateway_counts_as_an_outage(process: Process, status: int) -> None:
    """If a gateway, not the service, responds to three calls, the breaker opens."""
    process.fail(3, status, from_service=False)
    assert process.state is BreakerState.OPEN


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_tried_one_call_at_a_time(process: Process, status: int) -> None:
    """Refused credentials open the breaker, and failed trials open it again. The first successful call closes it."""
    process.fail(3, status)
    assert process.later(times.FIRST_PING_SECONDS)
    process.fail(TRIALS, status)
    with pytest.raises(BreakerOpen):
        process.call()
    assert process.later(times.MAX_PING_SECONDS)
    process.call()
    assert process.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("status", "from_service"), [(None, False), (401, True), (403, True), (503, False), (404, False)]
)
def test_known_failed_records_do_not_speed_up_the_trials(
    process: Process, status: int | None, from_service: bool
) -> None:
    """If errors cannot be a record's fault, a service is tried only rarely, even for records that failed before."""
    seconds = 600
    tries, ends = 0, process.now + seconds
    while process.now < ends:
        for name in "abc":
            with suppress(BreakerOpen):
                process.fail(1, status, path=f"/{name}", from_service=from_service)
                tries += 1
        process.later(5)
    assert tries <= 2 * TRIALS * seconds / times.MAX_PING_SECONDS


def test_a_look_up_between_failing_creates_proves_nothing(process: Process) -> None:
    """After a failed create, a successful look-up for the same record does not close the breaker.

    A successful create does.
    """
    error = UpstreamError(NOMIS, "POST", "/visits", status=503, message="no")
    for number in range(3):
        with process.breakers.working_on(f"visit:{number}"):
            process.breakers.before_call(NOMIS)
            process.breakers.after_call(NOMIS, "POST", error, 0.01)
    assert process.later(times.FIRST_PING_SECONDS)
    with process.breakers.working_on("visit:0"):
        process.call()
        assert process.breakers.trying([NOMIS])
        process.breakers.before_call(NOMIS)
        process.breakers.after_call(NOMIS, "POST", None, 0.01)
    assert process.state is BreakerState.CLOSED


@pytest.mark.parametrize("status", [400, 404, 409])
def test_refusals_are_not_an_outage(process: Process, status: int) -> None:
    """However many requests a service refuses with 400, 404 or 409, its breaker stays closed."""
    process.fail(30, status)
    assert process.state is BreakerState.CLOSED


def test_some_failures_among_successes_are_not_an_outage(process: Process) -> None:
    """While at least half of the recent calls succeed, the breaker stays closed."""
    for _ in range(40):
        process.call()
        process.call(failing=True)
    assert process.state is BreakerState.CLOSED


def test_old_failures_are_forgotten(process: Process) -> None:
    """Failures that are a minute apart do not open the breaker if calls between them succeed."""
    for _ in range(6):
        process.call(failing=True)
        process.now += times.BREAKER_WINDOW_SECONDS
        process.call()
    assert process.state is BreakerState.CLOSED


def test_three_failing_records_are_an_outage_on_a_quiet_day(process: Process) -> None:
    """If three records fail over several seconds and no call succeeds between them, the breaker opens.

    Earlier successes do not prevent this.
    """
    for _ in range(circuit.WINDOW_CALLS):
        process.call()
    for wait in (1, 10, 0):
        assert process.state is BreakerState.CLOSED
        process.call(failing=True)
        process.now += wait
    assert process.state is BreakerState.OPEN


def test_one_record_is_not_an_outage(process: Process) -> None:
    """However often calls for the same two records fail, the breaker stays closed."""
    for _ in range(20):
        process.fail(1, status=500, path="/one")
        process.fail(1, status=500, path="/two")
        process.now += 1
    assert process.state is BreakerState.CLOSED


def test_calls_of_one_message_count_once(process: Process) -> None:
    """Failed calls for one record count once, whatever their paths.

    Failed calls to one path count once for each record.
    """
    for number in range(20):
        with process.breakers.working_on("visit:aa"):
            process.fail(1, path=f"/{number}")
        process.now += 1
    assert process.breakers.all_up([NOMIS])
    for number in range(2):
        with process.breakers.working_on(f"visit:{number}"):
            process.fail(1, path="/same")
    assert process.breakers.open_services([NOMIS])


def test_success_with_a_different_record_closes_the_breaker(process: Process) -> None:
    """A successful call for a different record closes the breaker.

    Further failures of the records that failed before do not open it again.
    """
    bad = [f"/{name}" for name in "abc"]
    for path in bad:
        process.fail(1, status=500, path=path)
    assert process.later(1)
    for path in bad * 5:
        process.fail(1, status=500, path=path)
    assert process.breakers.trying([NOMIS])
    process.call()
    assert process.breakers.all_up([NOMIS])
    for path in bad * 5:
        process.fail(1, status=500, path=path)
    assert process.breakers.all_up([NOMIS])


def test_records_that_failed_in_an_outage_count_in_the_next(process: Process) -> None:
    """If a call for a failed record later succeeds, the service was at fault.

    The next failure of each failed record therefore counts again.
    """
    for _ in range(2):
        for name in "abc":
            with process.breakers.working_on(name):
                process.fail(1)
        assert process.breakers.open_services([NOMIS])
        process.later(1)
        with process.breakers.working_on("a"):
            process.call()
        assert process.breakers.all_up([NOMIS])


def test_three_failures_in_heavy_traffic_are_not_an_outage(process: Process) -> None:
    """Three failures in a row, straight after many successes, do not open the breaker."""
    for _ in range(circuit.WINDOW_CALLS):
        process.call()
    for _ in range(3):
        process.call(failing=True)
    assert process.state is BreakerState.CLOSED


def test_a_successful_ping_lets_one_call_try(process: Process) -> None:
    """After a successful ping, one call at a time tries the service, and other calls are refused.

    A successful call closes the breaker.
    """
    open_in(process)
    assert process.later(1)
    process.breakers.before_call(NOMIS)
    refused = failure_of(in_thread(process.breakers.before_call, NOMIS))
    assert isinstance(refused, BreakerOpen)
    process.breakers.after_call(NOMIS, "GET", None, 0.01)
    assert process.state is BreakerState.CLOSED


def test_a_service_that_stays_down_is_pinged_every_few_seconds(process: Process) -> None:
    """While pings fail, no call is allowed, and a ping is sent about every two seconds."""
    process.down.add(NOMIS)
    open_in(process)
    for _ in range(600):
        assert not process.later(1)
    assert 250 <= process.pings[NOMIS] <= 310
    process.down.clear()
    assert process.later(times.PING_SECONDS)


def test_trials_that_fail_double_the_pause(process: Process) -> None:
    """If pings succeed but calls fail, a service is tried less and less often, down to a few times a minute."""
    open_in(process)
    pauses = []
    for _ in range(8):
        waited = 0.5
        while not process.later(0.5):
            waited += 0.5
        pauses.append(waited)
        process.fail(circuit.TRIALS)
        assert process.state is BreakerState.OPEN
    assert pauses == sorted(pauses)
    assert pauses[2] >= 2 * pauses[1] > 0
    assert pauses[-1] <= times.MAX_PING_SECONDS + 1


def test_no_service_is_tried_without_tokens(process: Process) -> None:
    """While HMPPS Auth does not respond to its ping, no service is tried."""
    open_in(process)
    process.down.add(OAUTH)
    assert not process.later(10)
    process.down.clear()
    assert process.later(10)


def test_retry_after_delays_the_first_ping(process: Process) -> None:
    """If a service asks for a pause with `Retry-After`, the first ping is sent only after that pause."""
    for number in range(3):
        error = UpstreamError(NOMIS, "GET", f"/{number}", status=429, message="slow down", retry_after=30)
        process.breakers.after_call(NOMIS, "GET", error, 0.01)
    assert not process.later(29)
    assert process.pings[NOMIS] == 0
    assert process.later(1)


def test_a_call_pings_by_itself_when_a_ping_is_due(process: Process) -> None:
    """If a ping is due, a call sends it first, so even a process that never probes notices the end of an outage."""
    open_in(process)
    process.now += 1
    process.call()
    assert process.pings[NOMIS] == 1
    assert process.state is BreakerState.CLOSED


def test_the_breaker_of_an_unused_service_closes(process: Process) -> None:
    """If a ping succeeds but no call tries the service for `UNTRIED_SECONDS`, the breaker closes by itself."""
    open_in(process)
    assert process.later(1)
    process.later(times.UNTRIED_SECONDS - 1)
    assert process.breakers.trying([NOMIS])
    process.later(1)
    assert process.state is BreakerState.CLOSED


def test_an_abandoned_trial_is_given_to_another_call(process: Process) -> None:
    """If a trial has no result after `MAX_TRIAL_SECONDS`, another call may try the service."""
    open_in(process)
    process.later(1)
    result_of(in_thread(process.breakers.before_call, NOMIS))
    with pytest.raises(BreakerOpen):
        process.breakers.before_call(NOMIS)
    process.now += times.MAX_TRIAL_SECONDS
    process.call()
    assert process.state is BreakerState.CLOSED

"""Faults that a test can switch on: what the caller gets, and whether the call has its effect."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from sandbox import Sandbox, SandboxError
from sandbox.http.faults import KINDS, Fault, Faults
from tests.harness.faults import held
from tests.harness.sandboxes import Caller
from tests.harness.waiting import failure_of, in_thread, result_of, until

PATH = "/prisoners/booking-id/{bookingId}/incentives"
DROPPED = {
    "timeout_after_write": True,
    "timeout_before_write": False,
    "reset": False,
    "reset_after_write": True,
    "truncated": True,
}


def post(caller: Caller) -> requests.Response:
    """Writes to NOMIS an incentive level for the first prisoner, and returns the response."""
    prisoner = caller.sandbox.prisoners()[0]
    body = {"iepLevel": "STD", "iepDateTime": "2023-05-22T10:00:00", "prisonId": prisoner["prisonId"], "userId": None}
    return caller.call("nomis", "POST", f"/prisoners/booking-id/{prisoner['bookingId']}/incentives", body)


@pytest.mark.parametrize(("kind", "written"), sorted(DROPPED.items()))
def test_a_response_is_lost(sandbox: Sandbox, caller: Caller, kind: str, written: bool) -> None:
    """If a fault interrupts a call, the caller gets an error, and the journal shows whether the call had its effect.

    The next call succeeds.
    """
    sandbox.fault("nomis", "POST", PATH, kind=kind, times=1, hold=0.01)
    with pytest.raises(requests.exceptions.RequestException):
        post(caller)
    assert len(sandbox.journal("nomis")) == (1 if written else 0)
    assert post(caller).status_code == 201
    assert len(sandbox.journal("nomis")) == (2 if written else 1)
    assert [fault["hits"] for fault in sandbox.faults()] == [1]


def test_a_status_replaces_the_response_of_the_service(sandbox: Sandbox, caller: Caller) -> None:
    """The fault `status` returns the chosen status and body at most `times` times, and the service writes nothing."""
    sandbox.fault("nomis", path=PATH, kind="status", status=503, times=2)
    assert [post(caller).status_code for _ in range(3)] == [503, 503, 201]
    sandbox.fault("nomis", path=PATH, kind="status", status=400, body={"userMessage": "Bad request: no"})
    assert post(caller).json() == {"userMessage": "Bad request: no"}
    assert len(sandbox.journal("nomis")) == 1


def test_the_rate_limit_sends_retry_after(sandbox: Sandbox, caller: Caller) -> None:
    """With the fault `rate_limited`, a request gets 429 with the chosen Retry-After."""
    sandbox.fault("nomis", path=PATH, kind="rate_limited", retry_after=7)
    response = post(caller)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")


def test_request_is_held_until_it_is_released(sandbox: Sandbox, caller: Caller) -> None:
    """A held request is not handled until the fault is released. After the release, no more requests are held.

    The release of an unknown fault is refused.
    """
    with held(sandbox, "nomis", "POST", PATH, times=None) as hold:
        waiting = in_thread(post, caller)
        hold.wait_for_request()
        assert sandbox.journal("nomis") == []
        assert not waiting.done()
        hold.release()
        assert result_of(waiting).status_code == 201
        assert post(caller).status_code == 201
    with pytest.raises(SandboxError, match="there is no fault 4711"):
        sandbox.release_fault(4711)


@pytest.mark.parametrize(("kind", "written"), [("timeout_before_write", 0), ("timeout_after_write", 1)])
def test_a_time_out_lasts_until_faults_are_cleared(sandbox: Sandbox, caller: Caller, kind: str, written: int) -> None:
    """With `until_released`, a time-out keeps its request waiting, before or after the write.

    Once all faults are cleared, the caller gets a connection error.
    """
    sandbox.fault("nomis", "POST", PATH, kind=kind, until_released=True)
    waiting = in_thread(post, caller)
    until(lambda: sandbox.faults()[0]["hits"], "the request is held back")
    until(lambda: len(sandbox.journal("nomis")) == written)
    assert not waiting.done()
    sandbox.clear_faults()
    assert isinstance(failure_of(waiting), requests.exceptions.ConnectionError)


@pytest.mark.parametrize("kind", ["delay", "trickle", "gzip", "chunked"])
def test_unusual_responses_are_complete(sandbox: Sandbox, caller: Caller, kind: str) -> None:
    """A late, slow, compressed or chunked response has the same body as an ordinary response."""
    plain = caller.get("nomis", "/prisoners/ids?size=50")
    sandbox.fault("nomis", kind=kind, ms=1, times=1)
    assert caller.get("nomis", "/prisoners/ids?size=50") == plain
    assert sandbox.faults()[0]["hits"] == 1


def test_empty_and_foreign_bodies(sandbox: Sandbox, caller: Caller) -> None:
    """A write takes effect even if its response is empty, or is a page from a proxy."""
    sandbox.fault("nomis", "POST", kind="empty", times=1)
    response = post(caller)
    assert (response.status_code, response.content) == (201, b"")
    sandbox.fault("nomis", "POST", kind="html", times=1)
    assert "Bad Gateway" in post(caller).text
    assert len(sandbox.journal("nomis")) == 2


def test_the_log_of_requests_names_the_fault(sandbox: Sandbox, caller: Caller) -> None:
    """The log has the path, status and fault of each request to a service. Without a response, the status is 0."""
    fault_id = sandbox.fault("mapping", kind="reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        caller.call("mapping", "GET", "/health/ping", token="")
    seen = sandbox.requests("mapping")
    assert [(each["path"], each["status"], each["fault"]) for each in seen] == [("/health/ping", 0, fault_id)]
    sandbox.clear_faults()
    assert caller.call("mapping", "GET", "/health/ping", token="").status_code == 200


def fault_with(**parameters: Any) -> Fault:
    """Returns a fault for requests to NOMIS. By default, they get 503."""
    return Faults().add(**{"service": "nomis", "kind": "status", **parameters})


def test_a_fault_affects_only_matching_requests() -> None:
    """A fault affects only requests with its service, method and path, and with the text `containing` in the body.

    The path is a template or a regular expression.
    """
    assert fault_with(path="/visits/{id}").meets("nomis", "GET", "/visits/7", b"")
    assert not fault_with(path="/visits/{id}").meets("nomis", "GET", "/visits/7/cancel", b"")
    assert fault_with(path=r"booking-id/\d{3}/").meets("nomis", "GET", "/incentives/booking-id/123/current", b"")
    assert not fault_with(method="POST").meets("nomis", "GET", "/visits/7", b"")
    assert not fault_with().meets("mapping", "GET", "/visits/7", b"")
    assert not fault_with(containing="A1234BC").meets("nomis", "POST", "/", b'{"offenderNo": "B"}')
    assert fault_with(containing="A1234BC").meets("nomis", "POST", "/", b'{"offenderNo": "A1234BC"}')


def test_a_fault_can_skip_and_end() -> None:
    """`skip` lets the first requests pass, and `times` limits the number of requests that a fault affects.

    Two faults with the same probability and seed affect the same requests.
    """
    fault = fault_with(skip=1, times=2)
    assert [fault.meets("nomis", "GET", "/", b"") for _ in range(5)] == [False, True, True, False, False]
    one, other = fault_with(probability=0.5, seed=3), fault_with(probability=0.5, seed=3)
    series = [one.meets("nomis", "GET", "/", b"") for _ in range(50)]
    assert [other.meets("nomis", "GET", "/", b"") for _ in range(50)] == series
    assert 5 < sum(series) < 45


def test_unknown_kind_is_refused(sandbox: Sandbox) -> None:
    """A fault of an unknown kind is refused with a list of the known kinds."""
    with pytest.raises(SandboxError, match="unknown kind of fault 'earthquake'") as refusal:
        sandbox.fault("nomis", kind="earthquake")
    assert all(kind in str(refusal.value) for kind in KINDS)


def test_concurrent_calls_can_exhaust_the_pool(sandbox: Sandbox) -> None:
    """With a pool of two database connections, a third concurrent call gets 500.

    Each call takes at least the set latency.
    """
    sandbox.reset(prisoners=20, nomis_pool=2, latency_ms=50)
    caller = Caller(sandbox)
    caller.token("nomis")
    with held(sandbox, "nomis", "GET", "/prisoners/ids", times=2) as hold:
        working = [in_thread(caller.call, "nomis", "GET", "/prisoners/ids") for _ in range(2)]
        until(lambda: hold.requests == 2, "two calls are in progress")
        refused = caller.call("nomis", "GET", "/prisoners/ids")
    assert refused.status_code == 500
    assert "Unable to acquire JDBC Connection" in refused.json()["userMessage"]
    assert [result_of(each).status_code for each in working] == [200, 200]
    assert sandbox.load()["nomis"] == 3
    assert caller.call("nomis", "GET", "/prisoners/ids").elapsed.total_seconds() >= 0.05


def test_a_late_request_takes_no_connection_of_the_next_world(sandbox: Sandbox) -> None:
    """A request that is under way when the world is replaced gets 503, and takes no connection from the new pool."""
    sandbox.latency(1_000)
    late = in_thread(Caller(sandbox).call, "nomis", "GET", "/prisoners/ids", None, "any")
    until(lambda: sandbox.load()["nomis"], "the request is under way")
    sandbox.reset(prisoners=20, nomis_pool=1)
    assert Caller(sandbox).call("nomis", "GET", "/prisoners/ids").status_code == 200
    assert sandbox.load()["nomis"] == 1
    assert result_of(late).status_code == 503


def test_a_late_request_does_not_reach_the_next_world(sandbox: Sandbox, caller: Caller) -> None:
    """A request that was held when the world was replaced is refused, and leaves no trace in the new world."""
    caller.token("nomis")
    sandbox.fault("nomis", "POST", PATH, kind="delay", until_released=True)
    late = in_thread(post, caller)
    until(lambda: sandbox.faults()[0]["hits"], "the request is held back")
    sandbox.reset()
    assert result_of(late).status_code == 503
    assert sandbox.journal("nomis") == []
    assert [seen for seen in sandbox.requests("nomis") if seen["method"] == "POST"] == []


def test_a_status_replaces_the_response_after_the_work_is_done(sandbox: Sandbox, caller: Caller) -> None:
    """With `status_after_write`, the service writes first.

    Then the chosen status, text and headers replace its response.
    """
    sandbox.fault("nomis", "POST", PATH, kind="status_after_write", status=500, times=1)
    response = post(caller)
    assert (response.status_code, response.json()["status"]) == (500, 500)
    page: dict[str, Any] = {"status": 502, "text": "<h1>Bad Gateway</h1>", "headers": {"Content-Type": "text/html"}}
    sandbox.fault("nomis", "POST", PATH, kind="status_after_write", times=1, **page)
    response = post(caller)
    assert (response.status_code, response.text, response.headers["Content-Type"]) == (502, page["text"], "text/html")
    assert len(sandbox.journal("nomis")) == 2

"""Calls to the services over real HTTP: results, errors, and the outcome of a call without a response."""

from __future__ import annotations

import re
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import repeat

import pytest
import time_machine

from sandbox import Sandbox
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.visits.rules import MAPPINGS as VISIT_MAPPINGS
from sync.errors import LeaseBusy, UpstreamError, describe_failure
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.upstream import prisoners as nomis_prisoners
from sync.upstream.services import Services
from sync.upstream.transport import segment
from tests.harness.faults import hits
from tests.harness.recorded_calls import RecordedCalls

VISIT_POST = "/prisoners/{offender_no}/visits"


def post_visit(services: Services) -> None:
    """Posts a visit that NOMIS would refuse if it read the body."""
    services.nomis.call("POST", "/prisoners/A1234BC/visits", body={})


def statuses_of_pages(sandbox: Sandbox) -> list[int]:
    """The statuses of NOMIS's responses to requests for pages of prisoners."""
    return [
        each["status"]
        for each in sandbox.requests("nomis")
        if each["path"].startswith(nomis_prisoners.PRISONER_IDS.path)
    ]


def test_responses_are_decoded(sandbox: Sandbox, services: Services) -> None:
    """A page of prisoners is decoded, with its number and the totals of the list."""
    page = nomis_prisoners.prisoner_page(services.nomis, 1, 50)
    assert (page.number, page.total_elements, page.total_pages, page.last) == (1, 200, 4, False)
    first = nomis_prisoners.prisoner_page(services.nomis, 0, 50)
    assert first.prisoners[-1].booking_id < page.prisoners[0].booking_id
    assert {each.offender_no for each in page.prisoners} <= {each["offenderNo"] for each in sandbox.prisoners()}


def test_404_is_none_only_for_a_look_up(services: Services) -> None:
    """A look-up returns None after a 404. A read of a record that must exist raises an error with the status."""
    assert nomis_incentives.current_iep(services.nomis, 1) is None
    assert VISIT_MAPPINGS.find(services.mapping, "no-such") is None
    with pytest.raises(UpstreamError, match=r"^mapping: GET /mapping/visits/vsipId/no-such: status 404: Not Found: "):
        VISIT_MAPPINGS.get(services.mapping, "no-such")


@pytest.mark.parametrize(
    "text", ["", "default backend - 404", '{"status": 404, "error": "Not Found"}', '{"message": "no Route matched"}']
)
def test_404_of_a_gateway_is_not_none(sandbox: Sandbox, services: Services, text: str) -> None:
    """A gateway may send a 404 for any path, so only the service's own error body means that the record is absent."""
    sandbox.fault("mapping", kind="status", status=404, text=text)
    with pytest.raises(UpstreamError, match="status 404") as caught:
        VISIT_MAPPINGS.find(services.mapping, "no-such")
    assert not caught.value.absent


def test_expired_token_is_renewed_once(sandbox: Sandbox, services: Services, recorded: RecordedCalls) -> None:
    """If a token is refused, it is renewed and the call is repeated. The caller does not notice."""
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    sandbox.expire_tokens()
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert statuses_of_pages(sandbox) == [200, 401, 200]
    assert [call[2] for call in recorded.calls] == [None, None]


def test_401_that_stays_is_raised(sandbox: Sandbox, services: Services) -> None:
    """If a service refuses the renewed token too, the call ends with an error after two attempts."""
    sandbox.fault("nomis", kind="status", status=401)
    with pytest.raises(UpstreamError, match="status 401") as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.recoverable
    assert statuses_of_pages(sandbox) == [401, 401]


@pytest.mark.parametrize("kind", ["timeout_after_write", "timeout_before_write", "reset", "reset_after_write"])
def test_lost_response_of_a_write_is_unknown(sandbox: Sandbox, services: Services, kind: str) -> None:
    """A write whose response was lost may have been applied, and is not repeated."""
    sandbox.fault("nomis", "POST", VISIT_POST, kind=kind, hold=3)
    with pytest.raises(UpstreamError) as caught:
        post_visit(services)
    assert caught.value.outcome_unknown
    assert caught.value.recoverable
    assert str(caught.value).startswith("nomis: POST /prisoners/A1234BC/visits: no response: ")
    assert sum(fault["hits"] for fault in sandbox.faults()) == 1


def test_a_write_is_never_sent_twice(sandbox: Sandbox, services: Services) -> None:
    """If the connection is lost during a PUT, the service may still apply it, so the client does not repeat it."""
    fault = sandbox.fault("nomis", "PUT", kind="reset_after_write")
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("PUT", "/activities/1/allocation", body={})
    assert caught.value.outcome_unknown
    assert hits(sandbox, fault) == 1


def test_no_write_is_sent_without_a_lease(sandbox: Sandbox) -> None:
    """If the lease has expired, writes are refused before they are sent. Reads continue."""

    def too_late() -> None:
        raise LeaseBusy("visit:a")

    services = Services(load_settings(sandbox.environment()), may_write=too_late)
    assert nomis_prisoners.prisoner_page(services.nomis, 0, 1).total_elements == 200
    with pytest.raises(LeaseBusy):
        post_visit(services)
    services.close()
    assert {each["method"] for each in sandbox.requests("nomis")} == {"GET"}


def test_truncated_response_of_a_write_is_unknown(sandbox: Sandbox, services: Services) -> None:
    """A write whose response is cut off may have been applied."""
    sandbox.fault("mapping", "POST", kind="truncated")
    body = {"vsipId": "aa-bb", "nomisId": 1, "mappingType": "ONLINE"}
    with pytest.raises(UpstreamError) as caught:
        VISIT_MAPPINGS.post(services.mapping, body)
    assert caught.value.outcome_unknown


def test_truncated_read_is_known_and_tried_again(sandbox: Sandbox, services: Services) -> None:
    """A read whose response is cut off is tried once more. Its outcome is never unknown."""
    sandbox.fault("nomis", "GET", kind="truncated", times=1)
    assert nomis_prisoners.prisoner_page(services.nomis, 0, 1).total_elements == 200
    sandbox.fault("nomis", "GET", kind="truncated")
    with pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert not caught.value.outcome_unknown
    assert caught.value.recoverable


def test_refused_connection_is_known(sandbox: Sandbox) -> None:
    """If the connection was refused, nothing reached the service, so the write was not applied."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    services = Services(load_settings({**sandbox.environment(), "API_BASE_URL_NOMIS": address}))
    with pytest.raises(UpstreamError) as caught:
        post_visit(services)
    services.close()
    assert (caught.value.outcome_unknown, caught.value.recoverable) == (False, True)
    assert str(caught.value) == "nomis: POST /prisoners/A1234BC/visits: no response: connection refused"


@pytest.mark.parametrize(
    ("status", "recoverable", "unknown"),
    [
        (400, False, False),
        (401, True, False),
        (403, True, False),
        (404, False, False),
        (408, True, True),
        (409, False, False),
        (422, False, False),
        (423, True, False),
        (425, True, True),
        (429, True, False),
        (500, True, True),
        (501, True, True),
        (502, True, True),
        (503, True, True),
        (504, True, True),
    ],
)
def test_each_status_has_its_class_of_error(
    sandbox: Sandbox, services: Services, status: int, recoverable: bool, unknown: bool
) -> None:
    """The status of an error shows whether a retry may help and whether a write may have been applied."""
    sandbox.fault("nomis", "POST", kind="status", status=status)
    with pytest.raises(UpstreamError, match=f"^nomis: POST /prisoners/A1234BC/visits: status {status}: ") as caught:
        post_visit(services)
    assert (caught.value.status, caught.value.recoverable) == (status, recoverable)
    assert caught.value.outcome_unknown is unknown
    assert caught.value.from_service


OF_SOMEBODY_ELSE = ["", "<html>Bad Gateway</html>", '{"timestamp": 1, "status": 4, "error": "No", "path": "/"}', "[]"]


@pytest.mark.parametrize("text", OF_SOMEBODY_ELSE)
@pytest.mark.parametrize(
    "status", [300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405, 408, 409, 413, 421, 429, 499, 500, 520, 524]
)
def test_a_response_of_another_server_is_a_fault_of_the_network(
    sandbox: Sandbox, services: Services, status: int, text: str
) -> None:
    """If a gateway or another server responds instead, the error is recoverable and a write may have been applied.

    Only after a 401, 403 or 429 without a body is it certain that the write was not applied. After such a 401, the
    write is sent again with a new token.
    """
    headers = {"Location": "/health/ping"} if status < 400 else {}
    fault = sandbox.fault("nomis", kind="status", status=status, text=text, headers=headers)
    with pytest.raises(UpstreamError, match=f"status {status}: ") as caught:
        post_visit(services)
    assert (caught.value.recoverable, caught.value.from_service) == (True, False)
    assert caught.value.outcome_unknown is (status not in (401, 403, 429) or text != "")
    writes = hits(sandbox, fault)
    assert writes == (2 if status == 401 and text == "" else 1)
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("GET", "/visits/1", none_on_404=True)
    assert (caught.value.recoverable, caught.value.outcome_unknown) == (True, False)
    assert (caught.value.absent, caught.value.conflict) == (False, False)
    assert hits(sandbox, fault) - writes == (2 if status == 401 else 1)


@pytest.mark.parametrize(
    "words",
    [
        "No static resource mapping/visits/vsipId/a-b.",
        "No resource found failure: No static resource mapping/visits.",
        "Not Found: No handler found for GET /mapping/visits/vsipId/a-b",
        "No endpoint GET /mapping/visits/vsipId/a-b.",
    ],
)
@pytest.mark.parametrize("field", ["userMessage", "developerMessage"])
def test_a_404_for_an_unknown_path_proves_nothing(sandbox: Sandbox, services: Services, words: str, field: str) -> None:
    """If a service's own 404 is about an unknown path, it proves nothing about the record.

    A write that gets this response was not applied.
    """
    body = {"status": 404, "userMessage": "Not found", "developerMessage": "Not found", field: words}
    sandbox.fault("mapping", kind="status", status=404, body=body)
    with pytest.raises(UpstreamError, match="status 404") as caught:
        VISIT_MAPPINGS.find(services.mapping, "a-b")
    assert (caught.value.absent, caught.value.recoverable) == (False, True)
    with pytest.raises(UpstreamError) as caught:
        services.mapping.call("POST", VISIT_MAPPINGS.path, body={})
    assert not caught.value.outcome_unknown


@pytest.mark.parametrize(
    ("words", "unknown"),
    [
        ("Unexpected error: Row was updated or deleted by another transaction", False),
        ("Unexpected error: Batch update returned unexpected row count from update [0]; actual row count: 0", False),
        ("Unexpected error: Object of class [Visit] with identifier [1]: optimistic locking failed", False),
        ("Unexpected error: query did not return a unique result: 2", False),
        ("Unexpected error: Could not commit JPA transaction; optimistic locking failed", True),
        ("Unexpected error: could not execute statement", True),
    ],
)
def test_only_a_known_text_makes_a_500_a_refusal(
    sandbox: Sandbox, services: Services, words: str, unknown: bool
) -> None:
    """A 500 leaves the outcome of a write unknown, unless its text is known to mean a rollback."""
    sandbox.fault("nomis", "POST", kind="status", status=500, body={"status": 500, "userMessage": words})
    with pytest.raises(UpstreamError) as caught:
        post_visit(services)
    assert caught.value.outcome_unknown is unknown


@pytest.mark.parametrize(
    ("words", "location", "refused"),
    [
        ("The given id must not be null!; nested exception is java.lang.IllegalArgumentException", None, True),
        ("Could not commit JPA transaction", None, False),
        ("The given id must not be null!; nested exception is java.lang.IllegalArgumentException", 27723, False),
    ],
)
def test_only_one_text_means_an_appointment_in_a_cell(
    sandbox: Sandbox, services: Services, words: str, location: int | None, refused: bool
) -> None:
    """A 500 about a missing id counts as a final refusal of a new appointment without a location.

    The error gives the reason. With different text, or for an appointment with a location, a 500 is recoverable and
    leaves the outcome unknown.
    """
    body = {"status": 500, "userMessage": f"Unexpected error: {words}"}
    sandbox.fault("nomis", "POST", kind="status", status=500, body=body)
    with pytest.raises(UpstreamError) as caught:
        nomis_appointments.create_appointment(services.nomis, {"internalLocationId": location})
    assert (caught.value.recoverable, caught.value.outcome_unknown) == (not refused, not refused)
    assert ("NOMIS accepts no appointment without a location" in describe_failure(caught.value).reason) is refused


def test_duplicate_rows_are_permanent(sandbox: Sandbox, services: Services) -> None:
    """A 500 from NOMIS about a result that is not unique is not recoverable, unlike most 500s."""
    body = {"userMessage": "Unexpected error: query did not return a unique result: 2"}
    sandbox.fault("nomis", kind="status", status=500, body=body)
    with pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.non_unique
    assert not caught.value.recoverable


def test_a_conflict_has_both_mappings(services: Services) -> None:
    """The error about a refused mapping names both the existing mapping and the refused one."""
    VISIT_MAPPINGS.post(services.mapping, {"vsipId": "a-b", "nomisId": 1, "mappingType": "ONLINE"})
    with pytest.raises(UpstreamError) as caught:
        VISIT_MAPPINGS.post(services.mapping, {"vsipId": "a-b", "nomisId": 2, "mappingType": "ONLINE"})
    assert caught.value.status == 409
    more = caught.value.more_info
    assert isinstance(more, dict)
    assert (more["existing"]["nomisId"], more["duplicate"]["nomisId"]) == (1, 2)


def test_retry_after_is_kept(sandbox: Sandbox, services: Services) -> None:
    """The error has the number of seconds that a service asks callers to wait."""
    sandbox.fault("nomis", kind="rate_limited", retry_after=7)
    with pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("1.5", 1.5),
        ("Mon, 22 May 2023 10:02:00 GMT", 120),
        ("Monday, 22-May-23 10:02:00 GMT", 120),
        ("Mon May 22 10:02:00 2023", 120),
        ("Mon, 22 May 2023 09:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
        ("inf", None),
        ("NaN", None),
        ("9" * 30, None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    sandbox: Sandbox, services: Services, header: str, seconds: float | None
) -> None:
    """All forms of `Retry-After` in RFC 9110 are read. Text that is neither a number nor a date is ignored."""
    sandbox.fault("nomis", kind="status", status=503, headers={"Retry-After": header})
    with time_machine.travel(datetime(2023, 5, 22, 10, tzinfo=UTC), tick=False), pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.retry_after == seconds


def test_observers_are_informed_of_every_call(sandbox: Sandbox, services: Services, recorded: RecordedCalls) -> None:
    """An observer gets the service, the method and the error, if any, of each call."""
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    sandbox.fault("mapping", kind="status", status=503, times=1)
    with pytest.raises(UpstreamError):
        VISIT_MAPPINGS.find(services.mapping, "x")
    assert recorded.calls == [(UpstreamName.NOMIS, "GET", None), (UpstreamName.MAPPING, "GET", 503)]


@pytest.mark.parametrize("may_lack_route", [False, True])
def test_a_missing_optional_route_does_not_count_as_an_outage(
    services: Services, recorded: RecordedCalls, may_lack_route: bool
) -> None:
    """With `may_lack_route`, a missing route counts as a success for observers, but the caller still gets an error.

    A missing record is not a missing route.
    """
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("GET", "/prisons/MDI/added-later", may_lack_route=may_lack_route)
    assert caught.value.no_route
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("GET", "/appointments/5", may_lack_route=may_lack_route)
    assert not caught.value.no_route
    assert [status for _, _, status in recorded.calls] == [None if may_lack_route else 404, 404]


def test_calls_in_flight_are_limited(sandbox: Sandbox) -> None:
    """All callers in a process share one limit on the calls in flight to a service."""
    services = Services(load_settings({**sandbox.environment(), "RECONCILIATION_CONCURRENCY": "5"}))
    drain, reconciliation = services.nomis, services.nomis
    sandbox.latency(20, "nomis")
    with ThreadPoolExecutor(40) as pool:
        list(pool.map(nomis_prisoners.prisoner_page, [drain, reconciliation] * 20, range(40), repeat(10)))
    services.close()
    # A service sees the end of a call just after its caller does, so an ended call may briefly count too.
    assert 1 < sandbox.load()["nomis"] <= 10


def test_each_service_has_its_own_client(sandbox: Sandbox, services: Services) -> None:
    """Each service is called with a token for its own client."""
    environment = sandbox.environment()
    called = [name for name in UpstreamName if name is not UpstreamName.OAUTH]
    for name in called:
        with pytest.raises(UpstreamError, match="status 404"):
            services[name].call("GET", f"/of-{name}")
    clients = {each["path"]: each["client_id"] for each in sandbox.requests() if each["path"].startswith("/of-")}
    assert clients == {f"/of-{name}": environment[name.credential_variables[0]] for name in called}
    assert len(set(clients.values())) == len(UpstreamName) - 1


def test_segments_are_quoted() -> None:
    """An external string always remains a single segment of a path."""
    assert segment("a/b?c d") == "a%2Fb%3Fc%20d"


def test_errors_do_not_quote_the_request(sandbox: Sandbox, services: Services) -> None:
    """If NOMIS quotes text that it refuses, neither the error nor the recorded failure contains that text."""
    message = "Field error on field 'comment': rejected value [Visit of his sister Ann]; codes [Size]; errorCode 1001"
    body = {"status": 400, "userMessage": message, "developerMessage": message}
    sandbox.fault("nomis", kind="status", status=400, body=body)
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("POST", "/prisoners/A1234BC/visits", body={"comment": "Visit of his sister Ann"})
    failure = describe_failure(caught.value)
    assert failure.reason == "Field error on field 'comment': rejected value […]; codes [Size]; errorCode 1001"
    assert str(caught.value).endswith(f"status 400: {failure.reason}")


def test_an_unexpected_error_is_recorded_without_its_text() -> None:
    """The kind and place of an unexpected error are recorded, but not its text, which may quote anything."""
    try:
        int("a comment")
    except ValueError as error:
        failure = describe_failure(error)
    assert re.fullmatch(r"ValueError at test_transport\.py:\d+", failure.reason)

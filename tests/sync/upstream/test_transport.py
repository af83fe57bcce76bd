"""Calls to upstream services over real HTTP: what comes back, and what is known when nothing does."""

from __future__ import annotations

import gzip
import resource
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from itertools import repeat
from typing import Any

import orjson
import pytest
import time_machine

from sandbox import Sandbox
from sandbox.auth import CLIENTS
from sync.domains.activities import dps as activities_api
from sync.domains.activities import nomis as nomis_activities
from sync.domains.activities.dps import Allocation
from sync.domains.activities.nomis import AttendanceSession
from sync.domains.activities.rules import MAPPINGS as ACTIVITY_MAPPINGS
from sync.domains.adjustments import dps as adjustments_api
from sync.domains.adjustments import nomis as nomis_adjustments
from sync.domains.appointments import dps as appointments_api
from sync.domains.appointments import nomis as nomis_appointments
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.domains.registry import DOMAINS
from sync.domains.visits import dps as visits_api
from sync.domains.visits import nomis as nomis_visits
from sync.domains.visits.rules import MAPPINGS as VISIT_MAPPINGS
from sync.failures import LeaseBusy, NotUnderstood, UpstreamError, describe_failure
from sync.settings.declaration import UpstreamName
from sync.settings.loading import load_settings
from sync.upstream import prisoners as nomis_prisoners
from sync.upstream.services import Services, connect
from sync.upstream.transport import ServiceClient, Transport, segment
from tests.harness.faults import hits

IEP = {
    "bookingId": 5,
    "incentiveSequence": 1,
    "iepDateTime": "2023-05-22T10:00:00",
    "prisonId": "LEI",
    "iepLevel": {"code": "STD"},
    "whenCreated": "2023-05-22T10:00:00",
}
ADJUSTMENT = {"id": 2, "bookingId": 5, "adjustmentType": {"code": "RX"}, "adjustmentDays": 1}
ALLOCATION = Allocation(
    id=1, prisoner_number="A1234BC", booking_id=5, schedule_id=1, start_date=date(2023, 5, 1), status="ENDED"
)
VISIT_POST = "/prisoners/{offender_no}/visits"
SESSION = AttendanceSession(schedule_date=date(2023, 5, 22), start_time="09:00", end_time="11:00")


class RecordedCalls:
    """An observer that records every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[UpstreamName, str, int | str | None]] = []

    def before_call(self, _service: UpstreamName) -> bool:
        """Every call is made, and none is the first after an outage."""
        return False

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, seconds: float) -> None:
        """Keeps service, method and status of the error."""
        assert seconds > 0
        self.calls.append((service, method, None if error is None else error.status or "no answer"))

    def not_called(self, service: UpstreamName) -> None:
        """Nothing is kept of a call that was not made."""


@pytest.fixture
def recorded() -> RecordedCalls:
    """The calls that the observer saw."""
    return RecordedCalls()


@pytest.fixture
def services(sandbox: Sandbox, recorded: RecordedCalls) -> Iterator[Services]:
    """The services of the sandbox, with time-outs of a second."""
    transport = Transport(load_settings({**sandbox.environment(), "API_TIMEOUT_SECONDS": "1"}), (recorded,))
    yield connect(transport)
    transport.close()


def post_visit(services: Services) -> None:
    """Posts a visit that NOMIS would refuse if it read it."""
    services.nomis.call("POST", "/prisoners/A1234BC/visits", body={})


def statuses_of_pages(sandbox: Sandbox) -> list[int]:
    """The statuses of NOMIS's responses to calls for pages of prisoners."""
    return [each["status"] for each in sandbox.requests("nomis") if each["path"].startswith(nomis_prisoners.PATH)]


def test_reads_and_decodes(sandbox: Sandbox, services: Services) -> None:
    """A response comes back decoded, page by page."""
    page = nomis_prisoners.prisoner_page(services.nomis, 1, 50)
    assert (page.number, page.total_elements, page.total_pages, page.last) == (1, 200, 4, False)
    first = nomis_prisoners.prisoner_page(services.nomis, 0, 50)
    assert first.prisoners[-1].booking_id < page.prisoners[0].booking_id
    assert {each.offender_no for each in page.prisoners} <= {each["offenderNo"] for each in sandbox.prisoners()}


def test_404_is_none_where_it_means_none(services: Services) -> None:
    """A look-up gives None for 404; a read of what must be there raises with the status."""
    assert nomis_incentives.current_iep(services.nomis, 1) is None
    assert VISIT_MAPPINGS.find(services.mapping, "no-such") is None
    with pytest.raises(UpstreamError, match=r"^mapping: GET /mapping/visits/vsipId/no-such: status 404: Not Found: "):
        VISIT_MAPPINGS.get(services.mapping, "no-such")


@pytest.mark.parametrize(
    "text", ["", "default backend - 404", '{"status": 404, "error": "Not Found"}', '{"message": "no Route matched"}']
)
def test_404_of_somebody_else_is_not_none(sandbox: Sandbox, services: Services, text: str) -> None:
    """A 404 without the service's own error body says nothing about the record: a gateway sends it for any path."""
    sandbox.fault("mapping", kind="status", status=404, text=text)
    with pytest.raises(UpstreamError, match="status 404") as caught:
        VISIT_MAPPINGS.find(services.mapping, "no-such")
    assert not caught.value.absent


def test_expired_token_is_renewed_once(sandbox: Sandbox, services: Services, recorded: RecordedCalls) -> None:
    """A token that a service refuses is renewed and the call repeated, which the caller does not notice."""
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    sandbox.expire_tokens()
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert statuses_of_pages(sandbox) == [200, 401, 200]
    assert [call[2] for call in recorded.calls] == [None, None]


def test_401_that_stays_is_raised(sandbox: Sandbox, services: Services) -> None:
    """A service that refuses the renewed token too ends in an error, after two calls."""
    sandbox.fault("nomis", kind="status", status=401)
    with pytest.raises(UpstreamError, match="status 401") as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.recoverable
    assert statuses_of_pages(sandbox) == [401, 401]


@pytest.mark.parametrize("kind", ["timeout_after_write", "timeout_before_write", "reset", "reset_after_write"])
def test_lost_response_of_a_write_is_unknown(sandbox: Sandbox, services: Services, kind: str) -> None:
    """A write whose response is lost may have been applied; it is not repeated."""
    sandbox.fault("nomis", "POST", VISIT_POST, kind=kind, hold=3)
    with pytest.raises(UpstreamError) as caught:
        post_visit(services)
    assert caught.value.outcome_unknown
    assert caught.value.recoverable
    assert str(caught.value).startswith("nomis: POST /prisoners/A1234BC/visits: no answer: ")
    assert sum(fault["hits"] for fault in sandbox.faults()) == 1


def test_a_write_is_never_sent_twice(sandbox: Sandbox, services: Services) -> None:
    """A PUT whose connection is lost may be at work still: whether it may be sent again is not for the wire to say."""
    fault = sandbox.fault("nomis", "PUT", kind="reset_after_write")
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("PUT", "/activities/1/allocation", body={})
    assert caught.value.outcome_unknown
    assert hits(sandbox, fault) == 1


def test_no_write_is_sent_without_a_lease(sandbox: Sandbox) -> None:
    """Where the lease has run out writes are refused before they are sent, and reads go on."""

    def too_late() -> None:
        raise LeaseBusy("visit:a")

    transport = Transport(load_settings(sandbox.environment()), may_write=too_late)
    services = connect(transport)
    assert nomis_prisoners.prisoner_page(services.nomis, 0, 1).total_elements == 200
    with pytest.raises(LeaseBusy):
        post_visit(services)
    transport.close()
    assert {each["method"] for each in sandbox.requests("nomis")} == {"GET"}


def test_truncated_response_of_a_write_is_unknown(sandbox: Sandbox, services: Services) -> None:
    """A write whose response breaks off may have been applied."""
    sandbox.fault("mapping", "POST", kind="truncated")
    body = {"vsipId": "aa-bb", "nomisId": 1, "mappingType": "ONLINE"}
    with pytest.raises(UpstreamError) as caught:
        VISIT_MAPPINGS.post(services.mapping, body)
    assert caught.value.outcome_unknown


def test_truncated_read_is_known_and_tried_again(sandbox: Sandbox, services: Services) -> None:
    """A read whose response breaks off is harmless: it is tried once more, and its outcome is never in doubt."""
    sandbox.fault("nomis", "GET", kind="truncated", times=1)
    assert nomis_prisoners.prisoner_page(services.nomis, 0, 1).total_elements == 200
    sandbox.fault("nomis", "GET", kind="truncated")
    with pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert not caught.value.outcome_unknown
    assert caught.value.recoverable


def test_refused_connection_is_known(sandbox: Sandbox) -> None:
    """A connection that is refused never reached the service: the write was not applied."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    transport = Transport(load_settings({**sandbox.environment(), "API_BASE_URL_NOMIS": address}))
    with pytest.raises(UpstreamError) as caught:
        post_visit(connect(transport))
    transport.close()
    assert (caught.value.outcome_unknown, caught.value.recoverable) == (False, True)
    assert str(caught.value) == "nomis: POST /prisoners/A1234BC/visits: no answer: connection refused"


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
def test_statuses(sandbox: Sandbox, services: Services, status: int, recoverable: bool, unknown: bool) -> None:
    """Each status says whether a repeat may help, and whether a write may have been applied."""
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
def test_what_is_not_the_word_of_the_service(sandbox: Sandbox, services: Services, status: int, text: str) -> None:
    """Whatever a gateway or another server says is a fault of the way: it may heal, and a write may have been applied.

    Only 401, 403 and 429 without any body are decided before the work, and then a write is sent with a new token.
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
def test_a_path_that_the_service_does_not_have(sandbox: Sandbox, services: Services, words: str, field: str) -> None:
    """A 404 of a service about the path, as at a wrong address, says nothing of the record; a write is refused."""
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
def test_texts_that_tell_a_refusal(sandbox: Sandbox, services: Services, words: str, unknown: bool) -> None:
    """A 500 leaves a write in doubt unless its text is known to mean that the transaction was rolled back."""
    sandbox.fault("nomis", "POST", kind="status", status=500, body={"status": 500, "userMessage": words})
    with pytest.raises(UpstreamError) as caught:
        post_visit(services)
    assert caught.value.outcome_unknown is unknown


def test_only_the_known_text_makes_an_appointment_in_a_cell_refused(sandbox: Sandbox, services: Services) -> None:
    """Another 500 of an appointment without a location is not the refusal of such appointments."""
    words = "Unexpected error: Could not commit JPA transaction"
    sandbox.fault("nomis", "POST", kind="status", status=500, body={"status": 500, "userMessage": words})
    with pytest.raises(UpstreamError) as caught:
        nomis_appointments.create_appointment(services.nomis, {})
    assert (caught.value.recoverable, caught.value.outcome_unknown) == (True, True)


def test_rows_that_should_be_unique_do_not_heal(sandbox: Sandbox, services: Services) -> None:
    """NOMIS's 500 about a result that is not unique is told apart from those that heal."""
    body = {"userMessage": "Unexpected error: query did not return a unique result: 2"}
    sandbox.fault("nomis", kind="status", status=500, body=body)
    with pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.non_unique
    assert not caught.value.recoverable


def test_conflict_carries_both_mappings(services: Services) -> None:
    """A refused mapping carries the existing and the refused one."""
    VISIT_MAPPINGS.post(services.mapping, {"vsipId": "a-b", "nomisId": 1, "mappingType": "ONLINE"})
    with pytest.raises(UpstreamError) as caught:
        VISIT_MAPPINGS.post(services.mapping, {"vsipId": "a-b", "nomisId": 2, "mappingType": "ONLINE"})
    assert caught.value.status == 409
    more = caught.value.more_info
    assert isinstance(more, dict)
    assert (more["existing"]["nomisId"], more["duplicate"]["nomisId"]) == (1, 2)


def test_retry_after_is_kept(sandbox: Sandbox, services: Services) -> None:
    """The wait that a service asks for comes with the error."""
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
    """All forms of RFC 9110 are waited for; what is neither a number nor a date is ignored."""
    sandbox.fault("nomis", kind="status", status=503, headers={"Retry-After": header})
    with time_machine.travel(datetime(2023, 5, 22, 10, tzinfo=UTC), tick=False), pytest.raises(UpstreamError) as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize("kind", ["gzip", "chunked", "trickle"])
def test_unusual_responses_are_read(sandbox: Sandbox, services: Services, kind: str) -> None:
    """Compressed, chunked and slowly dripping responses are read like others."""
    sandbox.fault("nomis", kind=kind, ms=5)
    assert nomis_prisoners.prisoner_page(services.nomis, 0, 3).total_elements == 200


def test_html_in_place_of_json(sandbox: Sandbox, services: Services) -> None:
    """HTML instead of JSON is an error; after a create the outcome is unknown."""
    sandbox.fault("nomis", kind="html")
    with pytest.raises(UpstreamError, match="not valid JSON") as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert not caught.value.outcome_unknown


def test_a_compressed_body_that_breaks_off_is_not_believed(sandbox: Sandbox) -> None:
    """Half of a body never counts as the whole, although its length is as the service said."""
    body = gzip.compress(orjson.dumps(list(range(5_000))), mtime=0)[:-100]
    with responding(HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body) as address:
        transport = Transport(load_settings({**sandbox.environment(), "API_BASE_URL_NOMIS": address}))
        with pytest.raises(UpstreamError) as caught:
            transport.client(UpstreamName.NOMIS).call("GET", "/x")
        assert (caught.value.status, caught.value.recoverable) == (None, True)
        transport.close()


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"a\ud83d", "a"),
        (r"\ude00b", "b"),
        (r"\ud83d\ude00\uD83D", "😀"),
        (r"\ud83d\ud83d\ude00", "😀"),
        (r"\\ud83d\ud83d", "\\ud83d"),
    ],
)
def test_half_a_character_is_left_out(sandbox: Sandbox, services: Services, written: str, read: str) -> None:
    """A text that was cut within a character does not keep its record from being read."""
    sandbox.fault("nomis", kind="status", status=200, text=f'{{"text": "{written}"}}')
    assert services.nomis.call("GET", "/visits/1") == {"text": read}


def test_the_body_of_an_error_with_200(sandbox: Sandbox, services: Services) -> None:
    """An update is not done because somebody put 200 in front of an error."""
    body = {"status": 500, "userMessage": "Unexpected error"}
    sandbox.fault("nomis", kind="status", status=200, body=body)
    with pytest.raises(UpstreamError, match="the body of an error") as caught:
        nomis_appointments.cancel_appointment(services.nomis, 1)
    assert (caught.value.recoverable, caught.value.outcome_unknown) == (True, True)


#: A read of each publisher.
PUBLISHER_READS: dict[UpstreamName, Callable[[ServiceClient], object]] = {
    UpstreamName.VISITS: lambda client: visits_api.visit(client, "vv-1"),
    UpstreamName.INCENTIVES: lambda client: incentives_api.booking_summary(client, 1),
    UpstreamName.ACTIVITIES: lambda client: activities_api.later_allocations(client, ALLOCATION),
    UpstreamName.APPOINTMENTS: lambda client: appointments_api.appointment_exists(client, 1),
    UpstreamName.SENTENCE_ADJUSTMENTS: lambda client: adjustments_api.adjustment_exists(client, "1"),
}


def test_no_domain_is_left_out() -> None:
    """The table has a read of the publisher of each domain."""
    assert list(PUBLISHER_READS) == [domain.publisher for domain in DOMAINS.values()]


@pytest.mark.parametrize("text", ["", "null"])
@pytest.mark.parametrize("publisher", PUBLISHER_READS)
def test_an_empty_response_of_a_publisher_is_never_none(
    sandbox: Sandbox, services: Services, publisher: UpstreamName, text: str
) -> None:
    """No read of a DPS record concludes anything from an empty 200, and the breaker hears of it."""
    (name,) = (client.service for client in CLIENTS if client.address_variable == publisher.address_variable)
    sandbox.fault(name, kind="status", status=200, text=text)
    with pytest.raises(NotUnderstood, match="status 200: the response is empty") as caught:
        PUBLISHER_READS[publisher](services[publisher])
    assert caught.value.recoverable


@pytest.mark.parametrize("text", ["", "null"])
def test_an_empty_response_of_a_read_is_never_none(sandbox: Sandbox, services: Services, text: str) -> None:
    """Neither a look-up nor a read concludes anything from an empty 200, and the breaker hears of it."""
    for service in ("nomis", "mapping"):
        sandbox.fault(service, kind="status", status=200, text=text)
    for read in (
        lambda: nomis_incentives.current_iep(services.nomis, 1),
        lambda: nomis_incentives.prison_level_exists(services.nomis, "LEI", "STD"),
        lambda: nomis_visits.find_visit(services.nomis, 1),
        lambda: VISIT_MAPPINGS.find(services.mapping, "no-such"),
        lambda: ACTIVITY_MAPPINGS.list_all(services.mapping),
        lambda: nomis_prisoners.prisoner_page(services.nomis, 0, 1),
        lambda: nomis_activities.attendance_status(services.nomis, 1, 1, SESSION),
    ):
        with pytest.raises(NotUnderstood, match="status 200: the response is empty") as caught:
            read()
        assert caught.value.recoverable


def test_unusable_response_names_fields_not_values(sandbox: Sandbox, services: Services) -> None:
    """A response that does not fit is reported by service, call and field names, never by its values."""
    answer = {"id": "personal", "iepCode": "STD", "bookingId": 1, "iepDate": "2023-05-01", "comments": "secret words"}
    sandbox.fault("incentives", kind="status", status=200, body=answer)
    with pytest.raises(UpstreamError) as caught:
        incentives_api.review(services[UpstreamName.INCENTIVES], 7)
    text = str(caught.value)
    assert text.startswith("incentives: GET /iep/reviews/id/7: status 200: the response cannot be used: ")
    assert "id (int_parsing)" in text
    assert "iepTime (missing)" in text
    assert "personal" not in text
    assert "secret" not in text


def test_unusable_response_of_a_create_is_unknown(sandbox: Sandbox, services: Services) -> None:
    """A create whose response lacks the id has made an unknown record: its outcome is unknown."""
    sandbox.fault("nomis", "POST", kind="status", status=201, body={"visit": 1})
    with pytest.raises(UpstreamError, match="visitId") as caught:
        nomis_visits.create_visit(services.nomis, "A1234BC", {})
    assert caught.value.outcome_unknown


def test_observers_hear_of_every_call(sandbox: Sandbox, services: Services, recorded: RecordedCalls) -> None:
    """Observers learn of good and bad calls alike, with the service and the error."""
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    sandbox.fault("mapping", kind="status", status=503, times=1)
    with pytest.raises(UpstreamError):
        VISIT_MAPPINGS.find(services.mapping, "x")
    assert recorded.calls == [(UpstreamName.NOMIS, "GET", None), (UpstreamName.MAPPING, "GET", 503)]


def test_calls_in_flight_are_limited(sandbox: Sandbox) -> None:
    """All callers in a process together have no more calls in flight to one service than the setting allows."""
    transport = Transport(load_settings({**sandbox.environment(), "RECONCILIATION_CONCURRENCY": "5"}))
    drain, reconciliation = connect(transport).nomis, connect(transport).nomis
    sandbox.latency(20, "nomis")
    with ThreadPoolExecutor(40) as pool:
        list(pool.map(nomis_prisoners.prisoner_page, [drain, reconciliation] * 20, range(40), repeat(10)))
    transport.close()
    # The service sees the end of a call a moment after its caller, so for that moment it counts one in two calls.
    assert 1 < sandbox.load()["nomis"] <= 10


def test_each_service_has_its_own_client(sandbox: Sandbox, services: Services) -> None:
    """Every service is called with the token of its own client."""
    environment = sandbox.environment()
    nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    VISIT_MAPPINGS.find(services.mapping, "x")
    assert {each["client_id"] for each in sandbox.requests("nomis") if "/prisoners/ids" in each["path"]} == {
        environment["SYSTEM_CLIENT_ID"]
    }
    assert {each["client_id"] for each in sandbox.requests("mapping")} == {environment["MAPPING_CLIENT_ID"]}


def test_segments_are_quoted() -> None:
    """Whatever comes from outside stays one segment of a path."""
    assert segment("a/b?c d") == "a%2Fb%3Fc%20d"


@contextmanager
def responding(first: bytes, again: bytes = b"") -> Iterator[str]:
    """A server that sends the first bytes and then `again` without end, or waits for the end; its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    accepted: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                accepted.append(connection)
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    connection.sendall(first)
                    while again:
                        connection.sendall(again)
                    connection.recv(1)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    for connection in accepted:
        # A client may keep a connection whose response it has read to its end.
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    serving.join(10)
    assert not serving.is_alive()


def zipped_zeros(megabytes: int) -> bytes:
    """So many megabytes of zeros, as gzip."""
    packer = zlib.compressobj(wbits=31)
    return b"".join([*(packer.compress(bytes(1_000_000)) for _ in range(megabytes)), packer.flush()])


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BOMB = zipped_zeros(200)
ENDLESS = {
    "gzip": (HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB,),
    "without a length": (HEAD + b"\r\n", bytes(1_000_000)),
    "in chunks": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"100000\r\n" + bytes(0x100000) + b"\r\n"),
    "a head": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65_536),
}


@pytest.mark.parametrize("pieces", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("kind", ["call", "write", "token", "ping"])
def test_no_response_is_read_beyond_its_limits(sandbox: Sandbox, kind: str, pieces: tuple[bytes, ...]) -> None:
    """Calls, tokens and pings end at a limit of size, in whatever form the response comes; a write is then in doubt."""
    with responding(*pieces) as address:
        what = "API_BASE_URL_OAUTH" if kind == "token" else "API_BASE_URL_NOMIS"
        transport = Transport(load_settings({**sandbox.environment(), what: address, "API_TIMEOUT_SECONDS": "20"}))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if kind == "ping":
            assert transport.ping(UpstreamName.NOMIS, 20)
        else:
            with pytest.raises(UpstreamError) as caught:
                connect(transport).nomis.call("PUT" if kind == "write" else "GET", "/x")
            assert (caught.value.status, caught.value.outcome_unknown) == (None, kind == "write")
        transport.close()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000


def test_a_ping_that_drips_is_given_up(sandbox: Sandbox) -> None:
    """The limit of time is that of the whole ping, and of its head as of its body."""
    transport = Transport(load_settings(sandbox.environment()))
    sandbox.fault("nomis", path="/health/ping", kind="trickle", ms=400)
    assert transport.ping(UpstreamName.NOMIS, 0.5) == "timed out"
    transport.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 503}, "status 503"),
        ({"status": 302, "text": "", "headers": {"Location": "/health/ping"}}, "status 302"),
        (
            {"status": 200, "text": "<html>Sign in</html>"},
            'status 200, but not the health of a service ("status": "UP")',
        ),
        ({"status": 200, "text": ""}, 'status 200, but not the health of a service ("status": "UP")'),
        ({"status": 200, "text": '["UP"]'}, 'status 200, but not the health of a service ("status": "UP")'),
        (
            {"status": 200, "body": {"status": "DOWN"}},
            'status 200, but not the health of a service ("status": "UP")',
        ),
        ({"status": 204, "text": ""}, "status 204"),
    ],
)
def test_a_ping_wants_to_hear_that_the_service_is_up(sandbox: Sandbox, fault: dict[str, Any], reason: str) -> None:
    """Neither a redirect nor the page of somebody else says so, and then no call is worth trying."""
    transport = Transport(load_settings(sandbox.environment()))
    sandbox.fault("nomis", path="/health/ping", kind="status", **fault)
    assert transport.ping(UpstreamName.NOMIS) == reason
    assert transport.reach(UpstreamName.NOMIS) == reason
    transport.close()


@pytest.mark.parametrize("status", [401, 403, 404, 405])
def test_a_ping_that_is_not_offered(sandbox: Sandbox, status: int) -> None:
    """Where the ping is not there, or not open to us, a service may be up: the calls show it."""
    transport = Transport(load_settings(sandbox.environment()))
    sandbox.fault("nomis", path="/health/ping", kind="status", status=status)
    assert transport.ping(UpstreamName.NOMIS) == f"status {status}"
    assert transport.reach(UpstreamName.NOMIS) is None
    transport.close()


def test_ping(sandbox: Sandbox) -> None:
    """A ping needs no token."""
    transport = Transport(load_settings(sandbox.environment()))
    assert transport.ping(UpstreamName.NOMIS) is None
    assert transport.ping(UpstreamName.OAUTH) is None
    assert sandbox.requests("auth")[0]["path"] == "/auth/health/ping"
    transport.close()


@pytest.mark.parametrize(
    ("service", "read", "answer"),
    [
        ("nomis", lambda s: nomis_visits.find_visit(s.nomis, 1), {"visitId": 2}),
        ("nomis", lambda s: nomis_adjustments.find_adjustment(s.nomis, "SENTENCE", 1), ADJUSTMENT),
        ("nomis", lambda s: nomis_incentives.iep_record(s.nomis, 5, 1), {**IEP, "incentiveSequence": 2}),
        ("nomis", lambda s: nomis_incentives.current_iep(s.nomis, 6), IEP),
        ("nomis", lambda s: nomis_incentives.find_global_level(s.nomis, "STD"), {"code": "ENH", "sequence": 1}),
        (
            "nomis",
            lambda s: nomis_incentives.prison_level_exists(s.nomis, "LEI", "STD"),
            {"prisonId": "MDI", "iepLevelCode": "STD"},
        ),
        (
            "incentives",
            lambda s: incentives_api.level(s[UpstreamName.INCENTIVES], "STD"),
            {"code": "E", "name": "E", "active": True},
        ),
        ("appointments", lambda s: appointments_api.appointment_exists(s[UpstreamName.APPOINTMENTS], 1), {"id": 2}),
        (
            "adjustments",
            lambda s: adjustments_api.adjustment_exists(s[UpstreamName.SENTENCE_ADJUSTMENTS], "1"),
            {"status": "UP"},
        ),
    ],
)
def test_another_record_than_the_one_asked_for_is_not_believed(
    sandbox: Sandbox, services: Services, service: str, read: Callable[[Services], object], answer: object
) -> None:
    """What a service says of a record counts only where it is the record that was asked for."""
    sandbox.fault(service, kind="status", status=200, body=answer)
    with pytest.raises(NotUnderstood) as caught:
        read(services)
    assert caught.value.recoverable
    others: list[Any] = [[], {}, "ok", [answer]]
    for other in others:
        sandbox.clear_faults()
        sandbox.fault(service, kind="status", status=200, body=other)
        with pytest.raises(NotUnderstood):
            read(services)


def test_a_create_for_another_booking_is_unknown(sandbox: Sandbox, services: Services) -> None:
    """A create whose response names another booking or an invalid number leaves open what it made."""
    for answer in ({"bookingId": 9, "sequence": 1}, {"bookingId": 5, "sequence": 0}, {"bookingId": 5}, "ok", None):
        sandbox.clear_faults()
        sandbox.fault("nomis", "POST", kind="status", status=201, text=orjson.dumps(answer).decode())
        with pytest.raises(NotUnderstood) as caught:
            nomis_incentives.create_iep(services.nomis, 5, {})
        assert caught.value.outcome_unknown


def test_a_quoted_text_of_the_request_is_in_no_error(sandbox: Sandbox, services: Services) -> None:
    """NOMIS repeats what it refuses; what is told and recorded of it has neither that nor the text itself."""
    said = "Field error on field 'comment': rejected value [Visit of his sister Ann]; codes [Size]; errorCode 1001"
    body = {"status": 400, "userMessage": said, "developerMessage": said}
    sandbox.fault("nomis", kind="status", status=400, body=body)
    with pytest.raises(UpstreamError) as caught:
        services.nomis.call("POST", "/prisoners/A1234BC/visits", body={"comment": "Visit of his sister Ann"})
    failure = describe_failure(caught.value)
    assert failure.reason == "Field error on field 'comment': rejected value […]; codes [Size]; errorCode 1001"
    assert str(caught.value).endswith(f"status 400: {failure.reason}")


def test_an_unforeseen_error_is_recorded_without_its_text() -> None:
    """It may quote whatever it met; the kind and the place are enough to find it."""
    try:
        int("a comment")
    except ValueError as error:
        failure = describe_failure(error)
    assert failure.reason.startswith("ValueError at test_transport.py:")

"""Nothing is concluded from a response that cannot be used or is about a different record."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any

import orjson
import pytest

from sandbox import Sandbox
from sandbox.domains import CLIENTS
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
from sync.errors import NotUnderstood, UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.upstream import prisoners as nomis_prisoners
from sync.upstream.services import Services
from sync.upstream.transport import ServiceClient

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


@pytest.mark.parametrize("kind", ["gzip", "chunked", "trickle"])
def test_unusual_responses_are_read(sandbox: Sandbox, services: Services, kind: str) -> None:
    """Compressed, chunked and slow responses are read like any other response."""
    sandbox.fault("nomis", kind=kind, ms=5)
    assert nomis_prisoners.prisoner_page(services.nomis, 0, 3).total_elements == 200


def test_html_instead_of_json_is_an_error(sandbox: Sandbox, services: Services) -> None:
    """If the response to a read is HTML instead of JSON, the read fails, but its outcome is not unknown."""
    sandbox.fault("nomis", kind="html")
    with pytest.raises(UpstreamError, match="not valid JSON") as caught:
        nomis_prisoners.prisoner_page(services.nomis, 0, 1)
    assert not caught.value.outcome_unknown


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
def test_a_text_cut_within_a_character_is_read(sandbox: Sandbox, services: Services, written: str, read: str) -> None:
    """If a string is cut in the middle of a character, that character is left out, so the record can be read."""
    sandbox.fault("nomis", kind="status", status=200, text=f'{{"text": "{written}"}}')
    assert services.nomis.call("GET", "/visits/1") == {"text": read}


def test_an_error_body_with_status_200_is_not_success(sandbox: Sandbox, services: Services) -> None:
    """An update with status 200 does not count as done if the body of the response is that of an error."""
    body = {"status": 500, "userMessage": "Unexpected error"}
    sandbox.fault("nomis", kind="status", status=200, body=body)
    with pytest.raises(UpstreamError, match="the body of an error") as caught:
        nomis_appointments.cancel_appointment(services.nomis, 1)
    assert (caught.value.recoverable, caught.value.outcome_unknown) == (True, True)


#: One read for each publisher.
PUBLISHER_READS: dict[UpstreamName, Callable[[ServiceClient], object]] = {
    UpstreamName.VISITS: lambda client: visits_api.visit(client, "vv-1"),
    UpstreamName.INCENTIVES: lambda client: incentives_api.booking_summary(client, 1),
    UpstreamName.ACTIVITIES: lambda client: activities_api.later_allocations(client, ALLOCATION),
    UpstreamName.APPOINTMENTS: lambda client: appointments_api.appointment_exists(client, 1),
    UpstreamName.SENTENCE_ADJUSTMENTS: lambda client: adjustments_api.adjustment_exists(client, "1"),
}


def test_no_domain_is_left_out() -> None:
    """The table of reads has an entry for each domain's publisher."""
    assert list(PUBLISHER_READS) == [domain.publisher for domain in DOMAINS.values()]


@pytest.mark.parametrize("text", ["", "null"])
@pytest.mark.parametrize("publisher", PUBLISHER_READS)
def test_an_empty_response_of_a_publisher_proves_nothing(
    sandbox: Sandbox, services: Services, publisher: UpstreamName, text: str
) -> None:
    """A 200 with an empty or `null` body, in response to a read of a DPS record, is a recoverable error."""
    (name,) = (client.service for client in CLIENTS if client.address_variable == publisher.address_variable)
    sandbox.fault(name, kind="status", status=200, text=text)
    with pytest.raises(NotUnderstood, match="status 200: the response is empty") as caught:
        PUBLISHER_READS[publisher](services[publisher])
    assert caught.value.recoverable


@pytest.mark.parametrize("text", ["", "null"])
def test_an_empty_response_never_means_none(sandbox: Sandbox, services: Services, text: str) -> None:
    """For any read in NOMIS or the mapping service, a 200 with an empty or `null` body is a recoverable error."""
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
    """The error about an unusable response names the service, the call and the fields, but never their values."""
    body = {"id": "personal", "iepCode": "STD", "bookingId": 1, "iepDate": "2023-05-01", "comments": "secret words"}
    sandbox.fault("incentives", kind="status", status=200, body=body)
    with pytest.raises(UpstreamError) as caught:
        incentives_api.review(services[UpstreamName.INCENTIVES], 7)
    text = str(caught.value)
    assert text.startswith("incentives: GET /iep/reviews/id/7: status 200: the response cannot be used: ")
    assert "id (int_parsing)" in text
    assert "iepTime (missing)" in text
    assert "personal" not in text
    assert "secret" not in text


def test_unusable_response_of_a_create_is_unknown(sandbox: Sandbox, services: Services) -> None:
    """If the response to a create lacks the id, the outcome of the create is unknown."""
    sandbox.fault("nomis", "POST", kind="status", status=201, body={"visit": 1})
    with pytest.raises(UpstreamError, match="visitId") as caught:
        nomis_visits.create_visit(services.nomis, "A1234BC", {})
    assert caught.value.outcome_unknown


@pytest.mark.parametrize(
    ("service", "read", "body"),
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
def test_a_response_about_another_record_is_refused(
    sandbox: Sandbox, services: Services, service: str, read: Callable[[Services], object], body: object
) -> None:
    """A response to a read is refused if it is about a different record or is not a record at all."""
    sandbox.fault(service, kind="status", status=200, body=body)
    with pytest.raises(NotUnderstood) as caught:
        read(services)
    assert caught.value.recoverable
    others: list[Any] = [[], {}, "ok", [body]]
    for other in others:
        sandbox.clear_faults()
        sandbox.fault(service, kind="status", status=200, body=other)
        with pytest.raises(NotUnderstood):
            read(services)


def test_a_create_for_another_booking_is_unknown(sandbox: Sandbox, services: Services) -> None:
    """If the response to a create is about another booking or lacks a valid sequence number, the outcome is unknown."""
    for body in ({"bookingId": 9, "sequence": 1}, {"bookingId": 5, "sequence": 0}, {"bookingId": 5}, "ok", None):
        sandbox.clear_faults()
        sandbox.fault("nomis", "POST", kind="status", status=201, text=orjson.dumps(body).decode())
        with pytest.raises(NotUnderstood) as caught:
            nomis_incentives.create_iep(services.nomis, 5, {})
        assert caught.value.outcome_unknown

"""Visits go from visit-scheduler to NOMIS, despite lost responses and events out of order."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from sandbox import Sandbox
from sync.domains.visits.nomis import CreateVisit, create_visit
from sync.domains.visits.rules import nomis_outcome, nomis_visit_type
from sync.errors import LeaseBusy, MalformedMessage, RuleError, UpstreamError
from sync.events.context import Outcome
from tests.harness.faults import faulty
from tests.harness.handlers import Harness, Prisoner
from tests.harness.publishing import put_visit

REFERENCE = "bq-te-ke-ol"
BOOKED_AT = datetime(2023, 5, 22, 23, 30, tzinfo=timezone(timedelta(hours=1)))


def put(harness: Harness, reference: str = REFERENCE, **changes: Any) -> None:
    """Books or changes a visit in visit-scheduler, by default with two visitors."""
    put_visit(harness.sandbox, reference, **{"person_ids": [4_729_570, 4_729_550], **changes})


def book(harness: Harness, prisoner: Prisoner, reference: str = REFERENCE) -> Outcome | str:
    """Handles the event for a booking."""
    return harness.handle("prison-visit.booked", prisoner.offender_no, BOOKED_AT, reference=reference)


def change(harness: Harness, prisoner: Prisoner) -> Outcome | str:
    """Handles the event for a change."""
    return harness.handle("prison-visit.changed", prisoner.offender_no, reference=REFERENCE)


def cancel(harness: Harness, prisoner: Prisoner) -> Outcome | str:
    """Handles the event for a cancellation."""
    return harness.handle("prison-visit.cancelled", prisoner.offender_no, reference=REFERENCE)


def nomis_visit(harness: Harness) -> dict[str, Any]:
    """The only visit in NOMIS."""
    (visit,) = harness.sandbox.nomis("visit")
    return dict(visit)


def test_booked_visit_is_created_and_mapped(harness: Harness, prisoner: Prisoner) -> None:
    """A booked visit is created in NOMIS with every field, mapped, and tracked with all properties."""
    put(harness, restriction="CLOSED", visit_type="FAMILY")
    assert book(harness, prisoner) is Outcome.APPLIED
    sent = [each["body"] for each in harness.sandbox.journal("nomis") if each["path"].endswith("/visits")]
    assert sent == [
        {
            "prisonId": prisoner.prison_id,
            "startDateTime": "2023-06-02T14:00:00",
            "endTime": "15:00:00",
            "visitorPersonIds": [4_729_570, 4_729_550],
            "issueDate": "2023-05-22",
            "visitType": "SCON",
            "visitComment": f"Created by Book A Prison Visit. Reference: {REFERENCE}",
            "visitOrderComment": f"Created by Book A Prison Visit for visit with reference: {REFERENCE}",
            "room": "Visits Main Hall",
            "openClosedStatus": "CLOSED",
        }
    ]
    visit_id = nomis_visit(harness)["id"]
    (mapping,) = harness.sandbox.mappings("visits")
    assert (mapping["nomisId"], mapping["vsipId"], mapping["mappingType"]) == (visit_id, REFERENCE, "ONLINE")
    assert harness.tracked() == [
        (
            "visit-create-success",
            {
                "visitId": REFERENCE,
                "offenderNo": prisoner.offender_no,
                "prisonId": prisoner.prison_id,
                "startDateTime": "2023-06-02T14:00:00",
                "endTime": "15:00:00",
                "nomisId": str(visit_id),
                "vsipId": REFERENCE,
                "mappingType": "ONLINE",
            },
        )
    ]


def test_visit_without_end_is_malformed(harness: Harness, prisoner: Prisoner) -> None:
    """A visit without an end time is refused as malformed. The program does not invent an end time."""
    body = {"reference": REFERENCE, "prisonerId": prisoner.offender_no, "prisonId": "MDI", "visitRoom": "A",
              "visitType": "SOCIAL", "visitRestriction": "OPEN", "startTimestamp": "2023-06-02T14:00:00"}  # fmt: skip
    harness.sandbox.fault("visits", kind="status", status=200, body=body)
    with pytest.raises(UpstreamError, match=r"visits: GET /visits/bq-te-ke-ol: .*endTimestamp \(missing\)"):
        book(harness, prisoner)
    assert harness.sandbox.nomis("visit") == []
    assert [name for name, _ in harness.tracked()] == ["visit-create-failed"]


def test_second_delivery_is_a_duplicate(harness: Harness, prisoner: Prisoner) -> None:
    """A second delivery of a booking creates no second visit."""
    put(harness)
    book(harness, prisoner)
    assert book(harness, prisoner) is Outcome.DUPLICATE
    assert len(harness.sandbox.nomis("visit")) == 1
    assert [name for name, _ in harness.tracked()] == ["visit-create-success", "visit-create-duplicate"]


@pytest.mark.parametrize("kind", ["reset_after_write", "truncated"])
def test_a_lost_response_of_the_create_is_found_again(harness: Harness, prisoner: Prisoner, kind: str) -> None:
    """If the response to a create is lost, the next attempt finds the visit by its reference, and only maps it."""
    put(harness, "aa-bb-cc-dd")
    book(harness, prisoner, "aa-bb-cc-dd")
    put(harness)
    harness.sandbox.fault("nomis", "POST", kind=kind, times=1)
    with pytest.raises(UpstreamError):
        book(harness, prisoner)
    assert book(harness, prisoner) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("visit")) == 2
    ours = next(each for each in harness.sandbox.nomis("visit") if each["comment"].endswith(REFERENCE))
    assert {each["vsipId"]: each["nomisId"] for each in harness.sandbox.mappings("visits")}[REFERENCE] == ours["id"]


def test_a_lost_request_is_created_by_the_next_delivery(harness: Harness, prisoner: Prisoner) -> None:
    """If the create did not reach NOMIS, the next attempt searches in vain for the visit, and creates it."""
    put(harness)
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        book(harness, prisoner)
    assert book(harness, prisoner) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("visit")) == 1


def test_a_longer_reference_is_not_ours(harness: Harness, prisoner: Prisoner) -> None:
    """A visit whose reference merely begins with the booking's reference is not mapped to the booking.

    Another visit is created.
    """
    put(harness, f"{REFERENCE}-zz")
    book(harness, prisoner, f"{REFERENCE}-zz")
    put(harness)
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        book(harness, prisoner)
    assert book(harness, prisoner) is Outcome.APPLIED
    assert len(harness.sandbox.nomis("visit")) == 2


def test_two_visits_with_the_reference_need_a_person(harness: Harness, prisoner: Prisoner) -> None:
    """If, after a lost response, NOMIS has two visits with the booking's reference, a person has to choose one.

    No third visit is created.
    """
    put(harness)
    body = CreateVisit(
        prison_id=prisoner.prison_id,
        start_date_time="2023-06-02T14:00:00",
        end_time="15:00:00",
        visitor_person_ids=(),
        issue_date="2023-05-22",
        visit_type="SCON",
        visit_comment=f"Created by Book A Prison Visit. Reference: {REFERENCE}",
        visit_order_comment="",
        room="A",
        open_closed_status="OPEN",
    )
    harness.services.nomis.call("POST", f"/prisoners/{prisoner.offender_no}/visits", body=body.as_json())
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        book(harness, prisoner)
    assert book(harness, prisoner) is Outcome.AMBIGUOUS
    assert len(harness.sandbox.nomis("visit")) == 2


def test_failed_mapping_goes_into_a_retry_message(harness: Harness, prisoner: Prisoner) -> None:
    """A mapping that cannot be saved goes into a retry message, and is saved when that message is handled.

    In the message, the NOMIS id of the visit is a JSON string.
    """
    put(harness)
    harness.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    assert book(harness, prisoner) is Outcome.RETRY_QUEUED
    ((queue, body),) = harness.retries
    assert f'\\"nomisId\\":\\"{nomis_visit(harness)["id"]}\\"' in body
    assert harness.handle_retry(queue, body) is Outcome.APPLIED
    assert len(harness.sandbox.mappings("visits")) == 1
    assert [name for name, _ in harness.tracked()] == [
        "visit-mapping-create-failed",
        "visit-create-mapping-retry",
        "visit-retry-success",
    ]
    assert harness.tracked("visit-retry-success")[0][1] == {"id": REFERENCE, "nomisId": str(nomis_visit(harness)["id"])}


def test_a_retry_of_a_visit_made_by_hand_needs_only_the_ids(harness: Harness) -> None:
    """A retry message needs only the two ids, and the NOMIS id may be a JSON number."""
    body = '{"Type":"RETRY_CREATE_MAPPING","Message":"{\\"mapping\\":{\\"nomisId\\":5,\\"vsipId\\":\\"a-b\\"}}"}'
    assert harness.handle_retry("visit", body) is Outcome.APPLIED
    (mapping,) = harness.sandbox.mappings("visits")
    assert (mapping["nomisId"], mapping["mappingType"]) == (5, "ONLINE")


def test_changed_visit_is_updated(harness: Harness, prisoner: Prisoner) -> None:
    """When a visit changes, its date, times, visitors, room and restriction are written to NOMIS."""
    put(harness)
    book(harness, prisoner)
    put(harness, start="2023-06-03T09:30:00", end="2023-06-03T10:15:00", person_ids=[4_700_001],
              room="Video Link", restriction="CLOSED")  # fmt: skip
    assert change(harness, prisoner) == "visit-changed-success"
    held = nomis_visit(harness)
    assert (held["start"], held["end"]) == ("2023-06-03T09:30:00", "2023-06-03T10:15:00")
    assert (held["person_ids"], held["room"]) == ([4_700_001], f"{prisoner.prison_id}-VISITS-VSIP_CLO")
    assert harness.sandbox.journal("nomis")[-1]["body"]["room"] == "Video Link"
    assert harness.tracked("visit-changed-success")[0][1] == {
        "visitId": REFERENCE,
        "offenderNo": prisoner.offender_no,
        "nomisVisitId": str(held["id"]),
    }


def test_a_change_before_the_booking_fails_until_the_visit_exists(harness: Harness, prisoner: Prisoner) -> None:
    """A change that overtakes its booking fails because there is no mapping, and succeeds once the visit is created."""
    put(harness)
    with pytest.raises(UpstreamError, match=r"mapping: GET .* status 404"):
        change(harness, prisoner)
    assert harness.step == "look up mapping"
    book(harness, prisoner)
    assert change(harness, prisoner) == "visit-changed-success"
    assert [name for name, _ in harness.tracked()] == [
        "visit-changed-failed",
        "visit-create-success",
        "visit-changed-success",
    ]


def test_booking_after_the_cancellation_ends_cancelled(harness: Harness, prisoner: Prisoner) -> None:
    """A cancellation that overtakes its booking fails, and the booking still creates the visit.

    The visit is cancelled when the cancellation is delivered again.
    """
    put(harness, status="CANCELLED", outcome="VISITOR_CANCELLED")
    with pytest.raises(UpstreamError, match="404"):
        cancel(harness, prisoner)
    assert book(harness, prisoner) is Outcome.APPLIED
    assert cancel(harness, prisoner) == "visit-cancelled-success"
    assert (nomis_visit(harness)["status"], nomis_visit(harness)["outcome"]) == ("CANC", "VISCANC")


def test_a_second_cancellation_succeeds(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS refuses to cancel a cancelled visit, that counts as success."""
    put(harness)
    book(harness, prisoner)
    put(harness, status="CANCELLED", outcome="ESTABLISHMENT_CANCELLED")
    cancel(harness, prisoner)
    assert cancel(harness, prisoner) == "visit-cancelled-success"
    assert nomis_visit(harness)["outcome"] == "HMP"


def test_other_refusals_of_a_cancellation_fail(harness: Harness, prisoner: Prisoner, sandbox: Sandbox) -> None:
    """A cancellation that NOMIS refuses with 400 fails. The failure is tracked with the NOMIS id of the visit."""
    put(harness)
    book(harness, prisoner)
    sandbox.fault("nomis", "PUT", kind="status", status=400)
    with pytest.raises(UpstreamError, match="400"):
        cancel(harness, prisoner)
    assert harness.step == "cancel visit"
    assert harness.tracked("visit-cancelled-failed")[0][1]["nomisVisitId"] == str(nomis_visit(harness)["id"])


def test_cancellation_waits_for_the_change(harness: Harness, prisoner: Prisoner) -> None:
    """A cancellation waits while another process is writing the visit, so NOMIS never gets two writes of it at once."""
    put(harness)
    book(harness, prisoner)
    with harness.leases.held(f"write:visit:{REFERENCE}"), pytest.raises(LeaseBusy):
        cancel(harness, prisoner)
    assert nomis_visit(harness)["status"] == "SCH"
    cancel(harness, prisoner)
    assert nomis_visit(harness)["status"] == "CANC"


def test_a_change_after_the_cancellation_leaves_the_visit_cancelled(harness: Harness, prisoner: Prisoner) -> None:
    """A late change does not reinstate a cancelled visit."""
    put(harness)
    book(harness, prisoner)
    put(harness, status="CANCELLED", outcome="NO_VISITING_ORDER")
    cancel(harness, prisoner)
    change(harness, prisoner)
    assert (nomis_visit(harness)["status"], nomis_visit(harness)["outcome"]) == ("CANC", "NO_VO")


def test_missing_fields_are_malformed(harness: Harness, prisoner: Prisoner) -> None:
    """An event without a reference, a prisoner or, for a booking, a time is malformed, whatever else it has."""
    with pytest.raises(MalformedMessage, match="reference"):
        harness.handle("prison-visit.booked", prisoner.offender_no, BOOKED_AT)
    with pytest.raises(MalformedMessage, match="prisonerId"):
        harness.handle("prison-visit.changed", reference=REFERENCE)
    put(harness)
    with pytest.raises(MalformedMessage, match="occurredAt"):
        harness.handle("prison-visit.booked", prisoner.offender_no, reference=REFERENCE)


@pytest.mark.parametrize(
    ("outcome_status", "outcome"),
    [
        ("ADMINISTRATIVE_CANCELLATION", "ADMIN"),
        ("ADMINISTRATIVE_ERROR", "ADMIN"),
        ("BATCH_CANCELLATION", "ADMIN"),
        ("ESTABLISHMENT_CANCELLED", "HMP"),
        ("VISITOR_FAILED_SECURITY_CHECKS", "NO_ID"),
        ("NO_VISITING_ORDER", "NO_VO"),
        ("VISITOR_DID_NOT_ARRIVE", "NSHOW"),
        ("PRISONER_CANCELLED", "OFFCANC"),
        ("PRISONER_REFUSED_TO_ATTEND", "REFUSED"),
        ("VISITOR_CANCELLED", "VISCANC"),
        ("VISIT_ORDER_CANCELLED", "VO_CANCEL"),
        ("CANCELLATION", "ADMIN"),
        ("TERMINATED_BY_STAFF", "ADMIN"),
        ("SOMETHING_NEW", "ADMIN"),
        (None, "ADMIN"),
    ],
)
def test_every_outcome_of_a_visit_has_a_nomis_code(outcome_status: str | None, outcome: str) -> None:
    """Each outcome of a cancelled visit has a NOMIS code.

    An unknown or missing outcome becomes an administrative cancellation.
    """
    assert nomis_outcome(outcome_status) == outcome


def test_an_unknown_visit_type_is_refused() -> None:
    """Social and family visits have a NOMIS type. Any other visit type is refused with an error that names it."""
    assert (nomis_visit_type("SOCIAL"), nomis_visit_type("FAMILY")) == ("SCON", "SCON")
    with pytest.raises(RuleError, match="OFFICIAL"):
        nomis_visit_type("OFFICIAL")


def test_the_issue_date_is_in_the_offset_of_the_event(harness: Harness, prisoner: Prisoner) -> None:
    """The issue date of a visit order is the date that the publisher wrote, not the date in UTC or London."""
    put(harness)
    late = datetime(2023, 1, 9, 23, 45, tzinfo=timezone(timedelta(hours=-1)))
    harness.handle("prison-visit.booked", prisoner.offender_no, late, reference=REFERENCE)
    (sent,) = [each["body"] for each in harness.sandbox.journal("nomis")]
    assert sent["issueDate"] == date(2023, 1, 9).isoformat()


def equal_visit(harness: Harness, prisoner: Prisoner, reference: str) -> int:
    """Creates a visit in NOMIS, as an earlier attempt may have done without leaving any other trace.

    Returns the visit's id.
    """
    body = {
        "prisonId": prisoner.prison_id, "startDateTime": "2023-06-02T14:00:00", "endTime": "15:00:00",
        "visitorPersonIds": [4_729_570], "issueDate": "2023-05-22", "visitType": "SCON", "room": "Visits Main Hall",
        "visitComment": f"Created by Book A Prison Visit. Reference: {reference}", "openClosedStatus": "OPEN",
    }  # fmt: skip
    return create_visit(harness.services.nomis, prisoner.offender_no, body)


@pytest.mark.parametrize("form", [str, int])
def test_a_visit_that_nomis_already_has_is_mapped(harness: Harness, prisoner: Prisoner, form: type) -> None:
    """If NOMIS refuses a visit and names an equal one that has the booking's reference, that visit is mapped."""
    put(harness)
    existing = equal_visit(harness, prisoner, REFERENCE)
    body = {"status": 409, "userMessage": "Visit already exists", "moreInfo": form(existing)}
    with faulty(harness.sandbox, "nomis", "POST", status=409, body=body):
        assert book(harness, prisoner) is Outcome.APPLIED
    assert harness.sandbox.mappings("visits")[0]["nomisId"] == nomis_visit(harness)["id"] == existing
    assert [name for name, _ in harness.tracked()] == ["visit-create-success"]


@pytest.mark.parametrize("more_info", [None, "", "x", "0", {"visitId": 1}])
def test_an_equal_visit_without_our_reference_is_not_mapped(
    harness: Harness, prisoner: Prisoner, more_info: object
) -> None:
    """If NOMIS refuses a visit, and names no visit or one without the booking's reference, the booking fails.

    Nothing is mapped.
    """
    put(harness)
    strange = equal_visit(harness, prisoner, f"{REFERENCE}-x")
    for properties in (more_info, str(strange)):
        body = {"status": 409, "userMessage": "Visit already exists", "moreInfo": properties}
        with faulty(harness.sandbox, "nomis", "POST", status=409, body=body), pytest.raises(UpstreamError, match="409"):
            book(harness, prisoner)
    assert harness.sandbox.mappings("visits") == []


def test_a_cancellation_of_a_visit_gone_from_nomis_succeeds(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS does not have the visit, its cancellation succeeds.

    If a gateway responds with 404 or 409, the cancellation fails, since such a response proves nothing.
    """
    put(harness)
    book(harness, prisoner)
    for status in (404, 409):
        with (
            faulty(harness.sandbox, "nomis", "PUT", status=status, text="default backend"),
            pytest.raises(UpstreamError),
        ):
            cancel(harness, prisoner)
    with faulty(harness.sandbox, "nomis", "PUT", status=404):
        assert cancel(harness, prisoner) == "visit-cancelled-success"
    assert "status 404" in harness.tracked("visit-cancelled-success")[0][1]["nomis-error"]


@pytest.mark.parametrize("restriction", ["CLOSED_VISIT", "closed", ""])
def test_an_unknown_restriction_is_not_written(harness: Harness, prisoner: Prisoner, restriction: str) -> None:
    """A booking or change with an unknown restriction is not sent, and the error names the restriction.

    NOMIS would treat an unknown restriction as open.
    """
    put(harness)
    book(harness, prisoner)
    put(harness, restriction=restriction)
    written = len(harness.sandbox.journal("nomis"))
    with pytest.raises(RuleError, match=f"visit restriction '{restriction}'"):
        change(harness, prisoner)
    put(harness, "aa-bb-cc-dd", restriction=restriction)
    with pytest.raises(RuleError, match=f"visit restriction '{restriction}'"):
        book(harness, prisoner, "aa-bb-cc-dd")
    assert len(harness.sandbox.journal("nomis")) == written

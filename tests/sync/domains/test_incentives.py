"""Each incentive review becomes one record in NOMIS, even if two reviews are equal. Levels are written as well."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import time_machine

from sandbox import Sandbox
from sync.clock import LONDON, now
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.errors import LeaseBusy, UpstreamError
from sync.events.context import Outcome
from sync.events.envelope import DomainEvent
from sync.settings.upstreams import UpstreamName
from tests.harness.faults import faulty
from tests.harness.handlers import HANDLERS, Harness, Prisoner

INSERTED = "incentives.iep-review.inserted"


def review(harness: Harness, prisoner: Prisoner, code: str = "ENH", at: str = "2026-01-05T10:20:30") -> int:
    """Creates a review in DPS without publishing an event. Returns the id of the review."""
    return harness.sandbox.add_review(prisoner.offender_no, code, publish=False, at=at)


def insert(harness: Harness, review_id: int, prisoner: Prisoner, **more: Any) -> Outcome | str:
    """Handles the event for a new review."""
    return harness.handle(INSERTED, id=review_id, nomsNumber=prisoner.offender_no, **more)


def records(harness: Harness, prisoner: Prisoner) -> list[dict[str, Any]]:
    """The IEP records of the prisoner's booking in NOMIS, in the order of their sequences."""
    found = [each for each in harness.sandbox.nomis("incentive") if each["booking_id"] == prisoner.booking_id]
    return sorted(found, key=lambda each: int(each["sequence"]))


def mapped_sequence(harness: Harness, review_id: int) -> int | None:
    """The sequence of the IEP record to which a review is mapped, or None if the review is not mapped."""
    found = [each for each in harness.sandbox.mappings("incentives") if each["incentiveId"] == review_id]
    return int(found[0]["nomisIncentiveSequence"]) if found else None


def test_review_is_created_and_mapped(harness: Harness, prisoner: Prisoner) -> None:
    """A review becomes an IEP record with the review's level and local time, to the second.

    The record is mapped, and the creation is tracked with all its properties.
    """
    review_id = review(harness, prisoner)
    before = len(records(harness, prisoner))
    assert insert(harness, review_id, prisoner) is Outcome.APPLIED
    (*_, record) = records(harness, prisoner)
    assert len(records(harness, prisoner)) == before + 1
    assert (record["level"], record["at"]) == ("ENH", "2026-01-05T10:20:30")
    assert mapped_sequence(harness, review_id) == record["sequence"]
    ((_, properties),) = harness.tracked("incentive-create-success")
    assert properties == {
        "id": str(review_id),
        "offenderNo": prisoner.offender_no,
        "prisonId": record["prison_id"],
        "iep": "ENH",
        "iepDate": "2026-01-05",
        "iepTime": "10:20:30",
        "nomisBookingId": str(prisoner.booking_id),
        "nomisIncentiveSequence": str(record["sequence"]),
        "incentiveId": str(review_id),
        "mappingType": "INCENTIVE_CREATED",
    }


def test_a_review_from_nomis_is_ignored_without_a_read(harness: Harness, prisoner: Prisoner) -> None:
    """A review that a user entered in NOMIS is ignored without a call to DPS, even if DPS does not have it."""
    assert insert(harness, 999_999_999, prisoner, reason="USER_CREATED_NOMIS") is Outcome.IGNORED
    assert harness.sandbox.requests("incentives") == []
    assert harness.tracked() == [
        ("incentive-create-ignored", {"id": "999999999", "offenderNo": prisoner.offender_no}),
    ]


def test_an_unknown_prisoner_is_tracked_as_unknown(harness: Harness) -> None:
    """If an event names no prisoner, its failure is tracked with `unknown` as the prisoner number.

    Here, the event fails because DPS does not have the review.
    """
    with pytest.raises(UpstreamError, match="incentives: GET /iep/reviews/id/1: status 404"):
        harness.handle(INSERTED, id="1")
    ((name, properties),) = harness.tracked()
    assert (name, properties["id"], properties["offenderNo"]) == ("incentive-create-failed", "1", "unknown")
    assert properties["reason"]


def test_lookup_errors_are_tracked(harness: Harness, prisoner: Prisoner, sandbox: Sandbox) -> None:
    """If the mapping cannot be looked up before the create, the creation is tracked as failed."""
    sandbox.fault("mapping", "GET", kind="status", status=503)
    with pytest.raises(UpstreamError):
        insert(harness, 5, prisoner)
    assert [name for name, _ in harness.tracked()] == ["incentive-create-failed"]


@pytest.mark.parametrize("at", ["2026-01-05T10:20:30", "2012-01-01T08:00:00"])
def test_a_lost_response_is_found_again(harness: Harness, prisoner: Prisoner, at: str) -> None:
    """After a lost response, the next attempt finds and maps the record, even if its date is not the latest."""
    review_id = review(harness, prisoner, at=at)
    before = len(records(harness, prisoner))
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        insert(harness, review_id, prisoner)
    assert insert(harness, review_id, prisoner) is Outcome.APPLIED
    assert len(records(harness, prisoner)) == before + 1
    assert mapped_sequence(harness, review_id) == records(harness, prisoner)[-1]["sequence"]


def test_a_record_mapped_to_another_review_is_not_claimed(harness: Harness, prisoner: Prisoner) -> None:
    """After a lost request, an equal record of another review is not claimed, and a new record is created."""
    first, second = review(harness, prisoner), review(harness, prisoner)
    insert(harness, first, prisoner)
    before = len(records(harness, prisoner))
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        insert(harness, second, prisoner)
    assert insert(harness, second, prisoner) is Outcome.APPLIED
    assert len(records(harness, prisoner)) == before + 1
    assert mapped_sequence(harness, first) != mapped_sequence(harness, second)


def test_an_equal_record_from_before_the_create_is_not_claimed(harness: Harness, prisoner: Prisoner) -> None:
    """A record that existed before the create was sent is not claimed, even if it is equal and current.

    A new record is created and mapped.
    """
    at = f"{now().astimezone(LONDON):%Y-%m-%dT%H:%M:%S}"
    first, second = review(harness, prisoner, at=at), review(harness, prisoner, at=at)
    insert(harness, first, prisoner)
    sent = next(each["body"] for each in harness.sandbox.journal("nomis") if each["method"] == "POST")
    nomis_incentives.create_iep(harness.services.nomis, prisoner.booking_id, sent)
    before = len(records(harness, prisoner))
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with time_machine.travel(now() + timedelta(hours=2)):
        with pytest.raises(UpstreamError):
            insert(harness, second, prisoner)
        assert insert(harness, second, prisoner) is Outcome.APPLIED
    assert len(records(harness, prisoner)) == before + 1
    assert mapped_sequence(harness, second) == records(harness, prisoner)[-1]["sequence"]


def test_two_unmapped_records_need_a_person(harness: Harness, prisoner: Prisoner) -> None:
    """After a lost response, two equal records without mappings cannot be distinguished, so nothing is mapped.

    No further record is created, and a person has to decide.
    """
    review_id = review(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        insert(harness, review_id, prisoner)
    sent = next(each["body"] for each in harness.sandbox.journal("nomis"))
    nomis_incentives.create_iep(harness.services.nomis, prisoner.booking_id, sent)
    before = len(records(harness, prisoner))
    assert insert(harness, review_id, prisoner) is Outcome.AMBIGUOUS
    assert len(records(harness, prisoner)) == before
    assert mapped_sequence(harness, review_id) is None


def test_retry_message_saves_the_mapping(harness: Harness, prisoner: Prisoner) -> None:
    """If a mapping cannot be saved, a mapping retry saves it.

    The retry's success is tracked in the format of the replaced service.
    """
    review_id = review(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=500, times=1)
    assert insert(harness, review_id, prisoner) is Outcome.RETRY_QUEUED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    sequence = mapped_sequence(harness, review_id)
    ids = f"nomisBookingId={prisoner.booking_id}, nomisIncentiveSequence={sequence}, incentiveId={review_id}"
    assert harness.tracked("incentive-retry-success")[0][1] == {"id": f"IncentiveMapping({ids})"}


def test_reviews_of_a_prisoner_share_a_group() -> None:
    """Events about reviews of the same prisoner share an entity, so they are handled one at a time.

    An event that names no prisoner has a separate entity.
    """
    entity = HANDLERS[INSERTED].entity
    one, other, nobody = (
        entity(DomainEvent(INSERTED, additional_information=each))
        for each in ({"id": 1, "nomsNumber": "A1234BC"}, {"id": 2, "nomsNumber": "A1234BC"}, {"id": 2})
    )
    assert one == other != nobody


def level_in_nomis(harness: Harness, code: str) -> dict[str, Any]:
    """The global level with this code in NOMIS."""
    return dict(harness.services.nomis.call("GET", f"/incentives/reference-codes/{code}"))


def test_level_is_updated(harness: Harness) -> None:
    """A level that NOMIS already has is updated."""
    assert harness.handle("incentives.level.changed", incentiveLevel="STD") == "global-incentive-level-updated"
    assert harness.tracked() == [
        ("global-incentive-level-updated", {"code": "STD", "description": "Standard", "active": "true"}),
    ]
    (sent,) = harness.sandbox.journal("nomis")
    assert sent["body"] == {"code": "STD", "domain": "IEP_LEVEL", "description": "Standard", "active": True}


CODES = ["BAS", "STD", "ENH", "EN2", "EN3", "ENT"]
ORDER_CALL = "/incentives/reference-codes/reorder$"


def order_in_nomis(harness: Harness) -> list[str]:
    """The codes in `CODES`, in the order that the levels have in NOMIS."""
    place = {code: int(level_in_nomis(harness, code)["sequence"]) for code in CODES}
    return sorted(place, key=lambda code: place[code])


def change(harness: Harness, code: str) -> Outcome | str:
    """Handles the event for a changed level."""
    return harness.handle("incentives.level.changed", incentiveLevel=code)


def orders_sent(harness: Harness) -> int:
    """The number of times that the program has sent an order of levels to NOMIS."""
    return len([each for each in harness.sandbox.journal("nomis") if each["path"].endswith("/reorder")])


def test_new_level_takes_its_place_in_the_order(harness: Harness) -> None:
    """A level that NOMIS lacks is created and moved to its place, even if the order of levels was already sent."""
    assert harness.handle("incentives.levels.reordered") == "global-incentive-levels-reordered"
    assert change(harness, "EN3") == "global-incentive-level-inserted"
    assert order_in_nomis(harness) == CODES
    assert harness.tracked() == [
        ("global-incentive-levels-reordered", {"orderedIepCodes": "[BAS, STD, ENH, EN2, EN3, ENT]"}),
        ("global-incentive-level-inserted", {"code": "EN3", "description": "Enhanced 3", "active": "true"}),
    ]


@pytest.mark.parametrize(
    ("path", "kind"),
    [(ORDER_CALL, "status"), (ORDER_CALL, "reset"), ("/incentives/reference-codes$", "reset_after_write")],
    ids=["order refused", "order lost", "response to the creation lost"],
)
def test_the_next_delivery_moves_a_new_level_to_its_place(harness: Harness, path: str, kind: str) -> None:
    """If the response to a level's creation is lost, or the order cannot be sent, the next delivery sends the order."""
    harness.handle("incentives.levels.reordered")
    harness.sandbox.fault("nomis", "POST", path, kind=kind, times=1)
    with pytest.raises(UpstreamError):
        change(harness, "EN3")
    assert change(harness, "EN3") == "global-incentive-level-updated"
    assert order_in_nomis(harness) == CODES


@pytest.mark.parametrize("sent_before", [False, True], ids=["order never sent", "order sent"])
def test_change_of_a_level_leaves_the_order(harness: Harness, sent_before: bool) -> None:
    """A change to an existing level sends no order to NOMIS, whether or not an order was sent before."""
    if sent_before:
        harness.handle("incentives.levels.reordered")
        change(harness, "EN3")
    before = orders_sent(harness)
    for code in ("STD", "ENT", *(["EN3"] if sent_before else [])):
        assert change(harness, code) == "global-incentive-level-updated"
    assert orders_sent(harness) == before


def test_a_new_last_level_needs_no_order(harness: Harness) -> None:
    """NOMIS puts a new level last, so no order is sent for a new level that is last in DPS too."""
    levels = harness.services[UpstreamName.INCENTIVES].call("GET", "/incentive/levels?with-inactive=true")
    last = [each for each in levels if each["code"] != "EN3"] + [each for each in levels if each["code"] == "EN3"]
    harness.sandbox.fault("incentives", "GET", "/incentive/levels$", kind="status", status=200, body=last)
    assert change(harness, "EN3") == "global-incentive-level-inserted"
    assert orders_sent(harness) == 0


def test_a_new_level_waits_for_the_order_that_is_being_written(harness: Harness) -> None:
    """While the order of levels is being written elsewhere, no order is sent for a new level.

    The next delivery of the level's event sends the order.
    """
    with harness.leases.held("write:incentive-levels-order"), pytest.raises(LeaseBusy):
        change(harness, "EN3")
    assert orders_sent(harness) == 0
    assert change(harness, "EN3") == "global-incentive-level-updated"
    assert orders_sent(harness) == 1


@pytest.mark.parametrize(("prison_id", "code"), [("MDI", "STD"), ("MDI", "EN2")])
def test_prison_level_is_written(harness: Harness, prison_id: str, code: str) -> None:
    """A prison's level is written with its limits in pence and its allowances, whether or not NOMIS already has it."""
    dps = harness.services[UpstreamName.INCENTIVES].call("GET", f"/incentive/prison-levels/{prison_id}/level/STD")
    harness.sandbox.fault("incentives", kind="status", status=200, body={**dps, "levelCode": code, "visitOrders": 3})
    exists = harness.services.nomis.call("GET", f"/incentives/prison/{prison_id}/code/{code}", none_on_404=True)
    expected = f"prison-incentive-level-{'inserted' if exists is None else 'updated'}"
    assert harness.handle("incentives.prison-level.changed", incentiveLevel=code, prisonId=prison_id) == expected
    held = harness.services.nomis.call("GET", f"/incentives/prison/{prison_id}/code/{code}")
    assert (held["visitOrderAllowance"], held["privilegedVisitOrderAllowance"]) == (3, dps["privilegedVisitOrders"])
    assert held["remandTransferLimitInPence"] == dps["remandTransferLimitInPence"]
    ((_, properties),) = harness.tracked(expected)
    assert properties == {
        "code": code,
        "prison": prison_id,
        "defaultOnAdmission": str(dps["defaultOnAdmission"]).lower(),
        "active": "true",
        "visitOrders": "3",
        "privilegedVisitOrders": str(dps["privilegedVisitOrders"]),
        "remandTransferLimitInPence": str(dps["remandTransferLimitInPence"]),
        "remandSpendLimitInPence": str(dps["remandSpendLimitInPence"]),
        "convictedSpendLimitInPence": str(dps["convictedSpendLimitInPence"]),
        "convictedTransferLimitInPence": str(dps["convictedTransferLimitInPence"]),
    }


def test_reference_data_fails_untracked(harness: Harness, sandbox: Sandbox) -> None:
    """If a level cannot be written to NOMIS, the error is raised, and no telemetry event is tracked."""
    sandbox.fault("nomis", kind="status", status=500)
    with pytest.raises(UpstreamError):
        harness.handle("incentives.level.changed", incentiveLevel="STD")
    assert harness.tracked() == []


def test_a_comment_longer_than_nomis_holds_is_cut(harness: Harness, prisoner: Prisoner) -> None:
    """A comment of 300 characters of two bytes each is cut to the 240 bytes that NOMIS can store."""
    review_id = harness.sandbox.add_review(prisoner.offender_no, "ENH", publish=False, comments="\u00e9" * 300)
    assert insert(harness, review_id, prisoner) is Outcome.APPLIED
    assert records(harness, prisoner)[-1]["comment"] == "\u00e9" * 120


def test_an_invalid_old_review_does_not_hide_the_others(harness: Harness, prisoner: Prisoner) -> None:
    """The newest review of a booking must be valid. Invalid older reviews are skipped."""
    newest = harness.services[UpstreamName.INCENTIVES].call("GET", f"/iep/reviews/id/{review(harness, prisoner)}")
    summary = {"iepCode": "ENH", "bookingId": prisoner.booking_id}
    path = "/iep/reviews/booking/{id}"
    odd: list[Any] = [{}, None, "x", {**newest, "iepTime": "yesterday"}, {**newest, "id": None}]
    body = {**summary, "iepDetails": [newest, *odd, {**newest, "id": 1}]}
    with faulty(harness.sandbox, "incentives", "GET", path, kind="status", status=200, body=body):
        read = incentives_api.booking_summary(harness.services[UpstreamName.INCENTIVES], prisoner.booking_id)
    assert read is not None
    assert [each.id for each in read.iep_details] == [newest["id"], 1]
    for first in odd:
        wrong = {**summary, "iepDetails": [first, newest]}
        with (
            faulty(harness.sandbox, "incentives", "GET", path, kind="status", status=200, body=wrong),
            pytest.raises(UpstreamError, match="iepDetails"),
        ):
            incentives_api.booking_summary(harness.services[UpstreamName.INCENTIVES], prisoner.booking_id)

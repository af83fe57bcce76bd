"""Incentive reviews: from the incentives API to NOMIS, one record each, also where two say the same."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox import Sandbox
from sync.domains.incentives import dps as incentives_api
from sync.domains.incentives import nomis as nomis_incentives
from sync.failures import LeaseBusy, UpstreamError
from sync.pipeline.envelope import DomainEvent
from sync.pipeline.outcome import Outcome
from sync.settings.declaration import UpstreamName
from tests.harness.faults import faulty
from tests.harness.handlers import HANDLERS, Driver, Prisoner

INSERTED = "incentives.iep-review.inserted"


def review(driver: Driver, prisoner: Prisoner, code: str = "ENH", at: str = "2026-01-05T10:20:30") -> int:
    """Makes a review in DPS without telling anyone."""
    return driver.sandbox.add_review(prisoner.offender_no, code, publish=False, at=at)


def insert(driver: Driver, review_id: int, prisoner: Prisoner, **more: Any) -> Outcome | str:
    """Handles the event of a new review."""
    return driver.handle(INSERTED, id=review_id, nomsNumber=prisoner.offender_no, **more)


def records(driver: Driver, prisoner: Prisoner) -> list[dict[str, Any]]:
    """The booking's IEP records in NOMIS by sequence."""
    found = [each for each in driver.sandbox.nomis("incentive") if each["booking_id"] == prisoner.booking_id]
    return sorted(found, key=lambda each: int(each["sequence"]))


def mapped_sequence(driver: Driver, review_id: int) -> int | None:
    """The sequence that a review is mapped to."""
    found = [each for each in driver.sandbox.mappings("incentives") if each["incentiveId"] == review_id]
    return int(found[0]["nomisIncentiveSequence"]) if found else None


def test_review_is_created_and_mapped(driver: Driver, prisoner: Prisoner) -> None:
    """A review becomes an IEP record with level, local time to the second, prison and user, mapped and told."""
    review_id = review(driver, prisoner)
    before = len(records(driver, prisoner))
    assert insert(driver, review_id, prisoner) is Outcome.APPLIED
    (*_, record) = records(driver, prisoner)
    assert len(records(driver, prisoner)) == before + 1
    assert (record["level"], record["at"]) == ("ENH", "2026-01-05T10:20:30")
    assert mapped_sequence(driver, review_id) == record["sequence"]
    ((_, properties),) = driver.tracked("incentive-create-success")
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


def test_review_made_in_nomis_is_ignored_unread(driver: Driver, prisoner: Prisoner) -> None:
    """A review that a user made in NOMIS is ignored before any call, even when DPS does not have it."""
    assert insert(driver, 999_999_999, prisoner, reason="USER_CREATED_NOMIS") is Outcome.IGNORED
    assert driver.sandbox.requests("incentives") == []
    assert driver.tracked() == [
        ("incentive-create-ignored", {"id": "999999999", "offenderNo": prisoner.offender_no}),
    ]


def test_unknown_prisoner_is_told_as_unknown(driver: Driver) -> None:
    """An event without a prisoner number tells `unknown`; a review that DPS does not have fails."""
    with pytest.raises(UpstreamError, match="incentives: GET /iep/reviews/id/1: status 404"):
        driver.handle(INSERTED, id="1")
    ((name, properties),) = driver.tracked()
    assert (name, properties["id"], properties["offenderNo"]) == ("incentive-create-failed", "1", "unknown")
    assert properties["reason"]


def test_lookup_errors_are_tracked(driver: Driver, prisoner: Prisoner, sandbox: Sandbox) -> None:
    """An error of the look-up before the create is tracked too."""
    sandbox.fault("mapping", "GET", kind="status", status=503)
    with pytest.raises(UpstreamError):
        insert(driver, 5, prisoner)
    assert [name for name, _ in driver.tracked()] == ["incentive-create-failed"]


@pytest.mark.parametrize("at", ["2026-01-05T10:20:30", "2012-01-01T08:00:00"])
def test_lost_answer_is_found_again(driver: Driver, prisoner: Prisoner, at: str) -> None:
    """A record whose answer was lost is found again, also one of an earlier date, which is not the current record."""
    review_id = review(driver, prisoner, at=at)
    before = len(records(driver, prisoner))
    driver.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        insert(driver, review_id, prisoner)
    assert insert(driver, review_id, prisoner) is Outcome.APPLIED
    assert len(records(driver, prisoner)) == before + 1
    assert mapped_sequence(driver, review_id) == records(driver, prisoner)[-1]["sequence"]


def test_the_record_of_another_review_is_not_ours(driver: Driver, prisoner: Prisoner) -> None:
    """A record that says the same but is mapped to another review is not taken for ours: a second one is made."""
    first, second = review(driver, prisoner), review(driver, prisoner)
    insert(driver, first, prisoner)
    before = len(records(driver, prisoner))
    driver.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        insert(driver, second, prisoner)
    assert insert(driver, second, prisoner) is Outcome.APPLIED
    assert len(records(driver, prisoner)) == before + 1
    assert mapped_sequence(driver, first) != mapped_sequence(driver, second)


def test_two_unmapped_records_need_a_person(driver: Driver, prisoner: Prisoner) -> None:
    """Two unmapped records that say the same cannot be told apart: nothing is created or mapped."""
    review_id = review(driver, prisoner)
    driver.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        insert(driver, review_id, prisoner)
    sent = next(each["body"] for each in driver.sandbox.journal("nomis"))
    nomis_incentives.create_iep(driver.services.nomis, prisoner.booking_id, sent)
    before = len(records(driver, prisoner))
    assert insert(driver, review_id, prisoner) is Outcome.AMBIGUOUS
    assert len(records(driver, prisoner)) == before
    assert mapped_sequence(driver, review_id) is None


def test_retry_message_saves_the_mapping(driver: Driver, prisoner: Prisoner) -> None:
    """The retry message tells the mapping in the words of the replaced service."""
    review_id = review(driver, prisoner)
    driver.sandbox.fault("mapping", "POST", kind="status", status=500, times=1)
    assert insert(driver, review_id, prisoner) is Outcome.RETRY_QUEUED
    assert driver.handle_retry(*driver.retries[0]) is Outcome.APPLIED
    sequence = mapped_sequence(driver, review_id)
    ids = f"nomisBookingId={prisoner.booking_id}, nomisIncentiveSequence={sequence}, incentiveId={review_id}"
    assert driver.tracked("incentive-retry-success")[0][1] == {"id": f"IncentiveMapping({ids})"}


def test_reviews_of_a_prisoner_share_a_lane() -> None:
    """Two reviews of a prisoner are handled one after the other, since NOMIS orders a day's records as written."""
    entity = HANDLERS[INSERTED].entity
    one, other, nobody = (
        entity(DomainEvent(INSERTED, additional_information=each))
        for each in ({"id": 1, "nomsNumber": "A1234BC"}, {"id": 2, "nomsNumber": "A1234BC"}, {"id": 2})
    )
    assert one == other != nobody


def level_in_nomis(driver: Driver, code: str) -> dict[str, Any]:
    """A global level as NOMIS holds it."""
    return dict(driver.services.nomis.call("GET", f"/incentives/reference-codes/{code}"))


def test_level_is_updated(driver: Driver) -> None:
    """A level that NOMIS has is updated."""
    assert driver.handle("incentives.level.changed", incentiveLevel="STD") == "global-incentive-level-updated"
    assert driver.tracked() == [
        ("global-incentive-level-updated", {"code": "STD", "description": "Standard", "active": "true"}),
    ]
    (sent,) = driver.sandbox.journal("nomis")
    assert sent["body"] == {"code": "STD", "domain": "IEP_LEVEL", "description": "Standard", "active": True}


CODES = ["BAS", "STD", "ENH", "EN2", "EN3", "ENT"]
ORDER_CALL = "/incentives/reference-codes/reorder$"


def order_in_nomis(driver: Driver) -> list[str]:
    """The codes that DPS has, in the order of NOMIS."""
    place = {code: int(level_in_nomis(driver, code)["sequence"]) for code in CODES}
    return sorted(place, key=lambda code: place[code])


def change(driver: Driver, code: str) -> Outcome | str:
    """Handles the event of a changed level."""
    return driver.handle("incentives.level.changed", incentiveLevel=code)


def orders_told(driver: Driver) -> int:
    """How often NOMIS was told an order."""
    return len([each for each in driver.sandbox.journal("nomis") if each["path"].endswith("/reorder")])


def test_new_level_takes_its_place_in_the_order(driver: Driver) -> None:
    """A level that NOMIS does not have is made, and takes its place even when the order was told before."""
    assert driver.handle("incentives.levels.reordered") == "global-incentive-levels-reordered"
    assert change(driver, "EN3") == "global-incentive-level-inserted"
    assert order_in_nomis(driver) == CODES
    assert driver.tracked() == [
        ("global-incentive-levels-reordered", {"orderedIepCodes": "[BAS, STD, ENH, EN2, EN3, ENT]"}),
        ("global-incentive-level-inserted", {"code": "EN3", "description": "Enhanced 3", "active": "true"}),
    ]


@pytest.mark.parametrize(
    ("path", "kind"),
    [(ORDER_CALL, "status"), (ORDER_CALL, "reset"), ("/incentives/reference-codes$", "reset_after_write")],
    ids=["order refused", "order lost", "answer to the creation lost"],
)
def test_new_level_takes_its_place_when_it_comes_again(driver: Driver, path: str, kind: str) -> None:
    """A new level whose place could not be told is put there by the next delivery, which finds it made."""
    driver.handle("incentives.levels.reordered")
    driver.sandbox.fault("nomis", "POST", path, kind=kind, times=1)
    with pytest.raises(UpstreamError):
        change(driver, "EN3")
    assert change(driver, "EN3") == "global-incentive-level-updated"
    assert order_in_nomis(driver) == CODES


@pytest.mark.parametrize("told_before", [False, True], ids=["order never told", "order told"])
def test_change_of_a_level_leaves_the_order(driver: Driver, told_before: bool) -> None:
    """A change of a level that NOMIS knows tells it no order, whatever its own is."""
    if told_before:
        driver.handle("incentives.levels.reordered")
        change(driver, "EN3")
    before = orders_told(driver)
    for code in ("STD", "ENT", *(["EN3"] if told_before else [])):
        assert change(driver, code) == "global-incentive-level-updated"
    assert orders_told(driver) == before


def test_new_level_that_is_the_last_tells_no_order(driver: Driver) -> None:
    """A new level that is DPS's last stands where NOMIS puts it: it costs no call more."""
    levels = driver.services[UpstreamName.INCENTIVES].call("GET", "/incentive/levels?with-inactive=true")
    last = [each for each in levels if each["code"] != "EN3"] + [each for each in levels if each["code"] == "EN3"]
    driver.sandbox.fault("incentives", "GET", "/incentive/levels$", kind="status", status=200, body=last)
    assert change(driver, "EN3") == "global-incentive-level-inserted"
    assert orders_told(driver) == 0


def test_new_level_waits_for_the_order_that_is_being_told(driver: Driver) -> None:
    """A new level never tells an order that it read before a newer one was told: both do so under one lease."""
    with driver.leases.held("write:incentive-levels-order"), pytest.raises(LeaseBusy):
        change(driver, "EN3")
    assert orders_told(driver) == 0
    assert change(driver, "EN3") == "global-incentive-level-updated"
    assert orders_told(driver) == 1


@pytest.mark.parametrize(("prison_id", "code"), [("MDI", "STD"), ("MDI", "EN2")])
def test_prison_level_is_written(driver: Driver, prison_id: str, code: str) -> None:
    """A prison's level is written with limits in pence and both allowances, whether NOMIS has it or not."""
    dps = driver.services[UpstreamName.INCENTIVES].call("GET", f"/incentive/prison-levels/{prison_id}/level/STD")
    driver.sandbox.fault("incentives", kind="status", status=200, body={**dps, "levelCode": code, "visitOrders": 3})
    exists = driver.services.nomis.call("GET", f"/incentives/prison/{prison_id}/code/{code}", none_on_404=True)
    expected = f"prison-incentive-level-{'inserted' if exists is None else 'updated'}"
    assert driver.handle("incentives.prison-level.changed", incentiveLevel=code, prisonId=prison_id) == expected
    held = driver.services.nomis.call("GET", f"/incentives/prison/{prison_id}/code/{code}")
    assert (held["visitOrderAllowance"], held["privilegedVisitOrderAllowance"]) == (3, dps["privilegedVisitOrders"])
    assert held["remandTransferLimitInPence"] == dps["remandTransferLimitInPence"]
    ((_, properties),) = driver.tracked(expected)
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


def test_reference_data_fails_untracked(driver: Driver, sandbox: Sandbox) -> None:
    """Failures of reference data raise, and no event tells of them."""
    sandbox.fault("nomis", kind="status", status=500)
    with pytest.raises(UpstreamError):
        driver.handle("incentives.level.changed", incentiveLevel="STD")
    assert driver.tracked() == []


def test_a_comment_longer_than_nomis_holds_is_cut(driver: Driver, prisoner: Prisoner) -> None:
    """A comment of 300 characters goes over as far as its 240 bytes go, whoever writes the record."""
    review_id = driver.sandbox.add_review(prisoner.offender_no, "ENH", publish=False, comments="\u00e9" * 300)
    assert insert(driver, review_id, prisoner) is Outcome.APPLIED
    assert records(driver, prisoner)[-1]["comment"] == "\u00e9" * 120


def test_one_old_review_that_cannot_be_read_does_not_hide_the_others(driver: Driver, prisoner: Prisoner) -> None:
    """Of a booking's reviews the newest must be readable; of the older ones those count that are."""
    newest = driver.services[UpstreamName.INCENTIVES].call("GET", f"/iep/reviews/id/{review(driver, prisoner)}")
    summary = {"iepCode": "ENH", "bookingId": prisoner.booking_id}
    path = "/iep/reviews/booking/{id}"
    odd: list[Any] = [{}, None, "x", {**newest, "iepTime": "yesterday"}, {**newest, "id": None}]
    body = {**summary, "iepDetails": [newest, *odd, {**newest, "id": 1}]}
    with faulty(driver.sandbox, "incentives", "GET", path, kind="status", status=200, body=body):
        read = incentives_api.booking_summary(driver.services[UpstreamName.INCENTIVES], prisoner.booking_id)
    assert read is not None
    assert [each.id for each in read.iep_details] == [newest["id"], 1]
    for first in odd:
        wrong = {**summary, "iepDetails": [first, newest]}
        with (
            faulty(driver.sandbox, "incentives", "GET", path, kind="status", status=200, body=wrong),
            pytest.raises(UpstreamError, match="iepDetails"),
        ):
            incentives_api.booking_summary(driver.services[UpstreamName.INCENTIVES], prisoner.booking_id)

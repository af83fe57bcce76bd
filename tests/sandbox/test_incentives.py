"""Incentives on both sides: the current record, NOMIS's checks, the bulk call, and the effect of an arrival."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import Caller

RECEIVED = "prisoner-offender-search.prisoner.received"
INSERTED = "incentives.iep-review.inserted"


def body_of(prison_id: str, **changes: Any) -> dict[str, Any]:
    """Returns a body for an IEP record. It is valid unless `changes` make it invalid."""
    body = {
        "iepLevel": "STD",
        "iepDateTime": "2023-05-22T10:00:00",
        "prisonId": prison_id,
        "userId": "AB1",
        "comments": "ok",
    }
    return {**body, **changes}


def write(caller: Caller, booking_id: int, prison_id: str, **changes: Any) -> Any:
    """Writes to NOMIS an IEP record for a booking, and returns the response."""
    return caller.call("nomis", "POST", f"/prisoners/booking-id/{booking_id}/incentives", body_of(prison_id, **changes))


@pytest.fixture
def empty_booking(caller: Caller) -> dict[str, Any]:
    """One of the few prisoners who have no incentive record on either side."""
    caller.sandbox.reset(prisoners=1_000)
    for prisoner in caller.sandbox.prisoners():
        if caller.get("nomis", f"/incentives/booking-id/{prisoner['bookingId']}/current") is None:
            return prisoner
    raise AssertionError("every prisoner of the world has a record")


def test_current_is_the_latest_date_then_the_highest_sequence(caller: Caller, empty_booking: dict[str, Any]) -> None:
    """The record with the latest date is current, whatever its time of day.

    Of two records on the same day, the one that was written later is current.
    """
    booking, prison = empty_booking["bookingId"], empty_booking["prisonId"]
    path = f"/incentives/booking-id/{booking}"
    written = [
        write(caller, booking, prison, iepDateTime=at, iepLevel=level).json()["sequence"]
        for at, level in (
            ("2023-05-22T15:00:00", "ENH"),
            ("2023-05-22T09:00:00", "STD"),
            ("2023-05-21T23:59:59", "BAS"),
        )
    ]
    assert written == [1, 2, 3]
    current = caller.get("nomis", f"{path}/current")
    assert (current["incentiveSequence"], current["iepLevel"]) == (2, {"code": "STD", "description": "Standard"})
    assert current["auditModule"] == "JDBC Thin Client"
    flags = [caller.get("nomis", f"{path}/incentive-sequence/{n}")["currentIep"] for n in written]
    assert flags == [False, True, False]
    assert caller.sandbox.delete_nomis_incentive(booking, 2)
    assert caller.get("nomis", f"{path}/incentive-sequence/2") is None
    assert caller.get("nomis", f"{path}/current")["incentiveSequence"] == 1
    assert write(caller, booking, prison).json() == {"bookingId": booking, "sequence": 4}


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        ({"prisonId": "ZZZ"}, 400, "Bad request: Prison"),
        ({"iepLevel": "EN3"}, 400, "Bad request: IEP type EN3 does not exist for prison"),
        ({"iepDateTime": "2023-05-22T10:00"}, 400, "Bad request: "),
        ({"iepDateTime": "2023-05-22T10:00:00.123"}, 400, "Bad request: "),
        ({"iepLevel": None}, 400, "Bad request: "),
        ({"comments": "x" * 241}, 500, "Unexpected error: "),
    ],
)
def test_nomis_refuses_invalid_fields(
    caller: Caller, empty_booking: dict[str, Any], change: dict[str, Any], status: int, words: str
) -> None:
    """A record with an invalid field is refused with a reason, and is not written."""
    response = write(caller, empty_booking["bookingId"], empty_booking["prisonId"], **change)
    assert response.status_code == status
    assert response.json()["userMessage"].startswith(words)
    assert caller.sandbox.journal("nomis") == []


def test_nomis_checks_the_booking_first(caller: Caller) -> None:
    """A record for an unknown booking gets 404, even if its prison and level are unknown too.

    A record with a level that is inactive at the prison is accepted.
    """
    assert write(caller, 99, "ZZZ", iepLevel="???").status_code == 404
    prisoner = caller.sandbox.prisoners()[0]
    assert write(caller, prisoner["bookingId"], prisoner["prisonId"], iepLevel="ENT", userId=None).status_code == 201


def test_the_user_of_a_record_may_be_null(caller: Caller) -> None:
    """The field for the user who wrote a record may be null, but must not be missing."""
    (prisoner, *_) = caller.sandbox.prisoners()
    body = {"iepLevel": "STD", "iepDateTime": "2023-05-22T10:14:31", "prisonId": prisoner["prisonId"]}
    path = f"/prisoners/booking-id/{prisoner['bookingId']}/incentives"
    refused = caller.call("nomis", "POST", path, body)
    assert refused.status_code == 400
    assert "userId" in refused.json()["userMessage"]
    assert caller.call("nomis", "POST", path, {**body, "userId": None}).status_code == 201
    assert caller.call("nomis", "GET", "/incentives/booking-id/99/current").status_code == 404


def test_simultaneous_records_can_collide(sandbox: Sandbox) -> None:
    """A write within `nomis_race_ms` of another for the same booking gets 500, and succeeds when it is repeated."""
    sandbox.reset(prisoners=20, nomis_race_ms=60_000)
    caller = Caller(sandbox)
    prisoner = sandbox.prisoners()[0]
    where = (caller, prisoner["bookingId"], prisoner["prisonId"])
    assert [write(*where).status_code for _ in range(3)] == [201, 500, 201]


def test_global_levels_can_be_changed_in_nomis(caller: Caller) -> None:
    """A global level can be created, changed, expired and revived, and the levels can be reordered.

    A second creation of a level changes nothing. A change to an unknown level gets 404.
    """
    path = "/incentives/reference-codes"
    assert caller.get("nomis", f"{path}/EN3") is None
    made = caller.call(
        "nomis", "POST", path, {"code": "EN3", "domain": "IEP_LEVEL", "description": "Enhanced 3", "active": True}
    )
    assert made.status_code == 201
    assert made.json()["sequence"] == 7
    again = caller.call("nomis", "POST", path, {"code": "EN3", "description": "Other", "active": False})
    assert (again.status_code, again.json()["description"]) == (201, "Enhanced 3")
    expired = caller.call("nomis", "PUT", f"{path}/EN3", {"description": "Enhanced three", "active": False}).json()
    assert (expired["description"], expired["active"], "expiredDate" in expired) == ("Enhanced three", False, True)
    revived = caller.call("nomis", "PUT", f"{path}/EN3", {"description": "Enhanced three", "active": True}).json()
    assert "expiredDate" not in revived
    assert caller.call("nomis", "PUT", f"{path}/XXX", {"description": "x", "active": True}).status_code == 404
    order = caller.call("nomis", "POST", f"{path}/reorder", {"codeList": ["EN3", "XXX", "BAS"]})
    assert (order.status_code, order.content) == (200, b"")
    assert caller.get("nomis", f"{path}/EN3")["sequence"] == 1
    assert caller.get("nomis", f"{path}/BAS")["sequence"] == 3


def test_prison_levels_of_nomis(caller: Caller) -> None:
    """A POST creates a level at a prison, and a PUT changes it. For an unknown prison, a GET gets 400 and a POST 404.

    For an unknown level, a POST gets 400 and a PUT 404.
    """
    body = {"levelCode": "EN2", "active": True, "defaultOnAdmission": False, "remandTransferLimitInPence": 6600}
    path = "/incentives/prison/MDI"
    assert caller.get("nomis", f"{path}/code/EN2") is None
    made = caller.call("nomis", "POST", path, body)
    assert (made.status_code, made.json()["remandTransferLimitInPence"]) == (201, 6600)
    assert "visitOrderAllowance" not in made.json()
    changed = caller.call("nomis", "PUT", f"{path}/code/EN2", {**body, "active": False, "visitOrderAllowance": 2})
    assert (changed.status_code, changed.json()["visitOrderAllowance"]) == (200, 2)
    assert caller.get("nomis", f"{path}/code/EN2")["active"] is False
    assert caller.call("nomis", "GET", "/incentives/prison/ZZZ/code/STD").status_code == 400
    assert caller.call("nomis", "POST", "/incentives/prison/ZZZ", body).status_code == 404
    assert caller.call("nomis", "POST", path, {**body, "levelCode": "XXX"}).status_code == 400
    assert caller.call("nomis", "PUT", f"{path}/code/XXX", body).status_code == 404


def test_ids_of_incentives_are_filtered_by_creation(caller: Caller, empty_booking: dict[str, Any]) -> None:
    """With `fromDate`, the list has only ids of incentives created on or after that day, whatever their own dates."""
    write(caller, empty_booking["bookingId"], empty_booking["prisonId"], iepDateTime="2020-01-01T10:00:00")
    today = datetime.now(ZoneInfo("Europe/London")).date()
    page = caller.get("nomis", f"/incentives/ids?fromDate={today}&latestOnly=true")
    assert page["content"] == [{"bookingId": empty_booking["bookingId"], "sequence": 1}]
    assert caller.get("nomis", "/incentives/ids?size=1")["totalElements"] > 300


def test_the_bulk_call_names_the_levels_of_flagged_reviews(sandbox: Sandbox) -> None:
    """The bulk call agrees with single calls, except for bookings with a backdated review or a level without a name."""
    sandbox.reset(prisoners=60, every_cause=True)
    caller = Caller(sandbox)
    names = {each["name"]: each["code"] for each in caller.get("incentives", "/incentive/levels?with-inactive=true")}
    bookings = [each["bookingId"] for each in sandbox.prisoners()]
    response = caller.call("incentives", "POST", "/iep/reviews/bookings", bookings).json()
    bulk = {each["bookingId"]: each["iepLevel"] for each in response}
    planted = sandbox.planted()
    assert {booking for booking, name in bulk.items() if name == "Unmapped"} == set(planted["unmapped"])
    differing = set()
    for booking in bookings:
        single = caller.get("incentives", f"/iep/reviews/booking/{booking}?with-details=false")
        assert (single is None) == (booking not in bulk)
        if single is not None:
            assert single["iepDetails"] == []
            if names.get(bulk[booking]) != single["iepCode"]:
                differing.add(booking)
    assert differing == {*planted["bulkDiffers"], *planted["unmapped"]}


def test_the_bulk_call_refuses_an_empty_array_and_can_be_withdrawn(sandbox: Sandbox, caller: Caller) -> None:
    """The bulk call refuses an empty array, and a body that is not an array, with 400.

    If it has been withdrawn, it responds with 404 or 405.
    """
    assert caller.call("incentives", "POST", "/iep/reviews/bookings", []).status_code == 400
    assert caller.call("incentives", "POST", "/iep/reviews/bookings", {"a": 1}).status_code == 400
    for status in ("404", "405"):
        sandbox.reset(prisoners=20, bulk=status)
        assert Caller(sandbox).call("incentives", "POST", "/iep/reviews/bookings", [1]).status_code == int(status)


def test_reviews_are_read_by_id_booking_and_person(caller: Caller, empty_booking: dict[str, Any]) -> None:
    """A review is found by its id, by its booking and by its prisoner. The latest review comes first."""
    number, booking = empty_booking["offenderNo"], empty_booking["bookingId"]
    later = caller.sandbox.add_review(number, "ENH", publish=False, at="2023-05-22T10:00:00.125", comments="<b>")
    earlier = caller.sandbox.add_review(number, "STD", publish=False, at="2023-05-01T10:00:00")
    detail = caller.get("incentives", f"/iep/reviews/id/{later}")
    assert (detail["iepCode"], detail["iepTime"], detail["comments"]) == ("ENH", "2023-05-22T10:00:00.125000", "<b>")
    assert detail["agencyId"] == empty_booking["prisonId"]
    for path in (f"booking/{booking}", f"prisoner/{number}"):
        summary = caller.get("incentives", f"/iep/reviews/{path}")
        assert (summary["id"], summary["iepCode"], summary["iepLevel"]) == (later, "ENH", "Enhanced")
        assert [each["id"] for each in summary["iepDetails"]] == [later, earlier]
    assert caller.get("incentives", "/iep/reviews/id/1") is None
    assert caller.get("incentives", "/iep/reviews/prisoner/Z9999ZZ") is None


def test_inactive_levels_are_listed_only_on_request(caller: Caller) -> None:
    """Levels are listed in the global order, and inactive ones only on request.

    A single level is found even if it is inactive.
    """
    codes = [each["code"] for each in caller.get("incentives", "/incentive/levels")]
    assert codes == ["BAS", "STD", "ENH", "EN2", "EN3"]
    assert [each["code"] for each in caller.get("incentives", "/incentive/levels?with-inactive=true")] == [
        *codes,
        "ENT",
    ]
    assert caller.get("incentives", "/incentive/levels/ENT")["active"] is False
    level = caller.get("incentives", "/incentive/prison-levels/PDI/level/ENH")
    assert (level["defaultOnAdmission"], level["visitOrders"]) == (True, 1)
    assert level["convictedSpendLimitInPence"] == 10 * level["convictedTransferLimitInPence"]
    assert caller.get("incentives", "/incentive/prison-levels/MDI/level/EN3") is None


@pytest.fixture
def missed_transfer(sandbox: Sandbox) -> Sandbox:
    """A sandbox with a world in which DPS missed one transfer."""
    sandbox.reset(prisoners=30, mismatches={"4": 1})
    return sandbox


@pytest.fixture
def subscribed(missed_transfer: Sandbox) -> Callable[[], list[dict[str, Any]]]:
    """A function that reads a queue of the events for received prisoners and for new reviews."""
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-west-2"}
    session: Any = boto3.session.Session(**keys)
    sns, sqs = (session.client(name, endpoint_url=missed_transfer.emulator_url) for name in ("sns", "sqs"))
    queue = sqs.create_queue(QueueName="test_of_received")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="hmpps-domain-events")["TopicArn"]
    policy = json.dumps({"eventType": [RECEIVED, INSERTED]})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"FilterPolicy": policy})

    def read() -> list[dict[str, Any]]:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=2).get("Messages", [])
        return [json.loads(json.loads(message["Body"])["Message"]) for message in messages]

    return read


def test_received_event_has_its_effect(
    missed_transfer: Sandbox, subscribed: Callable[[], list[dict[str, Any]]]
) -> None:
    """If the received event for a missed transfer is published again, DPS creates a review with its former level.

    An event for the new review is also published.
    """
    caller = Caller(missed_transfer)
    (missed,) = missed_transfer.planted()["mismatches"]
    nomis = caller.get("nomis", f"/incentives/booking-id/{missed['bookingId']}/current")
    body = {"reason": "TRANSFERRED", "prisonId": nomis["prisonId"], "occurredAt": nomis["iepDateTime"]}
    path = f"/events/prisoner/received/{missed['offenderNo']}"
    response = caller.call("prisoner-search", "PUT", path, body)
    assert (response.status_code, response.content) == (202, b"")
    review = caller.get("incentives", f"/iep/reviews/booking/{missed['bookingId']}")["iepDetails"][0]
    assert (review["reviewType"], review["iepCode"], review["agencyId"], review["iepTime"], review["userId"]) == (
        "TRANSFER",
        missed["dps"],
        nomis["prisonId"],
        nomis["iepDateTime"],
        "INCENTIVES_API",
    )
    events: list[dict[str, Any]] = []
    while len(events) < 2:
        found = subscribed()
        assert found, f"only {len(events)} events came"
        events += found
    by_type = {event["eventType"]: event for event in events}
    assert by_type[RECEIVED]["additionalInformation"]["nomsNumber"] == missed["offenderNo"]
    assert by_type[INSERTED]["additionalInformation"] == {
        "id": review["id"],
        "nomsNumber": missed["offenderNo"],
        "reason": None,
    }


@pytest.mark.parametrize(
    ("reason", "review_type"),
    [("NEW_ADMISSION", "INITIAL"), ("READMISSION", "READMISSION"), ("RETURN_FROM_COURT", None)],
)
def test_the_reason_decides_about_the_review(
    caller: Caller, empty_booking: dict[str, Any], reason: str, review_type: str | None
) -> None:
    """An admission leads to a review with the prison's default level. A return from court leads to no review."""
    body = {"reason": reason, "prisonId": empty_booking["prisonId"], "occurredAt": "2023-05-20T15:22:00"}
    number = empty_booking["offenderNo"].lower()
    assert caller.call("prisoner-search", "PUT", f"/events/prisoner/received/{number}", body).status_code == 202
    summary = caller.get("incentives", f"/iep/reviews/booking/{empty_booking['bookingId']}")
    assert (summary["iepDetails"][0]["reviewType"] if summary else None) == review_type
    if summary:
        path = f"/incentive/prison-levels/{empty_booking['prisonId']}/level/{summary['iepCode']}"
        assert caller.get("incentives", path)["defaultOnAdmission"] is True


def test_received_event_is_checked(caller: Caller) -> None:
    """A request to publish a received event with an invalid prisoner number, reason, prison or time is refused."""
    good = {"reason": "TRANSFERRED", "prisonId": "LEI", "occurredAt": "2023-05-20T15:22:00"}
    wrong = [{**good, "reason": "BORED"}, {**good, "occurredAt": "yesterday"}, {**good, "prisonId": ""}]
    path = "/events/prisoner/received"
    assert [caller.call("prisoner-search", "PUT", f"{path}/A1234BC", body).status_code for body in wrong] == [400] * 3
    assert caller.call("prisoner-search", "PUT", f"{path}/12345", good).status_code == 400


def test_transfer_to_a_prison_without_the_level_takes_the_next(sandbox: Sandbox, caller: Caller) -> None:
    """A prisoner on Enhanced 2 who is transferred to a prison without that level gets Enhanced.

    If the event for a transfer is not published, NOMIS makes a record and DPS makes no review.
    """
    person = sandbox.receive("PDI")
    sandbox.add_review(person["offenderNo"], "EN2", publish=False)
    sandbox.transfer(person["offenderNo"], "MDI")
    review = caller.get("incentives", f"/iep/reviews/booking/{person['bookingId']}")["iepDetails"][0]
    assert (review["iepCode"], review["agencyId"], review["reviewType"]) == ("ENH", "MDI", "TRANSFER")
    sandbox.transfer(person["offenderNo"], "LEI", publish=False)
    nomis = caller.get("nomis", f"/incentives/booking-id/{person['bookingId']}/current")
    assert (nomis["auditModule"], nomis["prisonId"], nomis["iepLevel"]["code"]) == ("OIDITRAN", "LEI", "STD")
    assert len(caller.get("incentives", f"/iep/reviews/booking/{person['bookingId']}")["iepDetails"]) == 3

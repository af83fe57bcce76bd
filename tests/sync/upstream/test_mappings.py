"""A look-up of a mapping accepts only a complete mapping of the requested record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sandbox import Sandbox
from sync.domains.activities.rules import MAPPINGS as ACTIVITY_MAPPINGS
from sync.domains.adjustments.rules import MAPPINGS as ADJUSTMENT_MAPPINGS
from sync.domains.appointments.rules import MAPPINGS as APPOINTMENT_MAPPINGS
from sync.domains.incentives.rules import MAPPINGS as INCENTIVE_MAPPINGS
from sync.domains.visits.rules import MAPPINGS as VISIT_MAPPINGS
from sync.errors import NotUnderstood
from sync.settings.loading import load_settings
from sync.upstream.services import Services
from sync.upstream.transport import ServiceClient

VISIT = {"vsipId": "ab-cd", "nomisId": 7, "mappingType": "ONLINE"}
INCENTIVE = {"incentiveId": 5, "nomisBookingId": 6, "nomisIncentiveSequence": 7}
ACTIVITY = {"activityScheduleId": 5, "nomisCourseActivityId": 7}
APPOINTMENT = {"appointmentInstanceId": 5, "nomisEventId": 7}
ADJUSTMENT = {"adjustmentId": "5", "nomisAdjustmentId": 7, "nomisAdjustmentCategory": "KEY-DATE"}

LookUp = Callable[[ServiceClient], Any]
#: Look-ups, each with the mapping that it should find and the fields by which it looks the mapping up.
LOOK_UPS: list[tuple[LookUp, dict[str, Any], tuple[str, ...]]] = [
    (lambda mapping: VISIT_MAPPINGS.get(mapping, "ab-cd"), VISIT, ("vsipId",)),
    (lambda mapping: VISIT_MAPPINGS.find(mapping, "ab-cd"), VISIT, ("vsipId",)),
    (lambda mapping: VISIT_MAPPINGS.find_by_nomis_ids(mapping, 7), VISIT, ("nomisId",)),
    (lambda mapping: INCENTIVE_MAPPINGS.find(mapping, "5"), INCENTIVE, ("incentiveId",)),
    (
        lambda mapping: INCENTIVE_MAPPINGS.find_by_nomis_ids(mapping, 6, 7),
        INCENTIVE,
        ("nomisBookingId", "nomisIncentiveSequence"),
    ),
    (lambda mapping: ACTIVITY_MAPPINGS.get(mapping, "5"), ACTIVITY, ("activityScheduleId",)),
    (lambda mapping: ACTIVITY_MAPPINGS.find(mapping, 5), ACTIVITY, ("activityScheduleId",)),
    (lambda mapping: APPOINTMENT_MAPPINGS.get(mapping, "5"), APPOINTMENT, ("appointmentInstanceId",)),
    (lambda mapping: APPOINTMENT_MAPPINGS.find(mapping, 5), APPOINTMENT, ("appointmentInstanceId",)),
    (lambda mapping: APPOINTMENT_MAPPINGS.find_by_nomis_ids(mapping, 7), APPOINTMENT, ("nomisEventId",)),
    (lambda mapping: ADJUSTMENT_MAPPINGS.get(mapping, "5"), ADJUSTMENT, ("adjustmentId",)),
    (lambda mapping: ADJUSTMENT_MAPPINGS.find(mapping, "5"), ADJUSTMENT, ("adjustmentId",)),
    (
        lambda mapping: ADJUSTMENT_MAPPINGS.find_by_nomis_ids(mapping, 7, "KEY-DATE"),
        ADJUSTMENT,
        ("nomisAdjustmentCategory", "nomisAdjustmentId"),
    ),
]
LISTS = [(ACTIVITY_MAPPINGS.list_all, ACTIVITY), (APPOINTMENT_MAPPINGS.list_all, APPOINTMENT)]
NO_MAPPINGS: list[Any] = [{}, [], "ok", 1, True, {"status": "UP"}, {"content": []}]


@pytest.fixture
def mapping(sandbox: Sandbox) -> Iterator[ServiceClient]:
    """The client of the sandbox's mapping service."""
    services = Services(load_settings(sandbox.environment()))
    yield services.mapping
    services.close()


def respond_with(sandbox: Sandbox, body: object) -> None:
    """Makes the mapping service respond to every read with `body`."""
    sandbox.clear_faults()
    sandbox.fault("mapping", "GET", kind="status", status=200, body=body)


def refused(mapping: ServiceClient, look_up: LookUp) -> str:
    """The message of the error with which `look_up` refuses the response that it gets."""
    with pytest.raises(NotUnderstood, match=r"^mapping: GET /mapping/.*: status 200: ") as caught:
        look_up(mapping)
    assert caught.value.recoverable
    return caught.value.message


@pytest.mark.parametrize(("look_up", "found", "asked"), LOOK_UPS)
def test_only_the_requested_mapping_is_accepted(
    sandbox: Sandbox, mapping: ServiceClient, look_up: LookUp, found: dict[str, Any], asked: tuple[str, ...]
) -> None:
    """A response that is not a complete mapping of the requested record is refused.

    Fields that the program does not know are ignored.
    """
    for body in NO_MAPPINGS:
        respond_with(sandbox, body)
        refused(mapping, look_up)
    for name in found.keys() - {"mappingType"}:
        wrongs: list[Any] = [None, "", 0, -7, True, [], {}]
        for wrong in wrongs:
            respond_with(sandbox, {**found, name: wrong})
            assert name in refused(mapping, look_up)
        respond_with(sandbox, {key: value for key, value in found.items() if key != name})
        assert name in refused(mapping, look_up)
    for name in asked:
        other = "SENTENCE" if name == "nomisAdjustmentCategory" else "99"
        respond_with(sandbox, {**found, name: other})
        assert refused(mapping, look_up) == f"the response is about another record: it differs in {name}"
    respond_with(sandbox, {**found, "whenCreated": "2023-05-22T10:14:33.912", "added": {"later": 1}})
    assert found.items() <= look_up(mapping).items()


@pytest.mark.parametrize("category", ["KEY_DATE", "key-date", "sentence", "SENTENCES", " SENTENCE"])
def test_an_unknown_category_is_not_a_mapping(sandbox: Sandbox, mapping: ServiceClient, category: str) -> None:
    """A mapping with an unknown category is refused, since adjustments of different categories may share a number."""
    respond_with(sandbox, {**ADJUSTMENT, "nomisAdjustmentCategory": category})
    assert "nomisAdjustmentCategory" in refused(mapping, lambda client: ADJUSTMENT_MAPPINGS.find(client, "5"))


@pytest.mark.parametrize(("read", "row"), LISTS)
def test_a_list_of_mappings_is_read_completely(
    sandbox: Sandbox, mapping: ServiceClient, read: LookUp, row: dict[str, Any]
) -> None:
    """A list with an invalid row is refused as a whole, and only an empty list means that there are no mappings."""
    for body in ({}, "ok", {"content": [row]}, [row, {}], [row, None], [[row]], [{**row, next(iter(row)): None}]):
        respond_with(sandbox, body)
        refused(mapping, read)
    respond_with(sandbox, [])
    assert list(read(mapping)) == []
    respond_with(sandbox, [row])
    assert list(read(mapping)) == [row]

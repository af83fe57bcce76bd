"""The reconciliation of adjustments against a sandbox finds the planted differences with their causes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from reports.engine.causes import Cause, Explanation
from reports.engine.frame import columns_of, records
from reports.engine.result import Diagnosis
from reports.engine.units import Population, Scope
from reports.reconciliations.adjustments import causes
from reports.reconciliations.adjustments.counting import differences_text
from reports.reconciliations.adjustments.reconciliation import Adjustments
from sandbox import Sandbox
from sandbox.planted import adjustments as planted
from sync.clock import london_now
from sync.errors import UpstreamError
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.upstream.services import Services
from tests.harness.comparisons import Compared, compare, explain
from tests.harness.reads import PlainReads
from tests.harness.sandboxes import Caller

Make = Callable[..., Adjustments]
ALL = {"REPORTS_SENTENCING_RECONCILIATION_ALL_PRISONERS": "true"}
#: The beginning of the id of each adjustment that a test creates in DPS. Two digits follow.
DPS_ADJUSTMENTS = "5b0c7b1e-3f6a-4b0c-9a51-0b3c5f2d8e"
#: The cause that a run reports for each planted cause.
TOLD = {
    planted.NOT_IN_DPS: causes.NOT_IN_DPS,
    planted.DELETED_IN_DPS: causes.DELETED_IN_DPS,
    planted.ON_OLD_BOOKING: causes.ON_OTHER_BOOKING,
    planted.UNDER_OLD_NUMBER: causes.UNLISTED_IN_DPS,
    planted.NOT_IN_NOMIS: causes.NOT_IN_NOMIS,
    planted.INACTIVE: causes.INACTIVE_IN_NOMIS,
    planted.DELETED_IN_NOMIS: causes.DELETED_IN_NOMIS,
    planted.OTHER_TYPE: causes.OTHER_TYPE,
    planted.OTHER_DAYS: causes.OTHER_DAYS,
    planted.JUST_MADE: causes.NOT_IN_NOMIS,
}
#: The planted causes that a run for adjustments newly created in NOMIS can find with the 2023 services.
SEEN_FROM_NOMIS = (
    planted.NOT_IN_DPS,
    planted.DELETED_IN_DPS,
    planted.ON_OLD_BOOKING,
    planted.UNDER_OLD_NUMBER,
    planted.OTHER_TYPE,
    planted.OTHER_DAYS,
)


@pytest.mark.parametrize(
    "cause", [each for each in vars(causes).values() if isinstance(each, Cause)], ids=lambda each: each.name
)
def test_a_difference_says_once_which_side_is_right(cause: Cause) -> None:
    """If a cause says which side is right, its action does not say so again."""
    assert cause.right_side == "unknown" or "is right" not in cause.action


@pytest.fixture
def make(upstream: Sandbox) -> Iterator[Make]:
    """A function that creates a reconciliation of adjustments in the sandbox's current world.

    It takes a scope and further settings.
    """
    opened: list[Services] = []

    def made(scope: Scope | None = None, **settings: str) -> Adjustments:
        loaded = load_settings({**upstream.environment(), **settings})
        opened.append(Services(loaded))
        return Adjustments(opened[-1], loaded, scope or Scope())

    yield made
    for services in opened:
        services.close()


def truth(sandbox: Sandbox, *outcomes: str) -> dict[int, dict[str, Any]]:
    """The planted differences with one of the `outcomes`, by booking."""
    found = sandbox.planted()["reconciliations"]["adjustments"]
    return {each["key"][0]: each for each in found if each["outcome"] in outcomes}


@pytest.mark.parametrize(
    ("seed", "settings"), [(1, {}), (2, ALL), (3, {"REPORTS_SENTENCING_RECONCILIATION_PAGE_SIZE": "20"})]
)
def test_adjustments_that_differ_are_found_as_planted(
    upstream: Sandbox, make: Make, seed: int, settings: dict[str, str]
) -> None:
    """The planted differences are found with their kinds and causes, and nothing else is found.

    This is true for the active bookings, for all bookings, and for pages of 20 bookings.
    """
    upstream.reset(prisoners=200, seed=seed, plant=["adjustments"], every_cause=True)
    wanted = truth(upstream, "reported", "in flight")
    reconciliation = make(**settings)
    found = compare(reconciliation)
    assert found.kinds == {booking: each["kind"] for booking, each in wanted.items()}
    assert {each["cause"] for each in wanted.values()} == TOLD.keys()
    for row in found.differing:
        explanation = explain(reconciliation, row)
        assert isinstance(explanation, Explanation)
        assert explanation.diagnosis is not None
        assert explanation.diagnosis.cause == TOLD[wanted[row["booking_id"]]["cause"]].name
        assert explanation.evidence
    assert not found.unread


def test_a_temporary_difference_is_gone_at_the_second_reading(upstream: Sandbox, make: Make) -> None:
    """A booking with a merge or an event under way differs at the first reading and agrees at the second."""
    upstream.reset(prisoners=200, plant=["adjustments"], every_cause=True)
    reconciliation, reads = make(**ALL), PlainReads()
    [unit] = reconciliation.population(reads).units
    first = reconciliation.differing(reconciliation.read(unit, reads).rows)
    passing = truth(upstream, "settles")
    assert passing.keys() <= set(first["booking_id"])
    again = reconciliation.differing(reconciliation.reread(first, reads).rows)
    assert passing.keys().isdisjoint(again["booking_id"])


def test_released_prisoners_are_compared_only_on_request(upstream: Sandbox, make: Make) -> None:
    """By default, only active bookings are compared; a setting adds those of released prisoners."""
    upstream.reset(prisoners=200, plant=["adjustments"])
    active, everyone = (make(**settings).population(PlainReads()) for settings in ({}, ALL))
    assert (active.total, everyone.total) == (200, 220)


def sentence_adjustment(caller: Caller, booking_id: int, code: str, days: int) -> int:
    """Creates an adjustment of a booking's first sentence in NOMIS, and returns the adjustment's id."""
    body = {"adjustmentTypeCode": code, "adjustmentFromDate": "2026-01-10", "adjustmentDays": days}
    path = f"/prisoners/booking-id/{booking_id}/sentences/1/adjustments"
    made = caller.call("nomis", "POST", path, body)
    assert made.status_code == 201
    return int(made.json()["id"])


def map_adjustment(caller: Caller, nomis_id: int, dps_id: str) -> None:
    """Maps an adjustment of a NOMIS sentence to a DPS adjustment."""
    body = {
        "nomisAdjustmentId": nomis_id,
        "nomisAdjustmentCategory": "SENTENCE",
        "adjustmentId": dps_id,
        "mappingType": "SENTENCING_CREATED",
    }
    assert caller.call("mapping", "POST", "/mapping/sentencing/adjustments", body).status_code == 201


def dps_adjustment(
    sandbox: Sandbox, number: int, booking_id: int, offender_no: str, code: str, days: int, **more: object
) -> str:
    """Creates an adjustment in DPS, and returns its id. more: values that replace the default ones."""
    dps_id = f"{DPS_ADJUSTMENTS}{number:02}"
    sandbox.put(
        "adjustment",
        **{
            "id": dps_id,
            "booking_id": booking_id,
            "offender_no": offender_no,
            "sentence": None if code == "ADA" else 1,
            "type": code,
            "day": "2026-01-10",
            "start": "2026-01-10",
            "days": days,
            "effective_days": days,
            "comment": None,
            "changed": "2026-01-10T09:00:00",
            **more,
        },
    )
    return dps_id


def worked_example(upstream: Sandbox) -> tuple[int, str]:
    """Creates the worked example, and returns its booking id and prisoner number.

    In NOMIS, the booking has these adjustments (type and days): ADA 10, RX 20, RX 0 and S240A 5. In DPS, it has ADA 10,
    REMAND 20 and REMAND 12; the prisoner's adjustment on another booking does not count.
    """
    caller = Caller(upstream)
    [prisoner, *_] = upstream.prisoners()
    booking_id, offender_no = prisoner["bookingId"], prisoner["offenderNo"]
    ada = {"adjustmentTypeCode": "ADA", "adjustmentFromDate": "2026-05-02", "adjustmentDays": 10}
    assert caller.call("nomis", "POST", f"/prisoners/booking-id/{booking_id}/adjustments", ada).status_code == 201
    for code, days in (("RX", 20), ("RX", 0), ("S240A", 5)):
        sentence_adjustment(caller, booking_id, code, days)
    for number, (booking, code, days) in enumerate(
        [(booking_id, "ADA", 10), (booking_id, "RX", 20), (booking_id, "RX", 12), (1_100_000, "RX", 7)]
    ):
        dps_adjustment(upstream, number, booking, offender_no, code, days)
    return booking_id, offender_no


def test_the_worked_example_has_the_expected_differences(upstream: Sandbox, make: Make) -> None:
    """In the worked example, three adjustments count on each side.

    DPS has one more remand adjustment and one fewer tagged bail adjustment than NOMIS.
    """
    booking_id, offender_no = worked_example(upstream)
    [row] = compare(make()).differing
    assert (row["booking_id"], row["offender_no"], row["kind"]) == (booking_id, offender_no, "different-counts")
    assert row["prison_id"] == next(each["prisonId"] for each in upstream.prisoners())
    assert row["differs"] == ("remand", "taggedBail")
    values = {name: (row[f"nomis_{name}"], row[f"dps_{name}"]) for name in row["differs"]}
    assert differences_text(values) == "remand 1, taggedBail -1"
    assert (row["nomis_additionalDaysAwarded"], row["dps_additionalDaysAwarded"]) == (1, 1)


def test_the_frame_has_the_documented_columns(upstream: Sandbox, make: Make) -> None:
    """The frame has the declared columns and dtypes, and a row for each booking, whether or not it has adjustments."""
    reconciliation, reads = make(), PlainReads()
    expected = columns_of(Adjustments)
    for prepare in (lambda: None, lambda: worked_example(upstream)):
        prepare()
        [unit] = reconciliation.population(reads).units
        rows = reconciliation.read(unit, reads).rows
        assert {str(name): str(dtype) for name, dtype in rows.dtypes.items()} == expected
        assert len(rows) == 20


def test_a_prisoner_unknown_to_dps_has_no_adjustments(upstream: Sandbox, make: Make) -> None:
    """If DPS responds with 404 or 422, the prisoner counts as having no adjustments in DPS.

    The status is 404 for an unknown prisoner, and 422 for one without an active sentence.
    """
    caller = Caller(upstream)
    first, second, *_ = upstream.prisoners()
    for prisoner in (first, second):
        sentence_adjustment(caller, prisoner["bookingId"], "RX", 5)
    body = {"status": 422, "userMessage": "No active sentences found", "developerMessage": "none"}
    upstream.fault("adjustments", query=f"person={first['offenderNo']}", status=422, body=body)
    upstream.fault("adjustments", query=f"person={second['offenderNo']}", status=404, body=body | {"status": 404})
    found = compare(make())
    assert found.kinds == {each["bookingId"]: "different-counts" for each in (first, second)}
    assert not found.unread


@pytest.mark.parametrize(
    ("service", "side", "path"), [("nomis", "NOMIS", "sentencing-adjustments"), ("adjustments", "DPS", "/adjustments")]
)
def test_an_unread_booking_is_neither_equal_nor_different(
    upstream: Sandbox, make: Make, service: str, side: str, path: str
) -> None:
    """If a booking cannot be read on one side, it is unread there, and the other bookings on its page are compared."""
    worked_example(upstream)
    prisoner = upstream.prisoners()[5]
    if service == "nomis":
        upstream.fault(service, path=f"/booking-id/{prisoner['bookingId']}/{path}", status=500)
    else:
        upstream.fault(service, query=f"person={prisoner['offenderNo']}", status=500)
    found = compare(make())
    [unread] = found.unread
    assert (dict(unread.key), unread.offender_no, unread.side) == (
        {"booking_id": prisoner["bookingId"]},
        prisoner["offenderNo"],
        side,
    )
    assert len(found.frame) == 19
    assert len(found.differing) == 1


def test_a_404_for_a_listed_booking_is_not_an_empty_list(upstream: Sandbox, make: Make) -> None:
    """If NOMIS lists a booking, but responds with 404 when its adjustments are read, the booking is unread."""
    prisoner = upstream.prisoners()[5]
    body = {"status": 404, "userMessage": "Not Found: booking", "developerMessage": "booking"}
    path = f"/booking-id/{prisoner['bookingId']}/sentencing-adjustments"
    upstream.fault("nomis", path=path, status=404, body=body)
    [unread] = compare(make()).unread
    assert "does not find it" in unread.reason


def test_a_prisoner_released_during_the_run_does_not_differ(upstream: Sandbox, make: Make) -> None:
    """If a prisoner is released during a run for active bookings, the second reading omits the prisoner's booking."""
    booking_id, offender_no = worked_example(upstream)
    reconciliation, reads = make(), PlainReads()
    [unit] = reconciliation.population(reads).units
    first = reconciliation.differing(reconciliation.read(unit, reads).rows)
    assert list(first["booking_id"]) == [booking_id]
    upstream.release(offender_no)
    assert reconciliation.reread(first, reads).rows.empty


def test_an_unlisted_page_is_a_gap(upstream: Sandbox, make: Make) -> None:
    """If a page of bookings cannot be listed, there is a gap with the page's key.

    The bookings after the gap are listed.
    """
    everyone = sorted(each["bookingId"] for each in upstream.prisoners())
    key = everyone[9]
    upstream.fault("nomis", path="/bookings/ids/latest-from-id", query=f"bookingId={key}", status=500)
    population = make(REPORTS_SENTENCING_RECONCILIATION_PAGE_SIZE="5").population(PlainReads())
    [gap] = population.gaps
    assert gap.detail == {"booking": key, "last": key + 1}
    assert gap.what == f"bookings from {key + 1} to {key + 1}"
    assert listed(population) == [each for each in everyone if each != key + 1]


def listed(population: Population) -> list[int]:
    """The ids of the bookings in a population."""
    return [booking for unit in population.units for booking, *_ in unit.content["bookings"]]


def test_a_resumed_run_lists_the_bookings_in_a_gap(upstream: Sandbox, make: Make) -> None:
    """A resumed run lists the bookings in a gap, so that every booking is listed exactly once."""
    everyone = sorted(each["bookingId"] for each in upstream.prisoners())
    steps = [everyone[9] + step for step in (0, 1, 10, 100, 1_000)]
    for key in steps:
        upstream.fault("nomis", path="/bookings/ids/latest-from-id", query=f"bookingId={key}", status=500)
    reconciliation = make(REPORTS_SENTENCING_RECONCILIATION_PAGE_SIZE="5")
    population = reconciliation.population(PlainReads())
    assert len(population.gaps) == 1
    upstream.clear_faults()
    again = reconciliation.listed_again(population, PlainReads())
    assert (again.gaps, again.total) == ((), 20)
    assert sorted(listed(again)) == everyone
    assert len({unit.id for unit in again.units}) == len(again.units)


def test_only_chosen_prisoners_and_prisons_are_read(upstream: Sandbox, make: Make) -> None:
    """Only the bookings of the chosen prisoners, or at the chosen prisons, are read.

    A chosen prisoner without a booking on the list is recorded as unread, with the prisoner number.
    """
    upstream.reset(prisoners=200, plant=["adjustments"])
    first, *_ = upstream.prisoners()
    found = compare(make(Scope(offender_nos=(first["offenderNo"], "A0000AA"))))
    assert list(found.frame["booking_id"]) == [first["bookingId"]]
    assert [(dict(each.key), each.offender_no) for each in found.unread] == [({}, "A0000AA")]
    found = compare(make(Scope(prisons=(first["prisonId"],))))
    there = {each["bookingId"] for each in upstream.prisoners() if each["prisonId"] == first["prisonId"]}
    assert set(found.frame["booking_id"]) == there


def test_records_of_pending_messages_are_named(upstream: Sandbox, make: Make) -> None:
    """A difference names the adjustments on both sides by their DPS ids, as messages do.

    This includes an adjustment that DPS has deleted and NOMIS still has.
    """
    upstream.reset(prisoners=200, plant=["adjustments"], every_cause=True)
    reconciliation = make()
    mapped = {each["nomisAdjustmentId"]: each["adjustmentId"] for each in upstream.mappings("adjustments")}
    rows = {row["booking_id"]: row for row in compare(reconciliation).differing}
    wanted = truth(upstream, "reported")
    [deleted] = [booking for booking, each in wanted.items() if each["cause"] == planted.DELETED_IN_DPS]
    named = reconciliation.entities(rows[deleted])
    assert any(name.removeprefix("sentencing-adjustment:") in mapped.values() for name in named)
    [never_created] = [booking for booking, each in wanted.items() if each["cause"] == planted.NOT_IN_NOMIS]
    dps_ids = {each["id"] for each in upstream.entities("adjustment") if each["booking_id"] == never_created}
    assert set(reconciliation.entities(rows[never_created])) == {f"sentencing-adjustment:{each}" for each in dps_ids}


def test_only_an_adjustment_that_dps_has_is_resynced(upstream: Sandbox, make: Make) -> None:
    """If the figures of a type differ, a resync is proposed for each unmapped DPS adjustment of that type.

    No resync is proposed for an unmapped NOMIS adjustment.
    """
    worked_example(upstream)
    reconciliation = make()
    [row] = compare(reconciliation).differing
    explanation = explain(reconciliation, row)
    assert isinstance(explanation, Explanation)
    assert explanation.diagnosis is not None
    resyncs = [each for each in explanation.diagnosis.commands if " resync " in each]
    assert resyncs == [f"prisoner-to-nomis resync adjustment {DPS_ADJUSTMENTS}{number:02}" for number in (1, 2)]
    assert explanation.diagnosis.cause == causes.NOT_IN_DPS.name
    assert causes.NOT_IN_NOMIS.name in explanation.diagnosis.explanation
    sides = Counter(each.side for each in explanation.evidence)
    assert sides == {"NOMIS": 2, "DPS": 2}


def diagnosed(make: Make) -> Diagnosis:
    """The diagnosis of the only difference."""
    reconciliation = make()
    [row] = compare(reconciliation).differing
    explanation = explain(reconciliation, row)
    assert isinstance(explanation, Explanation)
    assert explanation.diagnosis is not None
    return explanation.diagnosis


@pytest.mark.parametrize(
    ("nomis_days", "days", "effective_days", "cause"),
    [
        (None, 0, None, causes.NOT_IN_NOMIS),
        (0, 0, None, causes.NO_EFFECTIVE_DAYS),
        (5, 0, None, causes.OTHER_DAYS),
        (0, 7, None, causes.ZERO_IN_NOMIS),
        (0, 7, 7, causes.ZERO_IN_NOMIS),
        (5, 5, 0, causes.NO_LONGER_IN_DPS),
    ],
)
def test_an_adjustment_counts_unless_it_has_no_effective_days(
    upstream: Sandbox, make: Make, nomis_days: int | None, days: int, effective_days: int | None, cause: Cause
) -> None:
    """A DPS adjustment counts unless its effective days are 0, so one whose effective days are unknown counts.

    The cause of the difference reflects this, whether NOMIS has the adjustment with 5 days, with 0 days or not at all.
    """
    caller = Caller(upstream)
    [prisoner, *_] = upstream.prisoners()
    booking_id = prisoner["bookingId"]
    dps_id = dps_adjustment(upstream, 0, booking_id, prisoner["offenderNo"], "RX", days, effective_days=effective_days)
    if nomis_days is not None:
        map_adjustment(caller, sentence_adjustment(caller, booking_id, "RX", nomis_days), dps_id)
    assert diagnosed(make).cause == cause.name


@pytest.mark.parametrize("status", [404, 422])
def test_an_adjustment_that_dps_does_not_list_has_no_certain_cause(upstream: Sandbox, make: Make, status: int) -> None:
    """If DPS has a mapped adjustment, but lists none for the prisoner, the cause is that DPS does not list it.

    The prisoner may have been merged, or may have no active sentence.
    """
    caller = Caller(upstream)
    [prisoner, *_] = upstream.prisoners()
    booking_id, offender_no = prisoner["bookingId"], prisoner["offenderNo"]
    dps_id = dps_adjustment(upstream, 0, booking_id, offender_no, "RX", 5)
    map_adjustment(caller, sentence_adjustment(caller, booking_id, "RX", 5), dps_id)
    body = {"status": status, "userMessage": "No active sentences found", "developerMessage": "none"}
    upstream.fault("adjustments", query=f"person={offender_no}", status=status, body=body)
    assert diagnosed(make).cause == causes.UNLISTED_IN_DPS.name


def test_an_adjustment_that_nomis_does_not_list_is_not_called_deleted(upstream: Sandbox, make: Make) -> None:
    """If NOMIS has a mapped adjustment, but does not list it for the booking, the cause is not that it was deleted.

    NOMIS does not list adjustments that are hidden from users.
    """
    caller = Caller(upstream)
    [prisoner, *_] = upstream.prisoners()
    booking_id = prisoner["bookingId"]
    dps_id = dps_adjustment(upstream, 0, booking_id, prisoner["offenderNo"], "RX", 5)
    map_adjustment(caller, sentence_adjustment(caller, booking_id, "RX", 5), dps_id)
    empty: dict[str, list[object]] = {"sentenceAdjustments": [], "keyDateAdjustments": []}
    path = f"/prisoners/booking-id/{booking_id}/sentencing-adjustments$"
    upstream.fault("nomis", method="GET", path=path, status=200, body=empty)
    assert diagnosed(make).cause == causes.UNLISTED_IN_NOMIS.name


def windowed(upstream: Sandbox, days: int, generation: str) -> Scope:
    """Resets the sandbox to the services of `generation`, with planted differences.

    Returns the scope of the adjustments created in the last `days` days.
    """
    upstream.reset(prisoners=200, seed=2, plant=["adjustments"], every_cause=True, generation=generation)
    return Scope(from_date=(london_now() - timedelta(days=days)).date())


def test_new_nomis_adjustments_are_compared_with_services_of_2023(upstream: Sandbox, make: Make) -> None:
    """With the 2023 services, a run compares the adjustments that were created in NOMIS since a given day.

    It finds the planted differences that these adjustments can show, with their kinds and causes.
    """
    scope = windowed(upstream, 100, "2023")
    found = compare(make(scope))
    wanted = {
        booking: each for booking, each in truth(upstream, "reported").items() if each["cause"] in SEEN_FROM_NOMIS
    }
    assert found.kinds == {booking: each["kind"] for booking, each in wanted.items()}
    reconciliation = make(scope)
    for row in found.differing:
        explanation = explain(reconciliation, row)
        assert isinstance(explanation, Explanation)
        assert explanation.diagnosis is not None
        assert explanation.diagnosis.cause == TOLD[wanted[row["booking_id"]]["cause"]].name


def test_a_recheck_reads_only_the_adjustments_of_the_window(upstream: Sandbox, make: Make) -> None:
    """The recheck compares the same adjustments as the first reading, not all adjustments of the bookings."""
    reconciliation, reads = make(windowed(upstream, 100, "2023")), PlainReads()
    [unit] = reconciliation.population(reads).units
    first = reconciliation.differing(reconciliation.read(unit, reads).rows)
    again = reconciliation.differing(reconciliation.reread(first, reads).rows)
    rows = [{row["booking_id"]: row["created"] for row in records(each)} for each in (first, again)]
    assert rows[1].items() <= rows[0].items()
    assert len(rows[1]) >= len(SEEN_FROM_NOMIS)


def test_a_window_without_adjustments_compares_nothing(upstream: Sandbox, make: Make) -> None:
    """If no adjustment was created in the window, the run has nothing to compare."""
    upstream.reset(prisoners=20, generation="2023")
    found: Compared = compare(make(Scope(from_date=london_now().date())))
    assert (found.population.units, found.population.total) == ((), 0)


def test_services_of_2023_need_a_window(upstream: Sandbox, make: Make) -> None:
    """The 2023 services do not list bookings by key, so a comparison without a first day fails: a route is missing."""
    upstream.reset(prisoners=20, generation="2023")
    with pytest.raises(UpstreamError) as caught:
        compare(make())
    assert caught.value.no_route


def test_each_side_of_a_booking_is_read_once(upstream: Sandbox, make: Make) -> None:
    """Each booking is read once from NOMIS and once from DPS.

    A page costs two more calls to NOMIS: one for its list, and one for the prisons of bookings without adjustments.
    """
    upstream.clear_records()
    reads = PlainReads()
    compare(make(), reads)
    calls = Counter(reads.calls)
    assert (calls[UpstreamName.NOMIS], calls[UpstreamName.SENTENCE_ADJUSTMENTS]) == (22, 20)

"""The rules about duplicates: which record is the duplicate, and what prevents its removal."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.alerting import Severity
from sync.domains.duplicate_rows import recognise
from sync.domains.incentives.repair import IncentiveRepair
from sync.domains.registry import DOMAINS, domain_of_record, row_kinds
from sync.domains.repair_declaration import AdvisingRepair, RemovingRepair, Repair
from sync.errors import NON_UNIQUE_TEXT, UpstreamError
from sync.repair.duplicates import Duplicate, NomisView, Verdict, differences, obstacles, read_duplicate, unproved
from sync.store.findings import Finding, FindingKind
from sync.upstream.mappings import MappingIds

ONE, OTHER = MappingIds("dps-1", ("11",)), MappingIds("dps-2", ("12",))


def finding(domain: str, **properties: str) -> Finding:
    """An open finding about a duplicate, with the given domain and properties."""
    moment = datetime(2023, 5, 22, tzinfo=UTC)
    return Finding(
        1, "key", FindingKind.DUPLICATE, domain, Severity.LOW, "event", properties, "open", moment, None, None, None
    )


@pytest.mark.parametrize(
    ("existing", "verdict"),
    [
        (MappingIds("dps-1", ("12",)), Verdict.DUPLICATE),
        (MappingIds("dps-2", ("11",)), Verdict.TWO_CLAIMS),
        (MappingIds("dps-1", ("11",)), Verdict.SAME),
        (MappingIds("dps-2", ("12",)), Verdict.UNRELATED),
        (None, Verdict.NOT_MAPPED),
    ],
)
def test_only_different_nomis_ids_make_a_duplicate(existing: MappingIds | None, verdict: Verdict) -> None:
    """A record is a duplicate only if the refused and the existing pair have one DPS id but different NOMIS ids."""
    assert Duplicate(ONE, existing).verdict is verdict


def test_a_record_that_is_mapped_elsewhere_is_no_duplicate() -> None:
    """A NOMIS record that is mapped to another DPS record is unrelated, whatever mapping was refused for it."""
    assert Duplicate(ONE, MappingIds("dps-1", ("12",)), belongs_to="dps-9").verdict is Verdict.UNRELATED


def test_the_same_number_in_two_families_is_two_records() -> None:
    """NOMIS adjustments of different families are different records, even if they have the same number."""
    one, other = MappingIds("a", ("33012", "SENTENCE")), MappingIds("a", ("33012", "KEY-DATE"))
    assert Duplicate(one, other).verdict is Verdict.DUPLICATE


#: The ids in the properties of findings. They are text, in which `null` stands for a missing id.
IDS = st.text(min_size=1, max_size=8).filter(lambda text: text != "null")


@given(st.sampled_from(sorted(DOMAINS)), IDS, IDS)
def test_pairs_are_read_from_the_properties(domain: str, dps: str, nomis: str) -> None:
    """In each domain, the refused pair is read from the properties of a finding, whatever the ids in the pair are.

    The existing pair is None if the properties lack it.
    """
    mappings = DOMAINS[domain].mappings
    properties = {f"duplicate{name[0].upper()}{name[1:]}": f"{nomis}!" for name in mappings.nomis}
    properties[f"duplicate{mappings.dps[0].upper()}{mappings.dps[1:]}"] = dps
    duplicate = read_duplicate(finding(DOMAINS[domain].record, **properties))
    assert (duplicate.duplicate.dps_id, set(duplicate.duplicate.nomis_ids)) == (dps, {f"{nomis}!"})
    assert duplicate.existing is None


def test_a_finding_without_a_record_is_refused() -> None:
    """If a finding does not name the refused pair, it cannot be read as a duplicate: there is nothing to check."""
    with pytest.raises(ValueError, match="does not say which visit"):
        read_duplicate(finding("visit", duplicateNomisId="null", duplicateVsipId="a"))


VISIT: dict[str, str | None] = {
    "offenderNo": "A1234BC",
    "prisonId": "LEI",
    "start": "2023-06-02T14:00:00",
    "status": "SCH",
    "namesReference": "yes",
}
ADJUSTMENT: dict[str, str | None] = {
    "bookingId": "1",
    "sentenceSequence": None,
    "type": "ADA",
    "days": "14",
    "date": "2023-05-20",
    "from": None,
}
APPOINTMENT: dict[str, str | None] = {
    "bookingId": "1",
    "start": "2023-06-05T09:00:00",
    "location": "5",
    "type": "CHAP",
}


@pytest.mark.parametrize(
    ("domain", "record", "changes"),
    [
        ("visit", VISIT, {"start": "2023-06-03T14:00:00"}),
        ("visit", VISIT, {"prisonId": "MDI"}),
        ("visit", VISIT, {"status": "NORM"}),
        ("visit", VISIT, {"namesReference": "no"}),
        ("sentencing-adjustment", ADJUSTMENT, {"sentenceSequence": "2"}),
        ("sentencing-adjustment", ADJUSTMENT, {"type": "UAL"}),
        ("sentencing-adjustment", ADJUSTMENT, {"days": "7"}),
        ("sentencing-adjustment", ADJUSTMENT, {"date": "2023-05-21"}),
        ("sentencing-adjustment", ADJUSTMENT, {"from": "2023-05-21"}),
        ("appointment", APPOINTMENT, {"start": "2023-06-05T10:00:00"}),
        ("appointment", APPOINTMENT, {"location": None}),
        ("appointment", APPOINTMENT, {"type": "GYM"}),
    ],
)
@pytest.mark.parametrize("which", ["duplicate", "mapped"])
def test_a_record_that_differs_is_not_a_proven_duplicate(
    domain: str, record: dict[str, str | None], changes: dict[str, str | None], which: str
) -> None:
    """If the two records differ in a field that must be equal, the refused record is not a proven duplicate.

    It does not matter which of the two records has the different value.
    """
    repair, other = domain_of_record(domain).repair, {**record, **changes}
    sides = (other, record) if which == "duplicate" else (record, other)
    view = NomisView(*sides, readable=True)
    assert obstacles(repair, ONE, OTHER, view) == []
    assert len(unproved(repair, ONE, OTHER, view)) == 1
    assert unproved(repair, ONE, OTHER, NomisView(record, record, readable=True)) == []


def test_missing_values_on_both_sides_prove_nothing() -> None:
    """Two records are not equal merely because both of them lack a start."""
    record = {**APPOINTMENT, "start": None}
    view = NomisView(record, dict(record), readable=True)
    assert unproved(DOMAINS["appointments"].repair, ONE, OTHER, view) == ["neither record has a value for start"]


def test_a_cancelled_visit_needs_no_proof() -> None:
    """A visit that is already cancelled is not removed, so no proof is needed."""
    cancelled = {**VISIT, "status": "CANC", "start": None}
    view = NomisView(cancelled, VISIT, readable=True)
    assert unproved(DOMAINS["visits"].repair, ONE, OTHER, view) == []


def test_a_proven_duplicate_has_no_objection() -> None:
    """If an unmapped visit is equal to the mapped visit in every field, nothing prevents its removal as a duplicate."""
    view = NomisView(VISIT, dict(VISIT), readable=True)
    assert obstacles(DOMAINS["visits"].repair, ONE, OTHER, view) == []
    assert unproved(DOMAINS["visits"].repair, ONE, OTHER, view) == []
    assert differences(view) == {}


@pytest.mark.parametrize(
    ("duplicate", "mapped", "word"),
    [
        ({"offenderNo": "A1234BC"}, None, "may be the only one"),
        ({"offenderNo": "A1234BC"}, {"offenderNo": "B1234BC"}, "do not have the same offenderNo"),
        ({"offenderNo": None}, {"offenderNo": None}, "neither record has a value for offenderNo"),
    ],
)
def test_a_record_that_may_be_needed_is_never_removed(
    duplicate: dict[str, str | None], mapped: dict[str, str | None] | None, word: str
) -> None:
    """Whatever a person confirms, a record stays if it may be the only one or may belong to another prisoner."""
    view = NomisView(duplicate, mapped, readable=True)
    (obstacle,) = obstacles(DOMAINS["visits"].repair, ONE, OTHER, view)
    assert word in obstacle


IEP_RECORD: dict[str, str | None] = {"bookingId": "1249358", "level": "STD"}


def test_equal_iep_records_may_stay() -> None:
    """Two IEP records with the same level do no harm, so the finding about them can be closed."""
    view = NomisView(IEP_RECORD, dict(IEP_RECORD), readable=True)
    assert obstacles(DOMAINS["incentives"].repair, ONE, OTHER, view) == []


def test_a_duplicate_that_stays_is_not_resolved() -> None:
    """A harmful duplicate that this program cannot remove is left to a person, with the advice of the domain."""
    view = NomisView({**IEP_RECORD, "level": "ENH"}, IEP_RECORD, readable=True)
    (obstacle,) = obstacles(DOMAINS["incentives"].repair, ONE, OTHER, view)
    assert "cannot remove IEP record 11: the records differ in level" in obstacle
    assert "--by-hand" in obstacle


@pytest.mark.parametrize("base", [RemovingRepair, AdvisingRepair])
def test_a_repair_needs_a_removal_or_advice(base: type[Repair]) -> None:
    """A repair that neither removes a record nor gives advice cannot be constructed."""
    missing = "remove" if base is RemovingRepair else "advice"
    others = dict.fromkeys(("read", "nomis_ids", "search_text", "event_parts"))
    with pytest.raises(TypeError, match=missing):
        type("Silent", (base,), others)()


def test_a_person_closes_findings_about_unreadable_records() -> None:
    """A finding about records that neither this program nor any service can read or remove is closed by a person."""
    repair = type("Unreadable", (IncentiveRepair,), {"readable": False})()
    (obstacle,) = obstacles(repair, ONE, OTHER, NomisView(None, None, readable=False))
    assert "--by-hand" in obstacle


def test_the_request_has_only_the_ids_of_the_records() -> None:
    """The request to the support team gives the prisoner number, the booking, both sequences and the DPS review.

    It contains no other id from the finding.
    """
    one, other = MappingIds("700536", ("1249358", "8")), MappingIds("700536", ("1249358", "7"))
    text = IncentiveRepair().support_request(one, other, "A1234BC")
    assert text is not None
    assert "sequence 8 of prisoner A1234BC, booking 1249358" in text
    assert "repeats the record with sequence 7" in text
    assert "DPS review 700536" in text
    assert set(re.findall(r"\w*\d\w*", text)) == {"8", "A1234BC", "1249358", "7", "700536"}


ALLOCATION = {"nomisCourseActivityId": 540001, "bookingId": 123, "dpsAllocationId": "6"}
SESSION = {"sessionDate": "2023-05-22", "sessionStartTime": "08:30", "sessionEndTime": "11:45"}


def refusal(path: str, status: int = 500, message: str = NON_UNIQUE_TEXT, service: str = "nomis") -> UpstreamError:
    """The error that is raised if a service refuses a PUT. By default, NOMIS refuses it because of duplicate rows."""
    return UpstreamError(service, "PUT", path, status=status, message=message)


def test_duplicate_rows_are_recognised_by_path_and_text() -> None:
    """Duplicate rows of an allocation or attendance are recognised by the path of the call and the error text."""
    allocation = recognise(row_kinds()["allocation"], refusal("/activities/540001/allocation"), ALLOCATION)
    assert allocation is not None
    assert allocation.finding_key == "non-unique:allocation:540001:123"
    for path in ("/activities/540001/booking/123/attendance", "/activities/540001/booking/123/attendance-status"):
        attendance = recognise(row_kinds()["attendance"], refusal(path), {**ALLOCATION, **SESSION})
        assert attendance is not None
        assert attendance.finding_key == "non-unique:attendance:540001:123:2023-05-22:08:30:11:45"


@pytest.mark.parametrize(
    "error",
    [
        refusal("/activities/540001/allocation", status=400),
        refusal("/activities/540001/allocation", message="something else"),
        refusal("/activities/540001/allocation", service="mapping"),
        refusal("/appointments/booking/123/location/1/start/2023-05-22T09:00:00"),
        ValueError(NON_UNIQUE_TEXT),
    ],
)
@pytest.mark.parametrize("what", ["allocation", "attendance"])
def test_other_failures_do_not_mean_duplicate_rows(what: str, error: Exception) -> None:
    """A failure with another status, text, service, path or kind of error does not mean that NOMIS has two rows."""
    assert recognise(row_kinds()[what], error, {**ALLOCATION, **SESSION}) is None

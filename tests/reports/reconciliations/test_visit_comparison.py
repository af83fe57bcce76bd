"""The comparison of visits, checked against plain Python, and the references in NOMIS comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.frame import typed
from reports.reconciliations.visits import compare
from reports.reconciliations.visits.reconciliation import Visits
from sync.domains.visits.dps import BookedVisit, Visitor
from sync.domains.visits.nomis import NomisVisitor, ReferenceCode, VisitDetails

TODAY = date(2026, 8, 21)
CREATED = datetime.fromisoformat("2026-08-01")
REFERENCES = tuple("-".join([2 * letter] * 4) for letter in "abcdef")
ENDED = {"NORM", "EXP", "HMPOP", "OFFEND", "VISITOR", "VDE"}
ROOMS = {
    "HEI-VSIP-MAIN-HALL-SOC": "OPEN",
    "HEI-VSIP-MAIN-HALL-CLO": "CLOSED",
    "HEI-VISITS-VSIP_SOC": "OPEN",
    "HEI-VISITS-VSIP_CLO": "CLOSED",
    "HEI-VISITS-HALL-SOC": None,
    None: None,
}
OUTCOMES = {"VISITOR_CANCELLED": "VISCANC", "ADMINISTRATIVE_ERROR": "ADMIN", "BOOKER_CANCELLED": "ADMIN", None: "ADMIN"}

starts = st.sampled_from(
    [datetime.fromisoformat(f"2026-08-{each}") for each in ("20T10:00", "21T10:00", "21T10:00:30", "22T10:00")]
)
persons = st.lists(st.integers(1, 3), max_size=3, unique=True)

#: Each example is a whole frame, so few examples are needed.
FEW = settings(deadline=None, max_examples=20)


@st.composite
def dps_visits(draw: st.DrawFn, reference: str) -> BookedVisit:
    """A generated visit in DPS."""
    start = draw(starts)
    return BookedVisit(
        reference=reference,
        prisoner_id=draw(st.sampled_from(["A1234BC", "A1234BD"])),
        prison_id=draw(st.sampled_from(["HEI", "BLI"])),
        visit_room="Main",
        visit_type=draw(st.sampled_from(["SOCIAL", "FAMILY"])),
        visit_restriction=draw(st.sampled_from(["OPEN", "CLOSED", "UNKNOWN"])),
        visit_status=draw(st.sampled_from(["BOOKED", "CANCELLED"])),
        outcome_status=draw(st.sampled_from(list(OUTCOMES))),
        start_timestamp=start,
        end_timestamp=start + timedelta(hours=1),
        visitors=tuple(Visitor(nomis_person_id=each) for each in draw(persons)),
        created_timestamp=CREATED,
    )


@st.composite
def nomis_visits(draw: st.DrawFn, visit_id: int) -> VisitDetails:
    """A generated visit in NOMIS."""
    start = draw(starts)
    room = draw(st.sampled_from(list(ROOMS)))
    outcome = draw(st.sampled_from(["VISCANC", "ADMIN", None]))
    names = draw(st.sampled_from([*REFERENCES, None]))
    return VisitDetails(
        visit_id=visit_id,
        offender_no=draw(st.sampled_from(["A1234BC", "A1234BD"])),
        prison_id=draw(st.sampled_from(["HEI", "BLI"])),
        start_date_time=start,
        end_date_time=draw(st.sampled_from([start + timedelta(hours=1), None])),
        visit_status=ReferenceCode(code=draw(st.sampled_from(["SCH", "CANC", "NORM", "EXP", "COMP"]))),
        visit_type=ReferenceCode(code=draw(st.sampled_from(["SCON", "SCON", "OFFI"]))),
        visit_outcome=None if outcome is None else ReferenceCode(code=outcome),
        visitors=tuple(NomisVisitor(person_id=each) for each in draw(persons)),
        agency_internal_location=None if room is None else ReferenceCode(code=room),
        comment_text=None if names is None else f"DPS booking reference: {names}",
        when_created=CREATED,
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, BookedVisit], dict[int, VisitDetails], dict[str, int]]:
    """The DPS visits by reference, the NOMIS visits by id, and the NOMIS visit id of each mapped reference.

    A mapping may name visits that do not exist.
    """
    dps = {each: draw(dps_visits(each)) for each in draw(st.sets(st.sampled_from(REFERENCES)))}
    nomis = {each: draw(nomis_visits(each)) for each in range(1, draw(st.integers(1, 16)))}
    mapped = draw(st.lists(st.sampled_from(REFERENCES), unique=True))
    ids = draw(st.lists(st.integers(1, 16), min_size=len(mapped), max_size=len(mapped), unique=True))
    return dps, nomis, dict(zip(mapped, ids, strict=True))


@FEW
@given(worlds())
def test_the_comparison_of_visits_equals_a_plain_one(
    world: tuple[dict[str, BookedVisit], dict[int, VisitDetails], dict[str, int]],
) -> None:
    """The vectorised comparison finds the same differences, kinds and fields as a comparison record by record."""
    dps, nomis, mappings = world
    named = {each: _named(visit) for each, visit in nomis.items() if each not in mappings.values()}
    # A mapping is not compared if neither of its records exists.
    mappings = {name: each for name, each in mappings.items() if name in dps or each in nomis}
    frame = compare.join(
        compare.dps_frame(dps.values()),
        compare.nomis_frame(nomis.values()),
        compare.pairs(mappings.items()),
        compare.pairs((name or "", each) for each, name in named.items()),
    )
    found = compare.differing(typed(Visits, frame), TODAY)
    result = {
        key: (kind, names) for key, kind, names in zip(found["visit"], found["kind"], found["differs"], strict=True)
    }
    assert result == _one_by_one(dps, nomis, mappings, named)


def _one_by_one(
    dps: Mapping[str, BookedVisit],
    nomis: Mapping[int, VisitDetails],
    mappings: Mapping[str, int],
    named: Mapping[int, str | None],
) -> dict[str, tuple[str, tuple[str, ...]]]:
    found = {}
    for reference in {*dps, *mappings, *(name for name in named.values() if name is not None)}:
        naming = [each for each, name in named.items() if name == reference]
        naming.sort(key=lambda each: (nomis[each].visit_status.code == "CANC", each))
        visit_id = mappings.get(reference)
        if visit_id is None and naming:
            visit_id = naming.pop(0)
        visit, record = dps.get(reference), nomis.get(visit_id or 0)
        kind = _kind(visit, record, mapped=reference in mappings)
        if kind:
            found[reference] = (kind, _differs(visit, record))
        for each in naming:
            if nomis[each].visit_status.code != "CANC":
                found[f"{reference} {each}"] = ("nomis-duplicate", _differs(visit, nomis[each]))
    return found


def _kind(visit: BookedVisit | None, record: VisitDetails | None, *, mapped: bool) -> str:
    if visit is None:
        return "dps-visit-gone"
    booked = visit.visit_status == "BOOKED"
    if record is None:
        return "nomis-visit-gone" if mapped else "nomis-visit-missing" if booked else ""
    state = record.visit_status.code
    if not mapped:
        return "mapping-missing" if booked or state != "CANC" else ""
    if not booked and state == "SCH":
        return "not-cancelled-in-nomis"
    if booked and state == "CANC":
        return "cancelled-in-nomis-only"
    differs = set(_differs(visit, record))
    if differs - {"outcome", "reference"}:
        return "details-differ"
    return next((f"{name}-differs" for name in ("outcome", "reference") if name in differs), "")


def _differs(visit: BookedVisit | None, record: VisitDetails | None) -> tuple[str, ...]:
    if visit is None or record is None:
        return ()
    booked, state = visit.visit_status == "BOOKED", record.visit_status.code
    begun = visit.start_timestamp.date() <= TODAY
    as_booked = state == "SCH" or (state in ENDED and begun)
    room = ROOMS[record.agency_internal_location.code if record.agency_internal_location else None]
    outcome = record.visit_outcome.code if record.visit_outcome else None
    differs = {
        "start": visit.start_timestamp.replace(second=0) != record.start_date_time.replace(second=0),
        "end": record.end_date_time is None
        or visit.end_timestamp.replace(second=0) != record.end_date_time.replace(second=0),
        "visitors": {each.nomis_person_id for each in visit.visitors} != {each.person_id for each in record.visitors},
        "restriction": visit.visit_restriction != "UNKNOWN" and room is not None and visit.visit_restriction != room,
        "prisoner": visit.prisoner_id != record.offender_no,
        "prison": visit.prison_id != record.prison_id,
        "type": record.visit_type.code != "SCON",
        "state": not as_booked if booked else state != "CANC",
        "outcome": not booked and state == "CANC" and outcome != OUTCOMES[visit.outcome_status],
        "reference": _named(record) not in {None, visit.reference},
    }
    return tuple(name for name, value in differs.items() if value)


def _named(record: VisitDetails) -> str | None:
    return None if record.comment_text is None else record.comment_text.removeprefix("DPS booking reference: ")


letters = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=2, max_size=2)
references = st.lists(letters, min_size=4, max_size=4).map("-".join)


def _references_in(comments: Sequence[str | None]) -> list[str | None]:
    visits = [
        VisitDetails(
            visit_id=place + 1,
            offender_no="A1234BC",
            prison_id="HEI",
            start_date_time=CREATED,
            visit_status=ReferenceCode(code="SCH"),
            visit_type=ReferenceCode(code="SCON"),
            visitors=(),
            comment_text=comment,
            when_created=CREATED,
        )
        for place, comment in enumerate(comments)
    ]
    return [text if isinstance(text, str) else None for text in compare.nomis_frame(visits)["nomis_reference"]]


@FEW
@given(st.lists(st.tuples(references, st.sampled_from([" - ", ", ", ". "]), st.text(max_size=30)), max_size=20))
def test_references_in_comments_are_found(comments: list[tuple[str, str, str]]) -> None:
    """A reference is found in comments of both generations, whether or not text from the support team follows it."""
    for generation in ("Created by Book A Prison Visit. Reference: {}", "DPS booking reference: {}"):
        named = [generation.format(reference) for reference, _, _ in comments]
        behind = [text + join + support for text, (_, join, support) in zip(named, comments, strict=True)]
        expected = [reference for reference, _, _ in comments]
        assert (_references_in(named), _references_in(behind)) == (expected, expected)


@FEW
@given(st.lists(st.none() | st.text(max_size=60).filter(lambda text: "eference: " not in text), max_size=20))
def test_a_comment_may_have_no_reference(comments: list[str | None]) -> None:
    """A comment without a reference, or a missing comment, names no visit."""
    assert _references_in(comments) == [None] * len(comments)


@FEW
@given(st.lists(st.lists(st.text("abc123", min_size=1), min_size=2, max_size=5).map("-".join), max_size=20))
def test_a_reference_of_another_form_is_used_unchanged(texts: list[str]) -> None:
    """A reference in an unusual form is used unchanged, since the mapping decides which visit it names."""
    assert _references_in([f"DPS booking reference: {text} and more" for text in texts]) == texts


@FEW
@given(st.lists(st.from_regex(r"[A-Z][a-z]*( [a-z]+)?|[a-z]+", fullmatch=True), max_size=20))
def test_a_word_that_is_not_a_reference_is_ignored(words: list[str]) -> None:
    """A word in the place of a reference is ignored, since what staff write in a comment may be personal."""
    assert _references_in([f"Seen. Reference: {word}" for word in words]) == [None] * len(words)

"""A finding is shown as sentences that say what happened, to whom, and with what consequence."""

import pytest

from reports.presentation.alerts import TEXTS
from reports.reconciliations.incentives.events import ALERTS
from sync.repair.finding_text import finding_text, prisoner_in

VISIT = {
    "visitId": "bq-te-ke-ol",
    "offenderNo": "A1234BC",
    "prisonId": "MDI",
    "startDateTime": "2023-06-02T14:00:00",
    "duplicateNomisId": "8811002",
    "duplicateVsipId": "bq-te-ke-ol",
    "existingNomisId": "8811001",
    "existingVsipId": "bq-te-ke-ol",
}
SESSION = {
    "offenderNo": "A1234BC",
    "bookingId": "1204417",
    "nomisCourseActivityId": "540112",
    "sessionDate": "2023-06-02",
    "sessionStartTime": "09:00",
    "sessionEndTime": "12:00",
}


@pytest.mark.parametrize(
    ("event", "properties", "text"),
    [
        (
            "to-nomis-synch-visit-duplicate",
            VISIT,
            (
                "NOMIS has two records of visit bq-te-ke-ol of prisoner A1234BC at MDI on 2 June 2023 at 14:00: visit "
                "8811001 is mapped, and visit 8811002 is one too many. A sentenced prisoner loses a visit in the "
                "week of the duplicate until the duplicate is cancelled."
            ),
        ),
        (
            "to-nomis-synch-visit-duplicate",
            {**VISIT, "existingVsipId": "ot-he-ro-ne", "existingNomisId": "8811002"},
            (
                "Two DPS records claim visit 8811002 of prisoner A1234BC: ot-he-ro-ne has it, and bq-te-ke-ol was "
                "refused. Until this is resolved, changes to bq-te-ke-ol do not reach NOMIS. Check both before you "
                "delete anything."
            ),
        ),
        (
            "activity-create-ambiguous",
            {"dpsActivityScheduleId": "318"},
            (
                "NOMIS did not respond to the request to create activity 318, and no look-up shows whether it exists. "
                "Until a person checks NOMIS, the course activity may be missing there, and later changes to it fail."
            ),
        ),
        (
            "appointment-create-ambiguous",
            {"appointmentInstanceId": "90217", "bookingId": "1204417", "date": "2023-06-02", "start": "09:00"},
            (
                "NOMIS did not respond to the request to create appointment 90217 of booking 1204417 on 2 June 2023 at "
                "09:00, and no look-up shows whether it exists. Until a person checks NOMIS, the appointment may be "
                "missing there, and later changes to it fail."
            ),
        ),
        (
            "activity-allocation-non-unique",
            SESSION,
            (
                "NOMIS has two allocations for booking 1204417 in course activity 540112 (prisoner A1234BC) but should "
                "have only one. Until one of them is deleted, NOMIS refuses every change to either allocation."
            ),
        ),
        (
            "activity-attendance-non-unique",
            SESSION,
            (
                "NOMIS has two attendances for booking 1204417 in the session of course activity 540112 on 2023-06-02, "
                "09:00 to 12:00 (prisoner A1234BC) but should have only one. Until one of them is deleted, NOMIS "
                "refuses every change to either attendance."
            ),
        ),
        (
            "dead-letter-given-up",
            {
                "queue": "visit",
                "eventType": "prison-visit.booked",
                "messages": "3",
                "reason": "Not found.",
                "advice": "purge the message if this does not change",
            },
            (
                "3 prison-visit.booked messages from the visit queue cannot be applied to NOMIS (for example Not "
                "found). Housekeeping no longer sends them back, so NOMIS lacks these changes. What to do: purge the "
                "message if this does not change."
            ),
        ),
        (
            "dead-letter-given-up",
            {
                "queue": "visit",
                "eventType": "prison-visit.booked",
                "entity": "visit:bq-te-ke-ol",
                "offenderNo": "A1234BC",
                "messages": "1",
                "advice": "purge it",
            },
            (
                "1 prison-visit.booked message about visit bq-te-ke-ol of prisoner A1234BC from the visit queue cannot "
                "be applied to NOMIS. Housekeeping no longer sends it back, so NOMIS lacks this change. What to "
                "do: purge it."
            ),
        ),
    ],
)
def test_a_finding_is_whole_sentences(event: str, properties: dict[str, str], text: str) -> None:
    """The text of a finding consists of whole sentences, whatever properties its event has."""
    assert finding_text(event, properties) == text


@pytest.mark.parametrize("event", sorted(TEXTS.keys() - ALERTS.keys() - {"contract-drift"}))
def test_a_finding_with_few_properties_is_a_sentence(event: str) -> None:
    """Even if the event of a finding has no properties, the text of the finding is complete and has no gaps."""
    text = finding_text(event, {})
    assert text is not None
    assert text.endswith(".")
    assert "None" not in text
    assert "  " not in text


@pytest.mark.parametrize(("offender_no", "known"), [("A1234BC", "A1234BC"), ("unknown", None), ("null", None)])
def test_an_unknown_prisoner_has_no_number(offender_no: str, known: str | None) -> None:
    """`prisoner_in` returns the prisoner number of a finding, but None if the number is `unknown` or `null`."""
    assert prisoner_in({"offenderNo": offender_no}) == known


def test_other_events_have_no_finding_text() -> None:
    """`finding_text` returns None for an event that is not the event of a finding."""
    assert finding_text("visit-create-success", VISIT) is None

"""Key-date and sentence adjustments, whose ids overlap, are written to NOMIS, unless they came from NOMIS."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest

from sync.clock import LONDON
from sync.domains.adjustments import DOMAIN
from sync.domains.adjustments.dps import Adjustment
from sync.domains.adjustments.rules import nomis_adjustment
from sync.errors import MalformedMessage, NotUnderstood, RuleError, UpstreamError
from sync.events.context import Outcome
from sync.events.envelope import DomainEvent
from tests.harness.adjustments import ADJUSTMENT, EVENT, handle, put_adjustment
from tests.harness.faults import faulty
from tests.harness.handlers import HANDLERS, Harness, Prisoner

OTHER = "6c1d8c2f-4a7b-4c1d-8b62-1c4d6a3e9f88"


def held(harness: Harness) -> dict[str, Any]:
    """The only visible adjustment in NOMIS."""
    (adjustment,) = harness.sandbox.nomis("adjustment")
    return dict(adjustment)


@pytest.mark.parametrize(
    ("sentence", "kind", "category"), [(None, "ADA", "KEY-DATE"), (1, "RX", "SENTENCE")], ids=["key date", "sentence"]
)
def test_an_adjustment_is_created_and_mapped(
    harness: Harness, prisoner: Prisoner, sentence: int | None, kind: str, category: str
) -> None:
    """An adjustment of either family is created in that family, mapped with its category, and tracked."""
    put_adjustment(harness, prisoner, sentence=sentence, type=kind)
    assert handle(harness, prisoner, "inserted") is Outcome.APPLIED
    (sent, mapped) = harness.sandbox.journal()
    family = "adjustments" if sentence is None else f"sentences/{sentence}/adjustments"
    assert sent["path"] == f"/prisoners/booking-id/{prisoner.booking_id}/{family}"
    assert sent["body"] == {
        "adjustmentTypeCode": kind,
        "adjustmentDate": "2023-05-20",
        "adjustmentFromDate": "2023-05-01",
        "adjustmentDays": 12,
        "comment": "twelve days",
        "active": True,
    }
    assert mapped["body"] == {
        "nomisAdjustmentId": held(harness)["id"],
        "nomisAdjustmentCategory": category,
        "adjustmentId": ADJUSTMENT,
        "mappingType": "SENTENCING_CREATED",
    }
    assert harness.tracked() == [
        (
            "sentencing-adjustment-create-success",
            {
                "adjustmentId": ADJUSTMENT,
                "offenderNo": prisoner.offender_no,
                "nomisAdjustmentId": str(held(harness)["id"]),
                "nomisAdjustmentCategory": category,
                "mappingType": "SENTENCING_CREATED",
            },
        )
    ]


def test_inactive_adjustment_is_inactive_in_nomis(harness: Harness, prisoner: Prisoner) -> None:
    """The active state of an adjustment is sent to NOMIS with each create and update."""
    put_adjustment(harness, prisoner, active=False)
    handle(harness, prisoner, "inserted")
    assert held(harness)["active"] is False
    put_adjustment(harness, prisoner, active=True)
    handle(harness, prisoner, "updated")
    assert held(harness)["active"] is True


def test_key_date_without_from_date_begins_on_its_date(harness: Harness, prisoner: Prisoner) -> None:
    """A key-date adjustment without a from-date begins on its adjustment date.

    If it has no adjustment date either, it begins today. NOMIS requires a from-date for a key-date adjustment.
    """
    put_adjustment(harness, prisoner, start=None)
    handle(harness, prisoner, "inserted")
    assert held(harness)["start"] == "2023-05-20"
    put_adjustment(harness, prisoner, OTHER, start=None, day=None)
    before = datetime.now(LONDON).date().isoformat()
    handle(harness, prisoner, "inserted", OTHER)
    after = datetime.now(LONDON).date().isoformat()
    assert any(each["start"] in (before, after) for each in harness.sandbox.nomis("adjustment"))


def test_sentence_adjustment_keeps_its_missing_from_date() -> None:
    """A sentence adjustment may be sent without a from-date.

    A missing adjustment date becomes today's date in London.
    """
    adjustment = Adjustment(booking_id=1, sentence_sequence=1, adjustment_type="RX", adjustment_days=1)
    today = datetime(2023, 5, 22, tzinfo=LONDON).date()
    body = nomis_adjustment(adjustment, today).as_json()
    assert body == {"adjustmentTypeCode": "RX", "adjustmentDate": "2023-05-22", "adjustmentDays": 1, "active": True}


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("inserted", "sentencing-adjustment-create-ignored"),
        ("updated", "sentencing-adjustment-updated-ignored"),
        ("deleted", "sentencing-adjustment-deleted-ignored"),
    ],
)
def test_events_from_nomis_are_ignored(harness: Harness, prisoner: Prisoner, word: str, name: str) -> None:
    """Events whose source is NOMIS are ignored without a call to DPS, NOMIS or the mapping service."""
    handle(harness, prisoner, word, source="NOMIS")
    assert harness.tracked() == [(name, {"adjustmentId": ADJUSTMENT, "offenderNo": prisoner.offender_no})]
    assert [each for each in harness.sandbox.requests() if each["service"] != "auth"] == []


def test_ignored_events_have_a_separate_group() -> None:
    """An event from NOMIS is never coalesced with an event from DPS.

    Otherwise, the event from DPS would be ignored too.
    """
    entity = HANDLERS[f"{EVENT}.updated"].entity
    dps, nomis = (
        entity(DomainEvent(f"{EVENT}.updated", additional_information={"id": ADJUSTMENT, "source": source}))
        for source in ("DPS", "NOMIS")
    )
    assert dps != nomis


@pytest.mark.parametrize(("sentence", "kind"), [(None, "ADA"), (1, "RX")], ids=["key date", "sentence"])
def test_a_lost_response_is_found_again(harness: Harness, prisoner: Prisoner, sentence: int | None, kind: str) -> None:
    """After a lost response, the created adjustment is found in its own family.

    The adjustments that NOMIS itself creates and hides are passed over.
    """
    put_adjustment(harness, prisoner, OTHER, type="UAL")
    handle(harness, prisoner, "inserted", OTHER)
    put_adjustment(harness, prisoner, sentence=sentence, type=kind)
    harness.sandbox.fault("nomis", "POST", kind="reset_after_write", times=1)
    with pytest.raises(UpstreamError):
        handle(harness, prisoner, "inserted")
    assert handle(harness, prisoner, "inserted") is Outcome.APPLIED
    ours = next(each for each in harness.sandbox.nomis("adjustment") if each["type"] == kind)
    mapped = {each["adjustmentId"]: each["nomisAdjustmentId"] for each in harness.sandbox.mappings("adjustments")}
    assert len(harness.sandbox.nomis("adjustment")) == 2
    assert mapped[ADJUSTMENT] == ours["id"]


def test_an_equal_adjustment_of_another_record_is_not_claimed(harness: Harness, prisoner: Prisoner) -> None:
    """After a lost create, an equal NOMIS adjustment that is mapped to another DPS record is not claimed."""
    put_adjustment(harness, prisoner, OTHER)
    handle(harness, prisoner, "inserted", OTHER)
    put_adjustment(harness, prisoner)
    harness.sandbox.fault("nomis", "POST", kind="reset", times=1)
    with pytest.raises(UpstreamError):
        handle(harness, prisoner, "inserted")
    assert handle(harness, prisoner, "inserted") is Outcome.APPLIED
    assert len(harness.sandbox.nomis("adjustment")) == 2


def test_a_retry_tracks_the_properties_of_its_message(harness: Harness, prisoner: Prisoner) -> None:
    """A retry that saves a mapping tracks the creation as successful, with the properties from its message."""
    put_adjustment(harness, prisoner)
    harness.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    assert handle(harness, prisoner, "inserted") is Outcome.RETRY_QUEUED
    assert harness.handle_retry(*harness.retries[0]) is Outcome.APPLIED
    queued, done = harness.tracked("sentencing-create-mapping-retry", "sentencing-adjustment-create-success")
    assert done[1] == {name: value for name, value in queued[1].items() if name != "messageId"}
    assert harness.sandbox.mappings("adjustments")[0]["nomisAdjustmentCategory"] == "KEY-DATE"


def test_a_retry_made_by_hand_needs_three_ids(harness: Harness) -> None:
    """A mapping retry that a person writes needs only the two ids and the family. It needs no telemetry properties."""
    mapping = (
        '{\\"nomisAdjustmentId\\":\\"7\\",\\"nomisAdjustmentCategory\\":\\"SENTENCE\\",\\"adjustmentId\\":\\"x\\"}'
    )
    body = f'{{"Type":"RETRY_CREATE_MAPPING","Message":"{{\\"mapping\\":{mapping}}}"}}'
    assert harness.handle_retry("sentencing", body) is Outcome.APPLIED
    (saved,) = harness.sandbox.mappings("adjustments")
    assert (saved["nomisAdjustmentId"], saved["mappingType"]) == (7, "SENTENCING_CREATED")


def test_a_change_reaches_the_record_in_its_family(harness: Harness, prisoner: Prisoner) -> None:
    """A change to a sentence adjustment is written to its NOMIS record and tracked."""
    put_adjustment(harness, prisoner, sentence=1, type="RX")
    handle(harness, prisoner, "inserted")
    put_adjustment(harness, prisoner, sentence=1, type="UR", days=3, comment=None)
    assert handle(harness, prisoner, "updated") == "sentencing-adjustment-updated-success"
    assert (held(harness)["type"], held(harness)["days"], held(harness)["comment"]) == ("UR", 3, None)
    assert harness.tracked("sentencing-adjustment-updated-success")[0][1] == {
        "adjustmentId": ADJUSTMENT,
        "offenderNo": prisoner.offender_no,
        "nomisAdjustmentId": str(held(harness)["id"]),
    }


def test_a_changed_family_is_not_written(harness: Harness, prisoner: Prisoner) -> None:
    """If an adjustment has changed its family in DPS, nothing is written to NOMIS.

    In the new family, its number may identify another prisoner's adjustment.
    """
    put_adjustment(harness, prisoner)
    handle(harness, prisoner, "inserted")
    put_adjustment(harness, prisoner, sentence=1, type="RX")
    before = len(harness.sandbox.journal("nomis"))
    with pytest.raises(RuleError, match="SENTENCE in DPS but mapped as KEY-DATE"):
        handle(harness, prisoner, "updated")
    assert len(harness.sandbox.journal("nomis")) == before
    assert [name for name, _ in harness.tracked()][-1] == "sentencing-adjustment-updated-failed"


@pytest.mark.parametrize(("sentence", "kind"), [(None, "ADA"), (1, "RX")], ids=["key date", "sentence"])
def test_a_deletion_deletes_the_record_and_the_mapping(
    harness: Harness, prisoner: Prisoner, sentence: int | None, kind: str
) -> None:
    """A deletion deletes the record and the mapping without reading DPS.

    A second delivery is ignored, and the reason is tracked.
    """
    put_adjustment(harness, prisoner, sentence=sentence, type=kind)
    handle(harness, prisoner, "inserted")
    harness.sandbox.drop("adjustment", ADJUSTMENT)
    reads = len(harness.sandbox.requests("adjustments"))
    assert handle(harness, prisoner, "deleted") == "sentencing-adjustment-deleted-success"
    assert len(harness.sandbox.requests("adjustments")) == reads
    assert harness.sandbox.nomis("adjustment") == []
    assert harness.sandbox.mappings("adjustments") == []
    assert handle(harness, prisoner, "deleted") == "sentencing-adjustment-deleted-ignored"
    assert harness.tracked("sentencing-adjustment-deleted-ignored")[0][1]["reason"] == "mapping-already-deleted"


def test_a_deletion_is_repeated_if_the_mapping_stays(harness: Harness, prisoner: Prisoner) -> None:
    """If the mapping cannot be deleted, the next delivery repeats the whole deletion, which NOMIS accepts."""
    put_adjustment(harness, prisoner)
    handle(harness, prisoner, "inserted")
    harness.sandbox.fault("mapping", "DELETE", kind="status", status=503, times=1)
    with pytest.raises(UpstreamError):
        handle(harness, prisoner, "deleted")
    assert harness.step == "delete mapping"
    assert handle(harness, prisoner, "deleted") == "sentencing-adjustment-deleted-success"
    assert harness.sandbox.mappings("adjustments") == []


def test_deletion_before_the_insertion_waits_while_dps_has_it(harness: Harness, prisoner: Prisoner) -> None:
    """A deletion that overtakes the insertion fails while DPS has the adjustment, and succeeds after the insertion."""
    put_adjustment(harness, prisoner)
    with pytest.raises(UpstreamError, match="404"):
        handle(harness, prisoner, "deleted")
    handle(harness, prisoner, "inserted")
    assert handle(harness, prisoner, "deleted") == "sentencing-adjustment-deleted-success"
    assert harness.sandbox.nomis("adjustment") == []


def test_dps_is_asked_with_its_content_type(harness: Harness, prisoner: Prisoner) -> None:
    """An adjustment is read from DPS with the content type by which the adjustments API chooses the endpoint."""
    put_adjustment(harness, prisoner)
    handle(harness, prisoner, "inserted")
    assert [each["status"] for each in harness.sandbox.requests("adjustments")] == [200]


def test_an_adjustment_event_without_an_id_is_malformed(harness: Harness) -> None:
    """An event without the id of its adjustment is malformed. A mapping conflict of an adjustment counts as serious."""
    with pytest.raises(MalformedMessage, match="id is missing"):
        harness.handle(f"{EVENT}.updated", offenderNo="A1234BC", source="DPS")
    assert DOMAIN.creation.severity == "serious"


@pytest.mark.parametrize("category", ["KEY_DATE", "sentence", "", "RELEASE"])
def test_an_unknown_category_writes_nothing(harness: Harness, prisoner: Prisoner, category: str) -> None:
    """If a mapping names an unknown family, nothing is written, since an id may be used in both known families."""
    put_adjustment(harness, prisoner, sentence=1, type="RX")
    handle(harness, prisoner, "inserted")
    (mapping,) = harness.sandbox.mappings("adjustments")
    odd = {**mapping, "nomisAdjustmentCategory": category}
    written = len(harness.sandbox.journal())
    for word in ("updated", "deleted", "inserted"):
        with (
            faulty(harness.sandbox, "mapping", "GET", kind="status", status=200, body=odd),
            pytest.raises(NotUnderstood, match="nomisAdjustmentCategory"),
        ):
            handle(harness, prisoner, word)
    retry = json.dumps({"mapping": {"nomisAdjustmentId": 7, "nomisAdjustmentCategory": category, "adjustmentId": "x"}})
    with pytest.raises((RuleError, MalformedMessage), match=r"Category|family"):
        harness.handle_retry("sentencing", json.dumps({"Type": "RETRY_CREATE_MAPPING", "Message": retry}))
    assert len(harness.sandbox.journal()) == written


def test_a_comment_longer_than_nomis_holds_is_cut(harness: Harness, prisoner: Prisoner) -> None:
    """A comment that is too long for NOMIS is cut, so that the days of the adjustment are still written."""
    put_adjustment(harness, prisoner, comment="\u00e9" * 300)
    assert handle(harness, prisoner, "inserted") is Outcome.APPLIED
    assert held(harness)["comment"] == "\u00e9" * 120


def test_an_update_of_a_record_gone_on_both_sides_is_skipped(harness: Harness, prisoner: Prisoner) -> None:
    """An update of an adjustment that neither DPS nor the mapping service has is skipped, and both errors are tracked.

    If only one of them lacks it, the update fails.
    """
    assert handle(harness, prisoner, "updated") == "sentencing-adjustment-updated-skipped"
    ((_, properties),) = harness.tracked()
    assert properties.keys() == {"adjustmentId", "offenderNo", "dps-error", "mapping-error"}
    put_adjustment(harness, prisoner)
    with pytest.raises(UpstreamError, match="mapping: GET"):
        handle(harness, prisoner, "updated")
    handle(harness, prisoner, "inserted")
    harness.sandbox.drop("adjustment", ADJUSTMENT)
    with pytest.raises(UpstreamError, match="adjustments: GET"):
        handle(harness, prisoner, "updated")


def test_an_insertion_whose_deletion_was_seen_is_ignored(harness: Harness, prisoner: Prisoner) -> None:
    """The insertion of an adjustment that DPS does not have fails.

    If the deletion of the adjustment was recorded, the insertion is ignored instead.
    """
    with pytest.raises(UpstreamError, match="adjustments: GET"):
        handle(harness, prisoner, "inserted")
    assert handle(harness, prisoner, "deleted") == "sentencing-adjustment-deleted-ignored"
    assert handle(harness, prisoner, "inserted") is Outcome.IGNORED
    assert harness.tracked()[-1][0] == "sentencing-adjustment-create-ignored"
    assert harness.sandbox.nomis("adjustment") == []


@pytest.mark.parametrize(("sentence", "kind"), [(None, "ADA"), (1, "RX")], ids=["key date", "sentence"])
def test_every_update_names_the_sentence(harness: Harness, prisoner: Prisoner, sentence: int | None, kind: str) -> None:
    """Every update of an adjustment to a sentence names the sentence.

    Newer versions of NOMIS require the sentence, and older ones ignore it.
    """
    put_adjustment(harness, prisoner, sentence=sentence, type=kind)
    handle(harness, prisoner, "inserted")
    handle(harness, prisoner, "updated")
    sent = harness.sandbox.journal("nomis")[-1]["body"]
    assert sent.get("sentenceSequence") == sentence
    assert "sentenceSequence" not in harness.sandbox.journal("nomis")[0]["body"]


def test_a_404_for_a_deletion_counts_as_deleted(harness: Harness, prisoner: Prisoner) -> None:
    """If NOMIS responds to a deletion with 404, the adjustment counts as deleted, and its mapping is deleted."""
    put_adjustment(harness, prisoner)
    handle(harness, prisoner, "inserted")
    with faulty(harness.sandbox, "nomis", "DELETE", status=404):
        assert handle(harness, prisoner, "deleted") == "sentencing-adjustment-deleted-success"
    assert harness.sandbox.mappings("adjustments") == []

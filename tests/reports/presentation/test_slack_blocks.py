"""Slack accepts every message, whatever a run found."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.engine.result import Diagnosis, PrisonCount, ReconciliationResult
from reports.presentation.alerts import alert_message
from reports.presentation.masking import Masking
from reports.presentation.slack_blocks import SlackMessage
from reports.presentation.slack_report import slack_report
from sandbox.slack.blocks import refusal
from tests.harness.messages import channel_text
from tests.harness.results import STARTED, made_result, visit_mismatch, visits_with_everything

#: Words from services: short and long words, markup, and characters that have to be escaped.
WORDS = st.text(st.sampled_from("ab <>&`*_~|\n•—=@#"), max_size=60) | st.sampled_from(
    ["&" * 3_500, "x " * 2_000, "`" * 99]
)


@st.composite
def changes_of_a_mismatch(draw: Any) -> dict[str, Any]:
    """Random properties of a mismatch: its diagnosis, its prison, the reason for missing evidence, and its age."""
    action, cause, request = draw(WORDS), draw(WORDS), draw(st.none() | WORDS)
    commands = tuple(draw(st.lists(WORDS, max_size=2)))
    found = Diagnosis(
        cause=cause, confidence="low", right_side="DPS", action=action, commands=commands, request=request
    )
    return {
        "diagnosis": draw(st.sampled_from([found, None])),
        "prison_id": draw(WORDS),
        "evidence_missing": draw(WORDS),
        "since": STARTED - timedelta(days=draw(st.integers(0, 99))),
    }


@st.composite
def results(draw: Any) -> ReconciliationResult:
    """The result of a run with any status, up to 60 differences, and any texts from the services."""
    kinds = draw(st.lists(changes_of_a_mismatch(), min_size=1, max_size=8))
    places = draw(st.lists(st.sampled_from(range(len(kinds))), max_size=60))
    mismatches = [visit_mismatch(number, **kinds[place]) for number, place in enumerate(places)]
    names = [draw(WORDS) for _ in kinds]
    prisons = tuple(PrisonCount(prison_id=names[place], compared=9, mismatches=2, new=1) for place in places)
    made = visits_with_everything(0).model_copy(update={"mismatches": tuple(mismatches), "prisons": prisons})
    changes = {name: draw(WORDS) for name in ("title", "environment", "run_id", "suspicious", "failure")}
    return made.model_copy(update={**changes, "status": draw(st.sampled_from(["complete", "incomplete", "failed"]))})


def taken(message: SlackMessage) -> None:
    """Checks that a message is within Slack's limits, and short enough to be read."""
    assert message.text.strip()
    assert len(message.text) <= 4_000
    assert len(message.blocks) <= 50
    assert refusal(list(message.blocks)) is None
    for block in message.blocks:
        texts = [block["text"], *block.get("elements", ())] if "text" in block else block["elements"]
        longest = 150 if block["type"] == "header" else 3_000
        assert all(0 < len(text["text"]) <= longest for text in texts)
    assert (
        sum(len(text["text"]) for block in message.blocks for text in block.get("elements", [block.get("text")]))
        <= 4_000
    )


@settings(deadline=None, max_examples=60)
@given(results(), st.booleans(), st.sampled_from([None, "https://reports.example/a?b=1&c=2"]))
def test_every_report_is_within_the_limits(result: ReconciliationResult, masked: bool, link: str | None) -> None:
    """Whatever a run found, each of its Slack messages is within Slack's limits and has plain text.

    The limits are on the length of a header, of a section and of the whole message, and on the number of blocks.
    """
    report = slack_report(result, link, "s3://bucket/prefix", Masking(on=masked))
    for each in report.posts:
        taken(each)


@settings(deadline=None, max_examples=60)
@given(
    st.fixed_dictionaries({"event": WORDS, "time": WORDS, "properties": st.dictionaries(WORDS, WORDS, max_size=9)}),
    WORDS,
)
def test_every_alert_is_one_message_within_the_limits(payload: dict[str, Any], text: str) -> None:
    """Whatever its event contains, an alert is a single message within Slack's limits."""
    command = "prisoner-to-nomis check"
    message = alert_message({**payload, "domain": text, "command": command}, "Production", Masking())
    taken(message)


@pytest.mark.parametrize("number", [0, 11, 430])
def test_one_message_says_what_to_do_however_many_differ(number: int) -> None:
    """However many records differ, the first Slack message says who acts and what they do.

    It also gives the command and the severity. If nothing differs, it gives only the headline and the severity.
    """
    text = channel_text(slack_report(made_result(number), None, "somewhere", Masking()))
    assert text.splitlines()[1].startswith("*On 22 May 2023, ")
    assert ("*This team* · Publish the received event" in text) == (number > 0)
    assert ("`prisoner-to-nomis report request run-of-today --cause" in text) == (number > 0)
    assert f"Severity *{'info' if not number else 'serious' if number > 40 else 'medium'}*: " in text


def test_an_alert_of_a_reconciliation_has_the_command() -> None:
    """An alert about a reconciliation that could not run says what happened and which command to type.

    The name and time of the event and the other details come after that.
    """
    payload = {
        "event": "visits-reports-reconciliation-not-run",
        "time": "2026-11-29T04:00:00.000+00:00",
        "properties": {"reason": "nomis: status 503"},
        "domain": "visits",
        "severity": "serious",
        "command": "prisoner-to-nomis reconcile visits --resume=last",
    }
    assert alert_message(payload, "Production", Masking()).text.splitlines() == [
        "*A reconciliation could not run in Production: visits-reports-reconciliation-not-run*",
        (
            "The reconciliation of visits has no result: nomis: status 503. Until it runs, differences between NOMIS "
            "and DPS go unnoticed. When `prisoner-to-nomis check` reports that everything is up, run the "
            "reconciliation again:"
        ),
        "`prisoner-to-nomis reconcile visits --resume=last`",
        "visits-reports-reconciliation-not-run · 29 November 2026 at 04:00 · domain visits · severity serious: act now",
        "reason: nomis: status 503",
    ]

"""What to do about the differences of a run, grouped by team and action, and how serious the run is."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reports.engine.result import Diagnosis, Mismatch, ReconciliationResult, RightSide, TrendPoint, Who
from reports.presentation.email_report import email_report
from reports.presentation.masking import Masking
from reports.presentation.page import render_report
from reports.presentation.slack_report import slack_report
from reports.presentation.what_to_do import (
    DPS_TEAM,
    NOBODY,
    NOMIS_SUPPORT,
    PRISON,
    THIS_TEAM,
    Recommendation,
    what_to_do,
)
from reports.reconciliations.visits.result import VisitMismatch
from sync.alerting import Severity
from tests.harness.html import text_of
from tests.harness.results import (
    STARTED,
    allocation_result,
    made_result,
    visit_mismatch,
    visit_result,
    visits_with_everything,
    with_everything,
)


def visit(
    number: int,
    action: str,
    *commands: str,
    who: Who | None = "this team",
    right: RightSide = "DPS",
    request: str | None = None,
    days: int = 0,
) -> Mismatch:
    """A visit mismatch whose fix is `action` with `commands`, first seen `days` days before the run."""
    diagnosis = Diagnosis(
        cause=f"cause of {action}",
        confidence="high",
        right_side=right,
        action=action,
        who=who,
        commands=commands,
        request=request,
    )
    standing = "persisting" if days else "new"
    return visit_mismatch(number, diagnosis=diagnosis, standing=standing, since=STARTED - timedelta(days=days))


def actions(*mismatches: Mismatch) -> tuple[Recommendation, ...]:
    """What to do about these mismatches, in groups."""
    return what_to_do(visit_result(0, mismatches=mismatches)).actions


def with_trend(result: ReconciliationResult, *earlier: tuple[float, int]) -> ReconciliationResult:
    """`result` with a trend of earlier runs, each given as its days before this run and its number of differences."""
    points = tuple(
        TrendPoint(run_id=f"{days}", started_at=STARTED - timedelta(days=days), compared=1, mismatches=found)
        for days, found in earlier
    )
    return result.model_copy(update={"trend": points})


def test_actions_are_grouped_by_team_and_action() -> None:
    """Differences are grouped by who acts and by what to do.

    The groups for this team come first, and those that need no action last. Each group has the number of differences,
    the age of the oldest one, the commands and the rows.
    """
    resync = "Write the visit to NOMIS."
    found = actions(
        visit(0, "There is nothing to do.", who="nobody", days=3),
        visit(1, resync, "prisoner-to-nomis resync visit one", days=12),
        visit(2, resync, "prisoner-to-nomis resync visit two"),
        visit(3, "Tell the prison, which cancels it.", who="the prison"),
        visit(4, "Inform the DPS team.", who="the DPS team"),
        visit(
            5,
            "Ask NOMIS support to delete it.",
            "prisoner-to-nomis reconcile visits",
            who="NOMIS support",
            request="please delete 7",
        ),
        visit(6, resync, "prisoner-to-nomis resync visit three", days=12),
    )
    assert [each.who for each in found] == [THIS_TEAM, NOMIS_SUPPORT, PRISON, DPS_TEAM, NOBODY]
    ours, support, *_, nobody = found
    assert (ours.what, ours.count, ours.new, ours.days, len(ours.rows)) == (resync, 3, 1, 12, 3)
    assert ours.figures == "3 differences, 1 new; the oldest has been open for 12 days, since 10 May 2023."
    assert ours.commands == (f"prisoner-to-nomis resync --from visits-of-today --cause 'cause of {resync}'",)
    assert (ours.more, ours.elsewhere) == (0, "")
    assert (support.request, support.figures) == ("please delete 7", "1 new difference.")
    assert support.commands == (
        "prisoner-to-nomis report request visits-of-today --cause 'cause of Ask NOMIS support to delete it.'",
    )
    assert nobody.figures == "1 difference; it has been open for 3 days, since 19 May 2023."


def test_a_difference_first_seen_today_has_no_age() -> None:
    """For a difference first seen less than a day before the run ended, the text gives the date, but no duration."""
    seen = visit(0, "Save the mapping.").model_copy(update={"standing": "persisting"})
    (found,) = actions(seen)
    assert found.figures == "1 difference; it has been open since 22 May 2023."


def test_a_group_without_commands_names_its_rows() -> None:
    """A group without commands names the first ten of its rows, and says how many more there are."""
    rows = [visit(number, "Check both sides.") for number in range(12)]
    (one,), (few,), (many,) = actions(*rows[:1]), actions(*rows[:3]), actions(*rows)
    assert one.elsewhere == "See row 1."
    assert few.elsewhere == "See rows 1, 2 and 3."
    assert many.elsewhere == "See rows 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more."


def test_a_shared_command_is_shown_once() -> None:
    """A command that fixes several differences, such as a redrive of a queue, is shown once."""
    retry = "prisoner-to-nomis dlq retry visit"
    (only,) = actions(visit(0, "Retry the queue.", retry), visit(1, "Retry the queue.", retry))
    assert (only.commands, only.more, only.elsewhere) == ((retry,), 0, "")


def test_shared_commands_stay_in_order_around_the_fix_of_a_group() -> None:
    """Among a group's commands, a look-up stays before the command that fixes all rows, and a comparison after it."""
    show, compare = "prisoner-to-nomis dlq show activity", "prisoner-to-nomis reconcile allocations --prison LEI"
    rows = [
        visit(number, "Write it again.", show, f"prisoner-to-nomis resync allocation {number}", compare)
        for number in (1, 2)
    ]
    (found,) = actions(*rows)
    fix = "prisoner-to-nomis resync --from visits-of-today --cause 'cause of Write it again.'"
    assert found.commands == (show, fix, compare)


def test_each_row_has_its_commands_if_none_is_shared() -> None:
    """If no single command fixes all differences of a group, one row's commands are shown, with its number.

    If a command can fix all differences with the same cause, that command is shown instead, after the commands that
    the rows share.
    """
    (several,) = actions(
        visit(0, "Remove it.", "prisoner-to-nomis duplicates remove visit 12 --of 11"),
        visit(3, "Remove it.", "prisoner-to-nomis duplicates remove visit 22 --of 21"),
    )
    assert several.commands == ("prisoner-to-nomis duplicates remove visit 12 --of 11",)
    assert several.elsewhere == f"The command is for row {several.rows[0]}; 1 more row has its own."
    received = "prisoner-to-nomis reconcile fix received"
    (bulk,) = actions(visit(0, "Publish.", f"{received} A1234BC"), visit(3, "Publish.", f"{received} A1234BD"))
    assert bulk.commands == (f"{received} --from visits-of-today --cause 'cause of Publish.'",)
    explain = "prisoner-to-nomis reconcile explain A1234BC"
    (partly,) = actions(visit(0, "Look at both."), visit(3, "Look at both.", explain))
    assert (partly.commands, partly.elsewhere) == ((explain,), "The command is for row 2.")
    own = ("prisoner-to-nomis dlq show visit", "prisoner-to-nomis resync visit one")
    (single,) = actions(visit(1, "Write it.", *own))
    assert (single.commands, single.more) == (own, 0)
    shared = "prisoner-to-nomis dlq show visit"
    (both,) = actions(visit(0, "Write it.", *own), visit(3, "Write it.", shared, "prisoner-to-nomis resync visit two"))
    assert both.commands == (shared, "prisoner-to-nomis resync --from visits-of-today --cause 'cause of Write it.'")


def test_differences_to_check_have_no_shared_command() -> None:
    """If NOMIS may be right, each difference has to be checked separately, so no shared command is shown.

    Nor is one shown for a suspicious run.
    """
    ask = "Ask the prison what is right."
    (group,) = actions(
        visit(0, ask, "prisoner-to-nomis resync visit one", right="unknown"),
        visit(3, ask, "prisoner-to-nomis resync visit two", right="unknown"),
    )
    assert (group.commands, group.more) == (("prisoner-to-nomis resync visit one",), 1)
    (suspicious,) = what_to_do(visit_result(5, suspicious="too many: look for one common cause first")).actions
    assert not [each for each in suspicious.commands if "--from" in each]


def test_the_most_serious_action_comes_first() -> None:
    """An action for one serious difference comes before an action for three less serious ones.

    The run is as serious as its most serious new difference.
    """
    details, cancel = "Write the visit to NOMIS again.", "Cancel the visit in NOMIS too."
    found = [visit(each, details, f"prisoner-to-nomis resync visit {each}") for each in range(3)]
    found.append(visit(4, cancel, "prisoner-to-nomis resync visit 4"))
    weighed = [
        VisitMismatch.model_validate({**each.model_dump(), "weight": "high" if place == 3 else "medium"})
        for place, each in enumerate(found)
    ]
    result = visit_result(0, reconciliation="visits", mismatches=tuple(weighed))
    assert [each.what for each in what_to_do(result).actions] == [cancel, details]
    assert what_to_do(result).severity is Severity.SERIOUS


def test_a_difference_without_a_cause_is_for_our_team() -> None:
    """A difference without a known cause is for this team.

    If a result made by an earlier version does not say who acts, a difference with a request is for NOMIS support, and
    any other is for this team.
    """
    old = visit(0, "Ask them to delete it.", who=None, request="please delete 7")
    assert [each.who for each in actions(old, visit(1, "Wait.", who=None))] == [THIS_TEAM, NOMIS_SUPPORT]
    (only,) = what_to_do(allocation_result()).actions
    assert (only.who, only.count, only.causes) == (THIS_TEAM, 3, ("not investigated",))


def test_the_headline_names_the_day_and_the_new_differences() -> None:
    """The headline names the day of the run and the number of new differences.

    It is in the past tense, since the report may be read a week later.
    """
    assert what_to_do(made_result(11)).headline == (
        "On 22 May 2023, 11 of 87,012 prisoners had different incentive levels in NOMIS and in DPS; 6 were new"
    )
    assert what_to_do(made_result(0)).headline.startswith("On 22 May 2023, all 87,012 prisoners had the same")
    assert what_to_do(visits_with_everything(3)).headline.startswith("Incomplete: on 22 May 2023, 3 of 40,120 visits")


def test_a_run_is_compared_with_the_last_complete_one() -> None:
    """The report of a complete run says how many more or fewer differences it found than the last complete run.

    The report of an incomplete run says nothing about that, and neither does that of a first complete run.
    """
    assert what_to_do(made_result(11)).change == (
        "2 fewer than in the last complete run, of 15 May 2023, which found 13."
    )
    partly = TrendPoint(run_id="x", started_at=STARTED - timedelta(days=1), compared=1, mismatches=1, unread=4)
    after = made_result(13)
    after = after.model_copy(update={"trend": (*after.trend, partly)})
    assert what_to_do(after).change.startswith("As many as in the last complete run, of 15 May 2023")
    assert what_to_do(with_everything(3)).change == ""
    assert what_to_do(with_trend(made_result(3))).change == ""


@pytest.mark.parametrize("chosen", [{"offender_nos": ["A1234BC"]}, {"prisons": ["LEI"]}, {"days_chosen": True}])
def test_a_run_over_part_of_the_records_is_not_compared(chosen: dict[str, object]) -> None:
    """A run for chosen prisoners, prisons or days is not compared with an earlier run for everyone."""
    assert what_to_do(made_result(11).model_copy(update={"parameters": chosen})).change == ""


@pytest.mark.parametrize(
    ("found", "earlier", "jumped"),
    [
        (20, [(7, 10)], True),
        (19, [(7, 10)], False),
        (10, [(7, 0)], True),
        (9, [(7, 0)], False),
        (40, [(7, 0), (1, 39)], True),
        (40, [(5, 0)], False),
        (40, [(21, 3)], True),
        (40, [], False),
    ],
)
def test_a_jump_since_last_week_raises_the_severity(found: int, earlier: list[tuple[float, int]], jumped: bool) -> None:
    """A run with at least twice as many differences as a week earlier, and at least ten more, is serious.

    It is compared with the last run that began at least six days earlier, so yesterday's run does not count.
    """
    result = with_trend(visit_result(found), *earlier)
    shown = what_to_do(result)
    assert (shown.severity, bool(shown.jump)) == ((Severity.SERIOUS, True) if jumped else (Severity.MEDIUM, False))


def test_a_jump_needs_a_person_even_if_no_difference_does() -> None:
    """Even if no difference needs action, a jump makes a run `medium`, since somebody has to look for the cause."""
    idle = tuple(visit(number, "There is nothing to do.", who="nobody") for number in range(12))
    assert what_to_do(with_trend(visit_result(0, mismatches=idle), (7, 12))).severity is Severity.INFO
    assert what_to_do(with_trend(visit_result(0, mismatches=idle), (7, 1))).severity is Severity.MEDIUM


def test_the_severity_depends_on_the_state_and_the_actions() -> None:
    """The severity of a failed or suspicious run is `serious`.

    That of an incomplete run, or of a run with differences to act on, is `medium`. That of any other run is `info`.
    """
    assert what_to_do(visit_result(0)).severity is Severity.INFO
    assert what_to_do(visit_result(1)).severity is Severity.MEDIUM
    assert what_to_do(visit_result(0, status="incomplete")).severity is Severity.MEDIUM
    assert what_to_do(visit_result(0, status="failed", failure="x")).severity is Severity.SERIOUS
    assert what_to_do(visit_result(1, suspicious="too many")).severity is Severity.SERIOUS
    idle = visit_result(0, mismatches=(visit(0, "There is nothing to do.", who="nobody"),))
    assert what_to_do(idle).severity is Severity.INFO


@pytest.mark.parametrize(
    ("mismatch", "urgency"),
    [
        (visit(0, "There is nothing to do.", who="nobody"), "Severity info: nothing to do."),
        (visit(0, "Write the visit to NOMIS."), "Severity medium: act today."),
    ],
)
def test_page_and_messages_give_the_same_urgency(mismatch: Mismatch, urgency: str) -> None:
    """The page and the messages give the severity of a run and say when to act.

    They ask nobody to act if there is nothing to do.
    """
    result = visit_result(0, mismatches=(mismatch,))
    email = email_report(result, None, "kept", Masking())
    slack = slack_report(result, None, "kept", Masking()).posts[0].text.replace("*", "")
    for sent in (text_of(render_report(result)), text_of(email.html), email.text, slack):
        assert urgency in sent


def test_page_and_messages_say_why_in_each_group() -> None:
    """On the page, in the email and in the first Slack message, what to do is grouped by who acts.

    Each group gives the causes of its differences.
    """
    result = visit_result(
        0, mismatches=(visit(0, "Write it."), visit(1, "Write it."), visit(2, "Ask.", who="the prison"))
    )
    email = email_report(result, None, "kept", Masking())
    slack = slack_report(result, None, "kept", Masking()).posts[0].text.replace("*", "")
    for sent in (text_of(render_report(result)), text_of(email.html), email.text, slack):
        written, asked = sent.index("Why: cause of Write it."), sent.index("Why: cause of Ask.")
        assert sent.index("This team") < written < sent.index("The prison") < asked
        assert sent.count("Why: ") == 2


def test_a_new_difference_of_adjustments_is_serious() -> None:
    """A new difference in adjustments makes a run serious, since release dates depend on adjustments.

    A known difference does not.
    """
    new = visit_result(1, reconciliation="adjustments")
    known = new.model_copy(update={"mismatches": (visit_mismatch(0, standing="persisting"),)})
    assert what_to_do(new).severity is Severity.SERIOUS
    assert what_to_do(known).severity is Severity.MEDIUM

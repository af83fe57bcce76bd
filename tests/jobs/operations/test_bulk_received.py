"""`reconcile fix received --from RUN`, for the prisoners of a run whose arrival DPS missed.

The received events are listed and confirmed once, and then published and recorded one by one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.app import App
from tests.harness.commands import Terminal
from tests.harness.faults import faulty

NEVER_GOT = "DPS never got the received event of an arrival"


@dataclass(frozen=True)
class Compared:
    """A sandbox world after a reconciliation: the result of the run, and the prisoners by cause number."""

    app: App
    result: dict[str, Any]
    by_cause: dict[int, list[str]]

    def publish(self, *more: str, answer: str | Terminal = "") -> Any:
        """Runs `reconcile fix received` for the prisoners of the run, as the operator jane."""
        run_id = self.result["runId"]
        return self.app.run("reconcile", "fix", "received", "--from", run_id, "--as", "jane", *more, answer=answer)

    def published(self) -> list[dict[str, Any]]:
        """The requests to prisoner-offender-search to publish received events."""
        return list(self.app.sandbox.journal("prisoner-search"))


@pytest.fixture
def compared(app: App) -> Compared:
    """A run that found five prisoners whose levels differ.

    DPS missed three arrivals and one admission, and one review was lost.
    """
    app.sandbox.reset(prisoners=60, mismatches={"4": 3, "3": 1, "2": 1})
    app.forget_queues()
    app.make_queues()
    result = app.read_json("reconcile", "incentives", "--no-notify")
    by_cause: dict[int, list[str]] = {}
    for each in app.sandbox.planted()["mismatches"]:
        by_cause.setdefault(each["cause"], []).append(each["offenderNo"])
    return Compared(app, result, by_cause)


def test_one_confirmation_publishes_one_event_for_each_prisoner(compared: Compared) -> None:
    """After one confirmation, one received event is published for each prisoner of the run whose arrival DPS missed.

    Each event has the prisoner's arrival from the report, and is recorded as one action. Nothing is published without
    the confirmation, and no event is published twice.
    """
    dry = compared.publish("--dry-run")
    assert (dry.code, compared.published(), compared.app.read_json("actions")) == (0, [], [])
    assert all(number in dry.out for cause in (3, 4) for number in compared.by_cause[cause])
    assert compared.by_cause[2][0] not in dry.out
    assert "4 to publish" in dry.out
    assert (compared.publish(answer=Terminal("n\n")).code, compared.published()) == (1, [])

    done = compared.publish(answer=Terminal("y\n"))
    assert done.code == 0
    assert "This publishes 4 received events, one by one, on which all consumers act (" in done.out
    assert done.out.splitlines()[-1] == "4 published"
    proposed = {
        each["offenderNo"]: each["diagnosis"]["arrival"]
        for each in compared.result["mismatches"]
        if each["diagnosis"]["arrival"]
    }
    sent = {each["path"].rpartition("/")[2]: each["body"] for each in compared.published()}
    assert sent.keys() == proposed.keys() == {*compared.by_cause[3], *compared.by_cause[4]}
    for number, body in sent.items():
        arrival = (body["prisonId"], body["reason"], body["occurredAt"][:19])
        assert arrival == (
            proposed[number]["prisonId"],
            proposed[number]["reason"],
            proposed[number]["occurredAt"][:19],
        )
    actions = compared.app.read_json("actions")
    assert len(actions) == 4
    assert {(each["who"], each["action"], each["state"]) for each in actions} == {
        ("jane", "reconcile fix received", "done")
    }
    again = compared.publish("--yes")
    assert (again.code, len(compared.published()), "4 skipped" in again.out) == (0, 4, True)


def test_the_command_stops_at_a_refusal_and_can_be_repeated(compared: Compared) -> None:
    """If a received event is refused, the refusal is recorded and `reconcile fix received` stops.

    The same command, run again, publishes only the events that were not tried. A person has to decide about the refused
    event.
    """
    listed = compared.publish("--cause", NEVER_GOT, "--dry-run", "--json").json()
    assert [each["state"] for each in listed["records"]] == ["to publish"] * 3
    second = listed["records"][1]
    path = str(second["plan"]["request"]).removeprefix("prisoner-search: PUT ")
    with faulty(compared.app.sandbox, "prisoner-search", "PUT", path, kind="status", status=400):
        stopped = compared.publish("--cause", NEVER_GOT, "--yes")
    assert (stopped.code, len(compared.published())) == (1, 1)
    assert stopped.errors[-1].startswith(f"prisoner-to-nomis: stopped at {second['target']}: ")
    assert stopped.errors[-1].endswith("1 published; 1 not tried: run the same command again for the rest")
    rest = compared.publish("--cause", NEVER_GOT, "--yes")
    assert (rest.code, len(compared.published())) == (1, 2)
    assert rest.out.splitlines()[-1] == "1 skipped, 1 left, 1 published"
    assert rest.errors[-1].endswith("1 record is not fixed: a person has to decide, as the list says")


def test_both_sides_are_read_again_after_a_wait(compared: Compared) -> None:
    """With `--wait`, `reconcile fix received` reads both sides again after the event, until they agree or time is up.

    After an admission, DPS gives the prisoner the level that NOMIS already has, so the fix succeeds at the first read.
    After a transfer, DPS keeps the prisoner's former level. Until a drain has brought that level to NOMIS, the levels
    still differ, so here the fix fails.
    """
    for cause, wait, (code, state, text), reads in (
        ("missed the admission", "60", (0, "published", "; both sides have STD now"), 1),
        (NEVER_GOT, "1", (1, "failed", "done, but the sides still differ: NOMIS STD, DPS ENH"), 2),
    ):
        compared.app.sandbox.clear_records()
        done = compared.publish("--cause", cause, "--yes", "--wait", wait, "--json")
        record = done.json()["records"][0]
        assert (done.code, record["state"], record["text"].endswith(text)) == (code, state, True)
        requests = compared.app.sandbox.requests()
        (published,) = [place for place, each in enumerate(requests) if each["method"] == "PUT"]
        booking = record["target"].rpartition(" ")[2]
        assert f"prisoner {requests[published]['path'].rpartition('/')[2]}, booking {booking}" == record["target"]
        after = Counter(each["service"] for each in requests[published + 1 :] if f"/{booking}" in each["path"])
        assert after.keys() == {"nomis", "incentives"}
        assert all(number >= reads for number in after.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either OFFENDER_NO or --from RUN"),
        (["A1234BC", "--cause", "lost"], "add --from RUN"),
        (["--from", "x", "--force"], "are for one prisoner"),
        (["--from", "x", "--prison", "LEI"], "are for one prisoner"),
        (["A1234BC", "--json", "--yes"], "--json needs --from"),
        (["--from", "20200101-000000-abcd", "--dry-run"], "there is no run"),
    ],
)
def test_wrong_arguments_are_bad_usage(app: App, arguments: list[str], message: str) -> None:
    """`reconcile fix received` refuses missing or contradictory arguments, and unknown runs, with a one-line error."""
    done = app.run("reconcile", "fix", "received", *arguments)
    assert (done.code, message in done.error) == (2, True)

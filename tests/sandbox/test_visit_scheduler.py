"""The visit-scheduler: the search of each generation, the prisons, and the fields of a visit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sandbox import Sandbox
from tests.harness.sandboxes import PRISONS, Caller

PAGE = "page=0&size=50"
BOTH = f"visitStatus=BOOKED&visitStatus=CANCELLED&{PAGE}"


@pytest.fixture
def caller(quiet_sandbox: Sandbox) -> Caller:
    """A caller for a small world with visits on three days."""
    quiet_sandbox.reset(prisoners=20)
    return filled(quiet_sandbox)


def filled(sandbox: Sandbox) -> Caller:
    """Books three visits at `HEI`, one of which is cancelled, and one visit at `BLI`. Returns a caller."""
    visits = (("a", "HEI", "25", "BOOKED"), ("b", "HEI", "26", "CANCELLED"), ("c", "HEI", "27", "BOOKED"))
    for name, prison_id, day, status in (*visits, ("d", "BLI", "26", "BOOKED")):
        times = {"start": f"2026-08-{day}T10:00:00", "end": f"2026-08-{day}T11:00:00"}
        values = {"prisoner_id": f"A000{ord(name) % 10}AA", "prison_id": prison_id, "room": "Hall", "status": status}
        sandbox.put("visit", reference=name * 2, person_ids=[4_700_001], **times, **values)
    return Caller(sandbox)


def found(caller: Caller, query: str) -> list[str]:
    """The references that a search returns, in order."""
    response = caller.call("visits", "GET", f"/visits/search?{query}")
    assert response.status_code == 200, response.text
    return [each["reference"] for each in response.json()["content"]]


def test_the_search_lists_the_latest_visit_first(caller: Caller) -> None:
    """A search lists a prison's or a prisoner's visits with the given statuses, the latest start first."""
    assert found(caller, f"prisonId=HEI&{BOTH}") == ["cc", "bb", "aa"]
    assert found(caller, f"prisonId=HEI&visitStatus=CANCELLED&{PAGE}") == ["bb"]
    assert found(caller, f"prisonerId=A0000AA&{BOTH}") == ["dd"]
    assert found(caller, "prisonId=HEI&visitStatus=BOOKED,CANCELLED&page=1&size=2") == ["aa"]


@pytest.mark.parametrize(
    ("generation", "query", "expected"),
    [
        ("today", "visitStartDate=2026-08-26&visitEndDate=2026-08-26", ["bb"]),
        ("today", "startDateTime=2026-08-26T00:00:00&endDateTime=2026-08-27T00:00:00", ["cc", "bb", "aa"]),
        ("2023", "startDateTime=2026-08-26T00:00:00&endDateTime=2026-08-27T10:00:00", ["bb"]),
        ("2023", "visitStartDate=2026-08-26&visitEndDate=2026-08-26", ["cc", "bb", "aa"]),
        ("2023", "visitorId=4700009", []),
        ("today", "visitorId=4700009", ["cc", "bb", "aa"]),
    ],
)
def test_parameters_of_another_generation_are_ignored(
    quiet_sandbox: Sandbox, generation: str, query: str, expected: Sequence[str]
) -> None:
    """A search ignores the other generation's parameters without an error, and applies those of its own."""
    quiet_sandbox.reset(prisoners=20, generation=generation)
    assert found(filled(quiet_sandbox), f"prisonId=HEI&{query}&{BOTH}") == expected


@pytest.mark.parametrize(
    "query",
    [
        BOTH,
        f"prisonId=HEI&{PAGE}",
        "prisonId=HEI&visitStatus=BOOKED&page=0",
        "prisonId=HEI&visitStatus=BOOKED&size=10",
        f"prisonId=HEI&visitStatus=RESERVED&{PAGE}",
        f"prisonId=HEI&visitStartDate=26/08/2026&{BOTH}",
        f"prisonId=HEI&visitStartDate=2026-08-26T00:00:00&{BOTH}",
    ],
)
def test_bad_searches_are_refused(caller: Caller, query: str) -> None:
    """A search gets 400 if it lacks a known status or a page parameter, or names neither a prison nor a prisoner.

    So does a search with an invalid date.
    """
    response = caller.call("visits", "GET", f"/visits/search?{query}")
    assert response.status_code == 400
    assert response.json()["userMessage"].startswith("Validation failure: ")


def test_superseded_visits_are_left_out_of_the_old_search(quiet_sandbox: Sandbox) -> None:
    """In 2023, the search leaves out a cancelled visit that another visit replaced. Today, it does not."""
    for generation, expected in (("2023", ["cc", "aa"]), ("today", ["cc", "bb", "aa"])):
        quiet_sandbox.reset(prisoners=20, generation=generation)
        caller = filled(quiet_sandbox)
        quiet_sandbox.put("visit", reference="bb", outcome="SUPERSEDED_CANCELLATION")
        assert found(caller, f"prisonId=HEI&{BOTH}") == expected


def test_each_generation_lists_its_prisons(quiet_sandbox: Sandbox) -> None:
    """In 2023, there is one list of prisons.

    Today, there is a list for each type of user, and no list contains every prison.
    """
    quiet_sandbox.reset(prisoners=20, generation="2023")
    caller = Caller(quiet_sandbox)
    everywhere = caller.get("visits", "/config/prisons/supported")
    assert len(everywhere) == PRISONS
    assert caller.get("visits", "/config/prisons/user-type/STAFF/supported") is None
    quiet_sandbox.reset(prisoners=20)
    assert caller.get("visits", "/config/prisons/supported") is None
    staff, public = (
        caller.get("visits", f"/config/prisons/user-type/{each}/supported") for each in ("STAFF", "PUBLIC")
    )
    assert len(staff) == len(public) == 21
    assert sorted({*staff, *public}) == everywhere
    assert caller.call("visits", "GET", "/config/prisons/user-type/NOBODY/supported").status_code == 400


@pytest.mark.parametrize(("generation", "support"), [("2023", list), ("today", dict)])
def test_each_generation_has_its_fields_of_a_visit(quiet_sandbox: Sandbox, generation: str, support: type[Any]) -> None:
    """A visit has the times of its creation and of its last change, which are equal if the visit has not changed.

    Only today's visits have a sub-status.
    """
    quiet_sandbox.reset(prisoners=20, generation=generation)
    caller = filled(quiet_sandbox)
    quiet_sandbox.put("visit", reference="aa", created="2026-08-01T09:00:00", sub_status="REQUESTED")
    quiet_sandbox.put("visit", reference="cc", created="2026-08-01T09:00:00", modified="2026-08-02T09:00:00")
    visits = {each: caller.get("visits", f"/visits/{each}") for each in ("aa", "bb", "cc")}
    assert [visits["aa"][each] for each in ("createdTimestamp", "modifiedTimestamp")] == ["2026-08-01T09:00:00"] * 2
    assert visits["cc"]["modifiedTimestamp"] == "2026-08-02T09:00:00"
    assert isinstance(visits["aa"]["visitorSupport"], support)
    sub_statuses = {each: visit.get("visitSubStatus") for each, visit in visits.items()}
    now = {"aa": "REQUESTED", "bb": "CANCELLED", "cc": "AUTO_APPROVED"}
    assert sub_statuses == (now if generation == "today" else dict.fromkeys(now))

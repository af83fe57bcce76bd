"""The prisons that the reconciliations of activities compare come from a setting, from NOMIS or from DPS."""

from __future__ import annotations

import pytest

from reports.reconciliations.activities.allocations import Allocations
from reports.reconciliations.activities.prisons import prisons_with_activities
from sandbox import Sandbox
from sync.errors import UpstreamError
from tests.harness.comparisons import open_reconciliation
from tests.harness.reads import PlainReads
from tests.harness.sandboxes import Caller


def prisons(upstream: Sandbox, activity_prisons: str = "") -> tuple[tuple[str, ...], dict[str, str]]:
    """The prisons to compare, and the reason why each other prison in `activity_prisons` is a gap."""
    with open_reconciliation(Allocations, upstream, activity_prisons=activity_prisons) as reconciliation:
        found, gaps = prisons_with_activities(reconciliation.services, reconciliation.settings, PlainReads())
    return found, {str(each.detail["prison"]): each.reason for each in gaps}


def rolled_out(upstream: Sandbox) -> tuple[str, ...]:
    """The prisons at which activities have been rolled out in DPS, in alphabetical order."""
    plans = Caller(upstream).get("activities", "/rollout?prisonsLive=true")
    return tuple(sorted(each["prisonCode"] for each in plans if each["activitiesRolledOut"]))


def test_nomis_switches_come_before_the_rollout(upstream: Sandbox) -> None:
    """If NOMIS has switches for activities, the prisons that are switched on are compared.

    A switch for all prisons means all those at which activities have been rolled out in DPS.
    """
    upstream.switch_agencies("ACTIVITY", "MDI", "LEI")
    assert prisons(upstream) == (("LEI", "MDI"), {})
    upstream.switch_agencies("ACTIVITY", "*ALL*")
    assert prisons(upstream) == (rolled_out(upstream), {})
    assert len(rolled_out(upstream)) == 20


def test_service_prisons_replace_missing_switches(upstream: Sandbox) -> None:
    """The 2024 version of NOMIS has no switches, so the prisons in its older list are compared."""
    upstream.reset(prisoners=20, generation="2024-06")
    upstream.switch_agencies("ACTIVITY", "MDI")
    assert prisons(upstream) == (("MDI",), {})


def test_the_rollout_replaces_both_routes(upstream: Sandbox) -> None:
    """If NOMIS has neither switches nor the older list, the prisons with activities rolled out in DPS are compared."""
    everywhere = rolled_out(upstream)
    body = {"status": 404, "userMessage": "Not Found: No static resource agency-switches/ACTIVITY."}
    upstream.fault("nomis", path=r"^/(agency-switches|service-prisons)/", kind="status", status=404, body=body)
    assert prisons(upstream) == (everywhere, {})


def test_a_setting_comes_first_and_is_checked(upstream: Sandbox) -> None:
    """If `ACTIVITY_PRISONS` is set, only its prisons are compared.

    Each is first checked in DPS, even with the 2023 services. A prison that DPS does not know, or that has no
    activities in DPS yet, is a gap. A prison that cannot be checked is compared all the same.
    """
    without = next(
        each["prisonCode"] for each in Caller(upstream).get("activities", "/rollout") if not each["activitiesRolledOut"]
    )
    upstream.reset(prisoners=20, generation="2023")
    found, gaps = prisons(upstream, activity_prisons=f"MDI, lei,{without},XYZ")
    assert found == ("LEI", "MDI")
    assert gaps == {without: "DPS has no activities at the prison yet", "XYZ": "DPS does not know the prison"}
    upstream.fault("activities", path="/rollout/MDI", status=500)
    assert prisons(upstream, activity_prisons="MDI,LEI") == (("LEI", "MDI"), {})


def test_prisons_that_no_service_lists_are_unknown(upstream: Sandbox) -> None:
    """If no service lists the prisons, the error says whether the services are too old or NOMIS failed.

    A failure of NOMIS does not count as a missing route.
    """
    upstream.reset(prisoners=20, generation="2023")
    with pytest.raises(UpstreamError) as caught:
        prisons(upstream)
    assert caught.value.no_route
    upstream.reset(prisoners=20)
    upstream.fault("nomis", path="/agency-switches/", status=500)
    with pytest.raises(UpstreamError) as caught:
        prisons(upstream)
    assert not caught.value.no_route

"""The fake services and the control API refuse requests that the sandbox cannot understand."""

from __future__ import annotations

import pytest

from sandbox import Sandbox, SandboxError
from tests.harness.sandboxes import Caller


def test_only_a_record_that_exists_can_be_dropped(sandbox: Sandbox) -> None:
    """A record is dropped by its id, or by the parts of its key with colons between them. An unknown id is refused."""
    levels = sandbox.entities("prison-level")
    gone = levels[0]
    sandbox.drop("prison-level", f"{gone['prison_id']}:{gone['code']}")
    assert sandbox.entities("prison-level") == levels[1:]
    with pytest.raises(SandboxError, match="there is no visit 'zz-zz'"):
        sandbox.drop("visit", "zz-zz")


@pytest.mark.parametrize("number", ["--5", "\u00b2", "x"])
def test_a_value_that_is_not_a_number_is_refused(caller: Caller, number: str) -> None:
    """The fake services refuse text, or a character that only looks like a digit, where they expect a number."""
    places = {
        "nomis": f"/incentives/booking-id/{number}/incentive-sequence/1",
        "mapping": f"/mapping/visits/nomisId/{number}",
        "incentives": f"/iep/reviews/id/{number}",
    }
    for service, path in places.items():
        assert caller.call(service, "GET", path).status_code == 400


def test_a_control_request_must_be_an_object_and_name_a_service(sandbox: Sandbox) -> None:
    """The control API refuses a body that is not a JSON object, and roles of an unknown service, and says why."""
    with pytest.raises(SandboxError, match="the body must be a JSON object"):
        sandbox.control("PUT", "/latency", [1])
    with pytest.raises(SandboxError, match="there is no service 'visit': choose from"):
        sandbox.grant("visit", [])

"""The API documents of the fake services describe the endpoints that the services have."""

from __future__ import annotations

import re

import pytest

from sandbox import Sandbox
from sandbox.documents import ENDPOINTS, document_of
from sandbox.engine import routes_of
from sandbox.options import Options
from sandbox.world import World
from tests.harness.sandboxes import Caller

#: Deletions for repairs, which existed in May 2023 but were not in the document.
UNDOCUMENTED = {("DELETE", "/activities/{}"), ("DELETE", "/allocations/{}"), ("DELETE", "/attendances/{}")}

SAME_DOCUMENT = ("activities", "appointments")


def anonymous(path: str) -> str:
    """Returns `path` without the names of its parameters."""
    return re.sub(r"\{[^}]*\}", "{}", path)


@pytest.mark.parametrize("service", sorted(ENDPOINTS))
def test_the_document_of_may_2023_matches_the_endpoints(service: str) -> None:
    """The document of May 2023 has each endpoint of the service, with its role, and no others.

    Three deletions were not in the document. Appointments belong to the activities service, and share its document.
    """
    world = World(Options(prisoners=1, generation="2023"), None)
    routes = routes_of(world)
    served = {(each.method, anonymous(each.template)): each.role for each in routes[service]}
    document = document_of(service, "2023-05", world.today)
    assert document is not None
    documented = {
        (method.upper(), anonymous(path)): operation["description"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert served.keys() - UNDOCUMENTED <= documented.keys()
    together = SAME_DOCUMENT if service in SAME_DOCUMENT else (service,)
    assert documented.keys() <= {(each.method, anonymous(each.template)) for name in together for each in routes[name]}
    for key, role in served.items():
        # The document of May 2023 names no role for the rollout plan of a prison.
        if role is not None and key in documented and key != ("GET", "/rollout/{}"):
            assert role in documented[key]


def test_each_generation_has_its_documents(sandbox: Sandbox) -> None:
    """The API document of a service can be read without a token. A reset to another generation replaces the document.

    Slack has no document.
    """
    caller = Caller(sandbox)
    sandbox.reset(prisoners=50, generation="2023")
    old = caller.call("nomis", "GET", "/v3/api-docs", token="").json()
    sandbox.reset(prisoners=50, generation="today")
    new = caller.call("nomis", "GET", "/v3/api-docs", token="").json()
    assert old["info"]["version"].startswith("2023-05-")
    assert "/adjustments/ids" in old["paths"]
    assert "/adjustments/ids" not in new["paths"]
    activities = caller.call("activities", "GET", "/v3/api-docs", token="").json()
    assert (old["openapi"], activities["openapi"]) == ("3.0.1", "3.1.0")
    assert caller.call("slack", "GET", "/v3/api-docs", token="").status_code == 404

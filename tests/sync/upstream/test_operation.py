"""Every call goes through the declaration of its operation, and sends nothing that is not declared."""

import ast
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.domains.visits.dps import SEARCH
from sync.settings.loading import load_settings
from sync.settings.upstreams import UpstreamName
from sync.upstream.operation import EMPTY, Operation
from sync.upstream.services import Services

ROOT = Path(__file__).parents[3]


def test_ids_are_quoted_into_the_path() -> None:
    """An id with a slash cannot address another path, and a time keeps its colons."""
    operation = Operation(UpstreamName.NOMIS, "GET", "/bookings/{bookingId}/start/{dateTime}", EMPTY)
    assert operation.parameters == ("bookingId", "dateTime")
    assert operation.path_of(12, "2023-05-22T10:00:00") == "/bookings/12/start/2023-05-22T10:00:00"
    assert operation.path_of("a/../b?c", "%") == "/bookings/a%2F..%2Fb%3Fc/start/%25"


def test_a_parameter_that_is_not_declared_is_not_sent(sandbox: Sandbox) -> None:
    """A query parameter that is not declared causes a `ValueError` and is not sent."""
    services = Services(load_settings(sandbox.environment()))
    with pytest.raises(ValueError, match=r"undeclared parameters .*prisonCode"):
        SEARCH.page(services[UpstreamName.VISITS], query={"prisonCode": "MDI"}, number=0, size=10)
    assert not [each for each in sandbox.requests("visits") if "prisonCode" in each["path"]]
    services.close()


def test_every_call_goes_through_its_declaration() -> None:
    """No module calls a service with a literal method and path instead of using a declared operation."""
    methods = {"GET", "POST", "PUT", "DELETE", "PATCH"}
    found = []
    for module in (each for room in ("sync", "reports", "jobs") for each in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "call":
                first = node.args[0] if node.args else None
                if isinstance(first, ast.Constant) and first.value in methods:
                    found.append(f"{module.relative_to(ROOT)}:{node.lineno}")
    assert not found

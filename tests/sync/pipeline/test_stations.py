"""The description of a booked visit's path in `doc/architecture.md` names only functions that exist."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

_PAGE = (Path(__file__).parents[3] / "doc" / "architecture.md").read_text(encoding="utf-8")
STATIONS = [
    (module, name)
    for module, names in re.findall(r"^\| \d+ \| `([\w/]+)`: ([^|]+) \|", _PAGE, re.MULTILINE)
    for name in re.findall(r"`([\w.]+)`", names)
]


@pytest.mark.parametrize(("module", "name"), STATIONS)
def test_each_function_on_the_path_exists(module: str, name: str) -> None:
    """Each function on the documented path of a booked visit exists.

    A module that is named without a folder belongs to the pipeline.
    """
    folder = "sync" if "/" in module else "sync.pipeline"
    assert callable(attrgetter(name)(import_module(f"{folder}.{module.replace('/', '.')}")))


def test_the_path_leads_from_receive_to_delete() -> None:
    """On the documented path of a booked visit, the message is received before it is deleted."""
    assert STATIONS.index(("queues/queue", "Queue.receive")) < STATIONS.index(("queues/queue", "Queue.delete"))

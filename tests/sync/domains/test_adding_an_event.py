"""The example in the architecture page's section about adding an event works unchanged."""

from __future__ import annotations

import importlib.util
import inspect
import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest

from sync.domains.declaration import Update
from sync.domains.registry import DOMAINS
from sync.domains.visits import rules as visit
from sync.errors import LeaseBusy, UpstreamError
from sync.settings.variables import feature_variable
from tests.harness.handlers import HANDLERS, QUEUES, Harness, Prisoner

PAGE = Path(__file__).parents[3] / "doc" / "architecture.md"


@pytest.fixture
def page() -> str:
    """The architecture page's section about adding an event."""
    text = PAGE.read_text(encoding="utf-8")
    return text.partition("## Adding an event\n")[2].partition("\n## ")[0]


@pytest.fixture
def moved(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Update:
    """The handler of the example, appended to a copy of the module that the page names, and registered."""
    (example,) = re.findall(r"^ *```python\n(.*?)^ *```", page, re.MULTILINE | re.DOTALL)
    written = tmp_path / "visit_with_example.py"
    written.write_text(f"{inspect.getsource(visit)}\n\n{textwrap.dedent(example)}", encoding="utf-8")
    spec = importlib.util.spec_from_file_location(written.stem, written)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    declared = module.MOVED
    assert isinstance(declared, Update)
    monkeypatch.setitem(HANDLERS, declared.event_type, declared)
    monkeypatch.setitem(QUEUES, declared.event_type, "visit")
    monkeypatch.setitem(cast(dict[str, object], DOMAINS["visits"].handlers), declared.event_type, declared)
    return declared


def test_example_moves_a_visit(harness: Harness, prisoner: Prisoner, moved: Update) -> None:
    """The example's handler moves a visit in NOMIS to its new room, under the visit's lease, and tracks the outcome.

    If the visit has no mapping, the handler fails.
    """
    times = {"start": "2023-06-02T14:00:00", "end": "2023-06-02T15:00:00"}
    owner = {"prisoner_id": prisoner.offender_no, "prison_id": prisoner.prison_id, "person_ids": [4_700_001]}
    harness.sandbox.put("visit", reference="aa-bb", room="A", **owner, **times)
    with pytest.raises(UpstreamError):
        harness.handle(moved.event_type, prisoner.offender_no, reference="aa-bb")
    harness.handle("prison-visit.booked", prisoner.offender_no, datetime(2023, 5, 22, tzinfo=UTC), reference="aa-bb")
    harness.sandbox.put("visit", reference="aa-bb", room="B")
    with harness.leases.held("write:visit:aa-bb"), pytest.raises(LeaseBusy):
        harness.handle(moved.event_type, prisoner.offender_no, reference="aa-bb")
    assert harness.handle(moved.event_type, prisoner.offender_no, reference="aa-bb") == "visit-moved-success"
    (held,) = harness.sandbox.nomis("visit")
    (write,) = (each for each in harness.sandbox.journal("nomis") if each["method"] == "PUT")
    assert write["body"]["room"] == "B"
    ids = {"visitId": "aa-bb", "offenderNo": prisoner.offender_no}
    failed, *rest = harness.tracked("visit-moved-success", "visit-moved-failed")
    assert (failed[0], "mapping" in failed[1].pop("reason"), failed[1]) == ("visit-moved-failed", True, ids)
    assert rest == [
        ("visit-moved-success", {**ids, "nomisVisitId": str(held["id"])}),
    ]


def test_page_names_the_switch(page: str, moved: Update) -> None:
    """The section about adding an event names the variable that switches the example's event off."""
    assert f"`{feature_variable(moved.event_type)}`" in page

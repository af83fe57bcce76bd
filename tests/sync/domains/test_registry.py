"""The registry has every event type with its queue, its switch and its telemetry, as documented."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sync.creation import protocol, store
from sync.creation.creation import Creation
from sync.domains.declaration import Coalesce
from sync.domains.event_table import event_table, main, tracked_events
from sync.domains.registry import DOMAINS, event_types, row_kinds
from sync.pipeline import handle
from sync.settings.queues import QUEUES
from sync.settings.variables import feature_variable

EVENT_TYPES = {
    "visit": {"prison-visit.booked", "prison-visit.changed", "prison-visit.cancelled"},
    "incentive": {
        "incentives.iep-review.inserted",
        "incentives.level.changed",
        "incentives.levels.reordered",
        "incentives.prison-level.changed",
    },
    "activity": {
        "activities.activity-schedule.created",
        "activities.activity-schedule.amended",
        "activities.scheduled-instance.amended",
        "activities.prisoner.allocated",
        "activities.prisoner.deallocated",
        "activities.prisoner.allocation-amended",
        "activities.prisoner.attendance-created",
        "activities.prisoner.attendance-amended",
        "activities.prisoner.attendance-expired",
    },
    "appointment": {
        "appointments.appointment-instance.created",
        "appointments.appointment-instance.updated",
        "appointments.appointment-instance.cancelled",
        "appointments.appointment-instance.deleted",
    },
    "sentencing": {
        "release-date-adjustments.adjustment.inserted",
        "release-date-adjustments.adjustment.updated",
        "release-date-adjustments.adjustment.deleted",
    },
}


def test_every_queue_has_its_events() -> None:
    """Each queue receives exactly the agreed event types."""
    assert tuple(domain.queue for domain in DOMAINS.values()) == QUEUES
    assert {queue: set(event_types(queue)) for queue in QUEUES} == EVENT_TYPES


def test_a_domain_has_the_name_of_its_package() -> None:
    """A domain has the name of its package, which also contains its creation and its repair."""
    for name, domain in DOMAINS.items():
        assert domain.name == name
        declared = (domain.creation, domain.repair)
        assert {type(each).__module__.split(".")[:3][-1] for each in declared} == {name}


def test_irregular_names_of_retry_events_are_kept() -> None:
    """The telemetry events about mapping retries keep their names, including those that do not follow the pattern."""
    creations = [domain.creation for domain in DOMAINS.values()]
    irregular = {
        creation.queue: creation.retry_success
        for creation in creations
        if creation.retry_success != f"{creation.name}-create-mapping-retry-success"
    }
    assert irregular == {
        "visit": "visit-retry-success",
        "incentive": "incentive-retry-success",
        "sentencing": "sentencing-adjustment-create-success",
    }
    assert "sentencing-create-mapping-retry" in tracked_events(DOMAINS["adjustments"].creation)


def test_only_updates_may_be_coalesced() -> None:
    """Events that write the current state may be coalesced. Creations, cancellations and deletions never are."""
    kept = {
        handler.event_type
        for domain in DOMAINS.values()
        for handler in domain.updates
        if handler.coalesce is Coalesce.NEVER
    }
    assert kept == {
        "prison-visit.cancelled",
        "appointments.appointment-instance.cancelled",
        "appointments.appointment-instance.deleted",
        "release-date-adjustments.adjustment.deleted",
    }


def test_the_table_has_a_row_for_each_event_type() -> None:
    """Each event type has a table row with its handler, its switch and its telemetry events."""
    rows = [line for line in event_table().partition("##")[0].splitlines() if line.startswith("| `")]
    handlers = [handler for domain in DOMAINS.values() for handler in domain.handlers.values()]
    assert len(rows) == len(handlers)
    for row, handler in zip(rows, handlers, strict=True):
        assert feature_variable(handler.event_type) in row
        assert all(f"`{name}`" in row for name in tracked_events(handler))
        assert (": create |" in row) is isinstance(handler, Creation)
    packages = [name for name, domain in DOMAINS.items() for _ in domain.handlers]
    assert [re.split(r"[`.]", row.split("|")[3])[1] for row in rows] == packages


#: The pattern of `f"{creation.name}-create-success"` and similar names in the code.
EVENT_NAME = re.compile(r"(?:to-nomis-synch-)?\{creation\.(?:name|queue)\}(?:-[a-z]+)+")


def names_in_code() -> set[str]:
    """The names of all telemetry events that the code between the queue and NOMIS can track."""
    tracking = [Path(module.__file__ or "") for module in (protocol, store, handle)]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in tracking]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    templates = {ast.unparse(node).strip("f'\"") for node in nodes if isinstance(node, ast.JoinedStr)}
    creations = [domain.creation for domain in DOMAINS.values()]
    names = {
        template.format(creation=each) for template in templates if EVENT_NAME.fullmatch(template) for each in creations
    }
    # A creation tracks an ignored event only if it declares that it may be ignored.
    names -= {f"{each.name}-create-ignored" for each in creations if not each.may_be_ignored}
    names |= {
        str(node.args[0].value)
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".track")
        if isinstance(node.args[0], ast.Constant)
    }
    return names | {kind.event_name for kind in row_kinds().values()}


def test_the_table_names_every_tracked_event() -> None:
    """Every telemetry event that the code between the queue and NOMIS can track is in the table of events."""
    found = names_in_code()
    assert {"message-coalesced", "visit-create-ambiguous", "activity-attendance-non-unique"} <= found
    assert "sentencing-create-mapping-retry-ignored" in found
    assert {name for name in found if f"`{name}`" not in event_table()} == set()


def test_the_check_finds_a_stale_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` succeeds only if the file has exactly the generated text. Otherwise, it fails and says what to do.

    `--write` writes the text to the file. With neither option, the text is printed.
    """
    document = tmp_path / "events.md"
    assert main(["--check", str(document)]) == 1
    assert main(["--write", str(document)]) == 0
    assert main(["--check", str(document)]) == 0
    document.write_text(document.read_text() + "\n")
    assert main(["--check", str(document)]) == 1
    assert "make docs" in capsys.readouterr().err
    assert main([]) == 0
    assert capsys.readouterr().out == event_table()

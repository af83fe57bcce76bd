"""NOMIS with fewer connections than the run has calls in flight."""

from __future__ import annotations

from sandbox import Sandbox
from tests.reports.conftest import OpenOffice
from tests.reports.engine.test_snapshot import differing, planted, read


def test_gets_through_when_nomis_has_too_few_connections(world: Sandbox, office: OpenOffice) -> None:
    """NOMIS answers 500 to what is above its pool: the snapshot slows down, and nobody is left out."""
    world.reset(prisoners=120, nomis_pool=12, latency_ms=20)
    levels, pages, snapshot = read(office())
    assert any(each["status"] == 500 for each in world.requests("nomis"))
    assert snapshot.nomis_pace.lowest < 40
    assert len(levels) == 120
    assert not any(page.unreadable for page in pages)
    assert not differing(levels).keys() - planted(world).keys()

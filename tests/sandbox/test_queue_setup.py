"""The program's queues, described once and made again with one request."""

from __future__ import annotations

from tests.harness.app import App
from tests.harness.publishing import review_inserted, visit_booked


def test_described_queues_are_made_again_as_they_were(app: App) -> None:
    """After a reset the same queues, subscriptions and filters are made, without the earlier messages."""
    described = app.sandbox.queues()
    assert len(described["queues"]) == 2 * len(described["subscriptions"]) > 0
    visit_booked(app.sandbox).publish()
    app.sandbox.reset()
    assert app.sandbox.queues() == {"queues": [], "subscriptions": []}
    app.sandbox.make_queues(described)
    assert app.sandbox.queues() == described
    review_inserted(app.sandbox).publish()
    assert app.drain("visit")["received"] == 0
    assert app.drain("incentive")["applied"] == 1


def test_what_is_there_is_left_alone(app: App) -> None:
    """Making queues that already exist changes nothing: their messages stay."""
    visit_booked(app.sandbox).publish()
    app.sandbox.make_queues(app.sandbox.queues())
    assert app.drain("visit")["applied"] == 1

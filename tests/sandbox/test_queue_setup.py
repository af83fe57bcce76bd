"""The program's queues can be described, and created again from the description with a single request."""

from __future__ import annotations

from tests.harness.app import App
from tests.harness.publishing import review_inserted, visit_booked


def test_described_queues_are_created_again(app: App) -> None:
    """After a reset, a request creates the described queues, subscriptions and filters again, without old messages."""
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


def test_existing_queues_keep_their_messages(app: App) -> None:
    """A request to create queues that already exist leaves them and their messages as they are."""
    visit_booked(app.sandbox).publish()
    app.sandbox.make_queues(app.sandbox.queues())
    assert app.drain("visit")["applied"] == 1

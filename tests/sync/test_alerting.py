"""The single scale of severity."""

import pytest

from sync.alerting import Severity


def test_is_ordered_from_what_cannot_wait_to_what_needs_nobody() -> None:
    """Each level says when to act. The most serious level cannot be raised any further."""
    assert [each.act for each in Severity] == ["act now", "act today", "act this week", "nothing to do"]
    assert [each.raised.value for each in Severity] == ["serious", "serious", "medium", "low"]


def test_reads_the_word_of_earlier_versions() -> None:
    """The word `high` of earlier versions, which may still be in the outbox, is read. Other words are not levels."""
    assert Severity("high") is Severity.SERIOUS
    with pytest.raises(ValueError, match="grave"):
        Severity("grave")

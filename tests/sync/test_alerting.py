"""The single scale of severity for alerts."""

import pytest

from sync.alerting import Severity


def test_severities_are_ordered_by_urgency() -> None:
    """Each level says when to act."""
    assert [each.act for each in Severity] == ["act now", "act today", "act this week", "nothing to do"]


def test_the_word_of_earlier_versions_is_read() -> None:
    """The outbox may still have the word `high` from earlier versions, so it is read. Other words are not levels."""
    assert Severity("high") is Severity.SERIOUS
    with pytest.raises(ValueError, match="grave"):
        Severity("grave")

"""The single scale of severity for alerts."""

import pytest

from sync.alerting import Severity


def test_severities_are_ordered_by_urgency() -> None:
    """The levels of severity are in order of urgency, and each says how soon to act."""
    assert [each.act for each in Severity] == ["act now", "act today", "act this week", "nothing to do"]


def test_the_word_of_earlier_versions_is_read() -> None:
    """The word `high`, which earlier versions stored, is read as `serious`. An unknown word is an error."""
    assert Severity("high") is Severity.SERIOUS
    with pytest.raises(ValueError, match="grave"):
        Severity("grave")

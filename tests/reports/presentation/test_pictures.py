"""What is drawn of a result: in proportion, and with the same figures as text."""

from __future__ import annotations

import pytest

from reports.presentation.sparkline import sparkline


@pytest.mark.parametrize(
    ("values", "line"),
    [((), ""), ((0, 0), "▁▁"), ((0, 1, 5, 10), "▁▂▅█"), ((430, 11, 0), "█▂▁"), ((7,), "█")],
)
def test_a_line_of_blocks_is_in_proportion(values: tuple[int, ...], line: str) -> None:
    """The largest is whole, none is empty, and even a single difference among hundreds is seen."""
    assert sparkline(values) == line

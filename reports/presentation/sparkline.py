"""A row of numbers as a line of text, for where no picture is shown: mail clients, Slack and terminals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEIGHTS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[int]) -> str:
    """`▁▂▅█`: a block for each value, its height in proportion to the largest; empty for no values.

    Arial, Segoe UI and every font of a terminal have the blocks, so that they show in Outlook and Gmail too.
    """
    highest = max(values, default=0)
    steps = len(_HEIGHTS) - 1
    return "".join(_HEIGHTS[-(-value * steps // highest) if highest else 0] for value in values)

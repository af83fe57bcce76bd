"""Traffic: changes in the publishing services and the events that tell of them, drawn from a seed."""

from __future__ import annotations

from sandbox.traffic.plan import Asked, Planned, plan
from sandbox.traffic.run import progress, start

__all__ = ["Asked", "Planned", "plan", "progress", "start"]

"""An embedded HMPPS: fake services that speak real HTTP and share one population.

It has queues, faults that can be switched on, a journal of accepted writes, and an independent record of what is right.
"""

from sandbox.child_processes import SandboxError
from sandbox.client import Sandbox

__all__ = ["Sandbox", "SandboxError"]

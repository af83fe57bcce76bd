"""An embedded HMPPS: fake services over real HTTP around one population.

With queues, faults that can be switched on, a journal of accepted writes, and its own idea of the truth.
"""

from sandbox.child_processes import SandboxError
from sandbox.client import Sandbox

__all__ = ["Sandbox", "SandboxError"]

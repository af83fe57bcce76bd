"""An embedded HMPPS: fake services over real HTTP around one population.

With queues, faults that can be switched on, a journal of accepted writes, and an idea of the truth of its own.
"""

from sandbox.handle import Sandbox, SandboxError

__all__ = ["Sandbox", "SandboxError"]

"""An embedded HMPPS: fake services over real HTTP around one population, with queues, faults, a journal and an idea of the truth."""

from sandbox.handle import Sandbox, SandboxError

__all__ = ["Sandbox", "SandboxError"]

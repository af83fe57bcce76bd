"""A stand-in for the services and queues of HMPPS. The fake services speak real HTTP and share one population.

Faults can be switched on. A journal lists the writes that the services have accepted, and an independent check finds
what is wrong in NOMIS and the mappings.
"""

from sandbox.child_processes import SandboxError
from sandbox.client import Sandbox

__all__ = ["Sandbox", "SandboxError"]

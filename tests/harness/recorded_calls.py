"""An observer of calls to services, for the tests of the HTTP transport."""

from __future__ import annotations

from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName


class RecordedCalls:
    """An observer that records every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[UpstreamName, str, int | str | None]] = []

    def before_call(self, _service: UpstreamName) -> bool:
        """Allows every call, and never reports a call as the first after an outage."""
        return False

    def after_call(self, service: UpstreamName, method: str, error: UpstreamError | None, seconds: float) -> None:
        """Records the service, the method and, if the call failed, the status of the error or `no answer`."""
        assert seconds > 0
        self.calls.append((service, method, None if error is None else error.status or "no answer"))

    def not_called(self, service: UpstreamName) -> None:
        """Does nothing: a call that was not made is not recorded."""

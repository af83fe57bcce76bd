"""The composition root without queues, for tests that call parts of the program directly."""

from __future__ import annotations

from jobs.runtime.application import Application
from sync.settings.declaration import Settings
from sync.upstream.services import Services


class _CertainSettings(Settings):
    """Settings under which a call without a response counts as ended at once, so that a test need not wait."""

    @classmethod
    def of(cls, settings: Settings) -> _CertainSettings:
        """A copy of `settings` under which a call without a response counts as ended at once."""
        return cls.model_construct(**dict(settings)).with_environment(settings._environment)

    @property
    def longest_call_seconds(self) -> float:
        """Zero: a call without a response counts as ended at once."""
        return 0.0

    @property
    def longest_create_seconds(self) -> float:
        """Zero: a create without a response counts as ended as soon as its intent has been recorded."""
        return 0.0


class QueuelessApplication(Application):
    """The program without queues.

    It collects mapping retries in `retries`, and has breakers only if `with_breakers` is set. If `sending_fails` is an
    error, sending a retry raises it, and the retry is not kept. A call without a response counts as ended at once
    unless `calls_may_linger` is set. A write is sent even if its lease has expired, as some tests need, unless
    `with_checked_writes` is set.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        with_breakers: bool = False,
        calls_may_linger: bool = False,
        with_checked_writes: bool = False,
    ) -> None:
        self._with_checked_writes = with_checked_writes
        super().__init__(settings if calls_may_linger else _CertainSettings.of(settings))
        self.retries: list[tuple[str, str]] = []
        self.sending_fails: Exception | None = None
        self._with_breakers = with_breakers

    def send_retry(self, queue: str, body: str) -> str:
        """Keeps a mapping retry in `retries` as (queue id, body), and returns the id of its message."""
        if self.sending_fails is not None:
            raise self.sending_fails
        self.retries.append((queue, body))
        return f"message-{len(self.retries)}"

    @property
    def services(self) -> Services:
        """The upstream services, which the sandbox simulates."""
        return self.build_once("services", self._open_services)

    def _open_services(self) -> Services:
        observers = (self.breakers,) if self._with_breakers else ()
        checked = {"may_write": self.leases.ensure_held} if self._with_checked_writes else {}
        services = Services(self.settings, observers, **checked)
        self._closing.callback(services.close)
        return services

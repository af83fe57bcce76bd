"""The probes as `check` shows them: every one, once, as a line."""

from concurrent.futures import wait
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from jobs.health.probes import CALL_SECONDS, list_probes, result_of
from jobs.runtime.application import Application
from jobs.runtime.cron import schedule_errors
from sync.settings.declaration import Settings, UpstreamName
from sync.settings.loading import SettingsError
from sync.upstream.transport import Transport

#: A part that has not responded by then counts as down.
DEADLINE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One line of `check`: whether the part works, and what was seen of it or what to change."""

    name: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON shows it."""
        return asdict(self)


def run_checks(application: Application) -> list[CheckResult]:
    """Asks every part at the same time; the results in the order in which the parts depend on each other.

    Raises `SettingsError` for a setting that cannot be read, since then most parts cannot even be asked.
    """
    settings = application.settings
    _check_settings(application)
    quick = settings.model_copy(update={"api_timeout_seconds": min(CALL_SECONDS, settings.api_timeout_seconds)})
    with closing(Transport(quick)) as transport:
        asked = [(probe.name, probe.start()) for probe in list_probes(application, transport)]
        wait([future for _, future in asked], DEADLINE_SECONDS)
        results = [(name, result_of(future, DEADLINE_SECONDS)) for name, future in asked]
    return [CheckResult(name, result.ok, result.text) for name, result in results]


def nothing_is_set_up(settings: Settings) -> bool:
    """Whether no service has credentials: then what is down has probably never been set up."""
    return not any(settings.upstream(name).client_id for name in UpstreamName)


def _check_settings(application: Application) -> None:
    """Reads the settings that only the parts using them can judge. Raises `SettingsError`, a line for each."""
    settings = application.settings
    errors = schedule_errors({name.upper(): value for name, value in settings}, settings.zone)
    for read in (lambda: application.database, application.aws.check_settings):
        try:
            read()
        except SettingsError as error:
            errors.append(str(error))
    if errors:
        raise SettingsError("\n".join(errors))

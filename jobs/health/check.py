"""The probes as `check` shows them: a line for each, or one line for all that have failed for the same reason."""

from collections.abc import Iterable, Sequence
from concurrent.futures import wait
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from jobs.health.probes import CALL_SECONDS, list_probes, result_of
from jobs.runtime.application import Application
from jobs.runtime.cron import schedule_errors
from sync.settings.declaration import Settings
from sync.settings.loading import SettingsError
from sync.settings.upstreams import UpstreamName
from sync.upstream.services import Services

#: A part that has not responded within this time counts as down.
DEADLINE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Whether a part works, with a message that says what was seen or what to change.

    shared: the text that replaces the texts of all parts that are down for the same reason; None if the part works, or
    if the reason concerns this part alone.
    """

    name: str
    ok: bool
    detail: str
    shared: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class SharedReason:
    """The reason why one or more parts are down, shown once.

    `names`: the names of the parts, joined by `joined_names`.
    """

    names: str
    text: str


def run_checks(application: Application) -> list[CheckResult]:
    """Probes all parts at the same time. In the results, a part comes after the parts on which it depends.

    Raises `SettingsError` for a setting that cannot be read, since most parts could then not even be probed.
    """
    settings = application.settings
    _check_settings(application)
    quick = settings.model_copy(update={"api_timeout_seconds": min(CALL_SECONDS, settings.api_timeout_seconds)})
    with closing(Services(quick)) as services:
        asked = [(probe.name, probe.start()) for probe in list_probes(application, services)]
        wait([future for _, future in asked], DEADLINE_SECONDS)
        results = [(name, result_of(future, DEADLINE_SECONDS)) for name, future in asked]
    return [CheckResult(name, result.ok, result.text, result.shared) for name, result in results]


def causes(results: Sequence[CheckResult]) -> list[SharedReason]:
    """The reasons why parts are down, each once, in the order of the first part that each reason affects."""
    together: dict[str, list[CheckResult]] = {}
    for result in results:
        if not result.ok:
            together.setdefault(result.shared or result.detail, []).append(result)
    return [
        SharedReason(joined_names([each.name for each in stopped]), stopped[0].detail if len(stopped) == 1 else text)
        for text, stopped in together.items()
    ]


def joined_names(names: Iterable[str]) -> str:
    """The names of parts on one line, grouped by kind: `queue (visit, activity), dlq visit, slack`."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kind, _, rest = name.rpartition(" ")
        kinds.setdefault(kind or name, []).append(rest)
    return ", ".join(
        f"{kind} ({', '.join(rest)})" if len(rest) > 1 else kind if rest == [kind] else f"{kind} {rest[0]}"
        for kind, rest in kinds.items()
    )


def advice_to_begin(settings: Settings) -> str | None:
    """If no service has credentials, a line that says how to begin; otherwise None.

    Without any credentials, the parts that are down have probably never been set up.
    """
    if any(settings.upstream(name).client_id for name in UpstreamName):
        return None
    return (
        "nothing is set up here: set the variables that doc/settings.md lists, or try the sandbox: "
        "prisoner-to-nomis demo, or doc/practice.md"
    )


def _check_settings(application: Application) -> None:
    """Reads the settings that only the parts using them can validate.

    Raises `SettingsError`, with a line for each error.
    """
    settings = application.settings
    errors = schedule_errors({name.upper(): value for name, value in settings}, settings.zone)
    for read in (lambda: application.database, application.aws.check_settings):
        try:
            read()
        except SettingsError as error:
            errors.append(str(error))
    if errors:
        raise SettingsError("\n".join(errors))

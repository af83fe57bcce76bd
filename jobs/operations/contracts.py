"""The `contracts-check` job, which checks whether each upstream service still offers what the program relies on."""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import orjson
from sqlalchemy import select

import reports.reconciliations
from jobs.errors import StopRequested
from jobs.operations.deliveries import ALERT_SECONDS, send_pending
from jobs.runtime.application import Application
from jobs.runtime.job_runs import CONTRACTS_JOB, SCOPE, ActiveRun, RunStatus, Trigger
from sync import clock
from sync.alerting import Severity, command
from sync.contracts.check import ContractFinding, ServiceResult, check_service, last_findings, record_findings
from sync.contracts.compare import DriftLevel
from sync.contracts.declared import shape_errors
from sync.domains.registry import missing_roles, operations, probes
from sync.errors import UpstreamError
from sync.settings.upstreams import UpstreamName
from sync.store import outbox
from sync.store.creations import CreationState
from sync.store.tables import creations
from sync.upstream.operation import ContractProbe, Operation
from sync.upstream.services import Services

ALERT = "contract-drift"
SERVICES = tuple(name for name in UpstreamName if name is not UpstreamName.OAUTH)
#: How many differences of a service a message quotes.
_QUOTED = 5
#: The kind of a finding about a service that could not be compared.
_UNREAD = "document-unread"


@dataclass(frozen=True, slots=True)
class ContractsResult:
    """The result for each service. probed: what the probe of each service showed; empty if there were no probes."""

    services: tuple[ServiceResult, ...]
    probed: Mapping[UpstreamName, str]

    def counts(self) -> dict[str, int]:
        """The number of differences at each level, by the plural of the level, such as `errors`."""
        found = [finding.level for service in self.services for finding in service.findings]
        return {f"{level}s": found.count(level) for level in DriftLevel}

    @property
    def ok(self) -> bool:
        """Whether no difference is an error; warnings and notes do not count."""
        return not self.counts()["errors"]

    @property
    def unread(self) -> tuple[UpstreamName, ...]:
        """The services that could not be compared, since their documents could not be read."""
        return tuple(each.service for each in self.services if _is_unread(each))

    def as_dict(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return {
            "ok": self.ok,
            **self.counts(),
            "services": [
                {
                    "service": each.service,
                    "version": each.version,
                    "operations": each.compared,
                    "probe": self.probed.get(each.service),
                    "findings": [_as_json(finding) for finding in each.findings],
                    "known": [{**_as_json(known.finding), "reason": known.reason} for known in each.known],
                }
                for each in self.services
            ],
        }


def check_contracts(
    application: Application,
    services: Collection[UpstreamName] = SERVICES,
    *,
    probe: bool = False,
    notify: bool = False,
    check_stop: Callable[[], None] = lambda: None,
) -> ContractsResult:
    """Compares the program's calls with the document of each service, one service at a time.

    A document that cannot be read counts as an error. probe: also makes one harmless read from each service, or, if a
    service offers none, checks the roles in the client's token for it. notify: records the results, and puts a message
    for Slack into the outbox if the differences have changed since the last check. check_stop: called before each
    service is compared; it may raise an exception to stop the check.
    """
    called = operations(reports.reconciliations)
    results, probed = [], {}
    # No breaker stops these calls, and their outcomes do not open a breaker.
    with closing(Services(application.settings)) as upstream:
        for service in services:
            check_stop()
            result = _compared(upstream, service, called)
            if probe:
                found, probed[service] = _probed(application, upstream, service)
                result = replace(result, findings=(*found, *result.findings))
            results.append(result)
    if notify:
        _record(application, results)
    return ContractsResult(tuple(results), probed)


def check_on_schedule(application: Application, active_run: ActiveRun, stop_requested: threading.Event) -> None:
    """Runs the scheduled check of every service as the run `active_run`, with `notify` but without probes.

    Once `stop_requested` is set, raises `StopRequested` before the next service is compared.
    """

    def check_stop() -> None:
        if stop_requested.is_set():
            raise StopRequested("stopped while comparing the calls with the documents of the services")

    _put_into(active_run, check_contracts(application, notify=True, check_stop=check_stop))


def run_contracts_check(
    application: Application,
    services: Collection[UpstreamName],
    *,
    probe: bool,
    trigger: Trigger = Trigger.MANUAL,
    rerun_of: str | None = None,
) -> ContractsResult:
    """Runs the check with `notify` as a recorded run of the job, and sends what is in the outbox.

    Differences do not make the run fail. The run is incomplete if a document could not be read.
    """
    parameters = {"services": [str(each) for each in services], "probe": probe}
    with application.job_runs.run(CONTRACTS_JOB, parameters, trigger=trigger, rerun_of=rerun_of) as active_run:
        result = check_contracts(application, services, probe=probe, notify=True)
        _put_into(active_run, result)
    send_pending(application, ALERT_SECONDS)
    return result


def _put_into(active_run: ActiveRun, result: ContractsResult) -> None:
    active_run.counts |= result.counts()
    if len(result.services) < len(SERVICES):
        # A run for only some of the services does not count as the last run of the job.
        active_run.counts[SCOPE] = "services"
    if result.unread:
        active_run.status = RunStatus.INCOMPLETE
        active_run.error = f"the documents of these services cannot be read: {', '.join(result.unread)}"


def _is_unread(result: ServiceResult) -> bool:
    return any(finding.kind == _UNREAD for finding in result.findings)


def _compared(upstream: Services, service: UpstreamName, called: Sequence[Operation[Any]]) -> ServiceResult:
    try:
        return check_service(service, orjson.loads(upstream.document(service)), called)
    except UpstreamError as error:
        reason = str(error)
    except ValueError:
        reason = "the response is not an OpenAPI document"
    finding = ContractFinding(DriftLevel.ERROR, _UNREAD, "", f"its document cannot be read: {reason}")
    return ServiceResult(service, "", 0, (finding,))


def _probed(application: Application, upstream: Services, service: UpstreamName) -> tuple[list[ContractFinding], str]:
    """Probes a service. Returns the findings, and the result of the probe in a few words."""
    probe = probes().get(service)
    if probe is None:
        return _probed_by_token(upstream, service)
    operation = probe.operation
    named = (f"{operation.method} {operation.path}",)
    try:
        response = operation.read_raw(upstream[service], *_ids(application, probe), query=probe.query)
    except UpstreamError as error:
        if error.absent:
            return [], "role granted, no record to read"
        return _probe_failed(error, named)
    wrong = shape_errors(operation, response)
    found = [
        ContractFinding(DriftLevel.ERROR, "shape", "", f"response differs from its declaration: {each}", named)
        for each in wrong
    ]
    return found, "role granted, format differs" if wrong else "role granted, format as declared"


def _probed_by_token(upstream: Services, service: UpstreamName) -> tuple[list[ContractFinding], str]:
    """Probes a service that offers no harmless read. The client's token shows whether the client has the roles."""
    try:
        authorities = upstream[service].authorities()
    except UpstreamError as error:
        return _probe_failed(error, ())
    if authorities is None:
        return [], "token issued, but it does not list its roles"
    found = [
        ContractFinding(DriftLevel.ERROR, "role-refused", "", f"the client's token lacks the role {role}")
        for role in missing_roles(service, authorities)
    ]
    return found, "role missing" if found else "role granted, nothing to read"


def _probe_failed(error: UpstreamError, named: tuple[str, ...]) -> tuple[list[ContractFinding], str]:
    kind, text = ("role-refused", "refuses") if error.credentials_refused else ("probe-failed", "fails")
    return [ContractFinding(DriftLevel.ERROR, kind, "", f"{text} the probe: {error}", named)], text


def _ids(application: Application, probe: ContractProbe) -> tuple[str, ...]:
    """The id of the newest mapped record of the kind that the probe reads, or else the probe's own ids."""
    if probe.record is None:
        return probe.ids
    last = (
        select(creations.c.dps_id)
        .where(creations.c.domain == probe.record, creations.c.state == CreationState.MAPPED)
        .order_by(creations.c.id.desc())
        .limit(1)
    )
    with application.database.read() as connection:
        found = connection.execute(last).scalar_one_or_none()
    return probe.ids if found is None else (found,)


def _record(application: Application, results: Sequence[ServiceResult]) -> None:
    """Replaces the recorded findings of each service. If any findings have changed, adds a message to the outbox.

    A service whose document could not be read keeps its recorded findings: an outage does not change the contract.
    """
    read = [each for each in results if not _is_unread(each)]
    with application.database.begin() as connection:
        last = last_findings(connection)
        properties: dict[str, str] = {}
        has_errors = False
        for result in read:
            found = [_as_json(each) for each in result.findings]
            before = list(last.get(str(result.service), ()))
            new, gone = [each for each in found if each not in before], [each for each in before if each not in found]
            if new or gone:
                properties[str(result.service)] = _change_text(new, gone)
                has_errors = has_errors or any(each["level"] == DriftLevel.ERROR for each in new)
            record_findings(connection, str(result.service), result.version, found)
        if properties:
            moment = clock.now()
            payload = {
                "kind": "alert",
                "event": ALERT,
                "time": moment.isoformat(timespec="milliseconds"),
                "properties": properties,
                "severity": str(Severity.SERIOUS if has_errors else Severity.LOW),
                "command": command("contracts", "check"),
            }
            outbox.enqueue(connection, f"{ALERT}:{moment.isoformat()}", "slack", payload)


def _change_text(new: Sequence[Mapping[str, Any]], gone: Sequence[Mapping[str, Any]]) -> str:
    """A message about a service: how many findings are new, how many are gone, and what the first few new ones are."""
    counts = [
        f"{count} new {level if count == 1 else f'{level}s'}"
        for level in DriftLevel
        if (count := sum(each["level"] == level for each in new))
    ]
    counts += [f"{len(gone)} no longer found"] if gone else []
    quoted = [f"{each['level']}: {', '.join(each['operations'][:3])} {each['text']}" for each in new[:_QUOTED]]
    return "; ".join([", ".join(counts), *quoted])


def _as_json(finding: ContractFinding) -> dict[str, Any]:
    return {**asdict(finding), "level": str(finding.level), "operations": list(finding.operations)}

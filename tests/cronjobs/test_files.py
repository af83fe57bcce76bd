"""The deployment's files, each checked without rendering it."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from jobs.operations.schedule import SCHEDULE
from reports.engine.exclusions import exclusions_variable
from reports.reconciliations.registry import RECONCILIATIONS
from sync.domains.registry import DOMAINS, event_types
from sync.settings.declaration import variables
from sync.settings.loading import load_settings
from sync.settings.queues import QUEUES
from sync.settings.upstreams import UpstreamName
from sync.settings.variables import feature_variable
from sync.store.database import newest_revision
from tests.harness.manifests import (
    EXAMPLES,
    KUBERNETES,
    OVERLAYS,
    ROOT,
    Manifest,
    is_known,
    pod_of,
    raw_manifests,
    settings_file,
)

RAW = list(raw_manifests())
SETTINGS_FILES = sorted(ROOT.rglob("settings.env"))
SWITCHES = {feature_variable(event) for queue in QUEUES for event in event_types(queue)}
KNOWN = {
    *(variable.name for variable in variables()),
    *SWITCHES,
    "FEATURE_EVENT_DELETEALL",
    *(name for each in RECONCILIATIONS.values() for name in (each.schedule_setting, each.switch_setting)),
    *map(exclusions_variable, RECONCILIATIONS),
}


@pytest.mark.parametrize(
    "manifest", [each for _, each in RAW if is_known(each)], ids=lambda each: each["metadata"]["name"]
)
def test_each_file_is_valid_before_it_is_rendered(manifest: Manifest) -> None:
    """Each object whose kind Kubernetes itself defines has only known fields, with values of the right types."""
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("path", SETTINGS_FILES, ids=[path.parent.name for path in SETTINGS_FILES])
def test_each_setting_is_one_the_program_reads(path: Path) -> None:
    """The settings files name only variables that the program reads, so none is silently ignored."""
    assert set(settings_file(path)) <= KNOWN


def test_the_values_for_the_chart_are_those_of_the_overlays() -> None:
    """The example values for the Helm chart include the production settings and the credentials of the scheduler.

    With these values, the scheduler runs exactly the reconciliations of the domains that are switched on.
    """
    values = yaml.safe_load((EXAMPLES / "generic-service-values.yaml").read_text())["generic-service"]
    assert set(values["env"]) <= KNOWN
    production = settings_file(ROOT / "overlays" / "prod" / "settings.env")
    assert production.items() <= values["env"].items()
    settings = load_settings(values["env"])
    for entry in RECONCILIATIONS.values():
        (job,) = (job for job in SCHEDULE if job.name == entry.job)
        assert job.is_on(settings) == settings.event_enabled(DOMAINS[entry.load().domain].creation.event_type)
    given = {
        (secret, variable, key)
        for secret, keys in values["namespace_secrets"].items()
        for variable, key in keys.items()
    }
    (scheduler,) = (
        each
        for _, each in RAW
        if each["metadata"]["name"] == "prisoner-to-nomis-scheduler" and each["kind"] == "Deployment"
    )
    references = {
        (source["name"], variable["name"], source["key"]): source.get("optional", False)
        for variable in scheduler["spec"]["template"]["spec"]["containers"][0]["env"]
        if (source := variable.get("valueFrom", {}).get("secretKeyRef"))
    }
    assert given <= set(references)
    assert {reference for reference, optional in references.items() if not optional} <= given


def test_the_documentation_names_the_newest_schema() -> None:
    """The table of versions and schemas in `doc/deploy.md` gives the newest schema for this version."""
    assert f"| this version | {newest_revision()} |" in (ROOT.parent / "doc" / "deploy.md").read_text()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_environment_has_the_address_of_every_service(overlay: str) -> None:
    """Every environment sets the address of every service.

    The default addresses are for a developer's machine.
    """
    settings = settings_file(ROOT / "overlays" / overlay / "settings.env")
    assert {name.address_variable for name in UpstreamName} <= set(settings)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_lists_the_settings_to_change(overlay: str) -> None:
    """Each overlay lists the settings that people may want to change.

    These are the log level, masking, retention, every list of exclusions, and the settings for reports. All of them
    except `REPORTS_LOCATION` have the program's default values.
    """
    settings = settings_file(ROOT / "overlays" / overlay / "settings.env")
    shown = {"LOG_LEVEL", "LOGS_MASK_PRISONERS", "ALERTS_MASK_PRISONERS"}
    shown |= {"REPORTS_LOCATION", "REPORTS_URL", "REPORTS_LINK_HOURS", "REPORTS_EMAIL_TO", "REPORTS_EMAIL_FROM"}
    shown |= {"TELEMETRY_KEEP_DAYS", "RUNS_KEEP_DAYS", "REPORTS_KEEP_DAYS"}
    shown |= {exclusions_variable(name) for name in RECONCILIATIONS}
    assert shown <= set(settings)
    assert shown.isdisjoint(settings_file(ROOT / "base" / "settings.env"))
    others = {name: value for name, value in settings.items() if name not in shown or name == "REPORTS_LOCATION"}
    assert load_settings(settings).model_dump() == load_settings(others).model_dump()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_event_stays_on_where_its_record_is_never_created(overlay: str) -> None:
    """In each environment, the events of a queue are either all on or all off.

    An update would fail without the mapping that is saved when its record is created.
    """
    settings = settings_file(ROOT / "overlays" / overlay / "settings.env")
    off = {name for name in SWITCHES if settings.get(name) == "false"}
    for queue in QUEUES:
        of_queue = {feature_variable(event) for event in event_types(queue)}
        assert of_queue & off in (set(), of_queue)


@pytest.mark.parametrize(
    ("overlay", "queues"),
    [("dev", QUEUES), ("preprod", ("visit", "incentive")), ("prod", ("visit", "incentive"))],
)
def test_each_environment_synchronises_its_domains(overlay: str, queues: tuple[str, ...]) -> None:
    """In development, every domain is on. In pre-production and production, only visits and incentives are on.

    The `delete-all` commands are allowed only in development.
    """
    settings = settings_file(ROOT / "overlays" / overlay / "settings.env")
    off = {name for name in SWITCHES if settings.get(name) == "false"}
    assert tuple(queue for queue in QUEUES if not {feature_variable(e) for e in event_types(queue)} & off) == queues
    assert settings["FEATURE_EVENT_DELETEALL"] == ("true" if overlay == "dev" else "false")


def test_the_credentials_come_from_the_existing_secrets() -> None:
    """Credentials for which the replaced service had secrets come from those secrets, under the same keys.

    All other credentials of the scheduler come from the secret `prisoner-to-nomis`.
    """
    scheduler = next(manifest for _, manifest in RAW if manifest["kind"] == "Deployment")
    pod = pod_of(scheduler)
    assert pod is not None
    references = {
        entry["name"]: (entry["valueFrom"]["secretKeyRef"]["name"], entry["valueFrom"]["secretKeyRef"]["key"])
        for entry in pod["containers"][0]["env"]
    }
    shared = "hmpps-prisoner-to-nomis-update"
    services = [name for name in UpstreamName if name is not UpstreamName.PRISONER_SEARCH]
    expected = {variable: (shared, variable) for name in services for variable in name.credential_variables}
    keys = (("NAME", "sqs_queue_name"), ("ACCESS_KEY_ID", "access_key_id"), ("SECRET_ACCESS_KEY", "secret_access_key"))
    for queue in QUEUES:
        for kind, secret in (
            ("QUEUE", f"sqs-nomis-update-{queue}-secret"),
            ("DLQ", f"sqs-nomis-update-{queue}-dlq-secret"),
        ):
            expected |= {f"HMPPS_SQS_QUEUES_{queue.upper()}_{kind}_{name}": (secret, key) for name, key in keys}
    own = {"DATABASE_URL", "PRISONER_SEARCH_CLIENT_ID", "PRISONER_SEARCH_CLIENT_SECRET", "SLACK_TOKEN", "SMTP_URL"}
    own.add("APPLICATIONINSIGHTS_CONNECTION_STRING")
    expected |= {name: ("prisoner-to-nomis", name) for name in own}
    assert references == expected

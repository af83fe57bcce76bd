"""Each environment as it would be applied, without components and with each component."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest

from jobs.operations.schedule import SCHEDULE, ScheduledJob
from jobs.runtime.cron import CronSchedule
from reports.reconciliations.registry import RECONCILIATIONS
from sync.domains.registry import DOMAINS
from sync.settings.declaration import Settings
from sync.settings.loading import load_settings
from tests.harness.manifests import KUBERNETES, Manifest, environment_of, is_known, of_kind, pods_of, starts_the_program

LONDON = ZoneInfo("Europe/London")
POD_SECURITY = {"runAsNonRoot": True, "runAsUser": 2000, "runAsGroup": 2000, "fsGroup": 2000}
CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
#: The names of the CronJobs, by the name of the reconciliation.
CRONJOBS = {
    name: "prisoner-to-nomis-incentives-reconciliation"
    if name == "incentives"
    else f"prisoner-to-nomis-reconcile-{name}"
    for name in RECONCILIATIONS
}
SECRETS = {
    "DATABASE_URL": "postgresql://user:secret@database/nomis",
    "SMTP_URL": "smtps://user:secret@mail:465",
    "APPLICATIONINSIGHTS_CONNECTION_STRING": (
        "InstrumentationKey=00000000-0000-0000-0000-000000000000;IngestionEndpoint=https://insights.example/"
    ),
}


def test_every_object_is_valid(rendered: list[Manifest]) -> None:
    """Each rendered object whose kind Kubernetes itself defines is valid, and all objects are in one namespace."""
    for manifest in filter(is_known, rendered):
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    assert len({manifest["metadata"]["namespace"] for manifest in rendered}) == 1


def test_every_pod_has_the_least_privilege(rendered: list[Manifest]) -> None:
    """No pod runs as root, gains privileges, writes to its root file system or holds a cluster token."""
    assert len(pods_of(rendered)) == 4 + len(CRONJOBS)
    for pod in pods_of(rendered).values():
        assert pod["securityContext"] == POD_SECURITY | {"seccompProfile": {"type": "RuntimeDefault"}}
        assert pod["automountServiceAccountToken"] is False
        assert [list(volume) for volume in pod["volumes"]] == [["emptyDir", "name"]]
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert container["securityContext"] == CONTAINER_SECURITY
            assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the volume
            assert container["image"] == "prisoner-to-nomis:1.0.0"
            assert set(container["resources"]["requests"]) == {"cpu", "memory"}
            assert "memory" in container["resources"]["limits"]


def test_every_pod_starts_with_valid_settings(rendered: list[Manifest]) -> None:
    """The program accepts the environment of each pod. Schedules are in London time, and rechecks wait two minutes."""
    for name, pod in pods_of(rendered).items():
        settings = load_settings(environment_of(pod, rendered, SECRETS))
        assert settings.tz == "Europe/London"
        assert settings.hmpps_sqs_provider == "aws"
        assert settings.database_auto_upgrade is False
        assert settings.queue("visit").queue_name == "secret", name
        assert (settings.reconciliation_recheck_seconds, settings.reconciliation_in_flight_minutes) == (120, 15)


def test_cronjobs_keep_to_the_rules_of_the_platform(rendered: list[Manifest]) -> None:
    """The Jobs of a CronJob never overlap, and each is deleted four days after it ends.

    Each starts within ten minutes of its scheduled time in London, or not at all.
    """
    cronjobs = of_kind(rendered, "CronJob")
    others = {"prisoner-to-nomis-queue-housekeeping", "prisoner-to-nomis-contracts-check"}
    assert {*CRONJOBS.values(), *others} <= set(cronjobs)
    for name, cronjob in cronjobs.items():
        # Kubernetes adds eleven characters to form the name of a Job, which may have at most 63.
        assert len(name) <= 52
        spec, job = cronjob["spec"], cronjob["spec"]["jobTemplate"]["spec"]
        CronSchedule(spec["schedule"], LONDON)
        assert spec["timeZone"] == "Europe/London"
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["startingDeadlineSeconds"] == 600
        assert (spec["successfulJobsHistoryLimit"], spec["failedJobsHistoryLimit"]) == (5, 5)
        assert job["ttlSecondsAfterFinished"] == 345_600
        assert job["backoffLimit"] >= 0
        assert job["activeDeadlineSeconds"] > 0
        assert job["template"]["spec"]["restartPolicy"] == "Never"
        assert {rule["action"] for rule in job["podFailurePolicy"]["rules"]} <= {"FailJob", "FailIndex", "Ignore"}


@pytest.mark.parametrize("after", [datetime(2026, 1, 7, tzinfo=LONDON), datetime(2026, 7, 8, tzinfo=LONDON)])
def test_the_weekly_reconciliation_starts_on_monday_at_four_in_london(
    rendered: list[Manifest], after: datetime
) -> None:
    """In winter and in summer, the weekly reconciliation starts on Mondays at 04:00 London time."""
    cronjob = of_kind(rendered, "CronJob")["prisoner-to-nomis-incentives-reconciliation"]
    moment = CronSchedule(cronjob["spec"]["schedule"], LONDON).get_next_fire_time(None, after)
    assert moment is not None
    assert moment.strftime("%A %H:%M") == "Monday 04:00"


def is_live(job: ScheduledJob, settings: Settings) -> bool:
    """Whether the environment with these settings sends NOMIS the records that the job compares.

    True for a job that compares no records.
    """
    entry = next((each for each in RECONCILIATIONS.values() if each.job == job.name), None)
    return entry is None or settings.event_enabled(DOMAINS[entry.load().domain].creation.event_type)


def cronjob_of(job: ScheduledJob, rendered: list[Manifest]) -> Manifest:
    """The one CronJob that starts the command of a scheduled job."""
    pods = pods_of(rendered)
    (cronjob,) = (
        cronjob
        for name, cronjob in of_kind(rendered, "CronJob").items()
        if tuple(pods[name]["containers"][0]["args"][: len(job.command)]) == job.command
    )
    return cronjob


@pytest.mark.parametrize("job", SCHEDULE, ids=[job.name for job in SCHEDULE])
def test_each_scheduled_job_has_its_cronjob(job: ScheduledJob, rendered: list[Manifest]) -> None:
    """Each scheduled job has a CronJob with the same command and schedule.

    If the job compares records that the environment does not send to NOMIS, neither the CronJob nor the scheduler runs
    the job. Otherwise, exactly one of them does.
    """
    schedulers = of_kind(rendered, "Deployment")
    pod = pods_of(rendered)[next(iter(schedulers or of_kind(rendered, "CronJob")))]
    settings = load_settings(environment_of(pod, rendered, SECRETS))
    spec = cronjob_of(job, rendered)["spec"]
    assert spec["schedule"] == job.schedule(settings).line
    runs = [job.is_on(settings), not spec.get("suspend", False)]
    # Either the CronJob or the scheduler runs the job, never both. If its records do not go to NOMIS, neither runs it.
    assert sum(runs) == int(is_live(job, settings))


def test_the_schema_is_current_before_a_scheduler_starts(rendered: list[Manifest]) -> None:
    """Before the scheduler starts, its pod upgrades the schema of the scheduler's database, with the same image."""
    (deployment,) = of_kind(rendered, "Deployment").values()
    pod = deployment["spec"]["template"]["spec"]
    (migration,), (scheduler,) = pod["initContainers"], pod["containers"]
    assert migration["args"] == ["db", "upgrade"]
    assert migration["image"] == scheduler["image"]
    assert migration["envFrom"] == scheduler["envFrom"]
    assert all(variable in scheduler["env"] for variable in migration["env"])
    assert of_kind(rendered, "Job") == {}


def test_the_network_policy_is_about_our_pods(rendered: list[Manifest]) -> None:
    """The network policy restricts the program's pods, and no others in the namespace."""
    (policy,) = of_kind(rendered, "NetworkPolicy").values()
    assert policy["spec"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "prisoner-to-nomis"}}


def test_the_scheduler_is_replaced_without_a_gap(rendered: list[Manifest]) -> None:
    """A new scheduler is ready before the old one ends, and the probes of both call the health pages."""
    for deployment in of_kind(rendered, "Deployment").values():
        assert deployment["spec"]["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        }
        pod = deployment["spec"]["template"]["spec"]
        settings = load_settings(environment_of(pod, rendered, SECRETS))
        (container,) = pod["containers"]
        assert container["ports"] == [{"name": "health", "containerPort": settings.health_port}]
        paths = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
        assert paths == {
            "startup": {"path": "/health/liveness", "port": "health"},
            "liveness": {"path": "/health/liveness", "port": "health"},
            "readiness": {"path": "/health/readiness", "port": "health"},
        }
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for service in of_kind(rendered, "Service").values():
            assert service["spec"]["selector"].items() <= labels.items()


def test_every_pod_that_drains_has_time_to_finish(rendered: list[Manifest]) -> None:
    """After SIGTERM, a pod that drains has time for the longest call, and then for the grace period of the drain."""
    draining = {
        name: pod
        for name, pod in pods_of(rendered).items()
        if pod["containers"][0]["args"][0] in ("scheduler", "drain") or not starts_the_program(pod)
    }
    assert len(draining) == 2
    for name, pod in draining.items():
        settings = load_settings(environment_of(pod, rendered, SECRETS))
        longest = settings.api_timeout_seconds + settings.drain_grace_seconds
        assert pod["terminationGracePeriodSeconds"] > longest, name


def test_operators_have_a_separate_pod(rendered: list[Manifest]) -> None:
    """The operators' pod starts only when a person starts it.

    It waits for commands, and has the settings and credentials of the other pods.
    """
    cronjobs = of_kind(rendered, "CronJob")
    operator = cronjobs.pop("prisoner-to-nomis-operator")
    assert operator["spec"]["suspend"] is True
    job = operator["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    (seconds,) = container["args"]
    assert container["command"] == ["sleep"]
    assert job["activeDeadlineSeconds"] > int(seconds) + pod["terminationGracePeriodSeconds"]
    other = pods_of(rendered)["prisoner-to-nomis-queue-housekeeping"]
    assert environment_of(pod, rendered, SECRETS) == environment_of(other, rendered, SECRETS)
    assert (pod["serviceAccountName"], pod["securityContext"]) == (
        other["serviceAccountName"],
        other["securityContext"],
    )


@pytest.mark.parametrize("name", CRONJOBS)
def test_shards_share_the_work_and_the_calls(rendered: list[Manifest], name: str) -> None:
    """A sharded reconciliation has one pod for each shard. Without shards, a retry resumes the last run.

    All pods of a reconciliation together make no more concurrent calls than NOMIS can handle.
    """
    cronjob = of_kind(rendered, "CronJob")[CRONJOBS[name]]
    job = cronjob["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    settings = load_settings(environment_of(pod, rendered, SECRETS))
    assert settings.reconciliation_concurrency * job.get("parallelism", 1) <= 40
    if job.get("completionMode") == "Indexed":
        assert job["completions"] == job["parallelism"]
        assert pod["containers"][0]["args"] == ["reconcile", name, f"--shards={job['completions']}"]
    else:
        # Each retry of the Job resumes the run of the first attempt.
        assert pod["containers"][0]["args"] == ["reconcile", name, "--resume=last"]

"""The `check` command: one line for each part, with advice on what to change."""

import json
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.domains.registry import required_roles
from sync.settings.queues import QUEUES
from sync.settings.upstreams import UpstreamName
from tests.harness.app import App


def test_check_succeeds_when_every_part_is_up(installed: App) -> None:
    """When every part is up, every line of `check` says ok, and the exit code is 0."""
    checked = installed.run_as_installed("check")
    assert checked.code == 0, checked.out
    *lines, last = checked.out.splitlines()
    assert all("  ok" in line for line in lines)
    assert last == f"all {len(lines)} parts are ok"
    for part in ("settings", "database", "queue visit", "dlq sentencing", "hmpps-auth", "nomis", "credentials mapping"):
        assert any(line.startswith(part) for line in lines)
    printed = {name.strip(): rest for name, _, rest in (line.partition("  ok  ") for line in lines)}
    assert printed["switches"] == "every event is on"
    assert printed["exclusions"] == "none"
    assert printed["reports"] == installed.settings["REPORTS_LOCATION"]
    assert printed["slack"] == "#sycon-alerts, token known"
    assert printed["email"] == "off: SMTP_URL or REPORTS_EMAIL_TO is not set"
    assert not Path(installed.settings["REPORTS_LOCATION"]).exists()


def test_what_is_down_is_shown_with_its_fix(installed: App, sandbox: Sandbox) -> None:
    """For each service that is down or whose credentials are wrong or missing, `check` says what to change."""
    sandbox.fault("mapping", path="/health/ping", kind="status", status=503)
    checked = installed.run(
        "check",
        "--json",
        API_BASE_URL_ACTIVITIES="http://127.0.0.1:1",
        VISITS_CLIENT_SECRET="wrong",
        INCENTIVES_CLIENT_ID="",
    )
    assert checked.code == 1
    down = {each["name"]: each["detail"] for each in checked.json()["checks"] if not each["ok"]}
    assert set(down) == {"mapping", "activities", "credentials visits", "credentials incentives"}
    assert "status 503" in down["mapping"]
    assert "API_BASE_URL_MAPPING" in down["mapping"]
    assert "API_BASE_URL_ACTIVITIES" in down["activities"]
    assert "set VISITS_CLIENT_ID and VISITS_CLIENT_SECRET" in down["credentials visits"]
    assert "no credentials: set INCENTIVES_CLIENT_ID" in down["credentials incentives"]


def test_a_missing_role_is_named(installed: App, sandbox: Sandbox) -> None:
    """If a client lacks a role, one line shows its credentials as down, and names the client and the role."""
    lacked = {"NOMIS_APPOINTMENTS", "NOMIS_PRISONER_API__SYNCHRONISATION__RW"}
    sandbox.grant("nomis", sorted(required_roles(UpstreamName.NOMIS) - lacked))
    sandbox.grant("visits", [])
    checked = installed.run("check", "--json")
    assert checked.code == 1
    down = {each["name"]: each["detail"] for each in checked.json()["checks"] if not each["ok"]}
    assert set(down) == {"credentials nomis", "credentials visits"}
    environment = sandbox.environment()
    assert down["credentials nomis"].startswith(
        f"client {environment['SYSTEM_CLIENT_ID']} lacks roles {', '.join(sorted(lacked))}: "
    )
    assert down["credentials visits"].startswith(
        f"client {environment['VISITS_CLIENT_ID']} lacks role VISIT_SCHEDULER: "
    )


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("/health/ping", "nomis", "API_BASE_URL_NOMIS"),
        ("/auth/oauth/token", "credentials nomis", "no valid access_token"),
    ],
)
def test_a_login_page_is_not_ok(installed: App, sandbox: Sandbox, path: str, name: str, words: str) -> None:
    """A login page with status 200 does not count as a valid response from a service."""
    sandbox.fault("*", path=path, kind="status", status=200, text="<html>Sign in</html>")
    checked = installed.run("check", "--json")
    down = {each["name"]: each["detail"] for each in checked.json()["checks"] if not each["ok"]}
    assert (checked.code, words in down[name]) == (1, True)


def test_switches_are_shown_and_a_mistyped_one_is_reported(installed: App) -> None:
    """`check` names the events that are switched off, and the switches that it does not know.

    If an unknown switch is off, `check` shows the switches as down, and a drain logs a warning.
    """
    off = {"FEATURE_EVENT_PRISON_VISIT_BOOKED": "false", "FEATURE_EVENT_DELETEALL": "true"}
    checked = installed.run("check", **off)
    assert checked.code == 0, checked.out
    assert any(line.split() == ["switches", "ok", "off:", "prison-visit.booked"] for line in checked.out.splitlines())

    later = installed.run("check", FEATURE_EVENT_VISIT_OF_A_LATER_VERSION="true")
    assert later.code == 0
    assert "every event is on; unknown switches: FEATURE_EVENT_VISIT_OF_A_LATER_VERSION" in later.out
    mistyped = {"FEATURE_EVENT_PRISON_VISIT_BOOKEDD": "false"}
    checked = installed.run("check", **mistyped)
    assert checked.code == 1
    (line,) = [line for line in checked.out.splitlines() if "  DOWN  " in line]
    assert line.startswith("switches")
    assert "FEATURE_EVENT_PRISON_VISIT_BOOKEDD: not the switch of any event" in line
    drained = installed.run("drain", "visit", "incentive", **mistyped)
    assert drained.code == 0
    (warned,) = [line for line in map(json.loads, drained.err.splitlines()) if line["level"] == "warning"]
    assert (warned["message"], warned["variables"]) == ("unknown-feature-switch", list(mistyped))


def test_unavailable_database_and_queues_are_reported(installed: App) -> None:
    """If the database and the queues are unavailable, `check` shows both as down, and still checks everything else."""
    checked = installed.run(
        "check",
        DATABASE_URL="postgresql://user:hush@127.0.0.1:1/none",
        HMPPS_SQS_LOCALSTACK_URL="http://127.0.0.1:1",
    )
    assert checked.code == 1
    database, queues, *others, last = checked.out.splitlines()
    names, _, detail = database.partition("  DOWN  ")
    assert names.strip() == "database, breakers, waits"
    assert "set DATABASE_URL" in detail
    assert "hush" not in checked.out + checked.err
    every = ", ".join(QUEUES)
    names, _, detail = queues.partition("  DOWN  ")
    assert names == f"queue ({every}), dlq ({every})"
    assert "http://127.0.0.1:1 does not respond; set HMPPS_SQS_LOCALSTACK_URL" in detail
    assert all("  ok" in line for line in others)
    assert last == f"13 of {13 + len(others)} DOWN: database, queue ({every}), dlq ({every}), breakers, waits"


def test_dead_letters_without_a_database_say_why_once(installed: App) -> None:
    """If the database is unavailable, `dlq list` says so once, with the names of all queues."""
    listed = installed.run("dlq", "list", DATABASE_URL="postgresql://user:hush@127.0.0.1:1/none")
    assert listed.code == 1
    output = listed.err.splitlines()[-1]
    assert output.startswith(f"prisoner-to-nomis: {', '.join(QUEUES)}: database ")
    assert output.count("Connection refused") == 1


def test_services_without_a_token_share_one_line(installed: App, sandbox: Sandbox) -> None:
    """`check` shows all services without a token on one line, above the lines of the parts that are ok.

    The last line says how many parts are down, and names them.
    """
    sandbox.fault("auth", path="/auth/oauth/token", kind="status", status=401)
    sandbox.fault("slack", path="/api/auth.test", kind="status", status=503)
    services = ", ".join(name for name in UpstreamName if name is not UpstreamName.OAUTH)
    credentials, slack, *others, last = installed.run("check").out.splitlines()
    assert credentials.startswith(f"credentials ({services})  DOWN  status 401: no token; check each …_CLIENT_ID and ")
    assert slack.split(maxsplit=2)[2] == (
        "slack: status 503; wait until Slack is up, or set SLACK_API_URL if Slack has another address"
    )
    assert all("  ok" in line for line in others)
    assert last == f"9 of {9 + len(others)} DOWN: credentials ({services}), slack"

    sandbox.clear_faults()
    sandbox.fault("auth", kind="status", status=503)
    line, *_ = installed.run("check").out.splitlines()
    assert line.startswith(f"hmpps-auth, credentials ({services})  DOWN  ")
    assert line.endswith("gives no tokens; wait until the service is up, or set API_BASE_URL_OAUTH")


def test_the_destinations_of_reports_are_checked_too(installed: App) -> None:
    """If the archive, Slack, email or the list of exclusions cannot be used, `check` names the setting to correct."""
    checked = installed.run(
        "check",
        "--json",
        RECONCILIATION_EXCLUSIONS="12,because;thirteen",
        REPORTS_LOCATION="/proc/nope/reports",
        SLACK_TOKEN="xoxb-wrong",
        SMTP_URL="smtp://user:hush@127.0.0.1:1",
        REPORTS_EMAIL_TO="a@example.org",
    )
    assert checked.code == 1
    down = {each["name"]: each["detail"] for each in checked.json()["checks"] if not each["ok"]}
    assert set(down) == {"exclusions", "reports", "slack", "email"}
    assert "RECONCILIATION_EXCLUSIONS: entry 2: 'thirteen' is not a booking id" in down["exclusions"]
    assert "REPORTS_LOCATION: the folder /proc/nope/reports cannot be created or written to" in down["reports"]
    assert "invalid_auth; set SLACK_TOKEN" in down["slack"]
    assert "mail: 127.0.0.1:1: " in down["email"]
    assert "set SMTP_URL" in down["email"]
    assert "hush" not in checked.out + checked.err


def test_a_bucket_that_is_not_there_is_named(installed: App) -> None:
    """If the bucket for reports does not exist, `check` shows this as a wrong setting, not as an outage."""
    checked = installed.run("check", REPORTS_LOCATION="s3://nosuchbucket/p")
    assert checked.code == 1
    (line,) = [line for line in checked.out.splitlines() if line.startswith("reports")]
    assert "DOWN  REPORTS_LOCATION: s3://nosuchbucket/p/ cannot be used: NoSuchBucket" in line


@pytest.mark.parametrize("response", ["unknown_method", "not found"])
def test_a_slack_that_cannot_check_tokens_is_not_down(installed: App, sandbox: Sandbox, response: str) -> None:
    """If the server at the Slack address responds but cannot check tokens, `check` shows only that a token is given."""
    if response == "unknown_method":
        sandbox.fault("slack", path="/api/auth.test", kind="status", status=200, body={"ok": False, "error": response})
    else:
        sandbox.fault("slack", path="/api/auth.test", kind="status", status=404)
    checked = installed.run("check")
    assert checked.code == 0, checked.out
    assert any(line.startswith("slack") and "token given" in line for line in checked.out.splitlines())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOUSEKEEPING_SCHEDULE", "often"),
        ("RECONCILIATION_SCHEDULE", "0 4 31 2 *"),
        ("DATABASE_URL", "postgresql://user:hush@host:many/name"),
        ("API_BASE_URL_NOMIS", "http://nomis:many"),
        ("HMPPS_SQS_REGION", "nonsense"),
        ("API_CA_BUNDLE", "/nowhere/ca.pem"),
    ],
)
def test_settings_that_cannot_be_read_end_the_command(bare: App, name: str, value: str) -> None:
    """If a setting cannot be read, `check` tests nothing.

    It prints one line that names the setting, and exits 2.
    """
    checked = bare.run("check", **{name: value})
    assert (checked.code, checked.out) == (2, "")
    assert checked.error.startswith(f"prisoner-to-nomis: {name}: ")
    assert "hush" not in checked.err


def test_all_wrong_settings_are_reported_at_once(bare: App) -> None:
    """All wrong settings are reported together, even if different parts of the program validate them."""
    wrong = {
        "LEASE_SECONDS": "1e300",
        "RECONCILIATION_SCHEDULE": "99 * * * *",
        "HOUSEKEEPING_SCHEDULE": "often",
        "RECONCILIATION_EXCLUSIONS": "1204417,1204418",
    }
    checked = bare.run("check", **wrong)
    assert (checked.code, checked.out) == (2, "")
    assert [line.split(": ")[1] for line in checked.err.splitlines()] == list(wrong)


@pytest.mark.parametrize("command", ["check", "drain"])
def test_a_profile_that_is_not_there_is_named(bare: App, command: str) -> None:
    """If the queues are in AWS, a mistyped AWS profile ends the command with exit code 2.

    The error is one line that names the profile.
    """
    ended = bare.run(command, AWS_PROFILE="nope")
    assert ended.code == 2
    assert ended.error.startswith("prisoner-to-nomis: AWS_PROFILE: 'nope' ")


def test_proxies_and_profiles_do_not_affect_a_local_endpoint(installed: App) -> None:
    """The program reaches a local endpoint even if the shell sets a proxy or an AWS profile."""
    checked = installed.run("check", AWS_PROFILE="nope", HTTP_PROXY="http://127.0.0.1:9", SLACK_TOKEN="")
    assert checked.code == 0, checked.out


HINT = (
    "prisoner-to-nomis: nothing is set up here: set the variables that doc/settings.md lists, or try the sandbox: "
    "prisoner-to-nomis demo, or doc/practice.md"
)


def test_an_environment_without_credentials_gets_a_hint(bare: App) -> None:
    """If no credentials are set, the last line on stderr is a hint on where to begin.

    There is no hint with `--json`, or if the credentials for at least one service are set. A reconciliation, which
    could only wait for the services, ends at once with the hint, and no run is recorded.
    """
    no_credentials = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(bare.folder)}
    checked = bare.run("check", **no_credentials)
    assert (checked.code, checked.error) == (1, HINT)
    assert "DOWN  no credentials: set SYSTEM_CLIENT_ID" in checked.out
    assert "nothing is set up" not in checked.out
    reconciled = bare.run("reconcile", "incentives", "--no-notify", **no_credentials)
    assert (reconciled.code, reconciled.error) == (2, HINT)
    assert bare.run("runs", "list", "--json", **no_credentials).json() == []
    as_json = bare.run("check", "--json", **no_credentials)
    assert (as_json.code, as_json.json()["ok"], HINT in as_json.err) == (1, False, False)
    begun = bare.run("check", SYSTEM_CLIENT_ID="nomis-client", SYSTEM_CLIENT_SECRET="hush", **no_credentials)
    assert (begun.code, HINT in begun.err) == (1, False)
    assert bare.run("status", **no_credentials).error == HINT, "`status` is the first command that many people type"

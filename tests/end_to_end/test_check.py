"""The check command: one line for each part, and what to change."""

from sandbox import Sandbox
from tests.end_to_end.conftest import Installed


def test_everything_is_up(installed: Installed) -> None:
    """With all there, every line says ok and the command ends with 0."""
    checked = installed.run("check")
    assert checked.code == 0, checked.out
    lines = checked.out.splitlines()
    assert all("  ok" in line for line in lines)
    for part in ("settings", "database", "queue visit", "dlq sentencing", "hmpps-auth", "nomis", "credentials mapping"):
        assert any(line.startswith(part) for line in lines)


def test_what_is_down_is_named_with_its_remedy(installed: Installed, sandbox: Sandbox) -> None:
    """A service, a credential and a schedule that are wrong each have a line that says what to change."""
    sandbox.fault("mapping", path="/health/ping", kind="status", status=503)
    checked = installed.run(
        "check",
        "--json",
        API_BASE_URL_ACTIVITIES="http://127.0.0.1:1",
        VISITS_CLIENT_SECRET="wrong",
        INCENTIVES_CLIENT_ID="",
        HOUSEKEEPING_SCHEDULE="often",
    )
    assert checked.code == 1
    down = {each["name"]: each["detail"] for each in checked.json()["checks"] if not each["ok"]}
    assert set(down) == {"settings", "mapping", "activities", "credentials visits", "credentials incentives"}
    assert "HOUSEKEEPING_SCHEDULE" in down["settings"]
    assert "status 503" in down["mapping"]
    assert "API_BASE_URL_MAPPING" in down["mapping"]
    assert "API_BASE_URL_ACTIVITIES" in down["activities"]
    assert "set VISITS_CLIENT_ID and VISITS_CLIENT_SECRET" in down["credentials visits"]
    assert "no credentials: set INCENTIVES_CLIENT_ID" in down["credentials incentives"]


def test_database_and_queues_that_are_away(installed: Installed) -> None:
    """Without database and queues both are down, and everything else is still checked."""
    checked = installed.run(
        "check",
        DATABASE_URL="postgresql://user:hush@127.0.0.1:1/none",
        HMPPS_SQS_LOCALSTACK_URL="http://127.0.0.1:1",
    )
    assert checked.code == 1
    lines = {line.partition("  ")[0]: line for line in checked.out.splitlines()}
    assert "DOWN" in lines["database"]
    assert "set DATABASE_URL" in lines["database"]
    assert "hush" not in checked.out + checked.err
    assert "DOWN" in lines["queue visit"]
    assert "  ok" in lines["nomis"]

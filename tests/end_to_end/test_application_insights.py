"""Every telemetry event arrives at Application Insights, with the operation id of its message or run."""

import json
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import insert

from sync.clock import now
from sync.store.database import Database
from sync.store.tables import telemetry_events
from tests.harness.app import App
from tests.harness.publishing import visit_booked
from tests.harness.waiting import until

TRACE = "0af7651916cd43dd8448eb211c80319c"
OURS = ("service.version", "eventId")


@pytest.fixture(autouse=True)
def _connected(app: App) -> None:
    app.settings["APPLICATIONINSIGHTS_CONNECTION_STRING"] = app.sandbox.connection_string()


def tracked(app: App) -> Counter[str]:
    """Counts the telemetry events in the database, by name and properties."""
    lines = app.run_ok("telemetry", "--json").splitlines()
    return Counter(as_text(event["name"], event["properties"]) for event in map(json.loads, lines))


def arrived(app: App) -> Counter[str]:
    """Counts the events that Application Insights accepted, by name and properties. A repeated id counts once."""
    by_id = {event["properties"]["eventId"]: event for event in app.sandbox.custom_events()}
    return Counter(
        as_text(each["name"], {name: value for name, value in each["properties"].items() if name not in OURS})
        for each in by_id.values()
    )


def as_text(name: str, properties: dict[str, Any]) -> str:
    """An event's name and properties as one string."""
    return json.dumps([name, properties], sort_keys=True)


def put_events(app: App, number: int, name: str = "made-up") -> None:
    """Adds `number` unsent telemetry events called `name` to the database."""
    database = Database(app.settings["DATABASE_URL"])
    with database.begin() as connection:
        rows = [{"name": name, "time": now(), "properties": {"n": str(n)}, "export": "due"} for n in range(number)]
        connection.execute(insert(telemetry_events), rows)
    database.dispose()


def test_check_tests_the_connection_without_sending_an_event(app: App) -> None:
    """`check` shows the address of Application Insights and the number of waiting events.

    If the service is down, `check` says so, and says what to change. `check` itself sends no event.
    """
    put_events(app, 3)
    address = app.sandbox.connection_string().partition("IngestionEndpoint=")[2].rstrip("/;")
    up = {each["name"]: each for each in app.read_json("check")["checks"]}["application-insights"]
    assert (up["ok"], up["detail"]) == (True, f"{address}, 3 events waiting")
    gone = "InstrumentationKey=00000000-5a4d-4b0c-8a11-000000000000;IngestionEndpoint=http://127.0.0.1:1/"
    checked = app.run("check", "--json", APPLICATIONINSIGHTS_CONNECTION_STRING=gone)
    (down,) = [each for each in checked.json()["checks"] if not each["ok"]]
    assert (checked.code, down["name"]) == (1, "application-insights")
    assert down["detail"].startswith("http://127.0.0.1:1: no response: ")
    assert down["detail"].endswith("or set APPLICATIONINSIGHTS_CONNECTION_STRING; events are kept")
    assert app.sandbox.custom_events() == []
    checked = app.run("check", "--json", APPLICATIONINSIGHTS_CONNECTION_STRING="")
    off = {each["name"]: each["detail"] for each in checked.json()["checks"]}
    assert off["application-insights"] == "off: APPLICATIONINSIGHTS_CONNECTION_STRING is not set"


def test_the_events_of_a_message_share_its_operation(app: App) -> None:
    """If the publisher of a message began a trace, all telemetry events of the message belong to that trace.

    Otherwise, they share an operation id that no other message has.
    """
    visits = [visit_booked(app.sandbox) for _ in range(3)]
    app.sandbox.fault("nomis", "POST", kind="status", status=400)
    attributes = {"traceparent": {"Type": "String", "Value": f"00-{TRACE}-b7ad6b7169203331-01"}}
    for visit, traced in zip(visits, (attributes, {}, {}), strict=True):
        event = {
            "eventType": visit.event_type,
            "additionalInformation": dict(visit.information),
            "prisonerId": visit.prisoner_id,
        }
        body = {"Type": "Notification", "MessageId": visit.dps_id, "Message": json.dumps(event)}
        app.main_queue("visit").send(json.dumps({**body, "MessageAttributes": traced}))
    for _ in range(3):
        app.drain("visit")
    events = app.sandbox.custom_events()
    operations = {
        visit.dps_id: {each["operation_Id"] for each in events if each["properties"].get("visitId") == visit.dps_id}
        for visit in visits
    }
    assert operations[visits[0].dps_id] == {TRACE}
    (second,), (third,) = (operations[visit.dps_id] for visit in visits[1:])
    assert len({TRACE, second, third}) == 3
    failed = Counter(each["operation_Id"] for each in events if each["name"] == "message-failed")
    assert failed == {TRACE: 3, second: 3, third: 3}
    assert {each["cloud_RoleName"] for each in events} == {"hmpps-prisoner-to-nomis-update"}
    assert arrived(app) == tracked(app)


def test_a_mapping_saved_later_belongs_to_its_message(app: App) -> None:
    """The event about a retry that saves a mapping has the operation id of the message that needed the mapping."""
    visit = visit_booked(app.sandbox)
    visit.publish()
    app.sandbox.fault("mapping", "POST", kind="status", status=503, times=1)
    until(lambda: app.drain("visit") and app.telemetry("visit-retry-success"), "the mapping is saved")
    events = {each["name"]: each["operation_Id"] for each in app.sandbox.custom_events()}
    assert events["visit-create-mapping-retry"] == events["visit-retry-success"]


def test_a_run_is_one_operation(app: App) -> None:
    """All events of a reconciliation run share one operation id, which is also in the run's log lines and calls.

    Each run has a different operation id.
    """
    app.sandbox.reset(prisoners=40, mismatches={"2": 2})
    run = app.run("reconcile", "incentives", LOG_LEVEL="INFO")
    events = app.sandbox.custom_events()
    (operation,) = {each["operation_Id"] for each in events}
    assert "incentives-reports-reconciliation-mismatch" in {each["name"] for each in events}
    logged = [json.loads(line) for line in run.err.splitlines() if line.startswith("{")]
    assert {line["operation_id"] for line in logged if "run_id" in line} == {operation}
    calls = [each for each in app.sandbox.requests() if each["service"] in {"nomis", "incentives", "mapping"}]
    assert {each["traceparent"].split("-")[1] for each in calls if each["traceparent"]} == {operation}
    assert [each["path"] for each in calls if not each["traceparent"]] == []
    app.run("reconcile", "incentives")
    (other,) = {each["operation_Id"] for each in app.sandbox.custom_events()[len(events) :]}
    assert other != operation


def test_the_shards_of_a_run_are_one_operation(app: App) -> None:
    """The shards of a run are separate processes, but all of them belong to one operation."""
    app.sandbox.reset(prisoners=40, mismatches={"2": 2})
    for shard in ("0", "1"):
        app.run("reconcile", "incentives", "--shards", "2", "--shard", shard)
    events = app.sandbox.custom_events()
    assert "incentives-reports-reconciliation-mismatch" in {each["name"] for each in events}
    assert len({each["operation_Id"] for each in events}) == 1
    calls = [each for each in app.sandbox.requests() if each["service"] in {"nomis", "incentives"}]
    assert {each["traceparent"].split("-")[1] for each in calls} == {events[0]["operation_Id"]}


def test_nothing_is_lost_in_a_storm(app: App) -> None:
    """Events that are throttled, or whose batch is refused or gets no response, are resent until they are accepted."""
    put_events(app, 1_200)
    app.sandbox.fault("application-insights", kind="rate_limited", times=1, retry_after=0)
    app.sandbox.fault("application-insights", kind="status", status=503, times=1)
    app.sandbox.fault("application-insights", kind="reset_after_write", times=1)
    app.sandbox.refuse_events("made-up", 429)
    until(lambda: app.run_ok("drain", "visit", "--json") and arrived(app) == tracked(app), "everything is accepted")


def test_a_killed_process_loses_nothing(app: App) -> None:
    """The next process resends, with the same ids, the events that a killed process was sending."""
    put_events(app, 1_200)
    app.sandbox.fault("application-insights", kind="delay", until_released=True, skip=1)
    process = app.start("drain", "visit")
    until(lambda: len(app.sandbox.custom_events()) >= 500 or None, "one batch is accepted")
    until(lambda: app.sandbox.faults()[0]["hits"], "the second batch waits for its response")
    process.kill()
    process.wait()
    app.sandbox.clear_faults()
    until(lambda: app.run_ok("drain", "visit", "--json") and arrived(app) == tracked(app), "everything is accepted")
    assert len(app.sandbox.custom_events()) <= 1_200 + 500


def test_an_event_that_cannot_be_accepted_delays_no_other(app: App) -> None:
    """An event that Application Insights refuses for good is logged once and never resent.

    All other events are sent.
    """
    put_events(app, 2)
    put_events(app, 1, "not-accepted")
    put_events(app, 2)
    app.sandbox.refuse_events("not-accepted", 400)
    refused = app.run("drain", "visit", "--json")
    assert refused.code == 0
    assert '"events": 1, "reason": "status 400"' in refused.err
    put_events(app, 1)
    again = app.run("drain", "visit", "--json")
    assert "telemetry-refused" not in again.err
    assert [event["name"] for event in app.sandbox.custom_events()] == ["made-up"] * 5


def test_a_batch_that_is_refused_as_a_whole_is_sent_in_parts(app: App) -> None:
    """If a batch is refused without a reason for each event, it is split and its halves are sent separately."""
    put_events(app, 6)
    app.sandbox.fault("application-insights", kind="status", status=413, times=2)
    app.run_ok("drain", "visit")
    assert arrived(app) == tracked(app)


def test_without_the_setting_nothing_is_sent(app: App) -> None:
    """The events of a process without a connection string are never sent, not even by a later process that has one."""
    visit_booked(app.sandbox).publish()
    del app.settings["APPLICATIONINSIGHTS_CONNECTION_STRING"]
    app.drain("visit")
    assert app.telemetry("visit-create-success")
    app.drain("visit", APPLICATIONINSIGHTS_CONNECTION_STRING=app.sandbox.connection_string())
    assert app.sandbox.custom_events() == []


@pytest.mark.parametrize("text", ["InstrumentationKey=x", "IngestionEndpoint=https://host.example/", "nonsense"])
def test_an_invalid_connection_string_is_refused(app: App, text: str) -> None:
    """The error about an invalid connection string names the setting but does not show its value.

    It says what the setting must contain.
    """
    ended = app.run("drain", "visit", APPLICATIONINSIGHTS_CONNECTION_STRING=text)
    assert ended.code == 2
    assert "APPLICATIONINSIGHTS_CONNECTION_STRING: give InstrumentationKey=<uuid>" in ended.err
    assert text not in ended.err


def test_the_error_about_an_endpoint_says_what_to_change(app: App) -> None:
    """The error about an invalid endpoint says what to change, and does not show the password in the endpoint."""
    key = "00000000-5a4d-4b0c-8a11-000000000000"
    text = f"InstrumentationKey={key};IngestionEndpoint=https://jane:secret@host.example/"
    ended = app.run("drain", "visit", APPLICATIONINSIGHTS_CONNECTION_STRING=text)
    assert ended.code == 2
    assert "its IngestionEndpoint is not valid: remove the user and password" in ended.err
    assert "secret" not in ended.err

"""The purge of dead letters, and the file to which it exports them."""

import json
from pathlib import Path

import pytest

from sandbox import Sandbox
from sync.events.envelope import write_domain_event, write_mapping_retry
from tests.harness.app import App, make_app
from tests.harness.commands import Terminal
from tests.harness.dead_letters import BOOKED, TIME, put_on_dlq


@pytest.fixture
def app(sandbox: Sandbox, tmp_path: Path, sqlite_template: Path) -> App:
    """An installation whose queues are created on first use."""
    return make_app(sandbox, tmp_path, sqlite_template)


def test_unknown_id_is_refused_before_anything_is_recorded(app: App) -> None:
    """If `dlq retry` is given an unknown id among others, it sends back no message and records nothing."""
    put_on_dlq(app, "visit-1")
    (message,) = app.read_json("dlq", "show", "visit")
    named = ("--message", message["messageId"], "--message", "no-such-id")
    assert app.run("dlq", "retry", "visit", *named).code == 2
    assert (app.messages("visit"), app.actions()) == (1, [])


def test_single_messages_among_mapping_retries_are_purged(app: App) -> None:
    """If a dead letter queue holds mapping retries, a purge of the whole queue or of a mapping retry is refused.

    Other messages can be purged by id.
    """
    put_on_dlq(app, "visit-1")
    app.queues()["visit"].dlq.send(write_mapping_retry({"nomisId": "1", "vsipId": "a"}, {}))
    ids = {each["type"]: each["messageId"] for each in app.read_json("dlq", "show", "visit")}
    (listed, *_) = app.run_ok("dlq", "list").splitlines()[1:]
    assert "RETRY_CREATE_MAPPING 1" in listed
    assert app.run("dlq", "purge", "visit", "--yes").code == 2
    retry = app.run("dlq", "purge", "visit", "--message", ids["RETRY_CREATE_MAPPING"], "--yes")
    assert (retry.code, "the list of named messages holds 1 mapping retry" in retry.error) == (2, True)
    app.run_ok("dlq", "purge", "visit", "--message", ids[BOOKED], "--yes")
    (left,) = app.read_json("dlq", "show", "visit")
    assert left["type"] == "RETRY_CREATE_MAPPING"


def test_a_purge_exports_to_the_bucket_of_the_reports(app: App, sandbox: Sandbox) -> None:
    """If the reports are in S3, a purge exports the messages to the same bucket, and says where the export is."""
    from sync.queues.aws import Aws
    from sync.settings.loading import load_settings

    s3 = Aws(load_settings(app.settings)).client("s3")
    s3.create_bucket(Bucket="reports", CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
    put_on_dlq(app, "visit-1")
    output = app.run_ok("dlq", "purge", "visit", "--yes", REPORTS_LOCATION="s3://reports/nomis")
    (kept,) = s3.list_objects_v2(Bucket="reports")["Contents"]
    assert f"s3://reports/{kept['Key']}" in output
    assert "visit-1" in s3.get_object(Bucket="reports", Key=kept["Key"])["Body"].read().decode()


def test_messages_that_cannot_be_exported_are_not_purged(app: App, tmp_path: Path) -> None:
    """If the export cannot be written, `dlq purge` fails and the messages stay on the dead letter queue."""
    put_on_dlq(app, "visit-1")
    (tmp_path / "file").write_text("in the way")
    done = app.run("dlq", "purge", "visit", "--yes", "--export", str(tmp_path / "file" / "export.json"))
    assert (done.code, "cannot be written" in done.error) == (1, True)
    assert app.messages("visit") == 1


def test_only_the_export_has_the_signature(app: App, tmp_path: Path) -> None:
    """The export of a purge contains each message whole, with its SNS signature.

    The JSON of `dlq show` leaves the signature out, since the signature says nothing about the event.
    """
    signature = {
        "Signature": "EXAMPLE",
        "SignatureVersion": "1",
        "SigningCertURL": "https://sns",
        "UnsubscribeURL": "x",
    }
    event = json.loads(write_domain_event(BOOKED, {"reference": "visit-1"}, "A1234BC", TIME))
    app.queues()["visit"].dlq.send(json.dumps({**event, **signature}))
    (shown,) = app.read_json("dlq", "show", "visit")
    assert shown["body"] == event
    export = tmp_path / "export.json"
    app.run_ok("dlq", "purge", "visit", "--yes", "--export", str(export))
    (kept,) = json.loads(export.read_text())
    assert kept["body"] == {**event, **signature}


def test_an_export_never_overwrites_a_file(app: App, tmp_path: Path) -> None:
    """If the export file already exists, it is not changed and no message is purged."""
    put_on_dlq(app, "visit-1")
    export = tmp_path / "export.json"
    export.write_text("precious")
    done = app.run("dlq", "purge", "visit", "--yes", "--export", str(export))
    assert (done.code, "already exists" in done.error) == (2, True)
    assert (export.read_text(), app.messages("visit")) == ("precious", 1)
    assert app.run("dlq", "purge", "visit", "--dry-run", "--export", str(export)).code == 2
    app.run_ok("dlq", "purge", "visit", "--yes", "--export", str(tmp_path / "new" / "export.json"))
    assert "visit-1" in (tmp_path / "new" / "export.json").read_text()


def test_an_export_never_overwrites_a_file_that_appears_meanwhile(app: App, tmp_path: Path) -> None:
    """If somebody creates the export file while a purge waits for confirmation, the purge does not overwrite the file.

    The messages stay on the dead letter queue.
    """
    put_on_dlq(app, "visit-1")
    export = tmp_path / "export.json"

    slow = Terminal("y\n", before=lambda: export.write_text("precious"))
    done = app.run("dlq", "purge", "visit", "--export", str(export), answer=slow)
    assert (done.code, "already exists" in done.error) == (2, True)
    assert (export.read_text(), app.messages("visit")) == ("precious", 1)


def test_a_purge_counts_the_messages_that_arrive_meanwhile(app: App) -> None:
    """A purge says how many messages arrived after its list was made, even if as many others have left the queue."""
    put_on_dlq(app, "visit-1", "visit-2")
    named = next(each for each in app.read_json("dlq", "show", "visit") if "visit-1" in str(each["body"]))
    dlq = app.queues()["visit"].dlq

    def exchange() -> None:
        held = dlq.receive(10, 0, 30)
        dlq.delete([each for each in held if "visit-2" in each.body])
        dlq.change_visibility([each for each in held if "visit-2" not in each.body], 0)
        put_on_dlq(app, "visit-3")

    done = app.run("dlq", "purge", "visit", "--message", named["messageId"], answer=Terminal("y\n", before=exchange))
    assert done.code == 0, done.error
    assert "1 message removed" in done.out
    assert "1 message left in the dead letter queue, having arrived after the list was made" in done.out


@pytest.mark.parametrize("named", [True, False])
def test_only_the_owner_can_read_an_export(app: App, tmp_path: Path, named: bool) -> None:
    """Only the owner of an export can read it, since it contains whole messages."""
    put_on_dlq(app, "visit-1")
    file = tmp_path / "mine.json"
    app.run_ok("dlq", "purge", "visit", "--yes", *(["--export", str(file)] if named else []))
    made = [file] if named else list(app.folder.rglob("dlq/*.json"))
    assert [each.stat().st_mode & 0o777 for each in made] == [0o600]

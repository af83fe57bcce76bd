"""Reports are stored in a folder or in an S3 bucket."""

from __future__ import annotations

import io
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.awsrequest import AWSResponse
from urllib3 import HTTPResponse

from reports.delivery.archive import (
    ArchiveUnavailable,
    Bucket,
    Folder,
    open_archive,
    report_link,
    report_path,
    store_index,
    store_report,
)
from sandbox import Sandbox
from sync.queues.aws import Aws
from sync.settings.loading import SettingsError, load_settings
from tests.harness.results import STARTED, ended_run, made_result, visit_result


@pytest.fixture
def s3(sandbox: Sandbox) -> Any:
    """A client of an emulated S3, made as the program makes its client. The emulated S3 has a bucket `reports`."""
    client = Aws(load_settings(sandbox.environment())).client("s3")
    client.create_bucket(Bucket="reports", CreateBucketConfiguration={"LocationConstraint": "eu-west-2"})
    return client


def test_a_bucket_keeps_the_files_of_a_run(s3: Any) -> None:
    """The files of a run and the index are stored under the prefix in the setting, each with its content type.

    The index links to each run that has a report under that prefix.
    """
    settings = load_settings({"REPORTS_LOCATION": "s3://reports/weekly/"})
    archive = open_archive(settings, lambda: s3)
    result = made_result(3)
    place = store_report(archive, result)
    assert place == report_path(settings, result) == "s3://reports/weekly/run-of-today/report.html"
    s3.put_object(Bucket="reports", Key="other/run-elsewhere/report.html", Body=b"")
    assert archive.report_folders() == {"run-of-today"}
    store_index(archive, [ended_run()], {}, "Production", STARTED)
    types = {
        each["Key"]: s3.head_object(Bucket="reports", Key=each["Key"])["ContentType"]
        for each in s3.list_objects_v2(Bucket="reports", Prefix="weekly/")["Contents"]
    }
    assert types == {
        "weekly/index.html": "text/html; charset=utf-8",
        "weekly/run-of-today/mismatches.csv": "text/csv; charset=utf-8",
        "weekly/run-of-today/report.html": "text/html; charset=utf-8",
        "weekly/run-of-today/result.json": "application/json",
    }
    index = s3.get_object(Bucket="reports", Key="weekly/index.html")["Body"].read().decode()
    assert "run-of-today/report.html" in index


def test_a_presigned_link_opens_the_page_if_it_is_set(s3: Any, tmp_path: Path) -> None:
    """If REPORTS_LINK_HOURS is set, anybody can open a report in a bucket by its link until the link expires.

    There is no such link if the reports are in a folder or messages are masked. If REPORTS_URL is set, the link is an
    address below it instead.
    """
    in_bucket = {"REPORTS_LOCATION": "s3://reports/weekly", "REPORTS_LINK_HOURS": "24"}
    settings, result = load_settings(in_bucket), made_result(3)
    store_report(open_archive(settings, lambda: s3), result)
    link = report_link(settings, result, lambda: s3)
    assert link is not None
    assert "X-Amz-Expires=86400" in link
    page = requests.get(link, timeout=30)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert str(result.mismatches[0].offender_no) in page.text
    others = (
        {"REPORTS_LINK_HOURS": "0"},
        {"REPORTS_LOCATION": str(tmp_path)},
        {"ALERTS_MASK_PRISONERS": "true"},
    )
    for changes in others:
        assert report_link(load_settings({**in_bucket, **changes}), result, lambda: s3) is None
    reached = load_settings({**in_bucket, "REPORTS_URL": "https://reports.example/weekly/"})
    address = "https://reports.example/weekly/run-of-today/report.html"
    assert report_link(reached, result, lambda: s3) == report_path(reached, result) == address


@pytest.mark.parametrize("kept_in", ["folder", "bucket"])
def test_other_reconciliations_have_separate_folders(s3: Any, tmp_path: Path, kept_in: str) -> None:
    """The reports on visits and on incentives are stored in separate folders, even if two runs have the same id.

    The index links to both reports, and the report on visits links back to the index.
    """
    location = str(tmp_path) if kept_in == "folder" else "s3://reports/daily"
    settings = load_settings({"REPORTS_LOCATION": location})
    archive = open_archive(settings, lambda: s3)
    levels, visits = made_result(3, run_id="run-1"), visit_result(3, run_id="run-1")
    places = [store_report(archive, result) for result in (levels, visits)]
    assert places == [report_path(settings, result) for result in (levels, visits)]
    assert places == [f"{location}/run-1/report.html", f"{location}/official-visits/run-1/report.html"]
    assert archive.report_folders() == {"run-1", "official-visits/run-1"}
    lost = ended_run("lost", reconciliation="official-visits", title="Official visits", counted="visits")
    store_index(archive, [replace(lost, run_id="run-1"), ended_run("run-1"), lost], {}, "Production", STARTED)
    if kept_in == "folder":
        index, report = ((tmp_path / name).read_text() for name in ("index.html", "official-visits/run-1/report.html"))
    else:
        keys = ("daily/index.html", "daily/official-visits/run-1/report.html")
        index, report = (s3.get_object(Bucket="reports", Key=key)["Body"].read().decode() for key in keys)
    links = set(re.findall(r'href="([^"#]+)"', index))
    files = {"report.html", "mismatches.csv", "result.json"}
    assert links == {f"{place}/{name}" for place in ("run-1", "official-visits/run-1") for name in files}
    assert 'href="../../index.html"' in report


@pytest.mark.parametrize("name", ["..", "a/b", ""])
def test_a_reconciliation_name_that_is_a_path_is_refused(tmp_path: Path, name: str) -> None:
    """A report is not stored if the name of its reconciliation is not a plain folder name."""
    with pytest.raises(ValueError, match="folder"):
        store_report(Folder(tmp_path), visit_result(0, reconciliation=name))
    assert list(tmp_path.iterdir()) == []


def test_all_runs_in_a_large_bucket_are_found(s3: Any) -> None:
    """All reports in a bucket are found, although S3 lists only a limited number of objects at a time."""
    for number in range(5):
        s3.put_object(Bucket="reports", Key=f"run-{number}/report.html", Body=b"")
    assert len(Bucket(s3, "reports", "", listed_at_once=2).report_folders()) == 5


def test_errors_of_a_bucket_are_outages_or_wrong_settings(s3: Any) -> None:
    """If a bucket is missing when it is checked, the setting counts as wrong.

    If it is missing at a later write or listing, the error counts as an outage.
    """
    missing = Bucket(s3, "missing", "")
    with pytest.raises(SettingsError, match=r"REPORTS_LOCATION: s3://missing/ cannot be used: NoSuchBucket"):
        missing.probe()
    Bucket(s3, "reports", "weekly").probe()
    for act in (lambda: missing.write("index.html", ""), missing.report_folders):
        with pytest.raises(ArchiveUnavailable, match="NoSuchBucket"):
            act()


def refusing(client: Any, operation: str, code: str, status: int = 403) -> Any:
    """Makes each call of `operation` by `client` end as if the server had refused it, and returns `client`."""
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()

    def refuse(request: Any, **_: object) -> AWSResponse:
        raw = HTTPResponse(io.BytesIO(body), preload_content=False)
        return AWSResponse(request.url, status, {"Content-Type": "application/xml"}, raw)

    client.meta.events.register(f"before-send.s3.{operation}", refuse)
    return client


@pytest.mark.parametrize(
    ("operation", "code", "status"),
    [("PutObject", "AccessDenied", 403), ("PutObject", "Forbidden", 403), ("ListObjectsV2", "MethodNotAllowed", 405)],
)
def test_a_bucket_without_write_permission_is_a_wrong_setting(s3: Any, operation: str, code: str, status: int) -> None:
    """If S3 refuses a write or a listing when a bucket is checked, the setting counts as wrong."""
    with pytest.raises(SettingsError, match=rf"s3://reports/weekly/ cannot be used: {code} \({operation}\)"):
        Bucket(refusing(s3, operation, code, status), "reports", "weekly").probe()


def test_the_check_of_a_bucket_leaves_nothing_behind(s3: Any) -> None:
    """The check of a bucket deletes the test object that it wrote.

    If the deletion is refused, the check says so but raises no error, and the object does not count as a report.
    """
    assert Bucket(s3, "reports", "weekly").probe() is None
    assert "Contents" not in s3.list_objects_v2(Bucket="reports")
    left = Bucket(refusing(s3, "DeleteObject", "AccessDenied"), "reports", "weekly").probe()
    assert left == "s3://reports/weekly/.probe could not be deleted: AccessDenied (DeleteObject)"
    assert Bucket(s3, "reports", "weekly").report_folders() == set()


def test_a_failed_write_leaves_no_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a write to a folder fails, the old file stays intact and no temporary file is left."""
    folder = Folder(tmp_path)
    folder.write("run/report.html", "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArchiveUnavailable, match="No space left"):
        folder.write("run/report.html", "new")
    assert [(path.name, path.read_text()) for path in (tmp_path / "run").iterdir()] == [("report.html", "old")]


def test_an_unavailable_bucket_is_not_a_wrong_setting() -> None:
    """If S3 does not respond when a bucket is checked, the bucket counts as unavailable, and no setting is blamed."""
    settings = load_settings({"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:1"})
    with pytest.raises(ArchiveUnavailable, match="EndpointConnectionError"):
        Bucket(Aws(settings).client("s3"), "reports", "").probe()


def test_the_check_of_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    """The check of a folder removes the folders that it created, and keeps what already existed."""
    Folder(tmp_path / "some" / "where").probe()
    assert list(tmp_path.iterdir()) == []
    Folder(tmp_path).write("run/report.html", "kept")
    Folder(tmp_path / "run").probe()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.html"]


def test_a_folder_that_cannot_be_created_is_a_wrong_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the folder itself cannot be used, the error names the setting.

    A temporary error, such as a full disk, does not.
    """
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        SettingsError, match=r"REPORTS_LOCATION: the folder .*/file/reports cannot be created or written to"
    ):
        Folder(tmp_path / "file" / "reports").probe()

    def full(*_arguments: object, **_named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    with pytest.raises(ArchiveUnavailable, match="No space left"):
        Folder(tmp_path / "reports").probe()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("run_id", ["../../etc", "a/b", "", ".hidden"])
def test_a_run_id_that_is_a_path_is_refused(tmp_path: Path, run_id: str) -> None:
    """A report is not stored if the id of its run is not a plain folder name."""
    with pytest.raises(ValueError, match="folder"):
        store_report(Folder(tmp_path), made_result(0, run_id=run_id))
    assert list(tmp_path.iterdir()) == []


def test_messages_give_the_address_of_the_reports(tmp_path: Path) -> None:
    """Messages give the address of a report below REPORTS_URL or, if that is not set, its place in the archive."""
    result = made_result(0, run_id="run-1")
    reached = load_settings({"REPORTS_URL": "https://reports.example/weekly/"})
    assert report_path(reached, result) == "https://reports.example/weekly/run-1/report.html"
    kept = load_settings({"REPORTS_LOCATION": str(tmp_path)})
    assert report_path(kept, result) == str(tmp_path / "run-1" / "report.html")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640)])
def test_reports_have_the_permissions_of_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    """The umask decides who can read a report. Only the owner can read a private file, whatever the umask is."""
    before = os.umask(umask)
    try:
        Folder(tmp_path).write("run/report.html", "read by many")
        Folder(tmp_path).write("run/export.json", "private", private=True)
    finally:
        os.umask(before)
    assert [(tmp_path / "run" / name).stat().st_mode & 0o777 for name in ("report.html", "export.json")] == [
        mode,
        0o600,
    ]

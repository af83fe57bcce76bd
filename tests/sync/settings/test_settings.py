"""A setting that cannot work is refused before any work begins, in one line that names it and shows no secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import BAD_USAGE, exit_code_for
from sync.queues.aws import Aws
from sync.settings.declaration import variables
from sync.settings.loading import SettingsError, load_settings
from sync.store.database import Database


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("API_BASE_URL_NOMIS", "http://nomis:many", "the port is not a number"),
        ("API_BASE_URL_NOMIS", "http://nomis:0", "the port is not a number"),
        ("API_BASE_URL_NOMIS", "http://nomis:99999", "the port is not a number"),
        ("API_BASE_URL_OAUTH", "http://hmpps auth/auth", "contains a space or a line break"),
        ("API_BASE_URL_MAPPING", "http://mapping:8084\n", "contains a space or a line break"),
        ("API_BASE_URL_MAPPING", "mapping:8084", "give an address such as"),
        ("SLACK_API_URL", "https://slack:x/api/", "the port is not a number"),
        ("HMPPS_SQS_LOCALSTACK_URL", "http://localhost:queue", "the port is not a number"),
        ("HMPPS_SQS_REGION", "nonsense", "give an AWS region such as eu-west-2"),
        ("HMPPS_SQS_REGION", "eu west 2", "give an AWS region"),
        ("HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT", "1,43201", "at most 43200 seconds"),
        ("HMPPS_SQS_QUEUES_VISIT_ERROR_VISIBILITY_TIMEOUT", "50000", "at most 43200 seconds"),
        ("HMPPS_SQS_VISIBILITY_TIMEOUT_SECONDS", "43201", "give a number up to 43200"),
        ("DRAIN_INTERVAL_SECONDS", "inf", "finite number"),
        ("LEASE_SECONDS", "nan", "finite number"),
        ("RECONCILIATION_RECHECK_SECONDS", "inf", "finite number"),
        ("RECONCILIATION_NEAR_HOURS", "nan", "finite number"),
        ("API_CA_BUNDLE", "/nowhere/ca.pem", "the file cannot be read: No such file"),
        ("API_CA_BUNDLE", __file__, "does not contain certificates in PEM form"),
        (
            "REPORTS_LOCATION",
            "ftp://host/folder",
            "reports cannot be written to ftp:/…; give a folder, or s3://bucket/prefix",
        ),
        ("REPORTS_LOCATION", "http://[x", "reports cannot be written to http:/"),
        ("REPORTS_LOCATION", "s3:/bucket/prefix", "reports cannot be written to s3:/"),
        ("REPORTS_LOCATION", "s3://", "the bucket is missing or not valid"),
        ("REPORTS_LOCATION", "s3:///prefix", "the bucket is missing or not valid"),
        ("REPORTS_LOCATION", "s3://user@bucket/prefix", "the bucket is missing or not valid"),
        ("TZ", "Europe", "give a time zone such as Europe/London"),
        ("TZ", "../etc/passwd", "give a time zone such as Europe/London"),
        ("API_TIMEOUT_SECONDS", "1e300", "give a number up to 31622400"),
        ("DRAIN_GRACE_SECONDS", "0", "give a number above 0"),
        ("DRAIN_GRACE_SECONDS", "soon", "give a number"),
        ("RECONCILIATION_NEAR_HOURS", "1e300", "give a number up to 8784"),
        ("DRAIN_CONCURRENCY", "9" * 5000, "give a smaller whole number"),
        ("DRAIN_CONCURRENCY", "2.5", "give a whole number"),
        ("DRAIN_CONCURRENCY", "0", "give a number of at least 1"),
        ("LOG_LEVEL", "LOUD", "give 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("DATABASE_AUTO_UPGRADE", "maybe", "set it to true or false"),
        ("FEATURE_EVENT_PRISON_VISIT_BOOKED", "maybe", "set it to true or false"),
        ("API_BASE_URL_NOMIS", "http://[::1", "give an address such as"),
        ("API_BASE_URL_NOMIS", "https://user:hush@nomis.example", "remove the user and password"),
        ("API_BASE_URL_NOMIS", "https://user:hu@sh@nomis.example", "remove the user and password"),
        ("API_BASE_URL_NOMIS", "https://nomis.example?token=hush", "remove the ? or # and everything after it"),
        ("HMPPS_SQS_LOCALSTACK_URL", "http://key:hush@localhost:4566", "remove the user and password"),
        ("SLACK_API_URL", "https://user:hush@slack.example/api/", "remove the user and password"),
        ("REPORTS_URL", "https://user:hush@reports.example", "remove the user and password"),
        ("REPORTS_URL", "reports.example", "give an address such as"),
        ("DATABASE_URL", "postgresql://user:hu@sh@host/name", "percent-encode the password"),
        ("DATABASE_URL", "postgresql://user:hush@x/y@host/name", "percent-encode the password"),
        ("DATABASE_URL", "postgresql://user:a@b:hush@host/name", "percent-encode the password"),
        ("DATABASE_URL", "postgresql://user:hush@host:many/name", "the port is not a number"),
        ("DATABASE_URL", "mysql://user:hush@host/name", "only sqlite and postgresql are supported"),
        ("DATABASE_URL", "hush", "give an address such as"),
        ("DATABASE_URL", "sqlite://user:hush@host/file.db", "a third slash"),
        ("DATABASE_URL", "sqlite://file.db", "a third slash"),
        ("DATABASE_URL", "postgresql://host/name;password=hush", "give parameters after ?"),
        ("DATABASE_URL", "postgresql://host/name#password=hush", "give parameters after ?"),
        ("DATABASE_URL", "postgresql://host/name password=hush", "give parameters after ?"),
        ("DATABASE_URL", "postgresql:///name?host=host:hush@x", "percent-encode the password"),
        ("API_BASE_URL_NOMIS", "http://nomis..example", "not a valid host name"),
        ("API_BASE_URL_NOMIS", "http://nomis;x", "not a valid host name"),
        ("API_BASE_URL_NOMIS", f"http://{'n' * 64}.example", "not a valid host name"),
        ("SLACK_API_URL", "https://slack\x01.example/api/", "not a valid host name"),
        ("REPORTS_EMAIL_TO", "jane.smith", "give an address such as jane.smith@host.example"),
        ("REPORTS_EMAIL_TO", "jane@host.example,jo at host", "give an address such as"),
        ("REPORTS_EMAIL_TO", "jane@host.example\r\nBcc: jo@host.example", "give an address such as"),
        ("REPORTS_EMAIL_FROM", "Reports\n<jane@host.example>", "give an address such as"),
        ("SMTP_URL", "smtp://user:hu@sh@mail.example", "percent-encode the password"),
        ("SMTP_URL", "smtp://user:x/hush@mail.example", "percent-encode the password"),
        ("SMTP_URL", "smtp://user:hush@[mail", "it is not an address"),
        ("SMTP_URL", "foo", "give smtp://user:password@host:port"),
        ("SMTP_URL", "smtp://", "give smtp://user:password@host:port"),
        ("SMTP_URL", "http://user:hush@mail", "give smtp://user:password@host:port"),
        ("SMTP_URL", "smtp://user:hush@mail:many", "the port is not a number"),
        ("SMTP_URL", "smtp://user:hu sh@mail", "contains a space or a line break"),
    ],
)
def test_settings_that_cannot_work_are_refused(name: str, value: str, says: str) -> None:
    """A value that cannot work is refused when the settings are read.

    The error is one short line that names the setting, says what is wrong or what to give instead, and shows no secret.
    """
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert str(caught.value).startswith(f"{name}: ")
    assert says in str(caught.value)
    assert "hush" not in str(caught.value)
    assert "Input should" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_all_wrong_settings_are_reported_at_once() -> None:
    """If several settings are wrong, the error has one line for each of them.

    A command then exits with the code for bad usage, and shows the same lines.
    """
    wrong = {
        "TZ": "Europe",
        "API_TIMEOUT_SECONDS": "inf",
        "DATABASE_URL": "postgresql://user:hu@sh@host/name",
        "FEATURE_EVENT_PRISON_VISIT_BOOKED": "maybe",
        "HMPPS_SQS_QUEUES_VISIT_ERROR_VISIBILITY_TIMEOUT": "x",
        "SMTP_URL": "mail",
    }
    with pytest.raises(SettingsError) as caught:
        load_settings(wrong)
    lines = str(caught.value).splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == sorted(wrong)
    code, message = exit_code_for(caught.value)
    assert (code, message.splitlines()) == (BAD_USAGE, lines)


def error_of(name: str, value: str) -> str | None:
    """The text of the error about `value`, or None if the value is accepted."""
    try:
        load_settings({name: value})
    except SettingsError as error:
        return str(error)
    return None


@given(
    st.sampled_from(sorted(variable.name for variable in variables())),
    st.text(st.characters(exclude_characters="\x00"), max_size=60),
)
def test_any_value_is_accepted_or_refused_on_one_line(name: str, value: str) -> None:
    """Any value of a setting is accepted, or is refused with a `SettingsError`.

    The error is one line that begins with the name of the setting and does not quote the validator's message.
    """
    line = error_of(name, value) or f"{name}: accepted"
    assert line.startswith(f"{name}: ")
    assert len(line.splitlines()) == 1
    assert "Input should" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_BASE_URL_NOMIS", "https://nomis.example"),
        ("API_BASE_URL_NOMIS", "http://[::1]:8082"),
        ("API_BASE_URL_NOMIS", "http://nomis_api.ns.svc.cluster.local.:8082/x"),
        ("DATABASE_URL", "sqlite:////tmp/a=b;c.db"),
        ("DATABASE_URL", "postgresql:///name?host=@socket"),
        ("REPORTS_EMAIL_TO", "Jane Smith <jane.smith@host.example>, root@localhost"),
        ("HMPPS_SQS_REGION", "us-gov-west-1"),
        ("HMPPS_SQS_REGION", "ap-southeast-2"),
        ("HMPPS_SQS_ERROR_VISIBILITY_TIMEOUT", "43200"),
        ("REPORTS_LOCATION", "s3://bucket"),
        ("REPORTS_LOCATION", "s3://bucket.of-ours/a/b/"),
        ("REPORTS_LOCATION", "/srv/reports: weekly"),
        ("SMTP_URL", "smtps://user:p%40ss@mail.example"),
        ("RECONCILIATION_RECHECK_SECONDS", "0"),
        ("DATABASE_URL", "postgresql://user%40server:p%40ss@host:6432/name?sslmode=require"),
        ("DATABASE_URL", "postgresql:///name?host=/run/postgresql"),
        ("DATABASE_URL", "sqlite:////srv/a@b/store.db"),
        ("REPORTS_URL", "https://reports.example/weekly"),
    ],
)
def test_settings_that_can_work_are_accepted(name: str, value: str) -> None:
    """A value that can work is accepted, even if it is unusual."""
    load_settings({name: value})


@pytest.mark.parametrize("port", ["many", "99999", "0"])
def test_a_database_without_a_valid_port_is_refused(port: str) -> None:
    """A database address with an invalid port raises `SettingsError`, which does not show the password."""
    with pytest.raises(SettingsError, match=r"^DATABASE_URL: .*port") as caught:
        Database(f"postgresql://user:hush@host:{port}/name")
    assert "hush" not in str(caught.value)


def test_a_local_endpoint_needs_no_profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a local endpoint, a missing AWS profile or a malformed AWS configuration file does no harm.

    With AWS itself, either raises a `SettingsError` that names `AWS_PROFILE` or `AWS_CONFIG_FILE`.
    """
    monkeypatch.setenv("AWS_PROFILE", "nope")
    own = load_settings({"HMPPS_SQS_PROVIDER": "localstack"})
    assert Aws(own).client("sqs").meta.endpoint_url == "http://localhost:4566"
    with pytest.raises(SettingsError, match=r"^AWS_PROFILE: 'nope' is not in the AWS configuration"):
        Aws(load_settings({})).client("sqs")
    config = tmp_path / "config"
    config.write_text("neither key nor value")
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    Aws(own).check_settings()
    with pytest.raises(SettingsError, match=r"^AWS_CONFIG_FILE: "):
        Aws(load_settings({})).check_settings()

"""The AWS clients use the configured servers and keys, and the proxies that the environment sets."""

from typing import Any, Literal

import pytest
from botocore.exceptions import ClientError, ProxyConnectionError
from botocore.retries.standard import ExponentialBackoff

from sync.queues.aws import Aws
from sync.settings.loading import SettingsError, load_settings
from tests.harness.scripted_host import host

LOCALSTACK = {"HMPPS_SQS_PROVIDER": "localstack", "HMPPS_SQS_LOCALSTACK_URL": "http://127.0.0.1:4566"}
KEYS = {"AWS_ACCESS_KEY_ID": "minio-user", "AWS_SECRET_ACCESS_KEY": "minio-secret"}


class Sent(Exception):
    """Raised to prevent a request from being sent. The argument is the request."""


def sent(service: Literal["sqs", "sns", "s3"], *keys: str, **environment: str) -> Any:
    """The complete, signed request of a client's first call. It is not sent."""
    client = Aws(load_settings(environment)).client(service, *keys)

    def keep(request: Any, **_: object) -> None:
        raise Sent(request)

    client.meta.events.register("before-send", keep)
    method, options = {
        "s3": ("put_object", {"Bucket": "reports", "Key": "a", "Body": b"a"}),
        "sns": ("list_topics", {}),
        "sqs": ("list_queues", {}),
    }[service]
    with pytest.raises(Sent) as caught:
        getattr(client, method)(**options)
    return caught.value.args[0]


def header(request: Any, name: str) -> str:
    """A header of a request as text, or an empty string if the request lacks it."""
    value = request.headers.get(name, "")
    return value.decode() if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("service", ["sqs", "sns", "s3"])
def test_a_local_endpoint_gets_the_configured_keys(service: Literal["sqs", "sns", "s3"]) -> None:
    """A local endpoint gets the configured keys, or placeholders if none are configured.

    LocalStack accepts any keys.
    """
    assert "Credential=minio-user/" in header(sent(service, **LOCALSTACK, **KEYS), "Authorization")
    assert "Credential=localstack/" in header(sent(service, **LOCALSTACK), "Authorization")
    with_token = sent(service, **LOCALSTACK, **KEYS, AWS_SESSION_TOKEN="of-a-session")
    assert header(with_token, "X-Amz-Security-Token") == "of-a-session"


def test_the_keys_of_a_queue_take_precedence() -> None:
    """A queue with its own keys uses them instead of the general keys."""
    request = sent("sqs", "of-queue", "secret", **LOCALSTACK, **KEYS, AWS_SESSION_TOKEN="of-a-session")
    assert "Credential=of-queue/" in header(request, "Authorization")
    assert header(request, "X-Amz-Security-Token") == ""


@pytest.mark.parametrize("given", list(KEYS))
def test_a_key_without_its_secret_is_a_wrong_setting(given: str) -> None:
    """A key without its secret, and a secret without its key, are refused before any call."""
    aws = Aws(load_settings({**LOCALSTACK, given: KEYS[given]}))
    (missing,) = KEYS.keys() - {given}
    with pytest.raises(SettingsError, match=f"{missing}: it is not set"):
        aws.check_settings()
    with pytest.raises(SettingsError, match=f"{missing}: it is not set"):
        aws.client("s3")


@pytest.mark.parametrize("provider", ["aws", "localstack"])
def test_reports_may_have_a_separate_server(provider: str) -> None:
    """If S3 has a separate server, reports are sent to it, with path-style URLs and without checksums.

    The queues stay where they are.
    """
    environment = {**LOCALSTACK, "HMPPS_SQS_PROVIDER": provider, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000"}
    keys = ("key", "secret") if provider == "aws" else ()
    request = sent("s3", *keys, **environment)
    assert request.url == "http://127.0.0.1:9000/reports/a"
    assert not [name for name in request.headers if "checksum" in name.lower()]
    queues = sent("sqs", *keys, **environment)
    assert queues.url.startswith("http://127.0.0.1:4566" if provider == "localstack" else "https://sqs.eu-west-2.")


@pytest.mark.parametrize(("service", "call"), [("sqs", "list_queues"), ("sns", "list_topics"), ("s3", "list_buckets")])
def test_only_aws_is_called_through_the_proxies(
    monkeypatch: pytest.MonkeyPatch, service: Literal["sqs", "sns", "s3"], call: str
) -> None:
    """AWS is called through the proxy that the environment sets. A local endpoint is called directly."""
    refusal = [b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nConnection: close\r\n\r\n<a/>"]
    # The client of AWS would wait for seconds between its attempts.
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda *_: 0)
    with host(refusal, refusal, refusal) as (proxy, _), host(refusal) as (local, _):
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        environment = LOCALSTACK | {"HMPPS_SQS_LOCALSTACK_URL": f"http://127.0.0.1:{local.port}"}
        with pytest.raises(ClientError):
            getattr(Aws(load_settings(environment)).client(service), call)()
        assert (len(local.requests), proxy.requests) == (1, [])
        with pytest.raises(ProxyConnectionError):
            getattr(Aws(load_settings({})).client(service, "key", "secret"), call)()
        (first, *_) = proxy.requests
        assert first.startswith(f"CONNECT {service}.eu-west-2.amazonaws.com:443 ".encode())
        assert len(local.requests) == 1

"""Creates the program's AWS clients, and advises on a queue that cannot be reached."""

import threading
from typing import Any, Literal

from sync.queues.queue import QueueUnavailable
from sync.settings.declaration import Settings
from sync.settings.loading import SettingsError

_CONNECTIONS = 50
_CONNECT_SECONDS = 5
#: How long a response may take, in seconds: longer than the longest poll that SQS allows, which takes twenty seconds.
_READ_SECONDS = 30
#: Options that botocore must not read for a local endpoint, so none of them has a source.
_NO_PROFILE = dict.fromkeys(("profile", "config_file", "credentials_file"), (None, None, None, None))
#: Error codes of AWS and of its client that mean that the process has no keys.
_NO_KEYS = frozenset({"MissingAuthenticationToken", "NoCredentialsError", "PartialCredentialsError"})
#: Error codes of AWS that mean that the keys are wrong.
_WRONG_KEYS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
        "UnauthorizedSSOTokenError",
        "UnrecognizedClientException",
    }
)


class Aws:
    """The AWS clients, which share one session. There is one client for each combination of service and keys."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str | None], Any] = {}

    def client(
        self,
        service: Literal["sqs", "sns", "s3", "cloudwatch"],
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
    ) -> Any:
        """A client for `service` with the given keys or, without them, with keys from the AWS credential chain.

        With the provider `localstack`, the keys in the settings replace that chain. Raises `SettingsError` if the AWS
        configuration cannot be used, if `AWS_PROFILE` names an unknown profile, or if the settings have only one of the
        two keys for a local endpoint.
        """
        with self._lock:
            found = self._clients.get((service, access_key_id))
            if found is None:
                found = self._make(service, access_key_id, secret_access_key)
                self._clients[service, access_key_id] = found
            return found

    def check_settings(self) -> None:
        """Raises `SettingsError` if the settings for AWS cannot be used.

        That is the case if the AWS configuration is wrong, if `AWS_PROFILE` names an unknown profile, or if only one
        of the two keys for a local endpoint is set.
        """
        if self._is_local:
            self._local_keys()
        with self._lock:
            self._get_session()

    def _make(self, service: str, access_key_id: str | None, secret_access_key: str | None) -> Any:
        from botocore.config import Config

        settings = self._settings
        options: dict[str, Any] = {"region_name": settings.hmpps_sqs_region}
        more: dict[str, Any] = {}
        endpoint = settings.hmpps_sqs_localstack_url if self._is_local else None
        if service == "s3":
            endpoint = settings.aws_endpoint_url_s3 or endpoint
        if self._is_local:
            # `{}` bypasses the proxies that the environment variables set, since these cannot reach this machine.
            more["proxies"] = {}
            if access_key_id is None:
                options |= self._local_keys()
        if endpoint is not None:
            options["endpoint_url"] = endpoint
            if service == "s3":
                # Servers other than AWS support neither buckets as host names nor the newer checksums.
                more |= {"s3": {"addressing_style": "path"}, "request_checksum_calculation": "when_required"}
                more["response_checksum_validation"] = "when_required"
        if access_key_id is not None:
            options |= {"aws_access_key_id": access_key_id, "aws_secret_access_key": secret_access_key}
        config = Config(
            # Fixed: boto3 would assemble a user agent for each call, which takes a twentieth of a drain's time.
            user_agent="prisoner-to-nomis",
            max_pool_connections=_CONNECTIONS,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3},
            **more,
        )
        return self._get_session().client(service, config=config, **options)

    def _local_keys(self) -> dict[str, str | None]:
        """The keys in the settings, or made-up keys if none are set: LocalStack accepts any, but the client needs some.

        Raises `SettingsError` if only one of the two keys is set.
        """
        settings = self._settings
        key, secret, token = settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token
        if key is None and secret is None:
            return {"aws_access_key_id": "localstack", "aws_secret_access_key": "localstack"}
        if key is None or secret is None:
            missing = "AWS_ACCESS_KEY_ID" if key is None else "AWS_SECRET_ACCESS_KEY"
            raise SettingsError(f"{missing}: it is not set, but the other key is; set both, or neither")
        return {
            "aws_access_key_id": key,
            "aws_secret_access_key": secret.get_secret_value(),
            "aws_session_token": None if token is None else token.get_secret_value(),
        }

    @property
    def _is_local(self) -> bool:
        return self._settings.hmpps_sqs_provider == "localstack"

    def _get_session(self) -> Any:
        import boto3
        import botocore.session
        from botocore.exceptions import BotoCoreError, ProfileNotFound

        if self._session is None:
            core = botocore.session.Session(session_vars=_NO_PROFILE if self._is_local else None)
            try:
                self._session = boto3.session.Session(botocore_session=core)
            except ProfileNotFound as error:
                name = error.kwargs["profile"]
                raise SettingsError(
                    f"AWS_PROFILE: {name!r} is not in the AWS configuration; give another profile, or unset it"
                ) from error
            except BotoCoreError as error:
                raise SettingsError(f"AWS_CONFIG_FILE: the AWS configuration cannot be used: {error}") from error
        return self._session


def queue_hint(settings: Settings, queue: str, error: QueueUnavailable) -> str:
    """A line that says where the program tried to reach a queue, and which settings may fix the problem.

    queue: the id of the queue, or `<QUEUE>` for any queue.
    """
    prefix = f"HMPPS_SQS_QUEUES_{queue.upper()}_"
    if error.is_missing:
        place = _place(settings)
        return f"{place} has no such queue; set {prefix}QUEUE_NAME and {prefix}DLQ_NAME, or create the queue"
    local = settings.hmpps_sqs_provider == "localstack"
    if local and not error.responded:
        return f"{_place(settings)} does not respond; set HMPPS_SQS_LOCALSTACK_URL, or start that endpoint"
    if error.code in _NO_KEYS | _WRONG_KEYS:
        keys = ", ".join(
            f"{prefix}{part}_{key}" for part in ("QUEUE", "DLQ") for key in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
        )
        remedy = f"set {keys}, or give the process a web identity"
        if error.code in _WRONG_KEYS:
            return f"AWS in {_place(settings)} rejected the keys; {remedy}"
        return (
            f"the process has no keys for AWS in {_place(settings)}; {remedy}; for a local endpoint, set "
            "HMPPS_SQS_PROVIDER=localstack"
        )
    if error.responded:
        place = _place(settings) if local else f"AWS in {_place(settings)}"
        return f"{place} refused the call; check {prefix}QUEUE_NAME and {prefix}DLQ_NAME, or try again later"
    return (
        f"AWS in {_place(settings)} did not respond; check HMPPS_SQS_REGION and the network, or set HMPPS_SQS_PROVIDER"
    )


def _place(settings: Settings) -> str:
    own = settings.hmpps_sqs_provider == "localstack"
    return settings.hmpps_sqs_localstack_url if own else settings.hmpps_sqs_region

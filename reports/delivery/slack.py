"""Slack: messages, threads and files, each exactly once, through rate limits, outages and crashes.

What is about to be posted is noted before, and what was posted after. A post whose outcome is unknown is searched for
in the channel, by a key in its metadata, before it is posted again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.delivery.channels import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from reports.delivery.channels import Note
    from reports.presentation.messages import SlackReport

TIMEOUT_SECONDS = 30
#: The word by which our messages are known among all messages that carry metadata.
METADATA_TYPE = "prisoner_to_nomis_delivery"
LONGEST_WAIT_SECONDS = 3_600.0
_PAGE = 200
_MOST_PAGES = 5
_UNAVAILABLE_SECONDS = 30.0
_REFUSED = "slack refused: "
_REFUSED_SECONDS = 600.0
#: Refusals of a Slack, such as one for tests, that cannot be asked about tokens.
_CANNOT_BE_ASKED = frozenset({"unknown_method", "status 404", "status 405"})


class Slack:
    """One workspace, by a bot's token. Calls never wait for a rate limit: they raise when to try again."""

    def __init__(self, token: str, channel: str, base_url: str | None = None) -> None:
        from slack_sdk import WebClient

        options: dict[str, Any] = {"base_url": _with_slash(base_url)} if base_url else {}
        # Its own retries would post a second time after a lost response.
        self._client = WebClient(token=token, timeout=TIMEOUT_SECONDS, retry_handlers=[], **options)
        self._channel = channel

    def knows_token(self) -> bool:
        """True when Slack knows the token, False when it cannot be asked. Raises `TryLater`, as for a message."""
        try:
            self._client.auth_test()
        except Exception as error:
            later, _applied = _explained(error)
            if later is None:
                raise
            if str(later).removeprefix(_REFUSED) in _CANNOT_BE_ASKED:
                return False
            raise later from error
        return True

    def post_alert(self, key: str, text: str, progress: Mapping[str, Any], note: Note) -> None:
        """Posts one message. Raises `TryLater`."""
        _Steps(self._client, self._channel, key, progress, note).post("message", text, None)

    def post_report(self, key: str, report: SlackReport, progress: Mapping[str, Any], note: Note) -> None:
        """Posts a summary, the thread below it, and the CSV in the thread; continues from `progress`."""
        steps = _Steps(self._client, self._channel, key, progress, note)
        thread = steps.post("summary", report.summary, None)
        for number, text in enumerate(report.thread, start=1):
            steps.post(f"thread {number}", text, thread)
        if report.csv is not None:
            steps.upload("csv", report.csv, report.csv_name, thread)


class _Steps:
    """One delivery. Progress: the channel's id, the time stamp of each finished step, and the step under way."""

    def __init__(self, client: Any, channel: str, key: str, progress: Mapping[str, Any], note: Note) -> None:
        self._client = client
        self._key = key
        self._note = note
        self._done: dict[str, str] = dict(progress.get("done", {}))
        self._trying: str | None = progress.get("trying")
        self._channel_id: str | None = progress.get("channel")
        self._channel = self._channel_id or channel

    def post(self, step: str, text: str, thread: str | None) -> str:
        """Posts a message unless it was posted before; its time stamp."""
        metadata = {"event_type": METADATA_TYPE, "event_payload": {"key": self._key, "step": step}}

        def send() -> str:
            response = self._client.chat_postMessage(
                channel=self._channel,
                text=text,
                thread_ts=thread,
                metadata=metadata,
                unfurl_links=False,
                unfurl_media=False,
            )
            self._channel_id = self._channel = str(response.get("channel") or self._channel)
            return str(response["ts"])

        def is_ours(message: Mapping[str, Any]) -> bool:
            found = message.get("metadata") or {}
            payload = found.get("event_payload") or {}
            return found.get("event_type") == METADATA_TYPE and payload == metadata["event_payload"]

        return self._once(step, send, is_ours, thread)

    def upload(self, step: str, content: str, name: str, thread: str) -> None:
        """Uploads a file into a thread unless one of its unique name is there."""

        def send() -> str:
            response = self._client.files_upload_v2(
                channel=self._channel, thread_ts=thread, content=content, filename=name, title=name
            )
            files = response.get("files") or [{}]
            return str(files[0].get("id", name))

        def is_ours(message: Mapping[str, Any]) -> bool:
            return any(name in (each.get("name"), each.get("title")) for each in message.get("files") or ())

        self._once(step, send, is_ours, thread)

    def _once(
        self, step: str, send: Callable[[], str], is_ours: Callable[[Mapping[str, Any]], bool], thread: str | None
    ) -> str:
        if step in self._done:
            return self._done[step]
        if self._trying == step:
            found = self._find_posted(is_ours, thread)
            if found is not None:
                return self._finished(step, found)
        self._trying = step
        self._save()
        try:
            return self._finished(step, send())
        except Exception as error:
            later, applied = _explained(error)
            if later is None:
                raise
            if not applied:
                self._trying = None
                self._save()
            raise later from error

    def _find_posted(self, is_ours: Callable[[Mapping[str, Any]], bool], thread: str | None) -> str | None:
        """The time stamp of our message; None if it is not there, or Slack does not let us search."""
        channel = self._resolve_channel()
        if channel is None:
            return None
        options = {"channel": channel, "limit": _PAGE, "include_all_metadata": True}
        if thread is None:
            pages = self._pages(self._client.conversations_history, **options)
        else:
            pages = self._pages(self._client.conversations_replies, ts=thread, **options)
        messages = (message for response in pages for message in response.get("messages") or ())
        return next((str(message["ts"]) for message in messages if is_ours(message)), None)

    def _resolve_channel(self) -> str | None:
        """The id of the channel, which reading its messages requires; None if Slack does not give it."""
        if not self._channel.startswith("#"):
            return self._channel
        name = self._channel.removeprefix("#")
        types = "public_channel,private_channel"
        for response in self._pages(self._client.conversations_list, types=types, exclude_archived=True, limit=1_000):
            for each in response.get("channels") or ():
                if each.get("name") == name:
                    self._channel_id = self._channel = str(each["id"])
                    return self._channel_id
        return None

    def _pages(self, method: Callable[..., Any], **options: Any) -> Iterator[Any]:
        """The pages of a response; none if Slack refuses, as it does without the permission."""
        cursor = None
        for _ in range(_MOST_PAGES):
            try:
                response = method(**options, **({"cursor": cursor} if cursor else {}))
            except Exception as error:
                later, _applied = _explained(error)
                if later is None:
                    raise
                if not later.whole_channel:
                    return
                raise later from error
            yield response
            cursor = (response.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return

    def _finished(self, step: str, ts: str) -> str:
        self._done[step] = ts
        self._trying = None
        self._save()
        return ts

    def _save(self) -> None:
        self._note({"channel": self._channel_id, "done": self._done, "trying": self._trying})


def _explained(error: Exception) -> tuple[TryLater | None, bool]:
    """When to try again, and whether the call may have been applied; None for an error that is not Slack's."""
    from slack_sdk.errors import SlackClientError

    response = getattr(error, "response", None)
    if response is None:
        if isinstance(error, ConnectionRefusedError) or isinstance(
            getattr(error, "reason", None), ConnectionRefusedError
        ):
            return TryLater("slack: connection refused", _UNAVAILABLE_SECONDS), False
        if isinstance(error, OSError | SlackClientError):
            return TryLater(f"slack: no response ({type(error).__name__})", _UNAVAILABLE_SECONDS), True
        return None, True
    status, headers, body = _parts(response)
    if status == 429:
        wait = _seconds(headers.get("retry-after"), _UNAVAILABLE_SECONDS)
        return TryLater(f"slack: rate limited for {wait:g} s", wait), False
    if status is None or status >= 500:
        return TryLater(f"slack: status {status}", _UNAVAILABLE_SECONDS), True
    reason = body.get("error", f"status {status}") if isinstance(body, dict) else f"status {status}"
    if reason in ("ratelimited", "rate_limited"):
        return TryLater("slack: rate limited", _UNAVAILABLE_SECONDS), False
    if reason in ("internal_error", "fatal_error", "service_unavailable", "request_timeout"):
        return TryLater(f"slack: {reason}", _UNAVAILABLE_SECONDS), True
    return TryLater(f"{_REFUSED}{reason}", _REFUSED_SECONDS, whole_channel=False), False


def _parts(response: Any) -> tuple[int | None, dict[str, str], Any]:
    """Status, headers and body of a response, whether slack-sdk could parse it or not."""
    if isinstance(response, dict):
        status, headers, body = response.get("status"), response.get("headers"), response.get("body")
    else:
        status, headers, body = response.status_code, response.headers, response.data
    lower = {str(name).lower(): str(value) for name, value in dict(headers or {}).items()}
    return (int(status) if status else None), lower, body


def _seconds(value: str | None, otherwise: float) -> float:
    try:
        return min(max(float(value or ""), 0.0), LONGEST_WAIT_SECONDS)
    except ValueError:
        return otherwise


def _with_slash(base_url: str) -> str:
    return base_url if base_url.endswith("/") else f"{base_url}/"

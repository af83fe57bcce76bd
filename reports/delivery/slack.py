"""Slack: posts messages and files, each exactly once despite rate limits, outages and crashes.

Progress is recorded before and after each post. If it is not known whether a post succeeded, the channel is searched
for the message, by a key in the message's metadata, or for the file, by its name, before anything is posted again. If
Slack refuses one part of a delivery, the other parts are still sent. A refused message is sent again as plain text. If
Slack refuses that too, or refuses a file, the reason is recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from reports.delivery.channels import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from reports.delivery.channels import Note
    from reports.presentation.message_content import ReportFile
    from reports.presentation.slack_blocks import SlackMessage
    from reports.presentation.slack_report import SlackReport

TIMEOUT_SECONDS = 30
#: The event type that distinguishes our messages from other messages with metadata.
_METADATA_TYPE = "prisoner_to_nomis_delivery"
LONGEST_WAIT_SECONDS = 3_600.0
_PAGE = 200
_MOST_PAGES = 5
_UNAVAILABLE_SECONDS = 30.0
_REFUSED = "slack refused: "
_REFUSED_SECONDS = 600.0
#: Refusals of the content of a message; another message, or the same message as plain text, may be accepted.
_REFUSED_CONTENT = frozenset(
    {
        "block_mismatch",
        "invalid_blocks",
        "invalid_blocks_format",
        "invalid_metadata_format",
        "markdown_text_conflict",
        "metadata_too_large",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
    }
)
#: Refusals that concern only files; messages are still accepted.
_REFUSED_FILES = frozenset(
    {
        "access_denied",
        "blocked_file_type",
        "file_update_failed",
        "file_upload_size_restricted",
        "file_uploads_disabled",
        "file_uploads_except_images_disabled",
        "invalid_arguments",
        "malware_detected",
        "missing_scope",
        "no_permission",
        "post_not_allowed",
        "restricted_action",
        "slack_connect_file_upload_sharing_blocked",
        "storage_limit_reached",
    }
)
#: Errors from a Slack server that has no call to check a token, such as a server for tests.
_CANNOT_BE_ASKED = frozenset({"unknown_method", "status 404", "status 405"})


class Slack:
    """A Slack channel, used with a bot token. If Slack limits the rate, calls do not wait but raise `TryLater`."""

    def __init__(self, token: str, channel: str, base_url: str | None = None) -> None:
        from slack_sdk import WebClient

        options: dict[str, Any] = {"base_url": _with_slash(base_url)} if base_url else {}
        # The client's own retries would post a second time after a lost response.
        self._client = WebClient(token=token, timeout=TIMEOUT_SECONDS, retry_handlers=[], **options)
        self._channel = channel

    def knows_token(self) -> bool:
        """True if Slack accepts the token, False if the server has no call that checks a token.

        Raises `TryLater` if Slack refuses the token or is unavailable.
        """
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

    def post_alert(self, key: str, message: SlackMessage, progress: Mapping[str, Any], note: Note) -> Mapping[str, str]:
        """Posts an alert. Returns the parts that Slack refused, each with the reason. Raises `TryLater`.

        key: the key of the delivery. progress: what an earlier attempt recorded with `note`.
        """
        steps = _Steps(self._client, self._channel, key, progress, note)
        steps.post("message", message, None)
        return steps.refused

    def post_report(self, key: str, report: SlackReport, progress: Mapping[str, Any], note: Note) -> Mapping[str, str]:
        """Posts the first message of a report, and everything else in the thread of that message.

        If Slack refuses the first message, the rest is posted in the channel, without a thread. The other arguments,
        the result and the errors are those of `post_alert`.
        """
        steps = _Steps(self._client, self._channel, key, progress, note)
        first, *others = report.posts
        thread = steps.post("summary", first, None)
        for number, each in enumerate(others, start=1):
            steps.post(f"thread {number}", each, thread)
        for file in report.files:
            steps.upload(file, thread)
        return steps.refused


def refused_parts(progress: Mapping[str, Any]) -> dict[str, str]:
    """The parts of a delivery that Slack refused, each with the reason, as recorded in its `progress`."""
    return dict(progress.get("refused", {}))


class _Refused(Exception):
    """Slack refused the content of one part of a delivery, but may accept the other parts."""


class _Steps:
    """The steps of one delivery.

    The recorded progress consists of the id of the channel, the time stamp of each finished step (for an upload, the id
    of the file or the time stamp of its message), the step in progress, and the steps that were refused.
    """

    def __init__(self, client: Any, channel: str, key: str, progress: Mapping[str, Any], note: Note) -> None:
        self._client = client
        self._key = key
        self._note = note
        self._done: dict[str, str] = dict(progress.get("done", {}))
        #: The steps that were refused, with the reasons.
        self.refused = refused_parts(progress)
        self._trying: str | None = progress.get("trying")
        self._channel_id: str | None = progress.get("channel")
        self._channel = self._channel_id or channel

    def post(self, step: str, message: SlackMessage, thread: str | None) -> str | None:
        """Posts a message unless it has already been posted.

        Returns its time stamp, or None if Slack refuses it even as plain text.
        """
        if step in self.refused:
            return None
        try:
            return self._post(step, message.text, message.blocks, thread)
        except _Refused:
            try:
                return self._post(step, message.text, (), thread)
            except _Refused as error:
                self._note_refused(step, str(error))
                return None

    def _post(self, step: str, text: str, blocks: Sequence[Mapping[str, Any]], thread: str | None) -> str:
        metadata = {"event_type": _METADATA_TYPE, "event_payload": {"key": self._key, "step": step}}

        def send() -> str:
            response = self._client.chat_postMessage(
                channel=self._channel,
                text=text,
                blocks=list(blocks) or None,
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
            return found.get("event_type") == _METADATA_TYPE and payload == metadata["event_payload"]

        return self._once(step, send, is_ours, thread, _REFUSED_CONTENT)

    def upload(self, file: ReportFile, thread: str | None) -> None:
        """Uploads a file to `thread` unless it has already been uploaded.

        The file is recognised by its name, which must be unique in the thread.
        """
        step, name = file.kind, file.name
        if step in self.refused:
            return

        def send() -> str:
            response = self._client.files_upload_v2(
                channel=self._channel, thread_ts=thread, content=file.content, filename=name, title=name
            )
            files = response.get("files") or [{}]
            return str(files[0].get("id", name))

        def is_ours(message: Mapping[str, Any]) -> bool:
            return any(name in (each.get("name"), each.get("title")) for each in message.get("files") or ())

        try:
            self._once(step, send, is_ours, thread, _REFUSED_FILES)
        except _Refused as error:
            self._note_refused(step, str(error))

    def _once(
        self,
        step: str,
        send: Callable[[], str],
        is_ours: Callable[[Mapping[str, Any]], bool],
        thread: str | None,
        of_this_alone: Collection[str],
    ) -> str:
        """Calls `send` unless the step has already been taken. Returns what the progress records for a finished step.

        is_ours: whether a message is the result of an earlier attempt at the step. The messages of `thread` are
        searched, or those of the channel if `thread` is None. Raises `_Refused` if Slack refuses the step for a reason
        in `of_this_alone`, and `TryLater` for any other error from Slack.
        """
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
            reason = str(later).removeprefix(_REFUSED)
            if reason in of_this_alone:
                raise _Refused(reason) from error
            raise later from error

    def _note_refused(self, step: str, reason: str) -> None:
        self.refused[step] = reason
        self._save()

    def _find_posted(self, is_ours: Callable[[Mapping[str, Any]], bool], thread: str | None) -> str | None:
        """The time stamp of the message for which `is_ours` is true, or None if the message is not found."""
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
        """The id of the channel, which is needed to read its messages, or None if it cannot be found."""
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
        """Yields the pages that `method` returns, at most the first `_MOST_PAGES`.

        Stops if Slack refuses a call, for example because a permission is missing. Raises `TryLater` if Slack is
        unavailable or limits the rate.
        """
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
        progress = {"channel": self._channel_id, "done": self._done, "trying": self._trying}
        self._note(progress | ({"refused": self.refused} if self.refused else {}))


def _explained(error: Exception) -> tuple[TryLater | None, bool]:
    """The `TryLater` for an error, and whether the call may have taken effect.

    The `TryLater` is None if neither Slack nor the connection to it caused the error.
    """
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
    """The status, headers and body of a response, whether or not slack-sdk could parse it."""
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

"""The endpoints of the fake Slack: messages with threads, and file uploads in three steps."""

from __future__ import annotations

import itertools
import re
from urllib.parse import parse_qs

import orjson

from sandbox.clock import london_now
from sandbox.http.serving import Reply, Request, Route
from sandbox.slack.blocks import refusal
from sandbox.slack.posted import File, Message, Posted, page_html

LONGEST_TEXT = 40_000
CHANNEL_IDS = {"#sycon-alerts": "C0SANDBOX1"}
#: The form of a channel's id; a file can be shared with a channel only by id, not by name.
CHANNEL_ID = re.compile(r"[CGD][A-Z0-9]+")
FIRST_SECOND = 1_684_742_400


class Slack:
    """One workspace with one token; a message can be posted to a channel of any name."""

    token = "xoxb-sandbox-token"
    channel = "#sycon-alerts"

    def __init__(self) -> None:
        """Starts with nothing posted."""
        self.posted = Posted()
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        """Forgets everything that was posted; new messages still get later time stamps than the old ones."""
        self.posted = Posted()

    def routes(self) -> list[Route]:
        """Returns the endpoints, and the pages that show people what was posted."""
        return [
            Route("POST", "/api/auth.test", self._test),
            Route("POST", "/api/chat.postMessage", self._post, writes=True),
            Route("POST", "/api/conversations.list", self._channels),
            Route("GET", "/api/conversations.list", self._channels),
            Route("POST", "/api/conversations.history", self._history),
            Route("POST", "/api/conversations.replies", self._replies),
            Route("GET", "/api/conversations.history", self._history),
            Route("GET", "/api/conversations.replies", self._replies),
            Route("POST", "/api/files.getUploadURLExternal", self._offer, writes=True),
            Route("POST", "/upload/{file_id}", self._upload),
            Route("POST", "/api/files.completeUploadExternal", self._complete, writes=True),
            Route("GET", "/", self._page),
            Route("GET", "/files/{file_id}", self._file),
        ]

    def view(self) -> dict[str, object]:
        """Returns everything that was posted, as the control API shows it."""
        messages = [message.view() for message in self.posted.messages]
        return {"messages": messages, "files": [each.view() for each in self.posted.files.values()]}

    def _test(self, request: Request) -> Reply:
        if self._is_unauthorised(request):
            return _failed("invalid_auth")
        return Reply(body={"ok": True, "team": "Sandbox", "user": "prisoner-to-nomis"})

    def _post(self, request: Request) -> Reply:
        if self._is_unauthorised(request):
            return _failed("invalid_auth")
        form = arguments(request)
        channel, text, thread = _text(form, "channel"), _text(form, "text"), _text(form, "thread_ts")
        blocks = _array(form, "blocks")
        if not channel:
            return _failed("channel_not_found")
        if blocks is None:
            return _failed("invalid_blocks_format")
        if not text and not blocks:
            return _failed("no_text")
        if len(text) > LONGEST_TEXT:
            return _failed("msg_too_long")
        refused = refusal(blocks)
        if refused is not None:
            return _failed(refused)
        known = {message.ts for message in self.posted.messages}
        if thread and thread not in known:
            return _failed("thread_not_found")
        metadata = _object(form, "metadata")
        if metadata is not None and not {"event_type", "event_payload"} <= metadata.keys():
            return _failed("invalid_metadata_format")
        ts = self._next_ts()
        posted = london_now().isoformat(timespec="seconds")
        post = Message(ts, channel, text, blocks, thread or None, posted, metadata)
        self.posted.messages.append(post)
        shown = {"text": text, "ts": ts, "type": "message", "blocks": blocks}
        return Reply(body={"ok": True, "channel": CHANNEL_IDS.get(channel, channel), "ts": ts, "message": shown})

    def _channels(self, request: Request) -> Reply:
        if self._is_unauthorised(request):
            return _failed("invalid_auth")
        channels = [{"id": known, "name": name.removeprefix("#")} for name, known in CHANNEL_IDS.items()]
        return Reply(body={"ok": True, "channels": channels, "response_metadata": {"next_cursor": ""}})

    def _history(self, request: Request) -> Reply:
        return self._messages(request, None)

    def _replies(self, request: Request) -> Reply:
        thread = _text(arguments(request), "ts")
        if thread not in {message.ts for message in self.posted.messages}:
            return _failed("thread_not_found")
        return self._messages(request, thread)

    def _messages(self, request: Request, thread: str | None) -> Reply:
        """Returns the messages of a channel that are not replies or, if `thread` is given, all messages of that thread.

        The request names the channel by its id.
        """
        if self._is_unauthorised(request):
            return _failed("invalid_auth")
        form = arguments(request)
        channel = _text(form, "channel")
        names = {channel, *(name for name, known in CHANNEL_IDS.items() if known == channel)}
        if channel.startswith("#"):
            return _failed("channel_not_found")
        whole = _text(form, "include_all_metadata").lower() in ("1", "true")
        found: list[dict[str, object]] = []
        for message in self.posted.messages:
            if message.channel in names and (message.thread_ts == thread or message.ts == thread):
                shown: dict[str, object] = {"ts": message.ts, "text": message.text, "thread_ts": message.thread_ts}
                found.append({**shown, "metadata": message.metadata} if whole and message.metadata else shown)
        for file in self.posted.files.values():
            if file.ts is not None and file.channel in names and file.thread_ts == thread:
                shared = {"id": file.id, "name": file.filename, "title": file.title}
                found.append({"ts": file.ts, "text": file.comment or "", "thread_ts": thread, "files": [shared]})
        found.sort(key=lambda each: str(each["ts"]), reverse=thread is None)
        return Reply(body={"ok": True, "messages": found, "has_more": False, "response_metadata": {"next_cursor": ""}})

    def _next_ts(self) -> str:
        return f"{FIRST_SECOND + next(self._numbers)}.000100"

    def _offer(self, request: Request) -> Reply:
        if self._is_unauthorised(request):
            return _failed("invalid_auth")
        form = arguments(request)
        filename, length = _text(form, "filename"), _text(form, "length")
        if not filename or not length.isdecimal() or int(length) < 1:
            return _failed("invalid_arguments")
        file = File(f"F{next(self._numbers):08d}", filename, int(length))
        self.posted.files[file.id] = file
        address = f"http://{request.headers.get('Host', 'localhost')}/upload/{file.id}"
        return Reply(body={"ok": True, "upload_url": address, "file_id": file.id})

    def _upload(self, request: Request, file_id: str) -> Reply:
        file = self.posted.files.get(file_id)
        content = uploaded(request)
        if file is None or len(content) != file.length:
            return Reply(400, b"length differs from the one announced", {"Content-Type": "text/plain"})
        file.content = content
        return Reply(200, f"OK - {len(content)}".encode(), {"Content-Type": "text/plain"})

    def _complete(self, request: Request) -> Reply:
        if self._is_unauthorised(request):
            return _failed("invalid_auth")
        form = arguments(request)
        wanted = _array(form, "files")
        if not wanted:
            return _failed("invalid_arguments")
        channel, thread = _text(form, "channel_id"), _text(form, "thread_ts")
        if channel and not CHANNEL_ID.fullmatch(channel):
            return _failed("channel_not_found")
        if thread and thread not in {message.ts for message in self.posted.messages}:
            return _failed("thread_not_found")
        found: list[File] = []
        for each in wanted:
            file = self.posted.files.get(str(each.get("id"))) if isinstance(each, dict) else None
            if file is None or file.content is None:
                return _failed("file_not_found")
            file.title = str(each["title"]) if each.get("title") else file.filename
            found.append(file)
        for file in found:
            file.channel = channel or None
            file.thread_ts = thread or None
            file.comment = _text(form, "initial_comment") or None
            file.ts = self._next_ts()
        return Reply(body={"ok": True, "files": [{"id": file.id, "title": file.title} for file in found]})

    def _page(self, request: Request) -> Reply:
        return Reply(200, page_html(self.posted).encode(), {"Content-Type": "text/html; charset=utf-8"})

    def _file(self, request: Request, file_id: str) -> Reply:
        file = self.posted.files.get(file_id)
        if file is None or file.content is None:
            return Reply(404, b"no such file", {"Content-Type": "text/plain"})
        kind = "text/html" if file.filename.endswith(".html") else "text/plain"
        return Reply(200, file.content, {"Content-Type": f"{kind}; charset=utf-8"})

    def _is_unauthorised(self, request: Request) -> bool:
        held = request.headers.get("Authorization", "")
        return held != f"Bearer {self.token}" and _text(arguments(request), "token") != self.token


def arguments(request: Request) -> dict[str, object]:
    """Returns the arguments of a call; Slack accepts both JSON and forms."""
    if "json" in request.headers.get("Content-Type", "") and request.body:
        decoded = request.json()
        return decoded if isinstance(decoded, dict) else {}
    form = parse_qs(request.body.decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in {**request.query, **form}.items()}


def uploaded(request: Request) -> bytes:
    """Returns the bytes of an upload: the body itself, or the only part of a multipart body."""
    content_type = request.headers.get("Content-Type", "")
    _, found, boundary = content_type.partition("boundary=")
    if not found:
        return request.body
    part = request.body.split(b"--" + boundary.strip('"').encode())[1]
    return part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def _failed(error: str) -> Reply:
    return Reply(body={"ok": False, "error": error})


def _text(form: dict[str, object], name: str) -> str:
    found = form.get(name)
    return "" if found is None else str(found)


def _array(form: dict[str, object], name: str) -> list[dict[str, object]] | None:
    """Returns the array that `form` has under `name`, directly or as JSON text.

    The array is empty if `name` is absent; the result is None if the value is not an array.
    """
    found = form.get(name)
    if found is None or found == "":
        return []
    if isinstance(found, str):
        try:
            found = orjson.loads(found)
        except orjson.JSONDecodeError:
            return None
    return found if isinstance(found, list) else None


def _object(form: dict[str, object], name: str) -> dict[str, object] | None:
    """Returns the object that `form` has under `name`, directly or as JSON text.

    The result is None if `name` is absent; the object is empty if the value is not an object.
    """
    found = form.get(name)
    if isinstance(found, str) and found:
        try:
            found = orjson.loads(found)
        except orjson.JSONDecodeError:
            return {}
    if found is None or found == "":
        return None
    return found if isinstance(found, dict) else {}

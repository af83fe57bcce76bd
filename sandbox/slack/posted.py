"""What was posted to the fake Slack, and the page that shows it: each message, with its replies and files below it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import Any

from sandbox.slack.blocks import blocks_html, markup_html


@dataclass(slots=True)
class Message:
    """A message that was posted; `thread_ts` is the `ts` of the message to which it replies, or None."""

    ts: str
    channel: str
    text: str
    blocks: list[dict[str, Any]]
    thread_ts: str | None
    posted: str
    metadata: dict[str, object] | None = None

    def view(self) -> dict[str, object]:
        """Returns the message as the control API shows it."""
        return {
            "ts": self.ts,
            "channel": self.channel,
            "text": self.text,
            "blocks": self.blocks,
            "thread_ts": self.thread_ts,
            "posted": self.posted,
            "metadata": self.metadata,
        }


@dataclass(slots=True)
class File:
    """An upload; `channel` is None until the upload is complete and shared with a channel."""

    id: str
    filename: str
    length: int
    content: bytes | None = None
    title: str | None = None
    channel: str | None = None
    thread_ts: str | None = None
    comment: str | None = None
    ts: str | None = None

    def view(self) -> dict[str, object]:
        """Returns the upload as the control API shows it, with its content as text."""
        return {
            "id": self.id,
            "filename": self.filename,
            "length": self.length,
            "content": None if self.content is None else self.content.decode("utf-8", "replace"),
            "title": self.title,
            "channel": self.channel,
            "thread_ts": self.thread_ts,
            "initial_comment": self.comment,
            "complete": self.channel is not None,
        }


@dataclass(slots=True)
class Posted:
    """Everything that was posted since the last reset."""

    messages: list[Message] = field(default_factory=list)
    files: dict[str, File] = field(default_factory=dict)


_STYLE = (
    "body{font:16px/1.4 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#1d1c1d;overflow-wrap:anywhere}"
    "article{border-left:4px solid #1d70b8;padding:.2rem 1rem;margin:1rem 0}article.reply{margin-left:3rem}"
    "h2{font-size:1.15rem;margin:.3rem 0}p{margin:.4rem 0}.context,.when{color:#616061;font-size:.85rem}"
    "code{background:#f3f2f1;padding:0 .2rem;color:#a3174f}"
)


def page_html(posted: Posted) -> str:
    """Returns an HTML page with everything that was posted; a message has its replies and files below it."""
    known = {message.ts for message in posted.messages}
    first = [message for message in posted.messages if message.thread_ts not in known]
    threads = "".join(_thread_html(message, posted) for message in first)
    files = [file for file in posted.files.values() if file.thread_ts is None]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Slack in the sandbox</title>'
        f"<style>{_STYLE}</style></head><body><h1>Slack in the sandbox</h1>"
        f"{threads or '<p>Nothing was posted.</p>'}{''.join(map(_file_html, files))}</body></html>"
    )


def _thread_html(message: Message, posted: Posted) -> str:
    replies = [each for each in posted.messages if each.thread_ts == message.ts]
    files = [each for each in posted.files.values() if each.thread_ts == message.ts]
    return "".join([_message_html(message), *map(_message_html, replies), *map(_file_html, files)])


def _message_html(message: Message) -> str:
    shown = blocks_html(message.blocks) or f"<p>{markup_html({'type': 'mrkdwn', 'text': message.text})}</p>"
    kind = ' class="reply"' if message.thread_ts else ""
    when = f"<p class=when><b>{escape(message.channel)}</b> {escape(message.posted)}</p>"
    return f"<article{kind}>{when}{shown}</article>"


def _file_html(file: File) -> str:
    where = escape(file.channel or "nowhere yet")
    name = f'<a href="/files/{escape(file.id)}">{escape(file.filename)}</a>'
    return f"<article class=reply><p>{name} ({file.length:,} bytes) in {where}</p></article>"

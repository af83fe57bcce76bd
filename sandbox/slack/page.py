"""The page of the fake Slack: the messages as they look, each thread below its message, with its files."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from sandbox.slack.blocks import blocks_html, markup_html

if TYPE_CHECKING:
    from sandbox.slack.posted import File, Message, Posted

_STYLE = (
    "body{font:16px/1.4 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#1d1c1d;overflow-wrap:anywhere}"
    "article{border-left:4px solid #1d70b8;padding:.2rem 1rem;margin:1rem 0}article.reply{margin-left:3rem}"
    "h2{font-size:1.15rem;margin:.3rem 0}p{margin:.4rem 0}.context,.when{color:#616061;font-size:.85rem}"
    "code{background:#f3f2f1;padding:0 .2rem;color:#a3174f}"
)


def page_html(posted: Posted) -> str:
    """Everything that was posted."""
    known = {message.ts for message in posted.messages}
    first = [message for message in posted.messages if message.thread_ts not in known]
    threads = "".join(_thread_html(message, posted) for message in first)
    files = [file for file in posted.files.values() if file.thread_ts is None]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>Slack of the sandbox</title>'
        f"<style>{_STYLE}</style></head><body><h1>Slack of the sandbox</h1>"
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

"""What was posted to the fake Slack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Message:
    """A message that was posted; `thread_ts` is that of the message it answers."""

    ts: str
    channel: str
    text: str
    blocks: list[dict[str, Any]]
    thread_ts: str | None
    posted: str
    metadata: dict[str, object] | None = None

    def view(self) -> dict[str, object]:
        """Return the message as the control API shows it."""
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
    """An upload; `channel` is set when it was completed and so became visible."""

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
        """Return the upload as the control API shows it, its content as text."""
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
